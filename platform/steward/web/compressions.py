"""Compressed models as points over size and score: the geometry that a template draws as SVG.

Guarantees that the axes hold every point and every whisker; points carry the numbers of the table's rows. Does not
decide which is best.
"""

import math
from dataclasses import dataclass
from typing import Any

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 420, 252, 44, 16, 24, 34
STEPS = 4
MEBIBYTE = 1 << 20


@dataclass(frozen=True, slots=True)
class Point:
    """One row of the table; positions in units of the drawing."""

    number: int
    way: str
    x: float
    y: float
    y_low: float
    y_high: float

    @property
    def text_x(self) -> float:
        return round(self.x - 9, 1)

    @property
    def text_y(self) -> float:
        return round(self.y - 7, 1)


@dataclass(frozen=True, slots=True)
class CompressionChart:
    """Points with the ticks of both axes. `label` says what the height is."""

    points: list[Point]
    x_ticks: list[tuple[float, str]]
    y_ticks: list[tuple[float, float, str]]
    label: str
    width: int = WIDTH
    height: int = HEIGHT
    left: int = LEFT
    right: int = WIDTH - RIGHT
    top: int = TOP
    bottom: int = HEIGHT - BOTTOM

    @classmethod
    def of(cls, rows: list[dict[str, Any]]) -> "CompressionChart | None":
        """A chart of the metric, or of the held-out loss where no metric was asked; None for fewer than two rows."""
        if len(rows) < 2:
            return None
        is_scored = all(row["score"] is not None for row in rows)
        name = "score" if is_scored else "loss"
        most_bytes = max(row["bytes"] for row in rows)
        apart = _round_step(most_bytes / MEBIBYTE) * MEBIBYTE
        top = 1.0 if is_scored else 1.1 * max(row["loss"] for row in rows)

        def across(size: float) -> float:
            return round(LEFT + size / most_bytes * (WIDTH - LEFT - RIGHT), 1)

        def up(value: float) -> float:
            return round(HEIGHT - BOTTOM - value / top * (HEIGHT - BOTTOM - TOP), 1)

        points = [
            Point(
                number=number,
                way=row["way"],
                x=across(row["bytes"]),
                y=up(row[name]),
                y_low=up(row["score_low"] if is_scored else row["loss"]),
                y_high=up(row["score_high"] if is_scored else row["loss"]),
            )
            for number, row in enumerate(rows)
        ]
        sizes = [apart * step for step in range(int(most_bytes / apart) + 1)]
        heights = [top * step / STEPS for step in range(STEPS + 1)]
        return cls(
            points=points,
            x_ticks=[(across(size), f"{size / MEBIBYTE:.3g}") for size in sizes],
            y_ticks=[(up(height), up(height) + 4, f"{height:.2g}") for height in heights],
            label="score" if is_scored else "held-out loss",
        )


def _round_step(most: float) -> float:
    """The smallest of 1, 2, 5 times a power of ten that fits at most five times into ``most``."""
    power = 10.0 ** math.floor(math.log10(most / 5))
    return next(step * power for step in (1, 2, 5, 10) if step * power * 5 >= most)
