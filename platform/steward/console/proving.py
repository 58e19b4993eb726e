"""Checking one ledger entry on the spot: leaf, columns, inclusion proof, signature of the checkpoint.

Guarantees that each check is made anew from what the database holds now. Does not replace the offline verifier: a
server that lies can also lie here.
"""

from dataclasses import dataclass

from compliance.ledger import checkpoint as checkpoints
from compliance.ledger import merkle
from compliance.ledger.entry import EntryError, parse_body
from steward.audit.models import LedgerEntry, LedgerNode
from steward.audit.proofs import inclusion_proof, latest_checkpoint
from steward.keyring import verification_key

_COLUMNS = ("workspace", "actor", "action", "outcome", "object_type", "object_id")


@dataclass(frozen=True, slots=True)
class Check:
    """One check: what was looked at, and whether it held."""

    title: str
    has_held: bool
    explanation: str


def checks_of(entry: LedgerEntry) -> list[Check]:
    """Every check of the entry, those that fail too."""
    body = bytes(entry.body)
    leaf = merkle.leaf_hash(body)
    return [
        Check("Body", *_reads(body)),
        Check(
            "Leaf hash",
            leaf == bytes(entry.leaf_hash),
            "SHA-256 over 0x00 and the body equals the stored leaf hash (RFC 6962, 2.1).",
        ),
        Check("Columns", _columns_match(entry), "The columns to search by say what the body says."),
        Check("Inclusion", *_is_included(entry.index, leaf)),
    ]


def _reads(body: bytes) -> tuple[bool, str]:
    try:
        parse_body(body)
    except EntryError:
        return False, "The body is not what this house writes."
    return True, "Canonical JSON of the published schema."


def _columns_match(entry: LedgerEntry) -> bool:
    try:
        parsed = parse_body(bytes(entry.body))
    except EntryError:
        return False
    same = all(getattr(entry, name) == getattr(parsed, name) for name in _COLUMNS)
    return same and entry.event_id == parsed.event_id and entry.time == parsed.time


def _is_included(index: int, leaf: bytes) -> tuple[bool, str]:
    newest = latest_checkpoint()
    if newest is None:
        return False, "There is no checkpoint."
    try:
        signed = checkpoints.open_checkpoint(newest.note, [verification_key()])
        proof = inclusion_proof(index, signed.size)
        merkle.verify_inclusion(leaf, index, signed.size, proof, signed.root)
    except (ValueError, LedgerNode.DoesNotExist):
        return False, f"The proof does not lead to the signed root over {newest.tree_size:,} entries."
    return True, f"{len(proof)} hashes lead from this entry to the signed root over {signed.size:,} entries."
