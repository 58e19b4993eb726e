"""A small ledger to export, prove and attack."""

import uuid
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from compliance.ledger.bundle import (
    ConsistencyProof,
    ExportedEntry,
    contents_digest_of,
    evidence_ledger,
    write_bundle,
    write_ledger,
)
from compliance.ledger.checkpoint import Checkpoint, VerificationKey, sign_checkpoint, verification_key
from compliance.ledger.entry import build_body
from compliance.ledger.merkle import CompactRange, consistency_proof, inclusion_proof, leaf_hash

ORIGIN = "hospital.example/ledger"


def body(number, after=None, actor="user:1"):
    return build_body(
        event_id=uuid.UUID(int=number + 1),
        time=datetime(2026, 1, 1, tzinfo=UTC),
        workspace="w1",
        actor=actor,
        action="dataset.approved",
        outcome="done",
        object_type="dataset",
        object_id=str(number),
        before=None,
        after=after,
        facts={"records": number},
    )


@dataclass
class Ledger:
    """Entries, tree and checkpoints, as the database holds them; every list may be tampered with."""

    key: Ed25519PrivateKey = field(default_factory=Ed25519PrivateKey.generate)
    entries: list[ExportedEntry] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    nodes: dict = field(default_factory=dict)
    tree: CompactRange = field(default_factory=CompactRange)

    @property
    def vkey(self) -> VerificationKey:
        return verification_key(ORIGIN, self.key.public_key())

    def append(self, data: bytes) -> None:
        leaf = leaf_hash(data)
        self.entries.append(ExportedEntry(self.tree.size, data, leaf, filed={"actor": "user:1"}))
        for level, index, value in self.tree.append(leaf):
            self.nodes[level, index] = value

    def seal(self) -> str:
        self.notes.append(sign_checkpoint(Checkpoint(ORIGIN, self.tree.size, self.tree.root()), self.key))
        return self.notes[-1]

    def fill(self, size: int, step: int = 10, **options) -> "Ledger":
        while self.tree.size < size:
            self.append(body(self.tree.size, **options))
            if self.tree.size % step == 0:
                self.seal()
        return self

    def get_node(self, level: int, index: int) -> bytes:
        return self.nodes[level, index]

    def proven(self, index: int) -> ExportedEntry:
        return replace(self.entries[index], proof=inclusion_proof(index, self.tree.size, self.get_node))

    def consistency(self, old: int) -> ConsistencyProof:
        return ConsistencyProof(old, self.tree.size, consistency_proof(old, self.tree.size, self.get_node))

    def export(self, path):
        write_ledger(path, entries=self.entries, checkpoints=self.notes, keys=[self.vkey])
        return path

    def evidence_files(self, files, indexes=(3, 7), consistency=()):
        """Records the files in a last entry, seals it and gives everything an evidence bundle holds."""
        self.append(body(self.tree.size, after=contents_digest_of(files)))
        self.seal()
        entries = [self.proven(index) for index in (*indexes, self.tree.size - 1)]
        proofs = [self.consistency(old) for old in consistency]
        return {**files, **evidence_ledger(entries, self.notes[-1], [self.vkey], proofs)}

    def evidence(self, path, files, **options):
        write_bundle(path, self.evidence_files(files, **options))
        return path


@pytest.fixture
def ledger():
    return Ledger().fill(60)


@pytest.fixture
def new_ledger():
    return Ledger
