"""Taking a reading of a sampled record, and letting it count. Used by the actions, inside their transaction.

Guarantees that readings are taken only while the version waits for its decision, one at a time for a record, and that
verdict and counts fit. Does not check permissions or record; the actions do.
"""

from collections.abc import Mapping

from steward.audit.actor import Actor, Denied, Refused
from steward.datasets.models import Reading, ReadingKind, SampleItem, Verdict, VersionState
from steward.datasets.verdicts import settled

MAX_MISSED = 32_767


def lock_item(item: SampleItem) -> SampleItem:
    """The item, locked, with its record and version at hand.

    Raises:
        Refused: its version was decided on, or redacted again since.
    """
    rows = SampleItem.objects.select_related("redacted__record__subject", "run__version__dataset__key", "workspace")
    locked = rows.select_for_update(of=("self",)).get(pk=item.pk)
    version = locked.run.version
    if version.state != VersionState.REDACTED or version.redaction_id != locked.run_id:
        raise Refused(
            f"{version} was decided on, or redacted again; this sample is closed.", code="sample_closed", subject=locked
        )
    return locked


def give_reading(
    actor: Actor, item: SampleItem, kind: ReadingKind, verdict: Verdict, types: Mapping[str, int]
) -> Reading:
    """Stores a reading of a locked item and lets it count.

    Raises:
        Denied: by no person: the platform gives no verdicts.
        Refused: a miss without a count, or a count without a miss.
    """
    if actor.user_id is None:
        raise Denied("A verdict is given by a person.", subject=item)
    counts = {str(name): count for name, count in types.items() if count}
    if (verdict == Verdict.MISSED) != bool(counts) or any(not 0 < each <= MAX_MISSED for each in counts.values()):
        raise Refused("Say how many identifiers were missed, or that none was.", code="count_mismatch", subject=item)
    reading = Reading(
        workspace_id=item.workspace_id,
        item=item,
        reviewer_id=actor.user_id,
        kind=kind,
        verdict=verdict,
        missed_types=counts,
    )
    reading.save(force_insert=True)
    settle(item)
    return reading


def settle(item: SampleItem) -> None:
    """Makes the item's verdict what its standing readings say."""
    for name, value in settled(item).items():
        setattr(item, name, value)
    item.save(update_fields=["verdict", "missed_types", "missed_count", "reviewer", "reviewed_at"])
