"""The sealer: moves committed events from the outbox into the Merkle tree and signs the new tree head.

Guarantees contiguous indexes, one checkpoint a batch, and that no event is sealed twice or lost: moving, tree and
checkpoint commit together under one advisory lock, so any number of processes may call `seal_once`.
Does not order events across concurrent transactions beyond the order in which the sealer saw them commit.
"""

import contextlib
import time
import uuid
from collections.abc import Iterator

from django.conf import settings
from django.db import connection, transaction
from django.db.models import QuerySet

from compliance.ledger import checkpoint, merkle
from compliance.ledger.entry import parse_body
from steward.audit.database_roles import SEALER
from steward.audit.models import LedgerCheckpoint, LedgerEntry, LedgerNode, OutboxEntry
from steward.keyring import signing_key, verification_key

ADVISORY_LOCK = 0x57E3A2D  # arbitrary, but the same in every process
BATCH_ENTRIES = 5_000


class SealingStopped(RuntimeError):
    """The tree in the database does not match its last signed checkpoint; nothing is sealed until a person looks."""


def seal_once(limit: int = BATCH_ENTRIES) -> int:
    """Seals up to `limit` waiting events and returns how many. 0 if none waited.

    Raises:
        SealingStopped: the stored nodes no longer hash to the last signed root.
    """
    if not OutboxEntry.objects.exists():
        return 0
    with transaction.atomic(durable=True), _as_sealer():
        waiting = list(OutboxEntry.objects.order_by("sequence")[:limit])
        if not waiting:
            return 0
        tree = _current_tree()
        first = tree.size
        hashes = [merkle.leaf_hash(bytes(event.body)) for event in waiting]
        nodes = [node for leaf in hashes for node in tree.append(leaf)]
        _copy_entries(first, waiting, hashes)
        _copy_nodes(nodes)
        root = tree.root()
        signed = checkpoint.sign_checkpoint(
            checkpoint.Checkpoint(settings.LEDGER_ORIGIN, tree.size, root), signing_key()
        )
        LedgerCheckpoint.objects.create(tree_size=tree.size, root_hash=root, note=signed)
        OutboxEntry.objects.filter(sequence__in=[event.sequence for event in waiting]).delete()
        return len(waiting)


@contextlib.contextmanager
def _as_sealer() -> Iterator[None]:
    """Takes the sealer's rights and its lock for the transaction; gives the rights back when all went well."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_has_role(oid, 'member') FROM pg_roles WHERE rolname = %s", [SEALER])
        has_role = cursor.fetchone() == (True,)
        if has_role:
            cursor.execute(f"SET LOCAL ROLE {SEALER}")
        cursor.execute("SELECT pg_advisory_xact_lock(%s)", [ADVISORY_LOCK])
    yield
    if has_role:
        with connection.cursor() as cursor:
            cursor.execute("RESET ROLE")


def seal_until(event_id: uuid.UUID, timeout_seconds: float = 30.0) -> LedgerEntry:
    """Seals until the given committed event has its index, and returns its entry.

    Raises:
        SealingStopped: if that did not happen within `timeout_seconds`.
    """
    deadline = time.monotonic() + timeout_seconds
    while time.monotonic() < deadline:
        seal_once()
        if entry := LedgerEntry.objects.filter(event_id=event_id).first():
            return entry
    raise SealingStopped("The event was not sealed in time. Run `manage.py doctor`.")


def _current_tree() -> merkle.CompactRange:
    """The tree as the database holds it, checked against the last checkpoint this house signed."""
    last = LedgerCheckpoint.objects.order_by("-tree_size").first()
    if last is None:
        if LedgerEntry.objects.exists():
            raise SealingStopped("The ledger holds entries but no checkpoint: checkpoints were deleted.")
        return merkle.CompactRange()
    wanted = _right_edge(last.tree_size)
    stored = {(n.level, n.position): bytes(n.hash) for n in _nodes_at(wanted)}
    missing = [place for place in wanted if place not in stored]
    if missing:
        raise SealingStopped(f"Tree node {missing[0]} is gone. Run `manage.py ledger verify`.")
    tree = merkle.CompactRange(last.tree_size, [stored[place] for place in wanted])
    signed = checkpoint.open_checkpoint(last.note, [verification_key()])
    if (signed.size, signed.root) != (tree.size, tree.root()):
        raise SealingStopped("The tree does not match its last signed checkpoint. Run `manage.py ledger verify`.")
    return tree


def _right_edge(size: int) -> list[tuple[int, int]]:
    """(level, position) of the complete subtrees that make up a tree of `size` leaves, the largest first."""
    places, covered = [], 0
    for level in range(size.bit_length() - 1, -1, -1):
        if size >> level & 1:
            places.append((level, covered >> level))
            covered += 1 << level
    return places


def _nodes_at(places: list[tuple[int, int]]) -> QuerySet[LedgerNode]:
    return LedgerNode.objects.filter(pk__in=places)


def _copy_entries(first: int, waiting: list[OutboxEntry], hashes: list[bytes]) -> None:
    columns = "index,event_id,body,leaf_hash,time,workspace,actor,action,outcome,object_type,object_id"
    with connection.cursor() as cursor, cursor.copy(f"COPY ledger_entry ({columns}) FROM STDIN") as copy:
        for offset, (event, leaf) in enumerate(zip(waiting, hashes, strict=True)):
            body = bytes(event.body)
            parsed = parse_body(body)
            copy.write_row(
                (
                    first + offset,
                    event.event_id,
                    body,
                    leaf,
                    parsed.time,
                    parsed.workspace,
                    parsed.actor,
                    parsed.action,
                    parsed.outcome,
                    parsed.object_type,
                    parsed.object_id,
                )
            )


def _copy_nodes(nodes: list[tuple[int, int, bytes]]) -> None:
    with connection.cursor() as cursor, cursor.copy("COPY ledger_node (level,position,hash) FROM STDIN") as copy:
        for node in nodes:
            copy.write_row(node)
