"""Handing out one sealed original: announced in the ledger before, recorded in it after.

Guarantees that the intent is sealed before anything is opened, so that a look without an outcome stands out. Erasing a
person destroys the key of their originals with the rest; nothing here can undo it.

Example:
    original = hand_out_original(actor=actor, redacted=row, slot=0, number=2, reason="incident")
"""

from steward.accounts.permissions import can
from steward.accounts.roles import Permission
from steward.audit.actor import Actor
from steward.audit.events import Event
from steward.audit.recording import record_intent
from steward.datasets.actions import REVEAL_REASONS
from steward.datasets.models import RedactedRecord
from steward.datasets.original_actions import reveal_original


def hand_out_original(*, actor: Actor, redacted: RedactedRecord, slot: int, number: int, reason: str) -> str:
    """The text that stood where a finding is now; errors as `reveal_original`.

    Who may not have it is denied before anything is announced.
    """
    run = redacted.run
    if can(actor, Permission.REVEAL_RECORD, run.workspace) and reason in REVEAL_REASONS:
        record_intent(
            Event.ORIGINAL_REVEALED,
            run,
            actor=actor,
            reason=reason,
            version=str(run.version_id),
            ordinal=redacted.ordinal,
        )
    return reveal_original(actor=actor, redacted=redacted, slot=slot, number=number, reason=reason)
