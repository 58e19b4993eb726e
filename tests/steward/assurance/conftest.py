"""A base model nobody will load."""

from typing import Any

import pytest


@pytest.fixture
def tiny_base(db: None) -> Any:
    from steward.catalog.models import BaseModel

    return BaseModel.objects.create(
        name="Tiny-1M", path="/nowhere", digest=f"sha256:{'b' * 64}", licence="Apache-2.0", source="made for tests",
        parameters=1_000_000, context_length=2048, disk_bytes=4_000_000,
    )  # fmt: skip
