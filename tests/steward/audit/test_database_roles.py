"""What a serving process may do to the ledger, tried as that role."""

import pytest
from django.db import DatabaseError, connection, transaction

from steward.audit.models import LedgerEntry
from steward.audit.sealer import seal_once
from tests.steward.house import House


@pytest.mark.parametrize(
    "statement",
    [
        "INSERT INTO ledger_checkpoint VALUES (1, '', '', now())",
        "DELETE FROM ledger_outbox",
        "UPDATE ledger_outbox SET body = ''",
        "DELETE FROM ledger_entry",
        "TRUNCATE ledger_entry",
        "ALTER TABLE ledger_entry DISABLE TRIGGER ALL",
        "DROP TABLE ledger_node",
    ],
)
def test_the_app_role_can_only_add_to_the_outbox(house: House, statement: str) -> None:
    def try_it() -> None:
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute("SET LOCAL ROLE steward_app")
            cursor.execute(statement)

    with pytest.raises(DatabaseError, match=r"permission denied|must be owner"):
        try_it()


def test_the_app_role_can_do_its_work_and_seal(house: House) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SET SESSION AUTHORIZATION steward_app")
    try:
        house.dataset()
        assert seal_once() > 0
        assert LedgerEntry.objects.filter(action="dataset.created").exists()
    finally:
        with connection.cursor() as cursor:
            cursor.execute("RESET SESSION AUTHORIZATION")
