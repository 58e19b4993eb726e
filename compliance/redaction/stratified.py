"""The bound of a stratified sample, how to spread a sample over the strata, and how many records are still needed.

Guarantees: for two strata the bound of J. Buehler (1957), made by inverting an exact test, whose coverage is at least
the confidence whatever the two rates are; never below it by rounding (the search returns the upper end of its last
cell). Strata that were reviewed to the last record count with their exact share and spend no error.
Does not: allow for drawing again until the bound pleases. A plan that is changed after a look at the verdicts holds
its confidence only approximately; ``tests/compliance/redaction/test_stratified.py`` measures by how much.

Source: R. J. Buehler, Journal of the American Statistical Association 52 (1957), pages 482-493; that records are drawn
without replacement makes a binomial bound more cautious: W. Hoeffding, the same journal 58 (1963), pages 13-30.

Example:
    >>> strata = [Stratum("doubtful", 200, 40, 1), Stratum("other", 1800, 120, 0)]
    >>> round(1000 * stratified_bound(strata))
    25
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from math import lgamma, sqrt
from typing import Any

import numpy as np

from compliance.redaction.residual import Stratum, stratified_risk, upper_bound

_TOLERANCE = 1e-5
_CELLS = 32
_BISECTIONS = 48


def stratified_bound(strata: Sequence[Stratum], confidence: float = 0.95) -> float:
    """One-sided upper bound on the share of records with a miss, from strata sampled at different rates.

    One stratum that is not reviewed completely: Clopper-Pearson. Two: the exact bound. More: Bonferroni.

    Args:
        strata: populations >= 0, samples from 0 to the population; an empty stratum is left out.
        confidence: in (0, 1).

    Returns:
        A share in [0, 1]; 1 if nothing was reviewed where records are.

    Raises:
        ValueError: no records at all, or a count out of range.
    """
    return _bound(tuple(replace(each, name="") for each in strata), confidence)


@lru_cache(maxsize=4096)
def _bound(strata: tuple[Stratum, ...], confidence: float) -> float:
    whole = sum(each.population for each in strata)
    if whole <= 0:
        raise ValueError("there are no records")
    for each in strata:
        if not 0 <= each.misses <= each.sample_size <= each.population:
            raise ValueError("more misses than reviewed records, or more reviewed than there are")
    known = sum(each.misses for each in strata if each.sample_size == each.population) / whole
    blind = sum(each.population for each in strata if each.population and not each.sample_size) / whole
    rest = [each for each in strata if 0 < each.sample_size < each.population]
    if not rest:
        return min(1.0, known + blind)
    if len(rest) == 1:
        unknown = rest[0].population / whole * upper_bound(rest[0].misses, rest[0].sample_size, confidence)
    elif len(rest) == 2:
        unknown = _two_strata(rest[0], rest[1], whole, 1 - confidence)
    else:
        unknown = stratified_risk(rest, confidence).upper * sum(each.population for each in rest) / whole
    return min(1.0, known + blind + unknown)


def allocate(size: int, populations: Mapping[str, int], drawn: Mapping[str, int], favoured: str) -> dict[str, int]:
    """Spread ``size`` further records over the strata.

    The favoured stratum gets the share that the square roots of the populations give it (the split that makes the sum
    of the single bounds least), and never less than its part of all records.

    Args:
        size: records to draw, >= 0.
        populations: records in each stratum.
        drawn: records drawn from each before.
        favoured: the stratum in which misses are expected.

    Returns:
        How many to draw from each; together ``size``, or all that are left.
    """
    whole = sum(populations.values())
    left = {name: count - drawn.get(name, 0) for name, count in populations.items()}
    chosen = dict.fromkeys(populations, 0)
    if whole and favoured in populations:
        few = populations[favoured]
        share = max(sqrt(few) / sum(sqrt(count) for count in populations.values()), few / whole)
        wanted = round(share * (size + sum(drawn.values()))) - drawn.get(favoured, 0)
        chosen[favoured] = max(0, min(wanted, size, left[favoured]))
    # The others get the rest, and the favoured one what they cannot hold.
    for name in sorted(populations, key=lambda each: each == favoured):
        chosen[name] += min(size - sum(chosen.values()), left[name] - chosen[name])
    return chosen


def still_needed(
    strata: Sequence[Stratum], target: float, favoured: str, confidence: float = 0.95, at_least: int = 0
) -> int | None:
    """How many more records must be reviewed, if nothing more is missed, until the bound is at most ``target``.

    Args:
        strata: as ``stratified_bound``; ``sample_size`` counts reviewed records.
        target: share in [0, 1].
        favoured: as ``allocate``.
        at_least: what the whole sample must have in any case.

    Returns:
        0 if the bound is reached; None if even a review of all records would not reach it.
    """
    left = sum(each.population - each.sample_size for each in strata)
    floor = min(left, max(0, at_least - sum(each.sample_size for each in strata)))

    def reaches(more: int) -> bool:
        return stratified_bound(grown(strata, more, favoured), confidence) <= target

    if reaches(floor):
        return floor
    if not reaches(left):
        return None
    low, high = floor, left
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if reaches(middle) else (middle, high)
    return high


def grown(strata: Sequence[Stratum], more: int, favoured: str) -> list[Stratum]:
    """The strata after ``more`` records were reviewed as ``allocate`` spreads them, with no further miss."""
    populations = {each.name: each.population for each in strata}
    reviewed = {each.name: each.sample_size for each in strata}
    added = allocate(more, populations, reviewed, favoured)
    return [replace(each, sample_size=each.sample_size + added[each.name]) for each in strata]


def _two_strata(first: Stratum, second: Stratum, whole: int, alpha: float) -> float:
    """The largest weighted share among all pairs of rates under which an estimate this low is likelier than ``alpha``.

    The probability falls as either rate grows. So in a cell [a, b] of the first rate no pair exceeds the weight of b
    together with the largest second rate that a allows: that is what is returned of the best cell.
    """
    share, other_share = first.population / whole, second.population / whole
    tail = _Tail(first, second)
    edges = np.linspace(0.0, tail.largest_first(alpha), _CELLS + 1)
    starts, ends = edges[:-1], edges[1:]
    best = 0.0
    while True:
        seconds = tail.largest_second(starts, alpha)
        lower, upper = share * starts + other_share * seconds, share * ends + other_share * seconds
        best = max(best, float(lower.max()))
        highest = float(upper.max())
        if highest - best <= _TOLERANCE:
            return highest
        kept = upper > best
        parts = np.linspace(starts[kept], ends[kept], 9)
        starts, ends = parts[:-1].ravel(), parts[1:].ravel()


class _Tail:
    """P(estimate <= the one seen) as a function of the two rates; the estimate is compared in whole numbers."""

    def __init__(self, first: Stratum, second: Stratum) -> None:
        weight, other = first.population * second.sample_size, second.population * first.sample_size
        seen = weight * first.misses + other * second.misses
        most = min(first.sample_size, seen // weight)
        self._first = _Binomial(first.sample_size, most)
        limits = [min(second.sample_size, (seen - weight * count) // other) for count in range(most + 1)]
        self._limits = np.asarray(limits)
        self._second = _Binomial(second.sample_size, limits[0])

    def __call__(self, firsts: Any, seconds: Any) -> Any:
        masses, sums = self._first.masses(firsts), np.cumsum(self._second.masses(seconds), axis=1)
        return (masses * sums[:, self._limits]).sum(axis=1)

    def largest_first(self, alpha: float) -> float:
        none = np.zeros(1)
        return float(_crossing(lambda rates: self(rates, none), np.ones(1), alpha)[0])

    def largest_second(self, firsts: Any, alpha: float) -> Any:
        return _crossing(lambda rates: self(firsts, rates), np.ones_like(firsts), alpha)


class _Binomial:
    """Probabilities of 0 to ``most`` successes in ``size`` trials, for many rates at once: shape (rates, most + 1)."""

    def __init__(self, size: int, most: int) -> None:
        self._counts = np.arange(most + 1)
        self._left = size - self._counts
        choose = [lgamma(size + 1) - lgamma(k + 1) - lgamma(size - k + 1) for k in range(most + 1)]
        self._choose = np.asarray(choose)

    def masses(self, rates: Any) -> Any:
        rates = np.clip(rates, 1e-300, 1 - 1e-16)[:, None]
        return np.exp(self._choose + self._counts * np.log(rates) + self._left * np.log1p(-rates))


def _crossing(probability: Any, highest: Any, alpha: float) -> Any:
    """For each entry the upper end of the cell in which the falling ``probability`` comes down to ``alpha``."""
    low, high = np.zeros_like(highest), highest.copy()
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        is_above = probability(middle) > alpha
        low, high = np.where(is_above, middle, low), np.where(is_above, high, middle)
    return high
