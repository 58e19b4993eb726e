"""Intervals of any figure of a sample, against the ones of means and SciPy's bootstrap."""

import random

import numpy as np
import pytest
from scipy import stats

from domains.intervals import resampled_interval


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
