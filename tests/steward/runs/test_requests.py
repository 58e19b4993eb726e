"""Who may start a fine-tune, on what, with which recipe."""

from typing import Any

import pytest
from procrastinate.contrib.django.models import ProcrastinateJob

from steward.audit.actor import Denied, Refused
from steward.runs import actions
from steward.runs.models import RunState
from tests.steward.house import House, visits


def request(house: House, version: Any, base: Any, **changes: Any) -> Any:
    return actions.request_fine_tune(
        actor=changes.pop("actor", house.analyst), version=version, base_model=base, name="try", changes=changes
    )


def test_only_an_approved_version_is_trained_on(house: House, tiny_base: Any) -> None:
    with pytest.raises(Refused, match="Only an approved"):
        request(house, house.imported(visits(6)), tiny_base)
    fine_tune = request(house, house.approved(visits(70)), tiny_base)
    assert fine_tune.state == RunState.QUEUED
    assert ProcrastinateJob.objects.filter(task_name="runs.drive_fine_tune", status="todo").count() == 1


def test_a_reviewer_may_not_train(house: House, tiny_base: Any) -> None:
    version = house.approved(visits(70))
    with pytest.raises(Denied):
        request(house, version, tiny_base, actor=house.reviewer)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"epoch": 3}, "epoch"),
        ({"lora": {"rank": 0}}, "lora.rank"),
        ({"model": {"path": "/etc"}}, "not part of a recipe"),
        ({"start": None}, "not part of a recipe"),
        ({"optimiser": {"learning_rate": "high"}}, "optimiser.learning_rate"),
        ({"method": "rlhf"}, "method: must be one of sft, dpo"),
        ({"way": "qalora"}, "way: must be one of lora, rslora"),
        ({"way": "full", "lora": {"rank": 4}}, "lora: does not belong"),
        ({"preference": {"beta": 0.3}}, "preference: does not belong"),
        ({"method": "classification", "way": "prompt"}, "way: Soft prompt cannot carry"),
        ({"method": "dpo", "preference": {"beta": 0}}, "preference.beta"),
    ],
)
def test_a_recipe_that_is_no_valid_spec_is_refused_with_its_path(
    house: House, tiny_base: Any, changes: dict[str, Any], told: str
) -> None:
    version = house.approved(visits(70))
    with pytest.raises(Refused, match=told):
        request(house, version, tiny_base, **changes)


def test_where_the_policy_wants_it_another_person_lets_a_run_start(db: None, tiny_base: Any) -> None:
    house = House(policy={"is_fine_tune_approval_required": True})
    fine_tune = request(house, house.approved(visits(70)), tiny_base)
    assert fine_tune.state == RunState.AWAITING_APPROVAL
    with pytest.raises(Denied):
        actions.approve_fine_tune(actor=house.analyst, fine_tune=fine_tune)
    assert actions.approve_fine_tune(actor=house.officer, fine_tune=fine_tune).state == RunState.QUEUED


def test_a_waiting_fine_tune_is_cancelled_at_once(house: House, tiny_base: Any) -> None:
    fine_tune = request(house, house.approved(visits(70)), tiny_base)
    assert actions.cancel_fine_tune(actor=house.analyst, fine_tune=fine_tune).state == RunState.CANCELLED
    with pytest.raises(Refused, match="over"):
        actions.cancel_fine_tune(actor=house.analyst, fine_tune=fine_tune)
