"""Drawing records for review: at random within two strata, more from the doubtful one.

Guarantees that within a stratum every record not drawn yet has the same chance, whoever asks and whenever. The share
of each stratum follows `compliance.redaction.stratified.allocate`; the bound weighs the strata accordingly.
"""

import secrets
from dataclasses import dataclass
from math import ceil

from django.db.models import Count, Max

from compliance.redaction.stratified import allocate
from steward.datasets.models import RedactedRecord, RedactionRun, SampleItem
from steward.datasets.privilege import withheld_by_doubt

DOUBTFUL, OTHER = "doubtful", "other"


@dataclass(frozen=True, slots=True)
class Drawn:
    """What a draw added: records in all, doubtful ones, those that go to a second reviewer, and the draw's number."""

    size: int
    doubtful: int
    read_twice: int
    round: int


def populations(run: RedactionRun) -> dict[str, int]:
    """Records of the run that may be trained on in each stratum; a stratum without records is left out."""
    withheld = withheld_by_doubt(run)
    others = run.done_count - run.doubtful_count
    counts = {DOUBTFUL: run.doubtful_count - withheld.get(True, 0), OTHER: others - withheld.get(False, 0)}
    return {name: count for name, count in counts.items() if count}


def draw(run: RedactionRun, wanted: int, second_percent: int) -> Drawn:
    """Adds up to `wanted` records to the run's sample, of those that may be trained on.

    Args:
        second_percent: share of them, rounded up, that two people read.
    """
    before = SampleItem.objects.filter(run=run).order_by()
    rows = before.countable().values("redacted__is_doubtful").annotate(n=Count("id"))
    drawn = {_stratum(row["redacted__is_doubtful"]): row["n"] for row in rows}
    last = before.aggregate(Max("round"))["round__max"] or 0
    taken = before.values("redacted_id")
    chance = secrets.SystemRandom()
    chosen: list[int] = []
    doubtful = 0
    for stratum, count in allocate(wanted, populations(run), drawn, DOUBTFUL).items():
        left = RedactedRecord.objects.filter(run=run, is_doubtful=stratum == DOUBTFUL).trainable()
        keys = list(left.exclude(pk__in=taken).values_list("pk", flat=True))
        picked = chance.sample(keys, min(count, len(keys)))
        doubtful += len(picked) if stratum == DOUBTFUL else 0
        chosen += picked
    chance.shuffle(chosen)  # so that a reviewer cannot tell the stratum from the order
    twice = set(chance.sample(chosen, ceil(len(chosen) * second_percent / 100)))
    already = before.aggregate(Max("place"))["place__max"] or 0
    items = [
        SampleItem(
            workspace_id=run.workspace_id,
            run=run,
            redacted_id=key,
            place=already + place,
            round=last + 1,
            is_read_twice=key in twice,
        )
        for place, key in enumerate(chosen, 1)
    ]
    SampleItem.objects.bulk_create(items)
    return Drawn(len(items), doubtful, len(twice), last + 1)


def _stratum(is_doubtful: bool) -> str:
    return DOUBTFUL if is_doubtful else OTHER
