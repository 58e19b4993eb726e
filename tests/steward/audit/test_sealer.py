"""The sealer's tree, what the database refuses, and what the verifier says when a superuser does not care."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.db import DatabaseError, connection, transaction

from compliance.ledger.rows import VerificationError
from compliance.ledger.verify import verify_bundle
from steward.audit.models import LedgerEntry, OutboxEntry
from steward.audit.proofs import check_inclusion, consistency_proof, export_ledger, latest_checkpoint, seal_all
from steward.audit.sealer import SealingStopped, seal_once
from steward.keyring import verification_key
from tests.steward.house import House


def test_sealed_entries_are_contiguous_and_verify_offline(house: Any, tmp_path: Path) -> None:
    for number in range(5):
        house.dataset(f"d{number}")
        seal_once()
    assert list(LedgerEntry.objects.order_by("index").values_list("index", flat=True)) == list(
        range(LedgerEntry.objects.count())
    )
    assert not OutboxEntry.objects.exists()
    export_ledger(tmp_path / "ledger.tar")
    report = verify_bundle(tmp_path / "ledger.tar", [verification_key()])
    assert report.entries == LedgerEntry.objects.count()
    assert report.checkpoints >= 5


def test_every_entry_has_a_proof_against_the_newest_checkpoint(house: Any) -> None:
    house.dataset()
    newest = seal_all()
    for entry in LedgerEntry.objects.all():
        check_inclusion(entry, newest)
    assert consistency_proof(1, newest.tree_size)


@pytest.mark.parametrize("table", ["ledger_entry", "ledger_node", "ledger_checkpoint"])
@pytest.mark.parametrize("change", ["DELETE FROM {}", "TRUNCATE {}", "UPDATE {} SET {} = {}"])
def test_the_database_refuses_to_change_the_ledger(house: Any, table: str, change: str) -> None:
    seal_all()
    column = {"ledger_entry": "action", "ledger_node": "hash", "ledger_checkpoint": "note"}[table]

    def try_it() -> None:
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute("SET LOCAL session_replication_role = replica")  # silences ordinary triggers, not these
            cursor.execute(change.format(table, column, column))

    with pytest.raises(DatabaseError, match="append-only"):
        try_it()


def test_an_event_leaves_the_outbox_only_when_it_was_sealed(house: Any) -> None:
    house.dataset()
    with pytest.raises(DatabaseError, match="not been sealed"), transaction.atomic():
        OutboxEntry.objects.all().delete()


def _as_superuser(statement: str, parameters: list[Any]) -> None:
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE ledger_entry DISABLE TRIGGER ALL")
        cursor.execute(statement, parameters)


def test_one_byte_changed_by_a_superuser_is_named_by_the_verifier(house: Any, tmp_path: Path) -> None:
    house.dataset()
    seal_all()
    victim = LedgerEntry.objects.order_by("index")[3]
    body = bytes(victim.body).replace(b'"outcome":"done"', b'"outcome":"dome"')
    _as_superuser("UPDATE ledger_entry SET body = %s WHERE index = %s", [body, victim.index])
    export_ledger(tmp_path / "ledger.tar")
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "compliance.ledger",
            "verify",
            str(tmp_path / "ledger.tar"),
            "--key",
            str(verification_key()),
        ],
        cwd=settings.ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert f"entry {victim.index}" in done.stderr


def test_a_column_that_no_longer_fits_its_body_is_named(house: Any, tmp_path: Path) -> None:
    seal_all()
    _as_superuser("UPDATE ledger_entry SET actor = 'somebody' WHERE index = %s", [2])
    export_ledger(tmp_path / "ledger.tar")
    with pytest.raises(VerificationError, match="entry 2"):
        verify_bundle(tmp_path / "ledger.tar", [verification_key()])


def test_sealing_stops_when_the_tree_was_tampered_with(house: Any) -> None:
    newest = seal_all()
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE ledger_node DISABLE TRIGGER ALL")
        cursor.execute("UPDATE ledger_node SET hash = sha256(hash)")
    house.dataset()
    with pytest.raises(SealingStopped, match="does not match"):
        seal_once()
    assert latest_checkpoint() == newest


def test_sealing_stops_when_all_checkpoints_were_deleted(house: Any) -> None:
    seal_all()
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE ledger_checkpoint DISABLE TRIGGER ALL")
        cursor.execute("DELETE FROM ledger_checkpoint")
    house.dataset()
    with pytest.raises(SealingStopped, match="checkpoints were deleted"):
        seal_once()


@pytest.mark.django_db(transaction=True)
def test_sealers_at_the_same_time_seal_each_event_once(tmp_path: Path) -> None:
    house = House()

    def write_and_seal(number: int) -> None:
        try:
            for turn in range(4):
                house.dataset(f"d{number}-{turn}")
                seal_once()
        finally:
            connection.close()

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(write_and_seal, range(4)))
    seal_all()
    assert LedgerEntry.objects.filter(action="dataset.created").count() == 16
    export_ledger(tmp_path / "ledger.tar")
    assert verify_bundle(tmp_path / "ledger.tar", [verification_key()]).entries == LedgerEntry.objects.count()
