"""Runs set side by side: what differs, and what may be said of it."""

from typing import Any

import pytest

from domains.intervals import bootstrap_interval
from steward.assurance.comparing import compare
from steward.audit.actor import Refused
from steward.runs import actions as runs
from steward.runs.models import FineTune
from tests.steward.house import House, visits
from tests.steward.runs.paper import dispatched, judged, trained


@pytest.fixture
def lenient(db: None) -> House:
    return House(policy={"missed_per_1000_max": 1000})


@pytest.fixture
def two(lenient: House, tiny_base: Any) -> tuple[FineTune, FineTune]:
    version = lenient.approved(visits(60))
    first = trained(lenient, version, tiny_base, "first", epochs=1)
    second = trained(lenient, version, tiny_base, "second", epochs=3, lora={"rank": 8})
    return first, second


def test_settings_that_differ_are_told_from_those_that_do_not(two: tuple[FineTune, FineTune]) -> None:
    found = compare(two)
    differing = {setting.path: setting.values for setting in found.differing}
    assert differing["epochs"] == [1, 3]
    assert differing["lora.rank"][1] == 8
    assert "optimiser.learning_rate" in {setting.path for setting in found.equal}
    assert found.warnings == []


def test_a_difference_on_the_same_records_has_its_interval(lenient: House, two: tuple[FineTune, FineTune]) -> None:
    judged(lenient, two[0], [0.0, 1.0] * 40)
    judged(lenient, two[1], [1.0, 1.0] * 40, ids=[str(place) for place in range(80)])
    found = compare(two)
    assert [contender.score.method for contender in found.contenders if contender.score] == ["bootstrap", "exact"]
    (pair,) = found.pairs
    assert pair.interval is not None
    assert pair.interval.estimate == 0.5
    assert 0 < pair.interval.low < 0.5 < pair.interval.high
    assert pair.verdict == "better"
    assert compare(two[::-1]).pairs[0].verdict == "worse"


@pytest.mark.parametrize("scores", [[0.0, 0.5, 1.0] * 20, [1.0] * 12 + [0.0] * 7])
def test_a_share_and_a_mean_have_the_one_interval_that_they_were_judged_with(
    lenient: House, two: tuple[FineTune, FineTune], scores: list[float]
) -> None:
    evaluation = judged(lenient, two[0], scores)
    score = compare(two).contenders[0].score
    assert score is not None
    assert (score.method, score.n, score.level) == ("bootstrap", len(scores), 0.95)
    assert (score.estimate, score.low, score.high) == (
        evaluation.tuned_score,
        evaluation.tuned_low,
        evaluation.tuned_high,
    )
    again = bootstrap_interval(scores)
    assert (score.low, score.high) == (again.low, again.high)


def test_records_are_paired_by_their_ids_and_not_by_their_place(lenient: House, two: tuple[FineTune, FineTune]) -> None:
    ids = [str(place) for place in range(20)]
    scores = [float(place % 3 == 0) for place in range(20)]
    judged(lenient, two[0], scores, ids=ids)
    judged(lenient, two[1], scores[::-1], ids=ids[::-1])
    (pair,) = compare(two).pairs
    assert pair.interval is not None
    assert (pair.interval.estimate, pair.interval.method) == (0.0, "exact")
    assert pair.verdict == "not told apart"


def test_runs_judged_on_other_records_or_not_at_all_are_not_set_against_each_other(
    lenient: House, two: tuple[FineTune, FineTune], tiny_base: Any
) -> None:
    judged(lenient, two[0], [0.0, 1.0], ids=["1", "2"])
    assert compare(two).pairs[0].reason == "not judged yet"
    judged(lenient, two[1], [0.0, 1.0], ids=["1", "3"])
    assert compare(two).pairs[0].reason == "judged on different test records"
    lost = runs.request_fine_tune(
        actor=lenient.analyst, version=two[0].dataset_version, base_model=tiny_base, name="lost"
    )
    lost = runs.cancel_fine_tune(actor=lenient.analyst, fine_tune=lost)
    assert compare([two[0], lost]).pairs[0].reason == "B left no model"
    other = trained(lenient, lenient.approved(visits(60, ward="b")), tiny_base, "third")
    judged(lenient, other, [0.0, 1.0], ids=["1", "2"])
    found = compare([two[0], other])
    assert found.pairs[0].reason == "judged on different dataset versions"
    assert any("different data" in warning for warning in found.warnings)
    assert any("different records" in warning for warning in found.warnings)


def test_two_to_six_different_runs_are_compared(lenient: House, two: tuple[FineTune, FineTune], tiny_base: Any) -> None:
    for chosen in ([two[0]], [two[0], two[0]], []):
        with pytest.raises(Refused, match="2 to 6"):
            compare(chosen)
    version = two[0].dataset_version
    more = [dispatched(lenient, version, tiny_base, f"run {number}") for number in range(4)]
    assert len(compare([*two, *more]).pairs) == 15
    assert [each.letter for each in compare([*two, *more]).contenders] == list("ABCDEF")


def test_pooled_figures_are_set_against_each_other_by_their_parts(
    lenient: House, two: tuple[FineTune, FineTune]
) -> None:
    parts = [[[0, 3], [2, 4], [4, 4]] * 10, [[2, 3], [4, 4], [4, 4]] * 10]
    for run, own in zip(two, parts, strict=True):
        judged(lenient, run, [0.5] * 30, parts={"base": own, "tuned": own})
    found = compare(two)
    scores = [contender.score.estimate for contender in found.contenders if contender.score]
    assert scores == [pytest.approx(6 / 11), pytest.approx(10 / 11)]
    (pair,) = found.pairs
    assert pair.interval is not None
    assert pair.interval.estimate == pytest.approx(4 / 11)
    assert pair.verdict == "better"
