"""What a second redaction of a version did differently: counts by type, and records with their old and new spans."""

import uuid
from collections.abc import Iterable
from typing import Any

from django.http import Http404, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_safe

from steward.accounts.roles import Permission
from steward.datasets.comparing import Change, changes_of
from steward.datasets.models import RunComparison
from steward.datasets.privilege import held_back
from steward.profiles.composing import policy_of
from steward.web.marking import kind_of, marked, symbol_of
from steward.web.pages import WorkspaceRequest, demand, in_workspace, row_or_404, whole_number
from steward.web.views.versions import VERSIONS

PAGE_RECORDS = 10


@require_safe
@in_workspace
def compare(request: WorkspaceRequest, pk: uuid.UUID) -> HttpResponse:
    """The version's redaction against the one before it."""
    demand(request, Permission.VIEW_REDACTED)
    found = row_or_404(request, VERSIONS, pk)
    rows = RunComparison.objects.select_related("before__profile_version", "after__profile_version")
    comparison = rows.filter(after=found.redaction_id).first() if found.redaction_id else None
    if comparison is None:
        raise Http404
    comparison.after.version = found
    first = whole_number(request, "first", 0)
    shown = comparison.changed[first : first + PAGE_RECORDS]
    may_read_all = Permission.APPROVE_DATASET in request.permissions
    held = set() if may_read_all else held_back(comparison.before, shown) | held_back(comparison.after, shown)
    before, after = (
        policy_of(run.profile, run.profile_version).entities for run in (comparison.before, comparison.after)
    )
    context = {
        "version": found,
        "comparison": comparison,
        "types": _types(comparison),
        "items": [
            {
                "ordinal": new.ordinal,
                "before": marked(old.payload, old.findings, "redacted", policies=before),
                "after": marked(new.payload, new.findings, "redacted", policies=after),
                "changes": list(_named(change)),
            }
            for old, new, change in changes_of(comparison, [each for each in shown if each not in held])
        ],
        "held": len(held),
        "first": first,
        "next_first": first + PAGE_RECORDS if first + PAGE_RECORDS < len(comparison.changed) else None,
    }
    return render(request, "web/comparison.html", context)


def _types(comparison: RunComparison) -> list[dict[str, Any]]:
    """Types whose spans changed, the most changed first, with the counts of either run."""
    old, new = comparison.before.counts_by_type, comparison.after.counts_by_type
    names = {*comparison.gained, *comparison.lost}
    rows = [
        {
            "name": name,
            "kind": kind_of(name),
            "symbol": symbol_of(name),
            "before": old.get(name, 0),
            "after": new.get(name, 0),
            "gained": comparison.gained.get(name, 0),
            "lost": comparison.lost.get(name, 0),
        }
        for name in names
    ]
    return sorted(rows, key=lambda row: (-row["gained"] - row["lost"], row["name"]))


def _named(change: Change) -> Iterable[dict[str, Any]]:
    for sign, findings in (("−", change.lost), ("+", change.gained)):
        for found in findings:
            yield {**found, "sign": sign, "kind": kind_of(found["type"]), "symbol": symbol_of(found["type"])}
