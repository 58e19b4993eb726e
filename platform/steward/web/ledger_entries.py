"""Ledger entries for a page: the people behind pseudonyms, and the proof of one entry, checked on the spot.

Guarantees that “verified” is said only after the entry's own bytes were hashed and the audit path led to the root in
the newest checkpoint, whose signature was checked with this house's key. Does not protect against whoever runs this
process: that is what the offline verifier is for.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass

from compliance.ledger import checkpoint, merkle
from compliance.ledger.entry import EntryError, parse_body
from steward.accounts.models import User
from steward.audit.models import LedgerEntry, LedgerNode
from steward.audit.proofs import exported, inclusion_proof, latest_checkpoint
from steward.keyring import verification_key


def with_people(entries: Iterable[LedgerEntry]) -> list[LedgerEntry]:
    """The entries, each with `person`: whom its pseudonym stands for, empty for the platform and for erased people."""
    rows = list(entries)
    pseudonyms = {row.actor for row in rows if not row.actor.startswith("system:")}
    people = {str(user.pseudonym): str(user) for user in User.objects.filter(pseudonym__in=pseudonyms)}
    for row in rows:
        row.person = people.get(row.actor, "")  # type: ignore[attr-defined]
    return rows


@dataclass(frozen=True, slots=True)
class CheckedProof:
    """What the check found. `problem` is empty if the entry is in the signed tree."""

    tree_size: int
    root: str
    path: list[str]
    note: str
    problem: str

    @property
    def is_verified(self) -> bool:
        return not self.problem


def check_entry(entry: LedgerEntry) -> CheckedProof | None:
    """Proves the entry against the newest checkpoint now. None while nothing was sealed."""
    newest = latest_checkpoint()
    if newest is None:
        return None
    path: list[bytes] = []
    problem = ""
    try:
        signed = checkpoint.open_checkpoint(newest.note, [verification_key()])
        path = inclusion_proof(entry.index, signed.size)
        merkle.verify_inclusion(merkle.leaf_hash(bytes(entry.body)), entry.index, signed.size, path, signed.root)
        problem = _column_problem(entry)
    except (checkpoint.NoteError, merkle.ProofError, EntryError) as error:
        problem = str(error)
    except LedgerNode.DoesNotExist:
        problem = "a node of the tree is missing in the database"
    return CheckedProof(
        tree_size=newest.tree_size,
        root=bytes(newest.root_hash).hex(),
        path=[node.hex() for node in path],
        note=newest.note,
        problem=problem,
    )


def _column_problem(entry: LedgerEntry) -> str:
    """Names the first column that says something else than the entry's own bytes, which are what was signed."""
    parse_body(bytes(entry.body))
    signed = json.loads(bytes(entry.body))
    for name, filed in exported(entry).filed.items():
        if signed[name] != filed:
            return f"the column {name} was changed: it differs from the signed entry"
    return ""
