"""Housekeeping comes as often as its docstrings say; a killed worker's job must not wait for the next hour."""

import itertools

import pytest
from procrastinate.contrib.django import app

from steward.operations import jobs


@pytest.mark.parametrize(
    ("task", "every_seconds"), [(jobs.retry_stalled_jobs, 20), (jobs.sweep_vault, 24 * 3600)], ids=["retry", "sweep"]
)
def test_housekeeping_is_on_time(task: object, every_seconds: int) -> None:
    periodic = app.periodic_registry.periodic_tasks[task.name, ""]  # type: ignore[attr-defined]
    clock = periodic.croniter
    clock.set_current(start_time=1_800_000_001)
    ticks = [round(clock.get_next(ret_type=float)) for _ in range(4)]
    assert [later - earlier for earlier, later in itertools.pairwise(ticks)] == [every_seconds] * 3
