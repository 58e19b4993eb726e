"""Intervals against somebody else's: the bootstrap's of scipy."""

import random

import numpy as np
import pytest
from scipy import stats

from domains.intervals import bootstrap_interval, paired_difference


@pytest.mark.parametrize("kind", ["right or wrong", "graded"])
def test_the_paired_bootstrap_agrees_with_scipys(kind: str) -> None:
    source = random.Random(3)
    first = [float(source.random() < 0.6) if kind == "right or wrong" else source.random() for _ in range(240)]
    second = [one if source.random() < 0.7 else float(source.random() < 0.8) for one in first]
    ours = paired_difference(first, second, resamples=8000)
    theirs = stats.bootstrap(
        (np.array(second), np.array(first)),
        lambda after, before, axis: np.mean(after - before, axis=axis),
        paired=True, vectorized=True, n_resamples=8000, method="percentile", rng=np.random.default_rng(1),
    )  # fmt: skip
    assert ours.estimate == pytest.approx(np.mean(np.array(second) - np.array(first)))
    # Two draws of 8,000 differ by about this much: a quantile's own error is near 0.02 standard errors of the mean.
    room = 5 * 0.03 * float(theirs.standard_error)
    assert ours.low == pytest.approx(theirs.confidence_interval.low, abs=room)
    assert ours.high == pytest.approx(theirs.confidence_interval.high, abs=room)


def test_the_bootstrap_of_one_mean_agrees_with_scipys() -> None:
    source = random.Random(4)
    scores = [source.random() ** 2 for _ in range(200)]
    ours = bootstrap_interval(scores, resamples=8000)
    theirs = stats.bootstrap(
        (np.array(scores),), np.mean, n_resamples=8000, method="percentile", rng=np.random.default_rng(1)
    )
    room = 5 * 0.03 * float(theirs.standard_error)
    assert (ours.low, ours.high) == pytest.approx(tuple(theirs.confidence_interval), abs=room)
