"""`manage.py migrate`, as Django has it, but one at a time: tables, then the rights on them.

Guarantees that of commands which bring one database up to date at once (`up` and `workspace` in a new home) each finds
what the one before it made. The lock is the database's, so it goes with a process that is killed.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.core.management.base import no_translations
from django.core.management.commands.migrate import Command as DjangoMigrate
from django.db import connections

ADVISORY_LOCK = 0x57E3D16  # arbitrary, but the same in every process


class Command(DjangoMigrate):
    @no_translations
    def handle(self, *args: Any, **options: Any) -> None:
        with alone(options["database"]):
            super().handle(*args, **options)


@contextmanager
def alone(using: str) -> Iterator[None]:
    """Keeps others out while it lasts. Of the session, not of a transaction: a migration may have several."""
    with connections[using].cursor() as cursor:
        cursor.execute("SELECT pg_advisory_lock(%s)", [ADVISORY_LOCK])
    try:
        yield
    finally:
        with connections[using].cursor() as cursor:
            cursor.execute("SELECT pg_advisory_unlock(%s)", [ADVISORY_LOCK])
