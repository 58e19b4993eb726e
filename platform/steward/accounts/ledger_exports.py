"""Handing out the whole ledger: announced in it before, recorded in it after.

Guarantees that the intent is sealed before the first byte is written, so that an export without an outcome stands out.
The ledger holds opaque ids, counts and digests only, which is why whoever may export evidence anywhere may have all of
it: a part of a Merkle tree would verify nothing.
"""

from pathlib import Path

from steward.accounts import actions
from steward.accounts.models import Membership, User
from steward.accounts.roles import PERMISSIONS, Permission
from steward.audit.actor import Actor, Denied
from steward.audit.events import Event
from steward.audit.proofs import export_ledger
from steward.audit.recording import record_intent


def may_export_ledger(actor: Actor) -> bool:
    """True for whoever may export evidence in any workspace, unless a token without that scope acts."""
    if actor.scopes is not None and Permission.EXPORT_EVIDENCE not in actor.scopes:
        return False
    roles = [role for role, permissions in PERMISSIONS.items() if Permission.EXPORT_EVIDENCE in permissions]
    return Membership.objects.filter(user_id=actor.user_id, role__in=roles).exists()


def hand_out_ledger(*, actor: Actor, user: User, path: Path) -> int:
    """Writes the whole ledger to `path` as a bundle that verifies offline. Returns the number of entries.

    Raises:
        Denied: the actor may not export evidence anywhere.
    """
    if not may_export_ledger(actor):
        raise Denied("Compliance officers and auditors may export the ledger. Ask one of them.", subject=user)
    record_intent(Event.LEDGER_EXPORTED, user, actor=actor)
    size = export_ledger(path)
    actions.record_ledger_export(actor=actor, user=user, tree_size=size)
    return size
