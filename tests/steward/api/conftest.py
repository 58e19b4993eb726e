"""Rooms for a whole module of tests: building them takes longer than all requests together."""

from collections.abc import Iterator
from typing import Any

import pytest


@pytest.fixture(scope="module")
def furnished_rooms(django_db_setup: None, django_db_blocker: Any) -> Iterator[Any]:
    from tests.steward.rooms import furnished  # Django must be set up first

    with furnished(django_db_blocker) as rooms:
        rooms.propose()
        yield rooms


@pytest.fixture
def rooms(furnished_rooms: Any, db: None) -> Any:
    """The module's rooms; what the test does to them is undone."""
    return furnished_rooms
