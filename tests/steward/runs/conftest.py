"""A tiny random model, registered like any other."""

from pathlib import Path
from typing import Any

import pytest

from tests.trainers.conftest import bench, kit, make_model, tiny_model

__all__ = ["bench", "kit", "tiny_model"]


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model(tmp_path_factory.mktemp("tiny-base"))


@pytest.fixture
def tiny_base(db: None, tiny_folder: Path) -> Any:
    from steward.audit.actor import Actor
    from steward.catalog.actions import register_base_model
    from steward.catalog.folders import inspect_folder

    return register_base_model(
        actor=Actor.system("tests"),
        name="tiny",
        facts=inspect_folder(tiny_folder),
        licence="Apache-2.0",
        source="tests",
    )
