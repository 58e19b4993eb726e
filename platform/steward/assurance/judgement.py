"""The form of a judgement: what a trainer measured, and what comes of it.

Guarantees that the figures of all records are the mean of theirs, or, where `parts` are given, the ratio of two sums.
Does not judge; `judging` does, and one module for each kind of records that needs more room.

Example:
    >>> Judgement([0.0, 1.0], [1.0, 1.0]).intervals()["tuned"].estimate
    1.0
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from domains.intervals import (
    Interval,
    Part,
    bootstrap_interval,
    paired_difference,
    pooled_difference,
    pooled_interval,
    resampled_interval,
)
from steward.assurance.models import Evaluation
from steward.vault.models import SealedObject
from trainers.events import EvaluateFinished, JudgementsCompared, PairsCompared

Measure = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Measured:
    """What a trainer said of an evaluation, on pairs and judged answers too, and the sealed answers, not saved yet."""

    evaluation: Evaluation
    finished: EvaluateFinished
    compared: PairsCompared | JudgementsCompared | None
    predictions: SealedObject


@dataclass(frozen=True, slots=True)
class Judgement:
    """Scores by record (0 to 1), further measures, and what is shown as the base's answer where it is none of a model.

    A measure is `{"name", "title", "base", "tuned", "gain", "note"}` with `[figure, low, high]` or None each. `parts`
    of base and tuned make the figures of all records where these are pooled. `further` are the numbers that further
    measures rest on, by what they are: columns of one length, `ids` among them. `predictions` replaces the trainer's
    where the base's answers are none of its own.
    """

    base: list[float]
    tuned: list[float]
    measures: list[Measure] = field(default_factory=list)
    baseline: dict[str, Any] = field(default_factory=dict)
    parts: dict[str, list[Part]] = field(default_factory=dict)
    further: dict[str, dict[str, list[Any]]] = field(default_factory=dict)
    predictions: SealedObject | None = None

    def intervals(self) -> dict[str, Interval]:
        """The figures that decide: base, tuned and gain."""
        if self.parts:
            base, tuned = self.parts["base"], self.parts["tuned"]
            return {
                "base": pooled_interval(base),
                "tuned": pooled_interval(tuned),
                "gain": pooled_difference(base, tuned),
            }
        return {
            "base": bootstrap_interval(self.base),
            "tuned": bootstrap_interval(self.tuned),
            "gain": paired_difference(self.base, self.tuned),
        }


def measure(
    name: str,
    title: str,
    note: str,
    base: Interval | None = None,
    tuned: Interval | None = None,
    gain: Interval | None = None,
) -> Measure:
    """A further measure."""
    sides = {"base": base, "tuned": tuned, "gain": gain}
    return {"name": name, "title": title, **{side: _figures(each) for side, each in sides.items()}, "note": note}


def mean_interval(values: Sequence[float]) -> Interval:
    """The mean of values of any size, with its interval."""
    return resampled_interval(len(values), lambda at: math.fsum(values[place] for place in at) / len(at))


def _figures(interval: Interval | None) -> list[float] | None:
    return None if interval is None else [interval.estimate, interval.low, interval.high]
