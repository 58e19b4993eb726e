"""The policy of a workspace: every rule an officer may set, with its range and its reason.

Guarantees that a stored policy has known keys with values in range. Example: `validate({"sample_size_min": 60, ...})`.
"""

from dataclasses import dataclass

from steward.accounts.models import default_policy
from steward.audit.actor import Refused


@dataclass(frozen=True, slots=True)
class Rule:
    """One setting: what it means, its unit, and the closed range it may take."""

    title: str
    reason: str
    unit: str
    low: int
    high: int


RULES: dict[str, Rule] = {
    "sample_size_min": Rule("Records to review", "A bound on what is missed needs a sample.", "records", 1, 100_000),
    "missed_per_1000_max": Rule(
        "Missed identifiers", "Upper confidence bound on records with a miss.", "per 1,000 records", 0, 1000
    ),
    "confidence_percent": Rule("Confidence", "Of the upper bound above.", "%", 80, 99),
    "second_review_percent": Rule(
        "Read by a second reviewer",
        "Blind; disagreement shows what a single reader overlooks.",
        "% of the sample",
        0,
        100,
    ),
    "is_fine_tune_approval_required": Rule(
        "Approve each fine-tune", "A second person lets a run start.", "yes/no", 0, 1
    ),
    "residual_pii_per_1000_max": Rule(
        "Identifiers in outputs",
        "Outputs of the tuned model with a direct identifier; where the workflow's gate is stricter, the gate counts.",
        "per 1,000 outputs",
        0,
        1000,
    ),
    "compressed_loss_percent_max": Rule(
        "Loss of a compressed form",
        "Share of the tuned model's score that pruning or quantising may cost; what loses more is not exported.",
        "% of the score",
        0,
        100,
    ),
    "retention_days": Rule("Retention", "45 CFR 164.316(b)(2): six years.", "days", 1, 36_500),
}


def validate(policy: dict[str, object]) -> dict[str, int | bool]:
    """Returns the policy with defaults filled in.

    Raises:
        Refused: naming every unknown key and every value out of range, all at once.
    """
    problems = [f"{key}: no such rule" for key in policy.keys() - RULES.keys()]
    checked = default_policy()
    for key, value in policy.items():
        rule = RULES.get(key)
        if rule is None:
            continue
        if not isinstance(value, int) or not rule.low <= value <= rule.high:
            problems.append(f"{key}: give a whole number from {rule.low} to {rule.high} ({rule.unit})")
        else:
            checked[key] = value
    if problems:
        raise Refused("The policy was not changed. " + "; ".join(sorted(problems)), code="policy_invalid")
    return checked
