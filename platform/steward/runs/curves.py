"""The curves of a run in as many points as a screen can show.

Guarantees that a curve of at most `MOST_POINTS` measurements comes whole, and that of a longer one every part keeps its
lowest and its highest point, so that a spike of one step stays visible; first and last point are kept too. The database
does it in one pass; no more rows than points leave it. Does not smooth: that is for whoever draws.

Example:
    >>> curves_of(fine_tune)["validation"]["loss"]
    [[10, 1.75], [20, 1.5]]
"""

from collections.abc import Mapping
from typing import Any

from django.contrib.postgres.fields import ArrayField
from django.db.models import Count, F, FloatField, Func, IntegerField, Max, Min, Q, QuerySet
from django.db.models.functions import Cast

from steward.runs.models import FineTune, Measurement

MOST_POINTS = 2000
SPLITS = ("train", "validation")
QUANTITIES = (
    "loss",
    "learning_rate",
    "grad_norm",
    "tokens_per_second",
    "memory_bytes",
    "temperature_celsius",
    "power_watts",
    "score",
)

Curve = list[list[float]]


def curves_of(fine_tune: FineTune, after: int | None = None, most: int = MOST_POINTS) -> dict[str, dict[str, Curve]]:
    """By split and quantity, the points `[step, value]` in order of their steps; a quantity never measured is left out.

    Args:
        after: only what was written behind this place of the event file (see `Measurement.event_offset`).
        most: points of a curve, at least 4.
    """
    rows = Measurement.objects.filter(fine_tune=fine_tune)
    if after is not None:
        rows = rows.filter(event_offset__gt=after)
    return {split: _curves(rows.filter(split=split).order_by("step"), most) for split in SPLITS}


def _curves(rows: QuerySet[Measurement], most: int) -> dict[str, Curve]:
    span = rows.aggregate(count=Count("pk"), first=Min("step"), last=Max("step"))
    if span["count"] <= most:
        return _drawn(rows.values("step", *QUANTITIES).iterator())
    ends = rows.filter(step__in=[span["first"], span["last"]]).values("step", *QUANTITIES)
    curves = _drawn(ends.iterator())
    for part in _parts(rows, span["first"], span["last"], most // 2 - 1):
        for quantity in QUANTITIES:
            for point in (part[f"{quantity}_low"], part[f"{quantity}_high"]):
                if point is not None:
                    curves.setdefault(quantity, []).append([int(point[1]), point[0]])
    return {quantity: sorted(map(list, {tuple(point) for point in curve})) for quantity, curve in curves.items()}


def _drawn(rows: Any) -> dict[str, Curve]:
    curves: dict[str, Curve] = {}
    for row in rows:
        for quantity in QUANTITIES:
            if row[quantity] is not None:
                curves.setdefault(quantity, []).append([row["step"], row[quantity]])
    return curves


def _parts(rows: QuerySet[Measurement], first: int, last: int, count: int) -> QuerySet[Measurement, Mapping[str, Any]]:
    """Of each of `count` equal stretches of steps, the lowest and the highest `[value, step]` of every quantity.

    Arrays compare by their first element, so the smallest array holds the smallest value and where it was.
    """
    width = (last - first + 1) / count
    part = Cast(Func((F("step") - first) / width, function="FLOOR", output_field=FloatField()), IntegerField())
    extremes: dict[str, Min | Max] = {}
    for quantity in QUANTITIES:
        pair = Func(
            Cast(F(quantity), FloatField()),
            Cast(F("step"), FloatField()),
            template="ARRAY[%(expressions)s]",
            output_field=ArrayField(FloatField()),
        )
        known = Q(**{f"{quantity}__isnull": False})
        extremes |= {f"{quantity}_low": Min(pair, filter=known), f"{quantity}_high": Max(pair, filter=known)}
    return rows.order_by().annotate(part=part).values("part").annotate(**extremes)
