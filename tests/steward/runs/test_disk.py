"""Runs whose disk takes no more: put aside with what they learnt, and gone on with once there is room."""

import json
import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from steward.audit.models import OutboxEntry
from steward.runs import actions, disk, following
from steward.runs.models import FineTune, RunState
from steward.runs.processes import is_alive
from steward.runs.specs import checkpoint_of
from steward.vault.models import SealedObject
from steward.vault.objects import object_path
from tests.steward.house import House, visits
from tests.steward.runs.paper import base_model
from tests.steward.runs.test_fine_tune import at_each_poll
from tests.steward.runs.test_pause import LONG, start

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


@contextmanager
def file_size_limit(most_bytes: int) -> Iterator[None]:
    """No file of this process grows beyond so many bytes: the kernel refuses as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def pauses() -> list[dict[str, Any]]:
    """What the ledger says of runs that were put aside, oldest first."""
    entries = (json.loads(bytes(body)) for body in OutboxEntry.objects.order_by("pk").values_list("body", flat=True))
    return [entry["facts"] for entry in entries if entry["action"] == "fine_tune.paused"]


def losses(fine_tune: FineTune) -> dict[tuple[str, int], float]:
    return {(each.split, each.step): each.loss for each in fine_tune.measurements.all()}


def test_a_run_whose_disk_takes_no_more_keeps_its_checkpoint_and_goes_on_to_the_bit_once_there_is_room(
    house: House, tiny_base: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    fine_tune = start(house, tiny_base, {**LONG, "epochs": 5})
    kept: list[bytes] = []

    def fill(row: FineTune) -> None:
        if not kept and checkpoint_of(row).exists() and row.process_id:
            kept.append(checkpoint_of(row).read_bytes())
            psutil.Process(row.process_id).rlimit(psutil.RLIMIT_FSIZE, (len(kept[0]) - 1, len(kept[0]) - 1))

    with monkeypatch.context() as patch:
        at_each_poll(patch, fill, fine_tune.pk)
        aside = following.drive(str(fine_tune.pk))
    assert (aside.state, aside.failure_code) == (RunState.PAUSED, "output.unusable")
    assert "checkpoint.sealed: File too large; free space" in aside.failure
    assert "It goes on after step" in aside.failure
    assert not is_alive(aside.process_id, aside.process_started_at)
    assert checkpoint_of(aside).exists()
    before, attempts = losses(aside), aside.attempt

    # Resumed while there is still no room, no trainer is started in vain; nor is one lost with a cluster that is away.
    with monkeypatch.context() as patch:
        patch.setattr(disk, "_SPARE_BYTES", 1 << 60)
        actions.resume_fine_tune(actor=house.analyst, fine_tune=aside)
        still = following.drive(str(fine_tune.pk))
    assert (still.state, still.attempt) == (RunState.PAUSED, attempts)
    assert "MB free and the next checkpoint takes 1,152,921,504,606" in still.failure
    FineTune.objects.filter(pk=fine_tune.pk).update(pool="ray")
    actions.resume_fine_tune(actor=house.analyst, fine_tune=still)
    away = following.drive(str(fine_tune.pk))
    assert (away.state, away.failure_code) == (RunState.PAUSED, "ray_unset")

    FineTune.objects.filter(pk=fine_tune.pk).update(pool="local")
    assert actions.resume_fine_tune(actor=house.analyst, fine_tune=away).failure == ""
    done = following.drive(str(fine_tune.pk))
    assert (done.state, done.failure, done.failure_code) == (RunState.SUCCEEDED, "", "")
    after = losses(done)
    repeated = {each.step for each in done.measurements.filter(attempt=done.attempt)} & {step for _, step in before}
    assert repeated  # steps behind the checkpoint were made twice
    assert {place: after[place] for place in before} == before
    assert [facts["code"] for facts in pauses()] == ["output.unusable", "output.unusable", "ray_unset"]
    assert all(facts["has_checkpoint"] for facts in pauses())
    assert not checkpoint_of(done).exists()


def test_a_run_that_finds_no_room_for_its_shards_or_its_spec_begins_once_there_is_some_and_leaves_nothing_till_then(
    house: House, settings: Any
) -> None:
    fine_tune = actions.request_fine_tune(
        actor=house.analyst, version=house.approved(visits(60)), base_model=base_model(), name="try"
    )
    sealed = set(Path(settings.STEWARD_OBJECTS).rglob("*"))
    with file_size_limit(0):
        aside = following.drive(str(fine_tune.pk))
    assert (aside.state, aside.failure_code, aside.run_key) == (RunState.PAUSED, "disk_full", None)
    assert "Nothing was kept of it yet: it begins anew when it is resumed." in aside.failure
    runs = settings.STEWARD_RUNS
    settings.STEWARD_RUNS = "/proc/steward"  # nobody makes a folder there
    actions.resume_fine_tune(actor=house.analyst, fine_tune=aside)
    aside = following.drive(str(fine_tune.pk))
    assert (aside.state, aside.failure_code, aside.run_key) == (RunState.PAUSED, "output.unusable", None)
    assert set(Path(settings.STEWARD_OBJECTS).rglob("*")) == sealed
    assert [facts["has_checkpoint"] for facts in pauses()] == [False, False]

    settings.STEWARD_RUNS = runs
    actions.resume_fine_tune(actor=house.analyst, fine_tune=aside)
    begun = actions.dispatch_fine_tune(actor=following.WORKER, fine_tune=aside)
    assert begun.state == RunState.RUNNING
    assert all(object_path(shard).exists() for shard in SealedObject.objects.filter(key=begun.run_key))
    os.rename(settings.STEWARD_RUNS, f"{settings.STEWARD_RUNS}.unmounted")
    gone = following.drive(str(begun.pk))
    os.rename(f"{settings.STEWARD_RUNS}.unmounted", settings.STEWARD_RUNS)
    assert (gone.state, gone.attempt) == (RunState.PAUSED, 0)
    assert "mount the disk that holds them" in gone.failure
