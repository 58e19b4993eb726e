"""How much a redaction may still miss, from the sample that people reviewed.

Guarantees an upper confidence bound that holds whatever the detector did, since it rests on a random sample and human
verdicts only. Does not see what a reviewer overlooks.
"""

from dataclasses import dataclass

from compliance.redaction import residual
from steward.datasets.models import RedactionRun, SampleItem, Verdict


@dataclass(frozen=True, slots=True)
class ResidualRisk:
    """State of the review: records drawn, reviewed, with a miss, and the bound on records with a miss (0 to 1)."""

    drawn: int
    reviewed: int
    missed: int
    upper_bound: float
    confidence_percent: int
    is_enough: bool
    allowed_per_1000: int
    needed: int

    @property
    def bound_per_1000(self) -> float:
        return 1000 * self.upper_bound

    def as_json(self) -> dict[str, int]:
        return {
            "sample_size": self.reviewed,
            "missed": self.missed,
            "upper_bound_ppm": round(1_000_000 * self.upper_bound),
            "confidence_percent": self.confidence_percent,
        }


def residual_risk(run: RedactionRun) -> ResidualRisk:
    """The bound that the verdicts given so far allow, against the workspace's policy."""
    policy = run.version.dataset.workspace.policy
    items = SampleItem.objects.filter(run=run)
    drawn = items.count()
    reviewed = items.exclude(verdict="").count()
    missed = items.filter(verdict=Verdict.MISSED).count()
    confidence = policy["confidence_percent"]
    bound = residual.upper_bound(missed, reviewed, confidence=confidence / 100) if reviewed else 1.0
    needed = min(policy["sample_size_min"], run.version.record_count)
    return ResidualRisk(
        drawn=drawn,
        reviewed=reviewed,
        missed=missed,
        upper_bound=bound,
        confidence_percent=confidence,
        is_enough=reviewed >= needed and 1000 * bound <= policy["missed_per_1000_max"],
        allowed_per_1000=policy["missed_per_1000_max"],
        needed=needed,
    )
