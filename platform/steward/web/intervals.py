"""Scores with their intervals as points and whiskers: the geometry that a template draws as SVG.

Guarantees that the axis holds every whisker, and zero where a difference is shown. Does not decide what is significant:
the gates do, and say so in words.
"""

from dataclasses import dataclass

from steward.assurance.models import Evaluation

LEFT, RIGHT, WIDTH, ROW = 14, 14, 420, 52
TOP, BOTTOM, LABEL = 2, 28, 18


@dataclass(frozen=True, slots=True)
class Whisker:
    """One line of the chart; positions in units of the drawing."""

    name: str
    tone: int
    value: float
    low: float
    high: float
    y: float
    x: float
    x_low: float
    x_high: float
    text_y: float


@dataclass(frozen=True, slots=True)
class IntervalChart:
    """All lines with the ticks of their common axis."""

    rows: list[Whisker]
    ticks: list[tuple[float, str]]
    width: int
    height: int
    zero: float | None

    @property
    def axis_y(self) -> int:
        return self.height - BOTTOM + 4

    @classmethod
    def of_scores(cls, evaluation: Evaluation) -> "IntervalChart":
        """Base and tuned on the metric's own scale, 0 to 1."""
        named = [
            ("Base", 2, evaluation.base_score, evaluation.base_low, evaluation.base_high),
            ("Tuned", 1, evaluation.tuned_score, evaluation.tuned_low, evaluation.tuned_high),
        ]
        return cls._drawn(named, 0.0, 1.0, None)

    @classmethod
    def of_gain(cls, evaluation: Evaluation) -> "IntervalChart":
        """Tuned minus base, on an axis that shows where zero lies."""
        score, low, high = evaluation.gain_score or 0, evaluation.gain_low or 0, evaluation.gain_high or 0
        least, most = (-1.0, 1.0) if low < -0.05 else (-0.1, 1.0)
        return cls._drawn([("Gain", 1, score, low, high)], least, most, 0.0)

    @classmethod
    def of_runs(cls, rows: list[tuple[str, int, float, float, float]]) -> "IntervalChart":
        """Several runs on one scale, 0 to 1: name, tone, score, low and high of each."""
        return cls._drawn([*rows], 0.0, 1.0, None)

    @classmethod
    def _drawn(
        cls,
        named: list[tuple[str, int, float | None, float | None, float | None]],
        least: float,
        most: float,
        zero: float | None,
    ) -> "IntervalChart":
        def place(value: float) -> float:
            return round(LEFT + (value - least) / (most - least) * (WIDTH - LEFT - RIGHT), 1)

        rows = []
        for number, (name, tone, score, low, high) in enumerate(named):
            value, bottom, top = score or 0.0, low or 0.0, high or 0.0
            rows.append(
                Whisker(
                    name=name,
                    tone=tone,
                    value=value,
                    low=bottom,
                    high=top,
                    y=TOP + ROW * number + LABEL + 17,
                    x=place(value),
                    x_low=place(bottom),
                    x_high=place(top),
                    text_y=TOP + ROW * number + LABEL,
                )
            )
        steps = [0.0, 0.2, 0.4, 0.6, 0.8, 1.0] if least >= -0.1 else [-1.0, -0.5, 0.0, 0.5, 1.0]
        ticks = [(place(step), f"{step:g}".replace("-", "−")) for step in steps]
        height = TOP + ROW * len(rows) + BOTTOM
        return cls(rows, ticks, WIDTH, height, place(zero) if zero is not None else None)
