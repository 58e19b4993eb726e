"""Bounds on what is still missed, against scipy's beta quantiles."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import beta

from compliance.redaction.residual import (
    Stratum,
    cohen_kappa,
    lower_bound,
    sample_size_for,
    stratified_risk,
    upper_bound,
    upper_bound_per_1000,
)


@given(st.integers(1, 3000), st.data(), st.sampled_from([0.9, 0.95, 0.99]))
def test_bound_is_the_exact_binomial_one(size: int, data: st.DataObject, confidence: float) -> None:
    misses = data.draw(st.integers(0, min(size, 40)))
    expected = 1.0 if misses == size else beta.ppf(confidence, misses + 1, size - misses)
    assert upper_bound(misses, size, confidence) == pytest.approx(expected, abs=1e-9)


def test_rule_of_three_and_per_thousand() -> None:
    assert upper_bound_per_1000(0, 300) == pytest.approx(9.936, abs=1e-3)
    assert lower_bound(0, 300) == pytest.approx(0.0, abs=1e-12)


def test_planned_sample_just_reaches_its_target() -> None:
    size = sample_size_for(0.01, expected_misses=1)
    assert upper_bound(1, size) <= 0.01 < upper_bound(1, size - 1)


def test_stratified_bound_covers_the_weighted_truth_and_counts_full_reviews_exactly() -> None:
    risk = stratified_risk([Stratum("doubtful", 100, 100, 4), Stratum("plain", 900, 200, 0)])
    assert risk.estimate == pytest.approx(0.004)
    assert 0.004 < risk.upper < 0.025
    assert risk.upper_per_1000 == pytest.approx(1000 * risk.upper)


@pytest.mark.parametrize("arguments", [(1, 0), (-1, 5), (6, 5)])
def test_impossible_counts_are_refused(arguments: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="sense"):
        upper_bound(*arguments)


def test_kappa_is_the_published_measure_of_agreement() -> None:
    # 20 yes/yes, 5 yes/no, 10 no/yes, 15 no/no: observed 0.7, by chance 0.5.
    pairs = [(True, True)] * 20 + [(True, False)] * 5 + [(False, True)] * 10 + [(False, False)] * 15
    assert cohen_kappa(pairs) == pytest.approx(0.4)
    assert cohen_kappa([(True, True), (False, False)]) == 1.0
    assert cohen_kappa([]) is None
    assert cohen_kappa([(False, False)] * 9) is None
