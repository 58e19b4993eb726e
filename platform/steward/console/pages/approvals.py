"""The approvals queue and a page for each decision, with what it rests on."""

from typing import Any
from uuid import UUID

from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.template.response import TemplateResponse
from django.urls import reverse

from steward.accounts.permissions import can
from steward.accounts.roles import Permission
from steward.assurance.models import Evaluation, GateResult
from steward.console import queue as queues
from steward.console.access import actor_of, person, workspaces_for
from steward.console.deciding import attempt
from steward.datasets import actions as datasets
from steward.datasets.limits import limits_of
from steward.datasets.models import DatasetVersion, Reading, SampleItem
from steward.datasets.privilege import privilege_standing
from steward.datasets.residual import residual_risk
from steward.releases import actions as releases
from steward.releases.models import Release
from steward.releases.rules_today import gates_refusing_today
from steward.runs import actions as runs
from steward.runs.models import FineTune


def queue(request: HttpRequest) -> TemplateResponse:
    """All that waits for the person's decision."""
    from steward.console.site import site

    user = person(request)
    versions = [
        (version, residual_risk(version.redaction), privilege_standing(version.redaction))
        for version in queues.waiting_versions(user)
    ]
    return site.page(
        request,
        "approvals",
        "Approvals",
        versions=versions,
        fine_tunes=queues.waiting_fine_tunes(user),
        releases=queues.waiting_releases(user),
    )


def version(request: HttpRequest, version_id: UUID) -> HttpResponse:
    """A dataset version with its residual risk; approved or rejected here."""
    rows = DatasetVersion.objects.select_related(
        "workspace", "dataset__workspace", "redaction", "imported_by", "decided_by"
    )
    found = _own(request, rows, version_id)
    if request.method == "POST":
        reason = request.POST.get("reason", "").strip()
        asked = {"actor": actor_of(request), "version": found, "reason": reason}
        choices = {
            "approve": (lambda: datasets.approve_version(**asked), "approved"),
            "reject": (lambda: datasets.reject_version(**asked), "rejected"),
        }
        return _decide(request, choices, str(found), reverse("admin:approve_version", args=[version_id]))
    items = SampleItem.objects.filter(run=found.redaction).select_related("redacted")
    readings = Reading.objects.standing().filter(item__run=found.redaction).select_related("reviewer")
    counts = sorted(found.redaction.counts_by_type.items(), key=lambda pair: -pair[1]) if found.redaction else []
    return _page(
        request,
        "approve_version",
        found,
        Permission.APPROVE_DATASET,
        risk=residual_risk(found.redaction) if found.redaction else None,
        privilege=privilege_standing(found.redaction) if found.redaction else None,
        limits=limits_of(found.redaction) if found.redaction else None,
        is_own=found.imported_by_id == person(request).pk,
        missed=items.filter(verdict="missed")[:20],
        reviewers=sorted({str(each.reviewer) for each in readings}),
        counts=counts,
        is_open=found.decided_at is None and found.state in ("imported", "redacted"),
    )


def fine_tune(request: HttpRequest, fine_tune_id: UUID) -> HttpResponse:
    """A held fine-tune; let go or cancelled here."""
    rows = FineTune.objects.select_related("workspace", "base_model", "dataset_version__dataset", "requested_by")
    found = _own(request, rows, fine_tune_id)
    if request.method == "POST":
        choices = {"approve": (lambda: runs.approve_fine_tune(actor=actor_of(request), fine_tune=found), "queued")}
        return _decide(request, choices, str(found), reverse("admin:approve_fine_tune", args=[fine_tune_id]))
    return _page(
        request,
        "approve_fine_tune",
        found,
        Permission.APPROVE_DATASET,
        is_own=found.requested_by_id == person(request).pk,
        recipe=_flat(found.recipe),
        is_open=found.state == "awaiting",
    )


def release(request: HttpRequest, release_id: UUID) -> HttpResponse:
    """A release that was asked for, with evaluation and gates; given or refused here."""
    people = ("requested_by", "trained_by", "decided_by", "model_version__fine_tune__dataset_version__imported_by")
    rows = Release.objects.select_related("workspace", *people)
    found = _own(request, rows, release_id)
    if request.method == "POST":
        reason = request.POST.get("reason", "").strip()
        asked = {"actor": actor_of(request), "release": found, "reason": reason}
        choices = {
            "approve": (lambda: releases.approve_release(**asked), "released"),
            "reject": (lambda: releases.refuse_release(**asked), "refused"),
        }
        return _decide(request, choices, str(found), reverse("admin:approve_release", args=[release_id]))
    evaluation = Evaluation.objects.filter(model_version=found.model_version).order_by("-created_at").first()
    gates = list(GateResult.objects.filter(evaluation=evaluation)) if evaluation else []
    importer = found.model_version.fine_tune.dataset_version.imported_by_id
    return _page(
        request,
        "approve_release",
        found,
        Permission.APPROVE_RELEASE,
        evaluation=evaluation,
        gates=gates,
        refusing=gates_refusing_today(found.model_version, gates) if found.state == "requested" else [],
        is_own=person(request).pk in (found.requested_by_id, found.trained_by_id, importer),
        is_open=found.state == "requested",
    )


def _own(request: HttpRequest, rows: Any, row_id: UUID) -> Any:
    """The row if it is in one of the person's workspaces, else 404."""
    found = rows.filter(workspace__in=workspaces_for(person(request)), pk=row_id).first()
    if found is None:
        raise Http404
    return found


def _page(request: HttpRequest, template: str, found: Any, permission: Permission, **context: Any) -> TemplateResponse:
    from steward.console.site import site

    may_decide = can(actor_of(request), permission, found.workspace)
    return site.page(request, template, str(found), object=found, may_decide=may_decide, **context)


def _decide(request: HttpRequest, choices: dict[str, Any], name: str, here: str) -> HttpResponse:
    chosen = choices.get(request.POST.get("decision", ""))
    if chosen is None:
        return HttpResponse(status=400)
    act, word = chosen
    return redirect(reverse("admin:approvals") if attempt(request, act, f"{name} is {word}.") else here)


def _flat(recipe: dict[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    """A recipe as lines: nested settings by their path."""
    lines: list[tuple[str, Any]] = []
    for key, value in recipe.items():
        if isinstance(value, dict):
            lines += _flat(value, f"{prefix}{key}.")
        else:
            lines.append((f"{prefix}{key}", ", ".join(map(str, value)) if isinstance(value, list) else value))
    return lines
