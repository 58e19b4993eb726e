"""What is still missed: bounds from a reviewed random sample.

Guarantees: exact binomial (Clopper-Pearson) bounds; a stratified bound whose joint confidence is at least what was
asked.
Does not: correct for reviewers who overlook an identifier; their disagreement has to be judged beside it.

Source: C. J. Clopper, E. S. Pearson, Biometrika 26 (1934), pages 404-413.

Example:
    >>> round(upper_bound(misses=0, sample_size=300), 4)
    0.0099
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import ceil, exp, lgamma, log, log1p


@dataclass(frozen=True, slots=True)
class Stratum:
    """One part of the population: its records, how many were reviewed, in how many an identifier was missed."""

    name: str
    population: int
    sample_size: int
    misses: int


@dataclass(frozen=True, slots=True)
class ResidualRisk:
    """Share of records with a missed identifier: estimate and one-sided upper bound, and both per 1,000 records."""

    estimate: float
    upper: float
    confidence: float

    @property
    def upper_per_1000(self) -> float:
        """Upper bound as records with a miss in each 1,000 records."""
        return self.upper * 1000

    @property
    def estimate_per_1000(self) -> float:
        """Point estimate as records with a miss in each 1,000 records."""
        return self.estimate * 1000


def upper_bound(misses: int, sample_size: int, confidence: float = 0.95) -> float:
    """One-sided Clopper-Pearson upper bound of a share.

    Args:
        misses: records in the sample with a missed identifier, 0 to ``sample_size``.
        sample_size: reviewed records, > 0.
        confidence: in (0, 1).

    Returns:
        The largest share in [0, 1] that is compatible with the sample.

    Raises:
        ValueError: counts or confidence out of range.
    """
    _checked(misses, sample_size, confidence)
    if misses == sample_size:
        return 1.0
    return _solve(lambda share: _at_most(misses, sample_size, share) > 1 - confidence)


def lower_bound(misses: int, sample_size: int, confidence: float = 0.95) -> float:
    """One-sided Clopper-Pearson lower bound; arguments and errors as ``upper_bound``."""
    return 1.0 - upper_bound(sample_size - misses, sample_size, confidence)


def upper_bound_per_1000(misses: int, sample_size: int, confidence: float = 0.95) -> float:
    """``upper_bound`` as records in each 1,000."""
    return 1000 * upper_bound(misses, sample_size, confidence)


def residual_risk(misses: int, sample_size: int, confidence: float = 0.95) -> ResidualRisk:
    """Estimate and bound of a simple random sample; errors as ``upper_bound``."""
    return ResidualRisk(
        misses / sample_size if sample_size else 0.0, upper_bound(misses, sample_size, confidence), confidence
    )


def stratified_risk(strata: Sequence[Stratum], confidence: float = 0.95) -> ResidualRisk:
    """Bound for the whole population from strata that were sampled at different rates.

    Each stratum gets the error budget (1 - confidence) / number of strata (Bonferroni), so the weighted sum of the
    single bounds
    holds jointly. A stratum that was reviewed completely contributes its exact share.

    Args:
        strata: non-empty; populations > 0, samples > 0.
        confidence: in (0, 1).

    Raises:
        ValueError: no strata, or a count out of range.
    """
    if not strata:
        raise ValueError("at least one stratum is needed")
    whole = sum(s.population for s in strata)
    single = 1 - (1 - confidence) / len(strata)
    estimate = upper = 0.0
    for stratum in strata:
        if stratum.population < stratum.sample_size:
            raise ValueError(f"stratum {stratum.name!r}: more records reviewed than there are")
        share = stratum.population / whole
        bound = upper_bound(stratum.misses, stratum.sample_size, single)
        if stratum.sample_size == stratum.population:
            bound = stratum.misses / stratum.sample_size
        estimate += share * stratum.misses / stratum.sample_size
        upper += share * bound
    return ResidualRisk(estimate, upper, confidence)


def sample_size_for(target: float, expected_misses: int = 0, confidence: float = 0.95) -> int:
    """Smallest sample for which ``expected_misses`` still keep the upper bound at or below ``target``.

    Raises:
        ValueError: target not in (0, 1), or a negative count.
    """
    if not 0 < target < 1 or expected_misses < 0:
        raise ValueError("the target must lie between 0 and 1 and misses must not be negative")
    low, high = expected_misses + 1, max(2, ceil(10 * (expected_misses + 3) / target))
    while upper_bound(expected_misses, high, confidence) > target:
        high *= 2
    while low < high:
        middle = (low + high) // 2
        if upper_bound(expected_misses, middle, confidence) <= target:
            high = middle
        else:
            low = middle + 1
    return low


def cohen_kappa(pairs: Sequence[tuple[bool, bool]]) -> float | None:
    """Agreement of two readers beyond chance.

    Args:
        pairs: for each record that both read, whether the first and whether the second found a miss.

    Returns:
        Cohen's kappa in [-1, 1]; None where it says nothing: no pairs, or both readers always gave the same answer.

    Source: J. Cohen, Educational and Psychological Measurement 20 (1960), pages 37-46.
    """
    if not pairs:
        return None
    size = len(pairs)
    first, second = sum(a for a, _ in pairs) / size, sum(b for _, b in pairs) / size
    by_chance = first * second + (1 - first) * (1 - second)
    if by_chance == 1.0:
        return None
    return (sum(a == b for a, b in pairs) / size - by_chance) / (1 - by_chance)


def _checked(misses: int, sample_size: int, confidence: float) -> None:
    if sample_size <= 0 or not 0 <= misses <= sample_size:
        raise ValueError(f"{misses} misses in a sample of {sample_size} make no sense")
    if not 0 < confidence < 1:
        raise ValueError("confidence must lie between 0 and 1")


def _at_most(misses: int, size: int, share: float) -> float:
    """P(X <= misses) for X binomial(size, share), summed in logarithms so that large samples do not underflow."""
    if share <= 0:
        return 1.0
    if share >= 1:
        return float(misses >= size)
    total = 0.0
    for k in range(misses + 1):
        choose = lgamma(size + 1) - lgamma(k + 1) - lgamma(size - k + 1)
        total += exp(choose + k * log(share) + (size - k) * log1p(-share))
    return min(total, 1.0)


def _solve(is_below: Callable[[float], bool]) -> float:
    low, high = 0.0, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        if is_below(middle):
            low = middle
        else:
            high = middle
    return high
