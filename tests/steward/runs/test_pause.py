"""Pausing, resuming, cancelling and continuing with a real trainer process."""

import time
from typing import Any

import pytest

from steward.audit.actor import Denied, Refused
from steward.audit.models import OutboxEntry
from steward.datasets.erasure_actions import shred_subject
from steward.runs import actions, following
from steward.runs.models import FineTune, RunState
from steward.runs.processes import is_alive
from steward.runs.specs import checkpoint_of
from steward.vault.models import SealedObject
from steward.vault.objects import object_path
from tests.steward.house import House, visits
from tests.steward.runs.test_fine_tune import SMALL, at_each_poll

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
LONG = {**SMALL, "epochs": 12, "evaluate_every": 5, "checkpoint_every": 5, "patience": None}


@pytest.fixture
def fine_tune(house: House, tiny_base: Any) -> FineTune:
    return start(house, tiny_base, LONG)


def start(house: House, base: Any, changes: dict[str, Any]) -> FineTune:
    return actions.request_fine_tune(
        actor=house.analyst, version=house.approved(visits(60)), base_model=base, name="try", changes=changes
    )


def paused_in_mid_run(house: House, fine_tune: FineTune, monkeypatch: pytest.MonkeyPatch) -> FineTune:
    asked: list[float] = []

    def pause(row: FineTune) -> None:
        if not asked and row.step > 7:
            asked.append(time.monotonic())
            actions.pause_fine_tune(actor=house.analyst, fine_tune=row)

    with monkeypatch.context() as patch:
        at_each_poll(patch, pause, fine_tune.pk)
        row = following.drive(str(fine_tune.pk))
    assert row.state == RunState.PAUSED
    assert time.monotonic() - asked[0] < 5
    return row


def entries(name: str) -> int:
    return sum(f'"{name}"'.encode() in bytes(event.body) for event in OutboxEntry.objects.all())


def test_a_paused_run_frees_the_device_and_goes_on_where_it_was(
    house: House, fine_tune: FineTune, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = paused_in_mid_run(house, fine_tune, monkeypatch)
    assert not is_alive(row.process_id, row.process_started_at)
    assert checkpoint_of(row).exists()
    assert row.run_key is not None
    assert row.run_key.wrapped is not None
    assert following.drive(str(row.pk)).state == RunState.PAUSED  # a worker that starts meanwhile leaves it alone
    stopped_at = row.step

    actions.resume_fine_tune(actor=house.analyst, fine_tune=row)
    done = following.drive(str(row.pk))
    assert (done.state, done.failure, done.attempt) == (RunState.SUCCEEDED, "", 2)
    assert 0 < stopped_at < done.steps
    assert done.measurements.filter(split="train").count() == done.steps
    assert not done.measurements.filter(split="train", attempt=2, step__lte=stopped_at - 5).exists()
    assert not any(object_path(shard).exists() for shard in SealedObject.objects.filter(key=done.run_key))
    for name in ("pause_requested", "paused", "resume_requested", "resumed"):
        assert entries(f"fine_tune.{name}") == 1, name


def test_a_worker_killed_while_it_pauses_is_followed_by_one_that_pauses(
    house: House, fine_tune: FineTune, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(row: FineTune) -> None:
        if row.step > 7:
            actions.pause_fine_tune(actor=house.analyst, fine_tune=row)
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        at_each_poll(patch, die, fine_tune.pk)
        with pytest.raises(KeyboardInterrupt):
            following.drive(str(fine_tune.pk))
    row = FineTune.objects.get(pk=fine_tune.pk)
    assert row.state == RunState.PAUSING
    assert is_alive(row.process_id, row.process_started_at)
    assert following.drive(str(fine_tune.pk)).state == RunState.PAUSED


def test_a_paused_run_that_is_cancelled_leaves_nothing(
    house: House, fine_tune: FineTune, monkeypatch: pytest.MonkeyPatch, django_capture_on_commit_callbacks: Any
) -> None:
    row = paused_in_mid_run(house, fine_tune, monkeypatch)
    with django_capture_on_commit_callbacks(execute=True):
        cancelled = actions.cancel_fine_tune(actor=house.analyst, fine_tune=row)
    assert cancelled.state == RunState.CANCELLED
    assert cancelled.run_key is not None
    assert cancelled.run_key.wrapped is None
    assert not checkpoint_of(row).exists()
    assert not any(object_path(shard).exists() for shard in SealedObject.objects.filter(key=row.run_key))


def test_a_run_that_waits_is_paused_at_once_and_only_by_who_may_start_one(house: House, fine_tune: FineTune) -> None:
    with pytest.raises(Denied):
        actions.pause_fine_tune(actor=house.reviewer, fine_tune=fine_tune)
    with pytest.raises(Refused, match="not paused"):
        actions.resume_fine_tune(actor=house.analyst, fine_tune=fine_tune)
    assert actions.pause_fine_tune(actor=house.analyst, fine_tune=fine_tune).state == RunState.PAUSED
    with pytest.raises(Refused, match="only what runs or is queued"):
        actions.pause_fine_tune(actor=house.analyst, fine_tune=fine_tune)
    with pytest.raises(Denied):
        actions.resume_fine_tune(actor=house.reviewer, fine_tune=fine_tune)
    assert following.drive(str(fine_tune.pk)).state == RunState.PAUSED
    assert actions.resume_fine_tune(actor=house.analyst, fine_tune=fine_tune).state == RunState.QUEUED


def test_a_paused_run_does_not_go_on_with_records_that_were_erased_meanwhile(house: House, fine_tune: FineTune) -> None:
    actions.pause_fine_tune(actor=house.analyst, fine_tune=fine_tune)
    shred_subject(actor=house.officer, dataset=fine_tune.dataset_version.dataset, subject="patient-0")
    with pytest.raises(Refused, match="were erased since it began"):
        actions.resume_fine_tune(actor=house.analyst, fine_tune=fine_tune)
    assert actions.cancel_fine_tune(actor=house.analyst, fine_tune=fine_tune).state == RunState.CANCELLED


def test_a_finished_run_is_continued_from_what_it_learnt(house: House, tiny_base: Any) -> None:
    parent = start(house, tiny_base, {**SMALL, "epochs": 2, "optimiser": {"learning_rate": 5e-3}})
    with pytest.raises(Refused, match="Only a fine-tune that succeeded"):
        actions.continue_fine_tune(actor=house.analyst, parent=parent, epochs=2)
    parent = following.drive(str(parent.pk))
    assert parent.state == RunState.SUCCEEDED
    with pytest.raises(Refused, match="keeps what decides the shape"):
        actions.continue_fine_tune(actor=house.analyst, parent=parent, epochs=2, changes={"way": "full"})
    with pytest.raises(Denied):
        actions.continue_fine_tune(actor=house.reviewer, parent=parent, epochs=2)

    child = actions.continue_fine_tune(actor=house.analyst, parent=parent, epochs=2)
    assert (child.parent, child.recipe["epochs"]) == (parent, 2)
    child = following.drive(str(child.pk))
    assert (child.state, child.failure) == (RunState.SUCCEEDED, "")
    first = child.measurements.get(split="validation", step=0).loss
    assert parent.best_loss is not None
    assert first == pytest.approx(parent.best_loss, rel=1e-3)
    assert child.best_loss is not None
    assert child.best_loss <= first
    assert not any(object_path(sealed).exists() for sealed in SealedObject.objects.filter(key=child.run_key))
