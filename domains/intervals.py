"""Intervals for mean scores: how far a score on a sample may be from the truth.

Every figure has one way to its interval, whichever page or document shows it: records are drawn again, for a mean as
for a share of records that are right, which is the mean of ones and zeros.

Guarantees the same interval for the same scores and seed, on every machine. Does not make up for a biased sample, and
treats records as independent: several records of one person make the true interval wider than the one given.

Example:
    >>> bootstrap_interval([1.0, 0.0, 1.0, 1.0] * 25, seed=7).estimate
    0.75
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean over `n` records with its interval at confidence `level`.

    `method` is `bootstrap`, or `exact` where all scores were equal and resampling could say nothing.
    """

    estimate: float
    low: float
    high: float
    level: float
    n: int
    resamples: int
    method: str


def bootstrap_interval(scores: Sequence[float], seed: int = 0, resamples: int = 2000, level: float = 0.95) -> Interval:
    """Percentile bootstrap interval of the mean of scores in [0, 1].

    Where all scores are equal, the share of records that could differ unseen is bounded instead by the exact binomial
    limit, so that 20 right answers of 20 do not claim certainty.

    Args:
        scores: one score in [0, 1] per record.
        seed: of the resampling.
        resamples: number of bootstrap samples, at least 100.
        level: confidence in (0, 1).

    Raises:
        ValueError: no scores, a score outside [0, 1], too few resamples or a level outside (0, 1).

    Source: Efron & Tibshirani, An Introduction to the Bootstrap, 1993, chapter 13; Clopper & Pearson, Biometrika 1934.
    """
    return _interval(list(scores), (0.0, 1.0), seed, resamples, level)


def paired_difference(
    base: Sequence[float], tuned: Sequence[float], seed: int = 0, resamples: int = 2000, level: float = 0.95
) -> Interval:
    """Interval of the mean of `tuned - base`, record by record, which removes the records' own difficulty.

    Args:
        base: scores in [0, 1] of the base model.
        tuned: scores of the tuned model on the same records in the same order.
        seed, resamples, level: as in `bootstrap_interval`.

    Source: Efron & Tibshirani 1993, chapters 13 and 16; Koehn, Statistical significance tests for machine translation
        evaluation, EMNLP 2004, for pairs of systems on one test set.

    Raises:
        ValueError: different lengths, or as `bootstrap_interval`.
    """
    if len(base) != len(tuned):
        raise ValueError(f"{len(base)} base scores but {len(tuned)} tuned ones: they must be of the same records")
    for value in (*base, *tuned):
        _check_range(value, (0.0, 1.0))
    return _interval(
        [after - before for before, after in zip(base, tuned, strict=True)], (-1.0, 1.0), seed, resamples, level
    )


def resampled_interval(
    count: int,
    statistic: Callable[[Sequence[int]], float],
    seed: int = 0,
    resamples: int = 1000,
    level: float = 0.95,
) -> Interval:
    """Percentile bootstrap interval of any figure of a sample, such as a macro F1, whose records are drawn again.

    Args:
        count: number of records.
        statistic: the figure of the records at the places given (0 to `count` - 1, some several times).
        seed, resamples, level: as in `bootstrap_interval`.

    Raises:
        ValueError: no records, too few resamples or a level outside (0, 1).
    """
    if count < 1 or resamples < 100 or not 0.0 < level < 1.0:
        raise ValueError("an interval needs at least one record, 100 resamples and a level between 0 and 1")
    source = random.Random(seed)  # noqa: S311 - statistics, not a secret
    places = range(count)
    figures = sorted(statistic(source.choices(places, k=count)) for _ in range(resamples))
    tail = (1.0 - level) / 2.0
    ends = (_quantile(figures, tail), _quantile(figures, 1.0 - tail))
    return Interval(statistic(places), *ends, level, count, resamples, "bootstrap")


def two_sample_interval(
    first: Sequence[float],
    second: Sequence[float],
    statistic: Callable[[Sequence[float], Sequence[float]], float],
    seed: int = 0,
    resamples: int = 1000,
    level: float = 0.95,
) -> Interval:
    """Percentile bootstrap interval of a figure of two independent samples, each drawn again by itself.

    Args:
        first, second: the values of either.
        statistic: the figure of a draw of each.
        seed, resamples, level: as in `bootstrap_interval`.

    Raises:
        ValueError: one is empty, too few resamples or a level outside (0, 1).

    Source: Efron & Tibshirani 1993, chapter 8.3.
    """
    if not first or not second or resamples < 100 or not 0.0 < level < 1.0:
        raise ValueError("an interval needs values of both samples, 100 resamples and a level between 0 and 1")
    source = random.Random(seed)  # noqa: S311 - statistics, not a secret
    figures = sorted(
        statistic(source.choices(first, k=len(first)), source.choices(second, k=len(second))) for _ in range(resamples)
    )
    tail = (1.0 - level) / 2.0
    ends = (_quantile(figures, tail), _quantile(figures, 1.0 - tail))
    return Interval(statistic(first, second), *ends, level, len(first) + len(second), resamples, "bootstrap")


#: What a record adds to the two sums that a pooled figure is the ratio of.
Part = tuple[float, float]


def pooled(parts: Sequence[Part]) -> float:
    """The ratio of two sums over records, such as a micro F1; 1 where there was nothing to be right or wrong about.

    >>> pooled([(2, 3), (0, 1)])
    0.5
    """
    below = math.fsum(part[1] for part in parts)
    return math.fsum(part[0] for part in parts) / below if below else 1.0


def pooled_interval(parts: Sequence[Part], seed: int = 0, resamples: int = 1000, level: float = 0.95) -> Interval:
    """Percentile bootstrap interval of a pooled figure in [0, 1], whose records are drawn again.

    Where every draw gives the same, it is as wide as that of `bootstrap_interval` for equal scores.

    Raises:
        ValueError: no records, too few resamples or a level outside (0, 1).
    """
    found = resampled_interval(len(parts), lambda at: pooled([parts[place] for place in at]), seed, resamples, level)
    return _unless_equal(found, (0.0, 1.0))


def pooled_difference(
    base: Sequence[Part], tuned: Sequence[Part], seed: int = 0, resamples: int = 1000, level: float = 0.95
) -> Interval:
    """Interval of the tuned pooled figure less the base's, both of the same records in every draw.

    Raises:
        ValueError: different lengths, or as `pooled_interval`.
    """
    if len(base) != len(tuned):
        raise ValueError(f"{len(base)} base parts but {len(tuned)} tuned ones: they must be of the same records")

    def gain(places: Sequence[int]) -> float:
        return pooled([tuned[place] for place in places]) - pooled([base[place] for place in places])

    return _unless_equal(resampled_interval(len(base), gain, seed, resamples, level), (-1.0, 1.0))


def _unless_equal(found: Interval, bounds: tuple[float, float]) -> Interval:
    """The interval, unless every draw gave the same: then that of what could differ unseen."""
    if found.low != found.high:
        return found
    ends = _unseen(found.estimate, bounds, found.n, found.level)
    return Interval(found.estimate, *ends, found.level, found.n, 0, "exact")


def _unseen(mean: float, bounds: tuple[float, float], count: int, level: float) -> tuple[float, float]:
    """How far a figure that was the same for all records may be from the truth: the exact binomial limit."""
    share = 1.0 - ((1.0 - level) / 2.0) ** (1.0 / count)
    return mean - share * (mean - bounds[0]), mean + share * (bounds[1] - mean)


def _check_range(value: float, bounds: tuple[float, float]) -> None:
    if not bounds[0] <= value <= bounds[1]:
        raise ValueError(f"a score must lie in [{bounds[0]:g}, {bounds[1]:g}]")


def _interval(values: list[float], bounds: tuple[float, float], seed: int, resamples: int, level: float) -> Interval:
    if not values:
        raise ValueError("no scores: an interval needs at least one record")
    if resamples < 100 or not 0.0 < level < 1.0:
        raise ValueError("resamples must be at least 100 and level between 0 and 1")
    for value in values:
        _check_range(value, bounds)
    count, tail = len(values), (1.0 - level) / 2.0
    mean = math.fsum(values) / count
    if min(values) == max(values):
        return Interval(mean, *_unseen(mean, bounds, count, level), level, count, 0, "exact")
    means = sorted(_resampled_means(values, seed, resamples))
    return Interval(mean, _quantile(means, tail), _quantile(means, 1.0 - tail), level, count, resamples, "bootstrap")


def _resampled_means(values: list[float], seed: int, resamples: int) -> list[float]:
    source = random.Random(seed)  # noqa: S311 - statistics, not a secret
    count = len(values)
    return [math.fsum(source.choices(values, k=count)) / count for _ in range(resamples)]


def _quantile(ordered: list[float], share: float) -> float:
    """Linear interpolation between order statistics (Hyndman & Fan, 1996, type 7)."""
    position = share * (len(ordered) - 1)
    below = math.floor(position)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (position - below) * (ordered[above] - ordered[below])
