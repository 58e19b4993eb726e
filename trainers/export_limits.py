"""How alike an exported model has to answer for it to be offered, and the figures that are held against that.

Guarantees: free of torch, so that the platform holds what was measured against the limits of today by the same sums.
Does not: measure; ``trainers.parity`` does.

Example:
    >>> Parity(400, 0.99, 0.001, 0.002).is_within(limits_of("merged", ""))
    True
"""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """What an export has to reach.

    Attributes:
        least_agreement: share of places with the same most likely token.
        most_divergence: mean Kullback-Leibler divergence, in nats.
        most_loss_difference: by how much the held-out loss may differ, in nats.
        most_score_loss: by how much the metric's mean over the prompts may fall, 0 to 1.
    """

    least_agreement: float
    most_divergence: float
    most_loss_difference: float
    most_score_loss: float


#: Forms that keep what was trained up to rounding. The loss leaves room for the trained model's own bf16: against an
#: F16 file, read in fp32 and with every token the same, the bundled model differed by 0.023 at 18 places (measured).
_FAITHFUL = Limits(0.97, 0.02, 0.05, 0.05)
#: Forms that give some of it up for size. Ours, from what the bundled model loses (CHANGELOG), with room for others.
LIMITS = {
    "merged": _FAITHFUL,
    "gguf-f16": _FAITHFUL,
    "gguf-q8_0": _FAITHFUL,
    "gguf-q6_k": Limits(0.95, 0.04, 0.08, 0.07),
    "gguf-q5_k_m": Limits(0.93, 0.08, 0.12, 0.10),
    "gguf-q4_k_m": Limits(0.90, 0.15, 0.20, 0.13),
    # Against the compressed model as it was measured, whose very numbers the file holds: rounding of the last bit only.
    "compressed": Limits(0.99, 0.005, 0.01, 0.02),
}
#: Plain forms of a run on an int8 base. bitsandbytes rounds the inputs of each product to 8 bits too, which no export
#: does; the same weights answer alike at 93 of 100 places then, 0.029 nats apart, at the same loss (bundled model).
_ROUNDED_INPUTS = Limits(0.90, 0.05, 0.05, 0.05)


def limits_of(form: str, quantised: str) -> Limits:
    """What an export of a form has to reach; ``quantised`` is how the base was held while it was trained, or ''."""
    limits = LIMITS[form]
    return _ROUNDED_INPUTS if quantised == "int8" and limits is _FAITHFUL else limits


@dataclass(frozen=True)
class Parity:
    """How alike two models answer at ``positions`` places; ``loss_difference`` is the second's less the first's.

    ``agreement`` is the share of places where the second's likeliest token is the first's, or one that the first holds
    for as likely, up to ``NEAR_TIE``.

    Scores are means of a metric over ``scored`` whole answers; NaN where none was asked for.
    """

    positions: int
    agreement: float
    divergence: float
    loss_difference: float
    scored: int = 0
    trained_score: float = math.nan
    exported_score: float = math.nan

    def is_within(self, limits: Limits) -> bool:
        """Whether the export may be offered."""
        return (
            # Rounded down: of a few places one may differ.
            round(self.agreement * self.positions) >= math.floor(limits.least_agreement * self.positions)
            and self.divergence <= limits.most_divergence
            and abs(self.loss_difference) <= limits.most_loss_difference
            and (not self.scored or self.trained_score - self.exported_score <= limits.most_score_loss + 1e-9)
        )

    def beside(self, limits: Limits) -> str:
        """The figures with what they have to be, as a sentence goes on from the name of the second model."""
        scored = ""
        if self.scored:
            scored = (
                f", score {self.trained_score:.4f} to {self.exported_score:.4f} (at most {limits.most_score_loss} less)"
            )
        return (
            f"agrees at {self.agreement:.4f} of {self.positions} positions (at least {limits.least_agreement}), "
            f"divergence {self.divergence:.4f} nats (at most {limits.most_divergence}), held-out loss "
            f"{self.loss_difference:+.4f} (at most {limits.most_loss_difference} away){scored}"
        )
