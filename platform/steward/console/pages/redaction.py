"""How each workspace redacts: versions of its profile, proposed and decided here, and the phrases of its lists."""

from typing import Any
from uuid import UUID

from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.template.response import TemplateResponse

from compliance.redaction.profile import ENTITY_TYPES, OPERATORS
from domains.packs import load_pack
from steward.accounts.models import Workspace
from steward.accounts.permissions import can
from steward.accounts.roles import Permission
from steward.console.access import actor_of, person, workspaces_for
from steward.console.deciding import attempt
from steward.profiles import actions
from steward.profiles.composing import CHANGEABLE, LIMIT_NAMES, LIMITS, composed, differences, shipped
from steward.profiles.models import EntryState, ListEntry, ListKind, ProfileVersion

MAX_ENTRIES_SHOWN = 300
LIMIT_TITLES = {
    "k_min": "Least records in a class (k)",
    "l_min": "Least distinct sensitive values in a class (l)",
    "max_risk": "Highest risk, above 0 to 1",
    "average_risk": "Average risk, above 0 to 1",
    "small_cells": "Classes of fewer than 11 records",
}


def overview(request: HttpRequest) -> TemplateResponse:
    """Each workspace with its profile in force and what waits."""
    from steward.console.site import site

    rows = []
    for workspace in workspaces_for(person(request)):
        base = _base(workspace)
        entries = ListEntry.objects.filter(workspace=workspace)
        rows.append(
            {
                "workspace": workspace,
                "base": base,
                "version": ProfileVersion.objects.in_force(workspace, base),
                "proposal": ProfileVersion.objects.filter(workspace=workspace, state="proposed").first(),
                "denied": entries.filter(state=EntryState.APPROVED, kind=ListKind.DENY).count(),
                "allowed": entries.filter(state=EntryState.APPROVED, kind=ListKind.ALLOW).count(),
                "waiting": entries.filter(state=EntryState.PROPOSED).count(),
            }
        )
    return site.page(request, "redaction", "Redaction", rows=rows)


def workspace(request: HttpRequest, workspace_id: UUID) -> HttpResponse:
    """The profile in force, its versions and the lists of one workspace; phrases are proposed here."""
    from steward.console.site import site

    found = _workspace(request, workspace_id)
    if request.method == "POST":
        asked = {
            "actor": actor_of(request),
            "workspace": found,
            "kind": ListKind.ALLOW if request.POST.get("kind") == ListKind.ALLOW else ListKind.DENY,
            "entity_type": request.POST.get("entity_type", ""),
            "phrase": request.POST.get("phrase", "")[:400],
        }
        attempt(request, lambda: actions.propose_entry(**asked), "Proposed. Another officer decides on it.")
        return redirect("admin:redaction_workspace", workspace_id)
    base = _base(found)
    current = ProfileVersion.objects.in_force(found, base)
    entries = ListEntry.objects.filter(workspace=found).select_related("proposed_by", "decided_by")
    data = composed(base, current.overrides if current else {})
    changed = {(each["type"], each["setting"]) for each in differences(base, {}, current.overrides if current else {})}
    policies = [
        {"type": kind, "is_changed": any(kind == each for each, _ in changed), **policy}
        for kind, policy in data["entities"].items()
    ]
    return site.page(
        request,
        "redaction_workspace",
        f"Redaction in {found}",
        object=found,
        base=base,
        title_of_base=data["title"],
        current=current,
        versions=ProfileVersion.objects.filter(workspace=found).select_related("proposed_by", "decided_by"),
        policies=policies,
        entries=entries.exclude(state=EntryState.ERASED)[:MAX_ENTRIES_SHOWN],
        types=sorted(ENTITY_TYPES),
        may_manage=can(actor_of(request), Permission.MANAGE_POLICY, found),
    )


def propose(request: HttpRequest, workspace_id: UUID) -> HttpResponse:
    """A form with every entity type of the profile; what differs from the shipped one becomes the next version."""
    from steward.console.site import site

    found = _workspace(request, workspace_id, Permission.MANAGE_POLICY)
    base = _base(found)
    current = ProfileVersion.objects.in_force(found, base)
    whole = composed(base, current.overrides if current else {})
    data, limits = whole["entities"], whole.get(LIMITS, {})
    if request.method == "POST":
        data = {kind: _policy(request, kind, policy) for kind, policy in data.items()}
        limits = _limits(request)
        asked = {
            "actor": actor_of(request),
            "workspace": found,
            "overrides": _overrides(base, data, limits),
            "reason": request.POST.get("reason", ""),
        }
        done = "Proposed. It takes effect once another officer approves it."
        version = attempt(request, lambda: actions.propose_profile(**asked), done)
        if version is not None:
            return redirect("admin:redaction_version", version.pk)
    return site.page(
        request,
        "redaction_propose",
        f"Change how {found} redacts",
        object=found,
        base=base,
        policies=[{"type": kind, **policy} for kind, policy in data.items()],
        limits=[(name, LIMIT_TITLES[name], limits.get(name)) for name in LIMIT_NAMES],
        operators=sorted(OPERATORS),
        reason=request.POST.get("reason", ""),
    )


def _policy(request: HttpRequest, kind: str, policy: dict[str, Any]) -> dict[str, Any]:
    """One line of the form. What is no number stays text, and the profile's own check says so."""
    threshold: Any = request.POST.get(f"{kind}.threshold", "")
    try:
        threshold = float(threshold)
    except ValueError:
        threshold = threshold or policy["threshold"]
    return {
        **policy,
        "on": f"{kind}.on" in request.POST,
        "threshold": threshold,
        "operator": request.POST.get(f"{kind}.operator", policy["operator"]),
        "reversible": f"{kind}.reversible" in request.POST,
        "reason": request.POST.get(f"{kind}.reason", policy["reason"]).strip()[:300],
        "citation": request.POST.get(f"{kind}.citation", policy["citation"]).strip()[:120],
    }


def _limits(request: HttpRequest) -> dict[str, Any]:
    """The limits of the form; an empty field is none. What is no number stays text, and the profile's check says so."""
    limits: dict[str, Any] = {}
    for name in LIMIT_NAMES:
        given = request.POST.get(f"limit.{name}", "").strip()[:12]
        try:
            limits[name] = (float if name in ("max_risk", "average_risk") else int)(given) if given else None
        except ValueError:
            limits[name] = given
    return limits


def _overrides(base: str, data: dict[str, Any], limits: dict[str, Any]) -> dict[str, dict[str, Any]]:
    whole = shipped(base)
    original, own = whole["entities"], whole.get(LIMITS, {})
    changed = {
        kind: {name: policy[name] for name in CHANGEABLE if policy[name] != original[kind][name]}
        for kind, policy in data.items()
    }
    changed[LIMITS] = {name: limits.get(name) for name in LIMIT_NAMES if limits.get(name) != own.get(name)}
    return {kind: changes for kind, changes in changed.items() if changes}


def version(request: HttpRequest, version_id: UUID) -> HttpResponse:
    """One version: what it changes against the one in force before it, and the decision on it."""
    from steward.console.site import site

    rows = ProfileVersion.objects.select_related("workspace", "proposed_by", "decided_by")
    found = rows.filter(workspace__in=workspaces_for(person(request)), pk=version_id).first()
    if found is None:
        raise Http404
    if request.method == "POST":
        reason = request.POST.get("reason", "")
        asked = {"actor": actor_of(request), "version": found, "reason": reason}
        if request.POST.get("decision") == "approve":
            attempt(request, lambda: actions.approve_profile(**asked), f"{found} is in force for new redactions.")
        else:
            attempt(request, lambda: actions.reject_profile(**asked), f"{found} is rejected.")
        return redirect("admin:redaction_version", version_id)
    earlier = ProfileVersion.objects.filter(
        workspace=found.workspace, base=found.base, state="approved", number__lt=found.number
    ).first()
    return site.page(
        request,
        "redaction_version",
        f"{found} of {found.workspace}",
        object=found,
        changes=differences(found.base, earlier.overrides if earlier else {}, found.overrides),
        against=str(earlier) if earlier else f"{found.base} as shipped",
        may_decide=can(actor_of(request), Permission.MANAGE_POLICY, found.workspace),
        is_own=found.proposed_by_id == person(request).pk,
        is_open=found.state == "proposed",
    )


def entry(request: HttpRequest, entry_id: UUID) -> HttpResponse:
    """One phrase: shown on request, which is recorded, and decided on."""
    from steward.console.site import site

    rows = ListEntry.objects.select_related("workspace", "proposed_by", "decided_by")
    found = rows.filter(workspace__in=workspaces_for(person(request), Permission.MANAGE_POLICY), pk=entry_id).first()
    if found is None:
        raise Http404
    phrase = None
    if request.method == "POST":
        asked = {"actor": actor_of(request), "entry": found}
        choices = {
            "show": (lambda: actions.show_entry(**asked), "That you saw the phrase is an entry in the ledger."),
            "approve": (lambda: actions.approve_entry(**asked), "The phrase is in force for new redactions."),
            "reject": (lambda: actions.reject_entry(**asked), "The phrase is rejected."),
            "retire": (lambda: actions.retire_entry(**asked), "The phrase is no longer in force."),
        }
        chosen = choices.get(request.POST.get("decision", ""))
        if chosen is None:
            return HttpResponse(status=400)
        result = attempt(request, *chosen)
        if request.POST["decision"] != "show" or result is None:
            return redirect("admin:redaction_workspace", found.workspace_id)
        phrase = result
    return site.page(
        request,
        "redaction_entry",
        f"{found.get_kind_display()}: a phrase of {found.workspace}",
        object=found,
        phrase=phrase,
        is_own=found.proposed_by_id == person(request).pk,
    )


def _workspace(request: HttpRequest, workspace_id: UUID, permission: Permission | None = None) -> Workspace:
    rows = workspaces_for(person(request), permission or Permission.VIEW_WORKSPACE)
    found = rows.filter(pk=workspace_id).first()
    if found is None:
        raise Http404
    return found


def _base(workspace: Workspace) -> str:
    return str(load_pack(workspace.domain).redaction_profile)
