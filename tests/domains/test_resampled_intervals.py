"""Intervals of any figure of a sample, against the ones of means and SciPy's bootstrap."""

import random

import numpy as np
import pytest
from scipy import stats

from domains.intervals import (
    bootstrap_interval,
    paired_difference,
    pooled,
    pooled_difference,
    pooled_interval,
    resampled_interval,
    two_sample_interval,
)


def test_the_interval_of_a_mean_is_scipys() -> None:
    source = random.Random(3)
    values = [source.gauss(2.0, 1.0) for _ in range(120)]
    ours = resampled_interval(len(values), lambda at: sum(values[place] for place in at) / len(at), resamples=4000)
    theirs = stats.bootstrap((np.array(values),), np.mean, n_resamples=4000, method="percentile", rng=1)
    assert ours.estimate == pytest.approx(np.mean(values))
    assert ours.low == pytest.approx(theirs.confidence_interval.low, abs=0.02)
    assert ours.high == pytest.approx(theirs.confidence_interval.high, abs=0.02)


def test_the_same_sample_gives_the_same_interval() -> None:
    first, again = (resampled_interval(9, lambda at: float(max(at)), seed=5) for _ in range(2))
    assert first == again


@pytest.mark.parametrize("given", [{"count": 0}, {"resamples": 99}, {"level": 1.0}])
def test_what_gives_no_interval_is_refused(given: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="interval"):
        resampled_interval(**({"count": 3, "statistic": lambda at: 0.0} | given))  # type: ignore[arg-type]


def test_the_interval_of_two_samples_is_scipys() -> None:
    source = random.Random(4)
    first, second = ([source.gauss(mean, 1.0) for _ in range(count)] for mean, count in ((2.0, 80), (1.5, 40)))
    ours = two_sample_interval(first, second, lambda a, b: sum(a) / len(a) - sum(b) / len(b), resamples=4000)
    theirs = stats.bootstrap(
        (np.array(first), np.array(second)),
        lambda a, b, axis: np.mean(a, axis=axis) - np.mean(b, axis=axis),
        n_resamples=4000,
        method="percentile",
        rng=1,
    )
    assert ours.estimate == pytest.approx(np.mean(first) - np.mean(second))
    assert ours.low == pytest.approx(theirs.confidence_interval.low, abs=0.03)
    assert ours.high == pytest.approx(theirs.confidence_interval.high, abs=0.03)
    with pytest.raises(ValueError, match="both samples"):
        two_sample_interval([], second, lambda a, b: 0.0)


def test_a_pooled_figure_is_the_ratio_of_sums_and_its_interval_scipys() -> None:
    source = random.Random(5)
    parts = [
        (2 * min(found, wanted), found + wanted)
        for found, wanted in ((source.randrange(4), source.randrange(4)) for _ in range(150))
    ]
    above, below = np.array(parts).T
    ours = pooled_interval(parts, resamples=4000)
    assert ours.estimate == pytest.approx(above.sum() / below.sum())
    theirs = stats.bootstrap(
        (above, below),
        lambda a, b, axis: a.sum(axis=axis) / b.sum(axis=axis),
        paired=True,
        n_resamples=4000,
        method="percentile",
        rng=1,
    )
    assert ours.low == pytest.approx(theirs.confidence_interval.low, abs=0.02)
    assert ours.high == pytest.approx(theirs.confidence_interval.high, abs=0.02)


def test_what_is_the_same_in_every_draw_claims_no_certainty() -> None:
    right = pooled_interval([(2, 2)] * 20)
    assert (right.estimate, right.high, right.method) == (1.0, 1.0, "exact")
    assert right.low == bootstrap_interval([1.0] * 20).low
    gain = pooled_difference([(0, 1)] * 20, [(2, 2)] * 20)
    assert gain.estimate == 1.0
    assert gain.low == paired_difference([0.0] * 20, [1.0] * 20).low
    assert pooled([]) == pooled([(0, 0)]) == 1.0
    with pytest.raises(ValueError, match="same records"):
        pooled_difference([(1, 1)], [])
