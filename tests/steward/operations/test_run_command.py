"""`manage.py run`: the web's actions at a terminal. The queue is played; trainers are tested elsewhere."""

import io
from collections.abc import Callable
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from steward.accounts.models import User
from steward.operations import following, terminal
from steward.operations.fine_tuning import changes_of
from steward.runs import actions
from steward.runs.models import FineTune, RunState
from tests.steward.house import House, visits
from tests.steward.runs.paper import base_model, dispatched, finish


@pytest.fixture
def lenient(db: None) -> House:
    return House(policy={"missed_per_1000_max": 1000})


@pytest.fixture
def running(lenient: House) -> FineTune:
    return dispatched(lenient, lenient.approved(visits(60)), base_model())


@pytest.fixture
def worker(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], object]], None]:
    """Has something done, once, while a command waits; a supervisor seems to run."""
    monkeypatch.setattr(following, "is_supervised", lambda: True)

    def does(work: Callable[[], object]) -> None:
        left = [work]
        monkeypatch.setattr(terminal.time, "sleep", lambda _: left.pop()() if left else pytest.fail("waits for ever"))

    does(lambda: None)
    return does


def run(house: House, step: str, fine_tune: FineTune, *more: str) -> str:
    said = io.StringIO()
    name = User.objects.get(pk=house.analyst.user_id).get_username()
    call_command("run", step, str(fine_tune.pk)[:8], "--as", name, *more, stdout=said)
    return said.getvalue()


def state(fine_tune: FineTune) -> str:
    return FineTune.objects.get(pk=fine_tune.pk).state


def test_a_running_one_is_paused_once_its_trainer_is_gone(lenient: House, running: FineTune, worker: Any) -> None:
    told = {"code": "output.unusable", "message": "The disk is full; free space."}
    where = {"has_checkpoint": True, "event_offset": 0}
    worker(lambda: actions.put_aside(actor=lenient.analyst, fine_tune=running, **where, **told))  # type: ignore[arg-type]
    said = run(lenient, "pause", running)
    assert told["message"] in said
    assert state(running) == RunState.PAUSED
    assert f"Next: manage.py run resume {str(running.pk)[:8]}" in said
    with pytest.raises(CommandError, match="only what runs or is queued can be paused"):
        run(lenient, "pause", running)


def test_one_that_ends_before_it_could_be_paused_is_not_said_to_be(
    lenient: House, running: FineTune, worker: Any
) -> None:
    worker(lambda: finish(lenient, running))
    with pytest.raises(CommandError, match="not paused: it is succeeded"):
        run(lenient, "pause", running)


def test_a_paused_one_is_resumed_and_followed_until_somebody_pauses_it_again(
    lenient: House, running: FineTune, worker: Any
) -> None:
    with pytest.raises(CommandError, match="not paused"):
        run(lenient, "resume", running)
    FineTune.objects.filter(pk=running.pk).update(state=RunState.PAUSED)
    seen = []

    def pause_again() -> None:
        seen.append(state(running))
        actions.pause_fine_tune(actor=lenient.analyst, fine_tune=running)

    worker(pause_again)
    assert "is paused" in run(lenient, "resume", running)
    assert seen == [RunState.QUEUED]


def test_a_finished_one_is_continued_with_more_epochs_by_a_new_one(
    lenient: House, running: FineTune, worker: Any
) -> None:
    with pytest.raises(CommandError, match="Only a fine-tune that succeeded"):
        run(lenient, "continue", running, "--epochs", "2")
    finish(lenient, running)
    worker(lambda: actions.pause_fine_tune(actor=lenient.analyst, fine_tune=running.continuations.get()))
    said = run(lenient, "continue", running, "--epochs", "2", "--set", "optimiser.learning_rate=0.001")
    child = running.continuations.get()
    assert (child.recipe["epochs"], child.recipe["optimiser"]["learning_rate"]) == (2, 0.001)
    assert f"fine-tune {child.pk} goes on from {running.pk}" in said


def test_one_is_cancelled(lenient: House, running: FineTune, worker: Any) -> None:
    worker(lambda: actions.finish_cancelled(actor=lenient.analyst, fine_tune=running))
    assert "is cancelled" in run(lenient, "cancel", running)


def test_who_may_not_start_one_may_not_do_this_either(lenient: House, running: FineTune, worker: Any) -> None:
    name = User.objects.get(pk=lenient.auditor.user_id).get_username()
    for step in ("pause", "resume", "cancel"):
        with pytest.raises(CommandError):
            call_command("run", step, str(running.pk)[:8], "--as", name)
    assert state(running) == RunState.RUNNING


def test_changes_that_contradict_one_another_are_named() -> None:
    assert changes_of(["lora.rank=8", "lora.alpha=16", "too_long=truncate"]) == {
        "lora": {"rank": 8, "alpha": 16},
        "too_long": "truncate",
    }
    for pairs, said in ((["epochs=3", "epochs.x=3"], "gives epochs a value of its own"), (["epochs"], "KEY=VALUE")):
        with pytest.raises(CommandError, match=said):
            changes_of(pairs)
