"""Showing one original that a reversible profile sealed: to an officer, with a reason, one span at a time."""

from steward.accounts.permissions import require
from steward.accounts.roles import Permission
from steward.audit.actor import Actor, Refused
from steward.audit.events import Event
from steward.audit.recording import audited, record
from steward.datasets.actions import REVEAL_REASONS
from steward.datasets.models import RedactedRecord
from steward.datasets.privilege import shown_to
from steward.datasets.reading import RecordReader


@audited(Event.ORIGINAL_REVEALED)
def reveal_original(*, actor: Actor, redacted: RedactedRecord, slot: int, number: int, reason: str) -> str:
    """Opens the original of one finding. `originals.hand_out_original` announces it in the ledger before.

    Args:
        slot: which text of the record, from 0.
        number: which finding of that text, from 0.
        reason: a word of `REVEAL_REASONS`.

    Raises:
        Denied: not an officer, or the record is held back as privileged and the actor may not decide on it.
        Refused: an unknown reason, no such finding, none of a reversible type, or the person was erased.
    """
    version = redacted.run.version
    require(actor, Permission.REVEAL_RECORD, version.workspace, version)
    shown_to(actor, redacted.run, redacted.ordinal)
    if reason not in REVEAL_REASONS:
        raise Refused(f"Give a reason: {', '.join(REVEAL_REASONS)}.", code="reason_missing", subject=version)
    if redacted.record.subject.wrapped is None:
        raise Refused("The person of this record was erased; nothing of it can be read again.", code="shredded")
    try:
        original, entity_type = RecordReader(version).original(redacted, slot, number)
    except LookupError:
        raise Refused(
            "The original of this finding was not kept: the profile did not make its type reversible.",
            code="not_reversible",
            subject=version,
        ) from None
    record(redacted.run, reason=reason, version=str(version.pk), ordinal=redacted.ordinal, type=entity_type)
    return original
