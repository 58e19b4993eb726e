"""The database that the tests themselves stand on."""

import pytest
from django.db import connection


@pytest.mark.django_db
def test_the_database_is_postgresql_and_recent_enough() -> None:
    assert connection.pg_version >= 150000


@pytest.mark.django_db(transaction=True)
def test_a_committing_test_leaves_nothing_behind() -> None:
    with connection.cursor() as cursor:
        cursor.execute("CREATE TABLE left_behind (x int)")


@pytest.mark.django_db(transaction=True)
def test_nothing_was_left_behind() -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT to_regclass('left_behind')")
        assert cursor.fetchone() == (None,)
