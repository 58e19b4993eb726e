"""Which record a reviewer sees next, and which verdict counts once several people have read one.

Guarantees that a second reader is never told of the first reading, and that what counts errs on the side of a miss.
The database computes the same (`sample_guard`). Does not write; the actions do.
"""

from collections import Counter
from typing import Any

from django.db.models import Count, Q, QuerySet

from steward.datasets.models import Reading, ReadingKind, RedactedRecord, RedactionRun, SampleItem, Verdict

_STANDING = Q(readings__withdrawn_at__isnull=True)


def waiting_for(run: RedactionRun, user_id: int | None) -> QuerySet[SampleItem]:
    """What this person may still read: records without a reading first, then those that want a second one.

    Records of people who were shredded meanwhile cannot be looked at any more, and what was withheld as privileged is
    not shown; they get no verdict.
    """
    mine = Reading.objects.standing().filter(reviewer_id=user_id).values("item_id")
    held = RedactedRecord.objects.filter(run=run).held_back().values("pk")
    readable = SampleItem.objects.filter(run=run, redacted__record__subject__wrapped__isnull=False)
    rows = readable.exclude(redacted__in=held).exclude(pk__in=mine)
    counted = rows.annotate(standing=Count("readings", filter=_STANDING))
    return counted.filter(Q(standing=0) | Q(standing=1, is_read_twice=True)).order_by("standing", "place")


def disagreements(run: RedactionRun) -> list[SampleItem]:
    """Records on which two readers differ over a miss, adjudicated or not, with `first`, `second`, `final` readings."""
    twice = SampleItem.objects.filter(run=run, is_read_twice=True).select_related("redacted")
    found = []
    for item in twice.prefetch_related("readings__reviewer"):
        kinds = {each.kind: each for each in item.readings.all() if each.withdrawn_at is None}
        item.first, item.second, item.final = (kinds.get(kind) for kind in ReadingKind.values)
        if item.first and item.second and _is_missed(item.first) != _is_missed(item.second):
            found.append(item)
    return found


def next_kind(item: SampleItem) -> ReadingKind | None:
    """What a reading given now would be: first, second, or None if the record wants no more."""
    standing = set(Reading.objects.standing().filter(item=item).values_list("kind", flat=True))
    if ReadingKind.FIRST not in standing:
        return ReadingKind.FIRST
    if item.is_read_twice and ReadingKind.SECOND not in standing:
        return ReadingKind.SECOND
    return None


def settled(item: SampleItem) -> dict[str, Any]:
    """The item's fields as its standing readings make them."""
    standing = {each.kind: each for each in Reading.objects.standing().filter(item=item)}
    first = standing.get(ReadingKind.FIRST)
    final = standing.get(ReadingKind.ADJUDICATION)
    counting = [final] if final else [each for each in standing.values() if _is_missed(each)]
    types: Counter[str] = Counter()
    for each in counting:
        types |= Counter(each.missed_types)
    verdict = final.verdict if final else Verdict.MISSED if counting else first.verdict if first else ""
    return {
        "verdict": verdict,
        "missed_types": dict(types),
        "missed_count": min(sum(types.values()), 32_767),
        "reviewer_id": first.reviewer_id if first else None,
        "reviewed_at": first.given_at if first else None,
    }


def _is_missed(reading: Reading) -> bool:
    return reading.verdict == Verdict.MISSED
