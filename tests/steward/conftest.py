"""The house that the platform's tests live in."""

from typing import Any

import pytest


@pytest.fixture
def house(db: None) -> Any:
    """A workspace of the healthcare domain with an analyst, an officer, a reviewer and an auditor."""
    from tests.steward.house import House  # Django must be set up first

    return House()
