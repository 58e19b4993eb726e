"""Inclusion proofs and exports, read from the database and checkable without it.

Guarantees that what is exported verifies offline with `python -m compliance.ledger verify`, or that the verifier says
which entry was changed: stored hashes and columns are exported as they are, never recomputed.
"""

from collections.abc import Iterable
from pathlib import Path

from compliance.ledger import bundle, merkle
from steward.audit.models import LedgerCheckpoint, LedgerEntry, LedgerNode
from steward.audit.sealer import seal_once
from steward.keyring import verification_key

EXPORT_CHUNK_ROWS = 5_000


def latest_checkpoint() -> LedgerCheckpoint | None:
    """The newest signed tree head, None while nothing was sealed."""
    return LedgerCheckpoint.objects.order_by("-tree_size").first()


def inclusion_proof(index: int, tree_size: int) -> list[bytes]:
    """Audit path of entry `index` in the tree of `tree_size` leaves. Source: RFC 6962 section 2.1.1.

    Raises:
        ValueError: no such entry in a tree of that size.
        LedgerNode.DoesNotExist: a tree node was deleted.
    """
    return merkle.inclusion_proof(index, tree_size, _node)


def consistency_proof(old_size: int, new_size: int) -> list[bytes]:
    """Proof that the tree of `old_size` leaves is the beginning of that of `new_size`.

    Source: RFC 6962 section 2.1.2.
    """
    return merkle.consistency_proof(old_size, new_size, _node)


def _node(level: int, position: int) -> bytes:
    return bytes(LedgerNode.objects.values_list("hash", flat=True).get(level=level, position=position))


def check_inclusion(entry: LedgerEntry, checkpoint: LedgerCheckpoint) -> None:
    """Recomputes the path from the entry's body to the signed root.

    Raises:
        merkle.ProofError: the entry, or a node on its path, is not what was sealed.
    """
    path = inclusion_proof(entry.index, checkpoint.tree_size)
    leaf = merkle.leaf_hash(bytes(entry.body))
    merkle.verify_inclusion(leaf, entry.index, checkpoint.tree_size, path, bytes(checkpoint.root_hash))


def seal_all() -> LedgerCheckpoint | None:
    """Seals whatever waits and returns the newest checkpoint."""
    while seal_once():
        pass
    return latest_checkpoint()


def exported(entry: LedgerEntry, proof: list[bytes] | None = None) -> bundle.ExportedEntry:
    """The entry as it stands in the database, for a bundle."""
    filed = {
        "event_id": str(entry.event_id),
        "workspace": entry.workspace,
        "actor": entry.actor,
        "action": entry.action,
        "outcome": entry.outcome,
        "object_type": entry.object_type,
        "object_id": entry.object_id,
    }
    return bundle.ExportedEntry(entry.index, bytes(entry.body), bytes(entry.leaf_hash), proof, filed)


def export_ledger(path: Path) -> int:
    """Writes the whole ledger as a verifiable bundle (tar). Returns the tree size. Streams; memory stays flat."""
    newest = seal_all()
    size = newest.tree_size if newest else 0
    rows = LedgerEntry.objects.filter(index__lt=size).order_by("index").iterator(chunk_size=EXPORT_CHUNK_ROWS)
    notes = LedgerCheckpoint.objects.filter(tree_size__lte=size).order_by("tree_size").values_list("note", flat=True)
    bundle.write_ledger(path, entries=map(exported, rows), checkpoints=notes.iterator(), keys=[verification_key()])
    return size


def evidence_files(entries: Iterable[LedgerEntry]) -> dict[str, bytes]:
    """The `ledger/` files of an evidence bundle: the entries with proofs against the newest checkpoint."""
    newest = seal_all()
    if newest is None:
        raise ValueError("nothing has been sealed yet")
    ordered = sorted(entries, key=lambda entry: entry.index)
    proven = [exported(entry, inclusion_proof(entry.index, newest.tree_size)) for entry in ordered]
    return bundle.evidence_ledger(proven, newest.note, [verification_key()])
