"""What a fine-tune will need is said before it is asked for, from sizes alone, and stands beside what it took."""

from dataclasses import replace
from typing import Any

import pytest
from django.utils import timezone

from steward.environment import number
from steward.runs import actions
from steward.runs.forecast import energy_and_cost, foretell, told_and_taken
from steward.runs.methods import METHODS
from steward.runs.models import FineTune, RunState
from steward.runs.recipes import merged_recipe, spec_of
from tests.steward.house import House, visits


@pytest.fixture
def lenient(db: None) -> House:
    return House(policy={"missed_per_1000_max": 1000})


def spec(**changes: Any) -> Any:
    recipe = merged_recipe("healthcare", "visit_sections", changes)
    return spec_of(recipe, METHODS[recipe["method"]])


def finished(house: House, version: Any, base_model: Any, **facts: Any) -> FineTune:
    """A run as it stands after its end."""
    fine_tune = actions.request_fine_tune(actor=house.analyst, version=version, base_model=base_model, name="before")
    fine_tune.state, fine_tune.tokens, fine_tune.train_seconds = RunState.SUCCEEDED, 10_000, 20.0
    fine_tune.facts, fine_tune.finished_at = facts, timezone.now()
    fine_tune.save()
    return fine_tune


def test_memory_is_foretold_from_sizes_and_time_only_once_a_run_was_made(lenient: House, tiny_base: Any) -> None:
    version = lenient.approved(visits(30))
    told = foretell(version, tiny_base, spec())
    assert told is not None
    assert told.memory_bytes == sum(told.parts.values())
    assert told.longer_records == 0
    short = foretell(version, tiny_base, spec(max_length=16))
    assert short is not None
    assert short.longer_records == version.split_counts["train"]
    assert told.tokens > 30
    assert told.seconds is None
    assert told.cost is None
    finished(lenient, version, tiny_base, fit={"tokens": 20_000, "passes": 80_000})  # it ended early
    after = foretell(version, tiny_base, spec())
    assert after is not None
    assert after.seconds is not None
    assert after.seconds / after.tokens == pytest.approx(3 / 2000, rel=0.4)  # evaluations are in it
    assert after.basis == "before"


def test_the_first_run_by_judgements_is_not_foretold_at_the_pace_of_answers(lenient: House, tiny_base: Any) -> None:
    version = lenient.approved(visits(30))
    finished(lenient, version, tiny_base, fit={"tokens": 10_000, "passes": 35_000})
    answers, judged = (foretell(version, tiny_base, replace(spec(epochs=1), method=each)) for each in ("sft", "kto"))
    assert answers is not None
    assert judged is not None
    assert judged.tokens == pytest.approx(2 * answers.tokens, rel=0.1)  # each prompt before another's answer too
    assert answers.seconds is not None
    assert judged.seconds is not None
    # Three passes for an answer; for a judged one and another's answer four, and two before the first step.
    assert judged.seconds / answers.seconds == pytest.approx(2, rel=0.15)


def test_several_processes_share_the_passes_and_each_has_its_own_memory_and_price(
    lenient: House, tiny_base: Any, settings: Any
) -> None:
    settings.STEWARD_DEVICE_HOUR_PRICE = 2.0
    version = lenient.approved(visits(30))
    finished(lenient, version, tiny_base, fit={"tokens": 10_000, "passes": 35_000})
    parallel = {"processes": 2, "shard": "optimiser"}
    alone, two = (foretell(version, tiny_base, spec(epochs=9, **more)) for more in ({}, {"parallel": parallel}))
    assert alone is not None
    assert two is not None
    assert (alone.processes, two.processes) == (1, 2)
    assert (two.tokens, two.steps) == (alone.tokens, alone.steps)
    assert alone.seconds is not None
    assert two.seconds is not None
    assert two.seconds / alone.seconds == pytest.approx(1 / 2, rel=0.1)  # but for the last look, which one takes alone
    assert two.cost is not None
    assert two.cost == pytest.approx(2 * 2.0 * two.seconds / 3600)
    assert two.free_bytes == pytest.approx(alone.free_bytes / 2, rel=0.2)


def test_the_pace_of_a_cluster_and_what_is_free_there_are_those_of_its_own_last_run(
    lenient: House, tiny_base: Any, settings: Any
) -> None:
    version = lenient.approved(visits(30))
    finished(lenient, version, tiny_base, fit={"tokens": 10_000, "passes": 35_000, "free_bytes": 5 << 30})
    settings.STEWARD_LAUNCHER, settings.STEWARD_RAY_DEVICES = "ray", 8
    told = foretell(version, tiny_base, spec())
    assert told is not None
    assert told.seconds is None
    there = finished(lenient, version, tiny_base, fit={"tokens": 10_000, "passes": 35_000, "free_bytes": 3 << 40})
    there.recipe["parallel"] = {"nodes": 2, "processes": 2}
    there.save()
    told = foretell(version, tiny_base, spec(parallel={"nodes": 3}))
    assert told is not None
    assert told.seconds is not None
    assert told.free_bytes == 6 << 40


def test_a_run_over_the_same_version_makes_the_count_of_tokens_exact(lenient: House, tiny_base: Any) -> None:
    version = lenient.approved(visits(30))
    records = version.split_counts["train"]
    finished(lenient, version, tiny_base, data_train={"tokens": 77 * records, "records": records})
    told = foretell(version, tiny_base, spec(epochs=1))
    assert told is not None
    assert told.tokens == pytest.approx(77 * records, rel=0.02)


def test_twice_the_epochs_are_twice_the_tokens_and_a_limit_of_steps_is_kept(lenient: House, tiny_base: Any) -> None:
    version = lenient.approved(visits(30))
    once, twice = (foretell(version, tiny_base, spec(epochs=count)) for count in (1, 2))
    assert once is not None
    assert twice is not None
    assert twice.tokens == pytest.approx(2 * once.tokens, rel=0.05)
    limited = foretell(version, tiny_base, spec(epochs=50, max_steps=2))
    assert limited is not None
    assert limited.steps == 2


def test_a_model_whose_folder_is_not_there_yet_has_no_forecast(lenient: House, tiny_base: Any) -> None:
    tiny_base.path = "/nowhere"
    assert foretell(lenient.approved(visits(9)), tiny_base, spec()) is None


def test_energy_and_cost_are_shown_only_where_the_operator_named_them(settings: Any) -> None:
    assert energy_and_cost(3600.0)["watt_hours"] is None
    settings.STEWARD_DEVICE_WATTS, settings.STEWARD_DEVICE_HOUR_PRICE, settings.STEWARD_CURRENCY = 300, 2.5, "USD"
    assert energy_and_cost(1800.0) == {"watt_hours": 150.0, "cost": 1.25, "currency": "USD"}
    assert energy_and_cost(None)["cost"] is None


def test_what_was_foretold_stands_beside_what_was_taken(lenient: House, tiny_base: Any) -> None:
    version = lenient.approved(visits(9))
    fit = {
        "fits": False, "memory_bytes": 3 << 30, "free_bytes": 2 << 30, "micro_tokens": 64, "is_recomputed": True,
        "seconds": 100.0, "advice": "max_length 256 would fit",
    }  # fmt: skip
    fine_tune = finished(lenient, version, tiny_base, fit=fit, peak_memory_bytes=4 << 30)
    both = told_and_taken(fine_tune)
    assert both is not None
    assert (both["memory_bytes"], both["taken_memory_bytes"]) == (3 << 30, 4 << 30)
    assert (both["seconds"], both["taken_seconds"]) == (100.0, 20.0)


def test_a_price_that_is_no_number_stops_the_start_with_an_example(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STEWARD_DEVICE_HOUR_PRICE", "cheap")
    with pytest.raises(Exception, match=r"must be a number from 0 to 10\. Example: STEWARD_DEVICE_HOUR_PRICE=1\.25"):
        number("STEWARD_DEVICE_HOUR_PRICE", default=0.0, minimum=0.0, maximum=10.0)
