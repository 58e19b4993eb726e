"""What a second redaction of the same version did differently: which records, which types, which spans.

Guarantees that both runs' records are compared one by one, in order. The counts decide nothing; so, like a run's
progress, they are written by the job without a ledger entry.
"""

from collections import Counter
from collections.abc import Iterator
from typing import Any, NamedTuple

from django.db import transaction

from steward.datasets.models import RedactionRun, RedactionState, RunComparison
from steward.datasets.reading import OpenRedacted, RecordReader

MAX_ORDINALS = 2_000
Span = tuple[int, int, int, str, str]


class Change(NamedTuple):
    """Of one record: the spans that only the earlier and only the later run found, as findings with their `slot`."""

    ordinal: int
    lost: list[dict[str, Any]]
    gained: list[dict[str, Any]]


def compare_runs(before_id: str, after_id: str) -> RunComparison:
    """Compares two finished runs of one version; once."""
    known = RunComparison.objects.filter(after_id=after_id).first()
    if known is not None:
        return known
    rows = RedactionRun.objects.select_related("version__dataset__key", "workspace")
    before, after = rows.get(pk=before_id), rows.get(pk=after_id)
    assert before.version_id == after.version_id
    assert {before.state, after.state} == {RedactionState.DONE}
    gained: Counter[str] = Counter()
    lost: Counter[str] = Counter()
    changed: list[int] = []
    changed_count = total = 0
    for change in _changes(before, after):
        total += 1
        if not change.lost and not change.gained:
            continue
        changed_count += 1
        if len(changed) < MAX_ORDINALS:
            changed.append(change.ordinal)
        gained.update(finding["type"] for finding in change.gained)
        lost.update(finding["type"] for finding in change.lost)
    with transaction.atomic():
        comparison, _ = RunComparison.objects.get_or_create(
            after=after,
            defaults={
                "workspace_id": after.workspace_id,
                "before": before,
                "record_count": total,
                "changed_count": changed_count,
                "gained": dict(gained),
                "lost": dict(lost),
                "changed": changed,
            },
        )
    return comparison


def changes_of(comparison: RunComparison, ordinals: list[int]) -> Iterator[tuple[OpenRedacted, OpenRedacted, Change]]:
    """Both sides of the records named, with what changed, for a page."""
    reader = RecordReader(comparison.after.version)
    old = {each.ordinal: each for each in reader.redacted(comparison.before, ordinals=ordinals)}
    for new in reader.redacted(comparison.after, ordinals=ordinals):
        if new.ordinal in old:
            yield old[new.ordinal], new, _change(old[new.ordinal], new)


def _changes(before: RedactionRun, after: RedactionRun) -> Iterator[Change]:
    """Both runs side by side. A record whose person was shredded in between is in neither, or passed over."""
    reader = RecordReader(after.version)
    earlier = reader.redacted(before)
    old = next(earlier, None)
    for new in reader.redacted(after):
        while old is not None and old.ordinal < new.ordinal:
            old = next(earlier, None)
        if old is not None and old.ordinal == new.ordinal:
            yield _change(old, new)


def _change(old: OpenRedacted, new: OpenRedacted) -> Change:
    was, is_now = _spans(old), _spans(new)
    return Change(
        new.ordinal,
        [finding for span, finding in was.items() if span not in is_now],
        [finding for span, finding in is_now.items() if span not in was],
    )


def _spans(record: OpenRedacted) -> dict[Span, dict[str, Any]]:
    """Findings by what they are: place in the raw text, type, operator. A score that moved is no change."""
    return {
        (slot, found["start"], found["end"], found["type"], found["operator"]): {**found, "slot": slot}
        for slot, findings in enumerate(record.findings)
        for found in findings
    }
