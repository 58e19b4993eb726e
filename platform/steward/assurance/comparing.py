"""Runs of one workspace side by side: what they were told, what they measured, and how sure a difference is.

Guarantees that two runs are set against each other only where they were judged by one metric on the very same test
records of one dataset version, record by record; where not, it says why. Every run keeps its place and colour. Does
not correct for many comparisons: of twenty pairs that are alike, about one looks different at 95 %.

Example:
    >>> compare([first, second]).pairs[0].interval.low > 0   # the second is better than the first
    True
"""

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from domains.intervals import Interval, paired_difference, pooled, pooled_difference
from steward.assurance.models import Evaluation, EvaluationState
from steward.audit.actor import Refused
from steward.runs.models import FineTune, ModelVersion
from steward.runs.recipes import flat

FEWEST, MOST = 2, 6
#: Confidence of the intervals that evaluations are judged with.
LEVEL = 0.95
#: The resamples of a pair times its records, so that a page of many runs on many records comes in seconds.
MOST_DRAWS = 4_000_000
FULL_RESAMPLES, FEWEST_RESAMPLES = 2_000, 400


@dataclass(frozen=True, slots=True)
class Score:
    """A tuned model's figure over `n` test records, with its interval at confidence `level`.

    `method` is `bootstrap`, or `exact` where all records scored alike and drawing them again could say nothing.
    """

    estimate: float
    low: float
    high: float
    level: float
    n: int
    method: str


@dataclass(frozen=True, slots=True)
class Contender:
    """One run with its newest judgement. `tone` is its colour, from 1, and `letter` its name on the page, from A."""

    tone: int
    fine_tune: FineTune
    model_version: ModelVersion | None
    evaluation: Evaluation | None
    score: Score | None

    @property
    def letter(self) -> str:
        return chr(ord("A") + self.tone - 1)

    @property
    def tokens_per_second(self) -> float | None:
        """Over the whole run."""
        return self.fine_tune.tokens / self.fine_tune.train_seconds if self.fine_tune.train_seconds else None


@dataclass(frozen=True, slots=True)
class Setting:
    """One place of the recipe and what each run has there, None where it has nothing."""

    path: str
    values: list[Any]

    @property
    def is_same(self) -> bool:
        return all(value == self.values[0] for value in self.values)


@dataclass(frozen=True, slots=True)
class Pair:
    """Two runs on the same test records: `interval` is of second minus first; without one, `reason` says why."""

    first: Contender
    second: Contender
    interval: Interval | None
    reason: str = ""

    @property
    def verdict(self) -> str:
        """In words, at the interval's own confidence."""
        if self.interval is None:
            return self.reason
        if self.interval.low > 0:
            return "better"
        return "worse" if self.interval.high < 0 else "not told apart"


@dataclass(frozen=True, slots=True)
class Comparison:
    """All of it. `warnings` say what makes the runs hard to compare."""

    contenders: list[Contender]
    settings: list[Setting]
    pairs: list[Pair]
    warnings: list[str]

    @property
    def differing(self) -> list[Setting]:
        return [setting for setting in self.settings if not setting.is_same]

    @property
    def equal(self) -> list[Setting]:
        return [setting for setting in self.settings if setting.is_same]


def compare(fine_tunes: Sequence[FineTune]) -> Comparison:
    """Sets runs side by side, in the order given.

    Args:
        fine_tunes: two to six different runs of one workspace, with `dataset_version__dataset` and `base_model`.

    Raises:
        Refused: too few, too many, or one twice.
    """
    if not FEWEST <= len(fine_tunes) <= MOST or len({run.pk for run in fine_tunes}) != len(fine_tunes):
        raise Refused(f"Choose {FEWEST} to {MOST} different fine-tunes.", code="comparison_size")
    contenders = list(_contenders(fine_tunes))
    return Comparison(
        contenders=contenders,
        settings=_settings(fine_tunes),
        pairs=[_pair(first, second) for first, second in itertools.combinations(contenders, 2)],
        warnings=list(_warnings(contenders)),
    )


def _contenders(fine_tunes: Sequence[FineTune]) -> Iterator[Contender]:
    models = {row.fine_tune_id: row for row in ModelVersion.objects.filter(fine_tune__in=fine_tunes)}
    newest: dict[object, Evaluation] = {}
    done = Evaluation.objects.filter(model_version__in=models.values(), state=EvaluationState.DONE)
    for row in done.order_by("created_at"):
        newest[row.model_version_id] = row
    for place, fine_tune in enumerate(fine_tunes, start=1):
        model = models.get(fine_tune.pk)
        evaluation = newest.get(model.pk) if model else None
        yield Contender(place, fine_tune, model, evaluation, _score(evaluation) if evaluation else None)


def _score(evaluation: Evaluation) -> Score:
    """As it was judged: a score has one interval, on whatever page and in whatever document it stands."""
    found = (evaluation.tuned_score, evaluation.tuned_low, evaluation.tuned_high)
    estimate, low, high = (each for each in found if each is not None)
    parts = evaluation.scores.get("parts")
    figures = [pooled([part]) for part in parts["tuned"]] if parts else evaluation.scores["tuned"]
    method = "exact" if len(set(figures)) == 1 else "bootstrap"
    return Score(estimate, low, high, LEVEL, evaluation.record_count, method)


def _resamples(records: int) -> int:
    return max(FEWEST_RESAMPLES, min(FULL_RESAMPLES, MOST_DRAWS // max(1, records)))


def _pair(first: Contender, second: Contender) -> Pair:
    one, other = first.evaluation, second.evaluation
    if one is None or other is None:
        lost = [each.letter for each in (first, second) if each.fine_tune.is_over and each.model_version is None]
        return Pair(first, second, None, f"{' and '.join(lost)} left no model" if lost else "not judged yet")
    if one.metric != other.metric:
        return Pair(first, second, None, "judged by different metrics")
    if first.fine_tune.dataset_version_id != second.fine_tune.dataset_version_id:
        return Pair(first, second, None, "judged on different dataset versions")
    places = {record: place for place, record in enumerate(other.scores["ids"])}
    if set(one.scores["ids"]) != places.keys():
        return Pair(first, second, None, "judged on different test records")
    order = [places[record] for record in one.scores["ids"]]
    differ, own, others = _compared(one, other)
    return Pair(first, second, differ(own, [others[place] for place in order], resamples=_resamples(len(order))))


def _compared(one: Evaluation, other: Evaluation) -> tuple[Callable[..., Interval], list[Any], list[Any]]:
    """How two judgements by one metric are set against each other, and the values of both: scores or parts."""
    if "parts" in one.scores:
        return pooled_difference, one.scores["parts"]["tuned"], other.scores["parts"]["tuned"]
    return paired_difference, one.scores["tuned"], other.scores["tuned"]


def _settings(fine_tunes: Sequence[FineTune]) -> list[Setting]:
    recipes = [flat(run.recipe) for run in fine_tunes]
    paths = dict.fromkeys(path for recipe in recipes for path in recipe)
    return [Setting(path, [recipe.get(path) for recipe in recipes]) for path in paths]


def _warnings(contenders: Sequence[Contender]) -> Iterator[str]:
    """What differs beside the settings."""
    runs = [contender.fine_tune for contender in contenders]
    for what, names in (
        ("different data", [str(run.dataset_version) for run in runs]),
        ("different base models", [run.base_model.name for run in runs]),
        ("different workflows", [run.workflow for run in runs]),
    ):
        if len(set(names)) > 1:
            named = "; ".join(f"{run.name}: {name}" for run, name in zip(runs, names, strict=True))
            yield f"They have {what} ({named})."
    if len({run.base_model.digest for run in runs}) > len({run.base_model.name for run in runs}):
        yield "Base models of one name have different digests."
    if len({run.dataset_version_id for run in runs}) > 1:
        yield "Their held-out losses were measured on different records; lower is not better across them."
    elif len({run.recipe.get("method", "sft") for run in runs}) > 1:
        yield "They learn by different methods; their losses measure different things."
