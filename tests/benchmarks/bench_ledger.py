"""Offline verification of a full export of 200,000 entries against the plainest check of the same file.

``run()`` gives the figures: entries a second of processor time, reading included. The peer reads and parses every line
and hashes every body into a chain, which is what an audit log without proofs would have to do at the least; it checks
no signature, no checkpoint, no form of an entry.
"""

import base64
import hashlib
import json
import os
import platform
import tempfile
import time
import uuid
from datetime import UTC, datetime
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from compliance.ledger.bundle import ExportedEntry, write_ledger
from compliance.ledger.checkpoint import Checkpoint, sign_checkpoint, verification_key
from compliance.ledger.entry import build_body
from compliance.ledger.members import open_bundle, read_lines
from compliance.ledger.merkle import CompactRange, leaf_hash
from compliance.ledger.rows import ENTRIES
from compliance.ledger.verify import verify_bundle

RUNS = 3
SIZE = 200_000
BATCH = 100
ORIGIN = "bench.example/ledger"


def run():
    key = Ed25519PrivateKey.generate()
    vkey = verification_key(ORIGIN, key.public_key())
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "export.tar")
        export(path, key)
        seconds = {"verify": float("inf"), "chain": float("inf")}
        for _ in range(RUNS):
            for name, task in (("verify", lambda: verify_bundle(path, [vkey])), ("chain", lambda: chain(path))):
                started = time.thread_time()
                task()
                seconds[name] = min(seconds[name], time.thread_time() - started)
    return {
        "ledger_verify": {
            "figure": round(SIZE / seconds["verify"]),
            "unit": f"entries/s, {SIZE} entries under {SIZE // BATCH} checkpoints",
            "peer": "plain hash chain over the same file, nothing proven",
            "peer_figure": round(SIZE / seconds["chain"]),
            "ratio": round(seconds["chain"] / seconds["verify"], 3),
            "runs": RUNS,
            "machine": f"{platform.machine()}, {os.cpu_count()} CPUs",
        }
    }


def export(path, key):
    tree, notes, entries = CompactRange(), [], []
    for index in range(SIZE):
        body = build_body(
            event_id=uuid.uuid4(),
            time=datetime.now(UTC),
            workspace="5f0c7a3e-6d1f-4c6a-9b57-1f5b4a1f7a11",
            actor="user:5f0c7a3e",
            action="dataset.approved",
            outcome="done",
            object_type="dataset_version",
            object_id=str(index),
            before=None,
            after="sha256:" + hashlib.sha256(str(index).encode()).hexdigest(),
            facts={"records": index, "sample_size": 200, "missed": 0, "policy": "default"},
        )
        leaf = leaf_hash(body)
        tree.append(leaf)
        entries.append(ExportedEntry(index, body, leaf, filed={"action": "dataset.approved", "actor": "user:5f0c7a3e"}))
        if tree.size % BATCH == 0:
            notes.append(sign_checkpoint(Checkpoint(ORIGIN, tree.size, tree.root()), key))
    write_ledger(path, entries=entries, checkpoints=notes, keys=[verification_key(ORIGIN, key.public_key())])


def chain(path):
    value = b""
    for line in read_lines(open_bundle(path), ENTRIES):
        value = hashlib.sha256(value + base64.b64decode(json.loads(line)["body"])).digest()
    return value
