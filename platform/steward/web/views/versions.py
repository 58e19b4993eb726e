"""One dataset version: its import, its redaction, its records, the look at raw text, and the decision on it."""

import uuid
from collections.abc import Mapping
from typing import Any

from django.contrib import messages
from django.http import Http404, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_POST, require_safe

from compliance.redaction import EntityPolicy
from steward.accounts.roles import Permission
from steward.audit.actor import Refused
from steward.datasets import actions
from steward.datasets.limits import limits_of
from steward.datasets.models import (
    DatasetVersion,
    RedactedRecord,
    RedactionRun,
    RedactionState,
    RiskMeasurement,
    RunComparison,
    SpanLabel,
    Split,
    VersionState,
)
from steward.datasets.originals import hand_out_original
from steward.datasets.privilege import held_back, privilege_standing, shown_to
from steward.datasets.reading import OpenRedacted, RecordReader
from steward.datasets.residual import residual_risk
from steward.profiles.composing import effective_profile, policy_of
from steward.runs.shards import is_set_aside
from steward.web.marking import kind_of, labelled, marked, symbol_of
from steward.web.pages import WorkspaceRequest, demand, in_workspace, row_or_404, whole_number
from steward.web.span_filter import SpanFilter

PAGE_RECORDS = 20
LOOK_THROUGH = 2_000
REASONS = {
    "redaction_preview": "To check the redaction",
    "incident": "To look into an incident",
    "subject_request": "To answer a person's request",
}
VERSIONS = DatasetVersion.objects.select_related(
    "dataset__key",
    "dataset__workspace",
    "workspace",
    "redaction__profile_version",
    "redaction__workspace",
    "imported_by",
    "decided_by",
)
_WAY = ("imported", "redacted", "reviewed", "approved")


@require_safe
@in_workspace
def version(request: WorkspaceRequest, pk: uuid.UUID) -> HttpResponse:
    """The page of a version: where it stands and what can be done next."""
    found = row_or_404(request, VERSIONS, pk)
    latest = RedactionRun.objects.filter(version=found).first()
    risk = residual_risk(found.redaction) if found.redaction else None
    is_redacting = latest is not None and latest.state == RedactionState.RUNNING
    measurements = _measurements(found)
    context = {
        "version": found,
        "run": latest,
        "risk": risk,
        "privilege": privilege_standing(found.redaction) if found.redaction else None,
        "limits": limits_of(found.redaction) if found.redaction else None,
        "steps": _steps(found, is_reviewed=bool(risk and risk.is_enough)),
        "splits": [(split.value, split.label, found.split_counts.get(split.value, 0)) for split in Split],
        "types": _types(found.redaction) if found.redaction else [],
        "is_live": found.state == VersionState.IMPORTING
        or is_redacting
        or any(each.state == RedactionState.RUNNING for each in measurements),
        "comparison": RunComparison.objects.filter(after=found.redaction_id).first() if found.redaction else None,
        "corrected": SpanLabel.objects.filter(redacted__run=found.redaction_id, reading__withdrawn_at=None).count(),
        "newer": _newer_profile(found),
        "measurements": measurements,
        "columns": list(found.mapping.get("fields", {})),
        "is_undecided": found.state in (VersionState.IMPORTED, VersionState.REDACTED),
        "is_own": found.imported_by_id == request.actor.user_id,
        "fine_tunes": found.fine_tunes.all()[:5],
    }
    return render(request, "web/version.html", context)


def _measurements(found: DatasetVersion) -> list[RiskMeasurement]:
    """The newest measurements of how far columns single people out, as the page shows them."""
    rows = list(found.risk_measurements.select_related("requested_by")[:3])
    for each in rows:
        each.is_small = each.figures.get("small_cells", 0) > 0
        each.max_risk, each.average_risk = (
            each.figures.get(name, 0) / 1_000_000 for name in ("max_risk_ppm", "average_risk_ppm")
        )
    return rows


def _newer_profile(found: DatasetVersion) -> str:
    """Why redacting again would use something else than the redaction at hand; empty if it would not."""
    run = found.redaction
    if run is None or found.state != VersionState.REDACTED:
        return ""
    try:
        used = effective_profile(found.workspace, run.profile)
    except Refused as refusal:
        return str(refusal)
    if used.digest == run.profile_digest:
        return ""
    name = str(used.version) if used.version else f"{run.profile}, as shipped"
    return f"{name}, with {len(used.entry_ids)} phrases" if used.entry_ids else name


def _steps(found: DatasetVersion, *, is_reviewed: bool) -> list[tuple[str, str]]:
    """(word, state) of each step of a version's way: done, now, later or stop."""
    if found.state == VersionState.FAILED:
        return []
    reached = {
        VersionState.IMPORTING: 0,
        VersionState.IMPORTED: 1,
        VersionState.REDACTED: 3 if is_reviewed else 2,
        VersionState.APPROVED: 4,
        VersionState.REJECTED: 3 if is_reviewed else 2,
    }[VersionState(found.state)]
    steps = [
        (word, "done" if place < reached else "now" if place == reached else "later") for place, word in enumerate(_WAY)
    ]
    if found.state == VersionState.REJECTED:
        steps = [*steps[:reached], ("rejected", "stop")]
    return steps


def _types(run: RedactionRun) -> list[dict[str, Any]]:
    """Findings by type, the most frequent first, with what the profile does to each."""
    profile = policy_of(run.profile, run.profile_version)
    most = max(run.counts_by_type.values(), default=1)
    return [
        {
            "name": name,
            "count": count,
            "percent": round(100 * count / most, 1),
            "kind": kind_of(name),
            "symbol": symbol_of(name),
            "policy": profile.entities.get(name),
        }
        for name, count in sorted(run.counts_by_type.items(), key=lambda each: (-each[1], each[0]))
    ]


@require_POST
@in_workspace
def redact(request: WorkspaceRequest, pk: uuid.UUID) -> HttpResponse:
    """Starts a redaction with the profile in force."""
    found = row_or_404(request, VERSIONS, pk)
    actions.start_redaction(actor=request.actor, version=found)
    return redirect("web:version", request.workspace.slug, pk)


@require_safe
@in_workspace
def records(request: WorkspaceRequest, pk: uuid.UUID) -> HttpResponse:
    """Redacted records, a page at a time, from the one after `after`; all of them or those with doubtful findings."""
    demand(request, Permission.VIEW_REDACTED)
    found = row_or_404(request, VERSIONS, pk)
    run = found.redaction
    if run is None:
        raise Http404
    after, is_doubtful = whole_number(request, "after", 0), request.GET.get("only") == "doubtful"
    wanted = SpanFilter.of(request)
    shown, next_after, looked_at = _page(found, run, after, is_doubtful, wanted)
    policies = policy_of(run.profile, run.profile_version).entities
    held = held_back(run, [each.ordinal for each in shown])
    context = {
        "version": found,
        "items": [_item(record, policies, is_held=record.ordinal in held) for record in shown],
        "may_decide": Permission.APPROVE_DATASET in request.permissions,
        "is_doubtful": is_doubtful,
        "wanted": wanted,
        "types": sorted(run.counts_by_type),
        "query": wanted.as_query() | ({"only": "doubtful"} if is_doubtful else {}),
        "looked_at": looked_at,
        "after": after,
        "next_after": next_after,
    }
    return render(request, "web/records.html", context)


def _page(
    found: DatasetVersion, run: RedactionRun, after: int, is_doubtful: bool, wanted: SpanFilter
) -> tuple[list[OpenRedacted], int | None, int]:
    """Records of one page, where the next begins, and how many were looked through.

    Findings are sealed, so a filter opens record after record; a page looks through `LOOK_THROUGH` of them at most.
    """
    rows = RedactedRecord.objects.filter(run=run, ordinal__gt=after).order_by("ordinal")
    if is_doubtful:
        rows = rows.filter(is_doubtful=True)
    limit = LOOK_THROUGH if wanted.is_on else PAGE_RECORDS
    ordinals = list(rows.values_list("ordinal", flat=True)[: limit + 1])
    shown: list[OpenRedacted] = []
    # What is held back would tell by a filter what is in it.
    held = held_back(run, ordinals[:limit]) if wanted.is_on else set()
    for opened in RecordReader(found).redacted(run, ordinals=ordinals[:limit]):
        if opened.ordinal not in held and wanted.takes(opened):
            shown.append(opened)
            if len(shown) == PAGE_RECORDS and opened.ordinal != ordinals[-1]:
                return shown, opened.ordinal, ordinals.index(opened.ordinal) + 1
    return shown, ordinals[limit - 1] if len(ordinals) > limit else None, min(limit, len(ordinals))


def _item(record: OpenRedacted, policies: Mapping[str, EntityPolicy], *, is_held: bool) -> dict[str, Any]:
    item = {"ordinal": record.ordinal, "split": Split(record.split).label, "is_held": is_held}
    if is_held:
        return item
    return item | {
        "count": sum(map(len, record.findings)),
        "slots": marked(record.payload, record.findings, "redacted", policies=policies),
        "spans": labelled(record.payload),
        "is_set_aside": is_set_aside(record.payload),
        "is_good": record.payload.get("is_good"),
    }


@require_safe
@in_workspace
def record(request: WorkspaceRequest, pk: uuid.UUID, ordinal: int) -> HttpResponse:
    """One redacted record with the reason for each finding. The raw text is asked for on its own."""
    demand(request, Permission.VIEW_REDACTED)
    found = row_or_404(request, VERSIONS, pk)
    return _show_record(request, found, ordinal)


@require_POST
@in_workspace
def reveal(request: WorkspaceRequest, pk: uuid.UUID, ordinal: int) -> HttpResponse:
    """The same record beside its raw text, once; that it was shown is in the ledger."""
    found = row_or_404(request, VERSIONS, pk)
    raw = actions.reveal_record(
        actor=request.actor, version=found, ordinal=ordinal, reason=request.POST.get("reason", "")
    )
    return _show_record(request, found, ordinal, raw.payload)


@require_POST
@in_workspace
def reveal_original(request: WorkspaceRequest, pk: uuid.UUID, ordinal: int) -> HttpResponse:
    """The same record with the original of one finding, once; the look is in the ledger before and after."""
    found = row_or_404(request, VERSIONS, pk)
    rows = RedactedRecord.objects.select_related("run__version__workspace", "run__workspace", "record__subject")
    row = rows.filter(run=found.redaction_id, ordinal=ordinal).first()
    place = _place(request.POST.get("place", ""))
    if row is None or place is None:
        raise Http404
    reason = request.POST.get("reason", "")
    original = hand_out_original(actor=request.actor, redacted=row, slot=place[0], number=place[1], reason=reason)
    return _show_record(request, found, ordinal, original=(place, original))


def _place(given: str) -> tuple[int, int] | None:
    """Which text and which finding, from `3-0`."""
    slot, _, number = given.partition("-")
    if not (slot.isdecimal() and number.isdecimal() and len(given) <= 12):
        return None
    return int(slot), int(number)


def _show_record(
    request: WorkspaceRequest,
    found: DatasetVersion,
    ordinal: int,
    raw: dict[str, Any] | None = None,
    original: tuple[tuple[int, int], str] | None = None,
) -> HttpResponse:
    opened = None
    if found.redaction is not None:
        opened = next(RecordReader(found).redacted(found.redaction, ordinals=[ordinal]), None)
    if opened is None:
        raise Http404
    shown_to(request.actor, found.redaction, ordinal)
    profile = policy_of(found.redaction.profile, found.redaction.profile_version)
    may_open = Permission.REVEAL_RECORD in request.permissions
    findings = [
        {
            **each,
            "kind": kind_of(each["type"]),
            "symbol": symbol_of(each["type"]),
            "policy": (policy := profile.entities.get(each["type"])),
            "place": f"{slot}-{number}" if may_open and policy is not None and policy.is_reversible else None,
            "original": original[1] if original is not None and original[0] == (slot, number) else None,
        }
        for slot, own in enumerate(opened.findings)
        for number, each in enumerate(own)
    ]
    context = {
        "version": found,
        "item": _item(opened, profile.entities, is_held=False),
        "ordinal": ordinal,
        "findings": findings,
        "is_held": bool(held_back(found.redaction, [ordinal])),
        "is_reversible": any(each["place"] for each in findings),
        "has_original": original is not None,
        "raw": marked(raw, opened.findings, "raw", opened.payload, profile.entities) if raw is not None else None,
        "reasons": REASONS,
        "may_reveal": Permission.REVEAL_RECORD in request.permissions or found.imported_by_id == request.actor.user_id,
        "previous": ordinal - 1 if ordinal > 1 else None,
        "next": ordinal + 1 if ordinal < found.record_count else None,
    }
    return render(request, "web/record.html", context)


@require_POST
@in_workspace
def decide(request: WorkspaceRequest, pk: uuid.UUID) -> HttpResponse:
    """An officer's approval or rejection."""
    found = row_or_404(request, VERSIONS, pk)
    reason = request.POST.get("reason", "")
    if request.POST.get("decision") == "approve":
        actions.approve_version(actor=request.actor, version=found, reason=reason)
        messages.success(request, f"{found} is approved and can be trained on.", extra_tags="good")
    else:
        actions.reject_version(actor=request.actor, version=found, reason=reason)
        messages.warning(request, f"{found} is rejected and closed.", extra_tags="warn")
    return redirect("web:version", request.workspace.slug, pk)
