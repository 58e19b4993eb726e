"""What an evaluation's answers are worth: the scores that decide, what the base stands for, further figures.

Guarantees that a classifier is held against the label that is most frequent in its training records, since its base
has no head to answer with; and that every further figure has its interval and says what was measured. Does not call a
model.

Example:
    >>> judged(evaluation, finished, pairs, predictions).measures[0]["title"]
    'Macro F1'
"""

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from domains.intervals import Interval, bootstrap_interval, paired_difference, resampled_interval
from steward.assurance.models import Evaluation
from steward.runs.labels import majority
from steward.runs.methods import Records
from steward.runs.shards import workflow_for
from steward.vault.models import SealedObject
from steward.vault.objects import open_object
from trainers.events import EvaluateFinished, PairsCompared

Measure = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Judgement:
    """Scores by record (0 to 1), further measures, and what is shown as the base's answer where it is none of a model.

    A measure is `{"name", "title", "base", "tuned", "gain", "note"}` with `[figure, low, high]` or None each.
    """

    base: list[float]
    tuned: list[float]
    measures: list[Measure] = field(default_factory=list)
    baseline: dict[str, Any] = field(default_factory=dict)


def judged(
    evaluation: Evaluation, finished: EvaluateFinished, pairs: PairsCompared | None, predictions: SealedObject
) -> Judgement:
    """The judgement on what a trainer measured.

    Args:
        pairs: what it said of preference pairs, if it did.
        predictions: the sealed answers; need not be saved yet.
    """
    records = evaluation.model_version.fine_tune.method.records
    return _JUDGES[records](evaluation, finished, pairs, predictions)


def _answers(
    evaluation: Evaluation, finished: EvaluateFinished, pairs: PairsCompared | None, predictions: SealedObject
) -> Judgement:
    return Judgement(finished.base_scores, finished.tuned_scores)


def _preferences(
    evaluation: Evaluation, finished: EvaluateFinished, pairs: PairsCompared | None, predictions: SealedObject
) -> Judgement:
    """The workflow's metric on generated answers decides; which answer is preferred stands beside it."""
    if pairs is None or not pairs.ids:
        raise ValueError("the trainer compared no pairs")
    base, tuned = ([float(margin > 0) for margin in side] for side in (pairs.base_margins, pairs.tuned_margins))
    gained = [after - before for before, after in zip(pairs.base_margins, pairs.tuned_margins, strict=True)]
    note = f"{len(base):,} held-out pairs"
    measures = [
        {
            "name": "preference_accuracy",
            "title": "Chosen answer found likelier",
            "base": _figures(bootstrap_interval(base)),
            "tuned": _figures(bootstrap_interval(tuned)),
            "gain": _figures(paired_difference(base, tuned)),
            "note": f"Share of {note}; not normalised by length.",
        },
        {
            "name": "preference_moved",
            "title": "Moved towards the chosen answer",
            "base": None,
            "tuned": _figures(bootstrap_interval([float(each > 0) for each in gained])),
            "gain": None,
            "note": f"Share of {note} whose margin grew by tuning: the accuracy of the implicit reward.",
        },
        {
            "name": "preference_margin",
            "title": "Margin in nats",
            "base": _mean(pairs.base_margins),
            "tuned": _mean(pairs.tuned_margins),
            "gain": _mean(gained),
            "note": f"Log-probability of the chosen answer less that of the rejected one, mean of {note}.",
        },
    ]
    return Judgement(finished.base_scores, finished.tuned_scores, measures)


def _labels(
    evaluation: Evaluation, finished: EvaluateFinished, pairs: PairsCompared | None, predictions: SealedObject
) -> Judgement:
    fine_tune = evaluation.model_version.fine_tune
    workflow = workflow_for(evaluation.workspace.domain, fine_tune.workflow)
    names = fine_tune.recipe["classification"]["labels"]
    usual, share = majority(fine_tune.dataset_version, workflow, names)
    with open_object(predictions) as file:
        rows = [json.loads(line) for line in file]
    references = [row["reference"].strip() for row in rows]
    answers = [row["tuned"] for row in rows]
    base = [float(reference == usual) for reference in references]
    guesses = [usual] * len(references)
    note = f"Unweighted mean over {len(names)} labels; the base answers with the most frequent training label."
    measures = [
        {
            "name": "macro_f1",
            "title": "Macro F1",
            "base": _figures(_macro(guesses, references, names)),
            "tuned": _figures(_macro(answers, references, names)),
            "gain": _figures(_macro_gain(guesses, answers, references, names)),
            "note": note,
        },
        {
            "name": "asked_in_words",
            "title": "Accuracy of the base model, asked in words",
            "base": _figures(bootstrap_interval(finished.base_scores)),
            "tuned": None,
            "gain": None,
            "note": "The untuned model has no head for the labels; it writes its answer, and may not know the list.",
        },
    ]
    baseline = {"kind": "majority", "answer": usual, "training_share": round(share, 6)}
    return Judgement(base, finished.tuned_scores, measures, baseline)


def _macro(answers: Sequence[str], references: Sequence[str], names: Sequence[str]) -> Interval:
    return resampled_interval(len(references), macro_f1_at(answers, references, names))


def _macro_gain(
    before: Sequence[str], after: Sequence[str], references: Sequence[str], names: Sequence[str]
) -> Interval:
    base, tuned = (macro_f1_at(answers, references, names) for answers in (before, after))
    return resampled_interval(len(references), lambda places: tuned(places) - base(places))


def macro_f1_at(
    answers: Sequence[str], references: Sequence[str], names: Sequence[str]
) -> Callable[[Sequence[int]], float]:
    """The macro F1 of the records at some places, as `domains.metrics.macro_f1` has it of all, but fast enough to be
    asked a thousand times. An answer outside the list counts as a miss."""
    numbers = {name: number for number, name in enumerate(names)}
    pairs = [(numbers.get(a, -1), numbers.get(r, -1)) for a, r in zip(answers, references, strict=True)]

    def figure(places: Sequence[int]) -> float:
        right, seen = [0] * (len(names) + 1), [0] * (len(names) + 1)
        for place in places:
            answer, reference = pairs[place]
            seen[answer] += 1
            seen[reference] += 1
            right[answer] += answer == reference
        scores = [2 * right[number] / seen[number] for number in range(len(names)) if seen[number]]
        return sum(scores) / len(scores) if scores else 0.0

    return figure


def _mean(values: Sequence[float]) -> list[float]:
    return _figures(resampled_interval(len(values), lambda at: math.fsum(values[place] for place in at) / len(at)))


def _figures(interval: Interval) -> list[float]:
    return [interval.estimate, interval.low, interval.high]


_JUDGES: dict[Records, Callable[[Evaluation, EvaluateFinished, PairsCompared | None, SealedObject], Judgement]] = {
    Records.ANSWERS: _answers,
    Records.PAIRS: _preferences,
    Records.LABELS: _labels,
}
