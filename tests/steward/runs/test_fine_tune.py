"""A fine-tune with a real trainer process: to the end, through kills, cancelled; and what it leaves behind."""

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
from django.conf import settings

from steward.assurance import evaluating
from steward.assurance.models import Evaluation, EvaluationState
from steward.assurance.queueing import queue_evaluation
from steward.assurance.reading import samples
from steward.audit.models import OutboxEntry
from steward.runs import actions, asking, following, processes
from steward.runs.chat import stop_serving, stream_answer
from steward.runs.models import FineTune, RunState
from steward.runs.output_actions import show_sample_answers
from steward.runs.processes import is_alive
from steward.runs.specs import run_folder
from steward.vault.models import KeyLevel, SealedObject
from steward.vault.objects import object_path
from tests.steward.house import House, visits
from trainers.spec import ANSWERS_KEPT

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
NAME = "Quackenbush"
SMALL = {"lora": {"rank": 4, "alpha": 8}, "precision": "fp32", "batch_tokens": 400, "max_length": 512}


@pytest.fixture
def fine_tune(house: House, tiny_base: Any) -> FineTune:
    return actions.request_fine_tune(
        actor=house.analyst,
        version=house.approved(visits(90)),
        base_model=tiny_base,
        name="try",
        changes={**SMALL, "epochs": 30, "evaluate_every": 5, "checkpoint_every": 5, "patience": None},
    )


def at_each_poll(monkeypatch: pytest.MonkeyPatch, do: Callable[[FineTune], None], pk: Any) -> None:
    """Calls `do` with the fresh row whenever the driver waits."""
    rest = time.sleep

    def sleep(seconds: float) -> None:
        rest(0.05)
        do(FineTune.objects.get(pk=pk))

    monkeypatch.setattr(following.time, "sleep", sleep)


def has_checkpoint(fine_tune: FineTune) -> bool:
    return (run_folder(fine_tune) / "checkpoint.sealed").exists()


def assert_nothing_readable_is_left(fine_tune: FineTune) -> None:
    found = subprocess.run(
        ["grep", "-rlaF", "Dressing changed", str(run_folder(fine_tune)), str(settings.STEWARD_OBJECTS)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert found.stdout == ""


def test_a_fine_tune_yields_a_model_its_evaluation_and_gates(
    house: House, fine_tune: FineTune, monkeypatch: pytest.MonkeyPatch, django_capture_on_commit_callbacks: Any
) -> None:
    done = following.drive(str(fine_tune.pk))
    assert (done.state, done.failure) == (RunState.SUCCEEDED, "")
    model_version = done.model_version
    assert done.measurements.filter(split="train").count() == done.steps
    assert done.best_loss == min(done.measurements.filter(split="validation").values_list("loss", flat=True))
    said = show_sample_answers(actor=house.analyst, fine_tune=done)
    looks = list(done.measurements.filter(split="validation", score__isnull=False).values_list("step", flat=True))
    assert [step.step for step in said.steps] == [looks[0], *looks[1:][1 - ANSWERS_KEPT :]]
    assert [len(asked.answers) for asked in said.asked] == [len(said.steps)] * 4
    assert all("Dressing changed" in asked.reference for asked in said.asked)
    shards = SealedObject.objects.filter(key=done.run_key)
    assert len(shards) == 2
    assert not any(object_path(shard).exists() for shard in shards)
    assert done.run_key is not None
    assert done.run_key.wrapped is None
    assert not has_checkpoint(done)

    evaluation = evaluating.evaluate(str(Evaluation.objects.get(model_version=model_version).pk))
    assert (evaluation.state, evaluation.failure) == (EvaluationState.DONE, "")
    assert evaluation.record_count == done.dataset_version.split_counts["test"]
    assert evaluation.gain_low <= evaluation.gain_score <= evaluation.gain_high
    gates = {gate.gate: gate for gate in evaluation.gate_results.all()}
    assert gates["ledger"].has_passed
    best, worst = samples(evaluation, 2)
    assert len(best) == len(worst) == 2
    assert "Dressing changed" in best[0].reference
    assert_nothing_readable_is_left(done)

    answer = "".join(
        stream_answer(
            actor=house.analyst,
            model_version=model_version,
            messages=[{"role": "user", "content": "hello"}],
            use_adapter=True,
            max_new_tokens=4,
        )
    )
    assert isinstance(answer, str)

    # Judged once more while somebody still tries it, by a worker that is killed, and by a trainer that is killed.
    again = queue_evaluation(model_version, None)
    falls = iter([_killed_worker, _killed_trainer])
    monkeypatch.setattr(asking, "PAUSE_SECONDS", 0.1)
    monkeypatch.setattr(evaluating, "_note_progress", lambda *_: next(falls, lambda: None)())
    with pytest.raises(_WorkerKilled):
        evaluating.evaluate(str(again.pk))
    with django_capture_on_commit_callbacks(execute=True):  # files go when their rows are committed
        assert evaluating.evaluate(str(again.pk)).state == EvaluationState.DONE
    stop_serving()
    left = SealedObject.objects.filter(key__level=KeyLevel.RUN)
    assert len(left) == 2 + 1 + 2
    assert not any(shard.key.wrapped or object_path(shard).exists() for shard in left)


class _WorkerKilled(BaseException):
    """Not an Exception: a killed worker handles nothing."""


def _killed_worker() -> None:
    raise _WorkerKilled


def _killed_trainer() -> None:
    for child in psutil.Process().children():
        with contextlib.suppress(psutil.ZombieProcess):
            if "evaluate" in child.cmdline():
                child.kill()


def test_a_killed_trainer_goes_on_from_its_checkpoint(fine_tune: FineTune, monkeypatch: pytest.MonkeyPatch) -> None:
    killed: list[int] = []

    def kill(row: FineTune) -> None:
        if not killed and has_checkpoint(row) and row.process_id:
            os.kill(row.process_id, signal.SIGKILL)
            killed.append(row.step)
            assert_nothing_readable_is_left(row)

    at_each_poll(monkeypatch, kill, fine_tune.pk)
    done = following.drive(str(fine_tune.pk))
    assert killed
    assert (done.state, done.attempt) == (RunState.SUCCEEDED, 2)
    assert any(b'"fine_tune.resumed"' in bytes(event.body) for event in OutboxEntry.objects.all())
    assert done.measurements.filter(split="train").count() == done.steps


def test_a_killed_worker_leaves_the_trainer_running_and_another_takes_over(
    fine_tune: FineTune, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(row: FineTune) -> None:
        if row.step > 2:
            raise KeyboardInterrupt

    at_each_poll(monkeypatch, die, fine_tune.pk)
    with pytest.raises(KeyboardInterrupt):
        following.drive(str(fine_tune.pk))
    row = FineTune.objects.get(pk=fine_tune.pk)
    assert row.state == RunState.RUNNING
    assert is_alive(row.process_id, row.process_started_at)
    monkeypatch.undo()
    done = following.drive(str(fine_tune.pk))
    assert (done.state, done.attempt) == (RunState.SUCCEEDED, 1)


def test_a_worker_killed_before_it_handed_the_keys_over_costs_nothing(
    fine_tune: FineTune, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainers: list[Any] = []

    class OfKilledWorker(subprocess.Popen):  # type: ignore[type-arg]
        def __init__(self, *arguments: Any, **options: Any) -> None:
            super().__init__(*arguments, **options)
            if self.stdin is not None and not trainers:
                trainers.append(self)
                self.stdin.close()
                raise KeyboardInterrupt

    monkeypatch.setattr(processes.subprocess, "Popen", OfKilledWorker)
    with pytest.raises(KeyboardInterrupt):
        following.drive(str(fine_tune.pk))
    trainers[0].wait(60)
    done = following.drive(str(fine_tune.pk))
    assert (done.state, done.failure, done.attempt) == (RunState.SUCCEEDED, "", 1)
    assert b"keys.missing" in (run_folder(done) / "events.jsonl").read_bytes()


def test_half_a_line_of_a_killed_trainer_does_not_spoil_the_next_ones(
    fine_tune: FineTune, monkeypatch: pytest.MonkeyPatch
) -> None:
    killed: list[int] = []

    def kill(row: FineTune) -> None:
        if not killed and has_checkpoint(row) and row.process_id:
            os.kill(row.process_id, signal.SIGKILL)
            killed.append(row.step)
            with open(run_folder(row) / "events.jsonl", "ab") as said:
                said.write(b'{"event": "train.st')

    at_each_poll(monkeypatch, kill, fine_tune.pk)
    done = following.drive(str(fine_tune.pk))
    assert killed
    assert (done.state, done.failure, done.attempt) == (RunState.SUCCEEDED, "", 2)


def test_a_cancelled_run_frees_the_device_within_five_seconds(
    house: House, fine_tune: FineTune, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[float] = []

    def cancel(row: FineTune) -> None:
        if not asked and row.step > 2:
            asked.append(time.monotonic())
            actions.cancel_fine_tune(actor=house.analyst, fine_tune=row)

    at_each_poll(monkeypatch, cancel, fine_tune.pk)
    done = following.drive(str(fine_tune.pk))
    assert done.state == RunState.CANCELLED
    assert time.monotonic() - asked[0] < 5
    assert not any(object_path(shard).exists() for shard in SealedObject.objects.filter(key=done.run_key))


def test_a_run_cancelled_at_the_moment_it_would_start_stays_cancelled(
    house: House, fine_tune: FineTune, monkeypatch: pytest.MonkeyPatch
) -> None:
    dispatch = actions.dispatch_fine_tune

    def cancelled_first(**arguments: Any) -> FineTune:
        actions.cancel_fine_tune(actor=house.analyst, fine_tune=fine_tune)
        return dispatch(**arguments)

    monkeypatch.setattr(following.actions, "dispatch_fine_tune", cancelled_first)
    assert following.drive(str(fine_tune.pk)).state == RunState.CANCELLED
    assert FineTune.objects.get(pk=fine_tune.pk).state == RunState.CANCELLED


def test_a_model_folder_that_changed_fails_the_run_with_a_hint(
    fine_tune: FineTune, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fine_tune.base_model.digest = "sha256:" + "0" * 64
    fine_tune.base_model.save()
    done = following.drive(str(fine_tune.pk))
    assert (done.state, done.failure_code) == (RunState.FAILED, "model.digest")
    assert done.run_key is not None
    assert done.run_key.wrapped is None
