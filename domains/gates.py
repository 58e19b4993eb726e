"""Gates: checks with a threshold that a model version must pass before it can be released.

Guarantees that a gate whose measure could not be taken has failed (never passed, never skipped). Does not measure:
the platform takes the measures named in `MEASURES` and asks `Gate.passes`.

Example:
    >>> gate = Gate("quality", "Better than the base model", "tuned_minus_base_low", "above", 0.0, "Must help.")
    >>> gate.passes(0.12), gate.passes(0.0), gate.passes(None)
    (True, False, False)
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from domains.toml_table import TomlTable

MEASURES = {
    "tuned_minus_base_low": "lower end of the paired interval of tuned minus base score on held-out records",
    "tuned_score_low": "lower end of the interval of the tuned model's score on held-out records",
    "output_identifier_rate": "share of the tuned model's held-out answers in which an identifier is detected",
    "likelihood_gain_low": "lower end of the paired interval of what a held-out answer's token gained, in nats",
    "probe_gap": "largest difference of the tuned model's score between two variants of the fairness probes",
    "ledger_faults": "number of faults the verifier finds in the workspace's ledger",
}
"""Every measure a gate can ask for. All are fractions in [0, 1] or [-1, 1] but for the gain, in nats, and
the count of faults."""

COMPARISONS = ("above", "at_least", "at_most")


@dataclass(frozen=True, slots=True)
class Gate:
    """One check: `measure` compared with `threshold`; `reason` is shown beside the result."""

    name: str
    title: str
    measure: str
    comparison: str
    threshold: float
    reason: str

    def passes(self, value: float | None) -> bool:
        """Whether the measured value passes; None means that it could not be measured, which fails."""
        if value is None or value != value:
            return False
        if self.comparison == "above":
            return value > self.threshold
        return value >= self.threshold if self.comparison == "at_least" else value <= self.threshold

    def with_threshold(self, threshold: float) -> Gate:
        """The same gate at another threshold, as a workflow or a policy may set it."""
        return replace(self, threshold=threshold)


def read_gate(table: TomlTable) -> Gate:
    """Reads one `[[gates]]` table of gates.toml.

    Raises:
        PackError: a key is missing, unknown or of the wrong type, or names a measure that does not exist.
    """
    gate = Gate(
        name=table.name("name"),
        title=table.text("title"),
        measure=table.text("measure", choices=tuple(MEASURES)),
        comparison=table.text("comparison", choices=COMPARISONS),
        threshold=table.number("threshold"),
        reason=table.text("reason"),
    )
    table.finish()
    return gate
