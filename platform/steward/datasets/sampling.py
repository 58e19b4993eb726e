"""Drawing records for review: simple random, so that the bound on what was missed needs no assumption.

Guarantees that every record not drawn yet has the same chance. Does not favour doubtful records: a stratified draw
would need weights in the bound.
"""

import secrets

from steward.datasets.models import RedactedRecord, RedactionRun, SampleItem


def draw(run: RedactionRun, wanted: int, already: int) -> int:
    """Adds up to `wanted` records to the run's sample and returns how many there were left to add."""
    taken = SampleItem.objects.filter(run=run).values_list("redacted__ordinal", flat=True)
    ordinals = RedactedRecord.objects.filter(run=run).exclude(ordinal__in=taken).values_list("ordinal", flat=True)
    left = list(ordinals)
    chosen = secrets.SystemRandom().sample(left, min(wanted, len(left)))
    rows = {row.ordinal: row for row in RedactedRecord.objects.filter(run=run, ordinal__in=chosen)}
    items = [
        SampleItem(workspace_id=run.workspace_id, run=run, redacted=rows[ordinal], place=already + place)
        for place, ordinal in enumerate(chosen, 1)
    ]
    SampleItem.objects.bulk_create(items)
    return len(items)
