"""Whether the measured re-identification risk of a redaction keeps within the limits of its profile.

Guarantees fail closed: where the profile sets limits and the version has columns of its own, at least one measurement
of this very redaction is asked for, and every one of them has to keep within the limits; what was measured badly is not
outweighed by another choice of columns. Redacting again begins anew. Does not choose the columns; people do, and the
officer sees which.

Example:
    >>> limits_of(version.redaction).problems
    ['age, sex: the smallest class has 2 records, and 11 are asked for']
"""

from dataclasses import dataclass

from compliance.redaction.reidentification import Limits
from steward.datasets.models import RedactionRun, RedactionState, RiskMeasurement
from steward.profiles.composing import policy_of

PPM = 1_000_000


@dataclass(frozen=True, slots=True)
class LimitStanding:
    """The limits that apply, and what stands against an approval; empty where nothing does."""

    limits: Limits
    problems: list[str]

    @property
    def told(self) -> list[str]:
        """The limits in words."""
        named = (
            (self.limits.k_min, "k at least {}"),
            (self.limits.l_min, "l at least {}"),
            (self.limits.max_risk, "highest risk at most {}"),
            (self.limits.average_risk, "average risk at most {}"),
            (self.limits.small_cells, "at most {} small cells"),
        )
        return [words.format(limit) for limit, words in named if limit is not None]


def limits_of(run: RedactionRun) -> LimitStanding:
    """Where a redaction stands against its profile's limits."""
    limits = policy_of(run.profile, run.profile_version).limits
    if not limits.is_set or not run.version.mapping.get("fields"):
        return LimitStanding(Limits(), [])
    measured = list(RiskMeasurement.objects.filter(run=run, state=RedactionState.DONE).order_by("requested_at"))
    if not measured:
        return LimitStanding(limits, ["how far the columns single people out was not measured for this redaction"])
    problems = []
    if limits.l_min is not None and not any(each.sensitive for each in measured):
        problems.append("no sensitive column was measured, and the profile limits l")
    for each in measured:
        columns = ", ".join(each.quasi_identifiers)
        problems += [f"{columns}: {problem}" for problem in _exceeded(limits, each)]
    return LimitStanding(limits, problems)


def _exceeded(limits: Limits, measured: RiskMeasurement) -> list[str]:
    figures = measured.figures
    return limits.exceeded(
        k=figures["k"],
        l=figures["l"] if measured.sensitive else None,
        max_risk=figures["max_risk_ppm"] / PPM,
        average_risk=figures["average_risk_ppm"] / PPM,
        small_cells=figures["small_cells"],
    )
