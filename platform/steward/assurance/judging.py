"""What an evaluation's answers are worth: the scores that decide, what the base stands for, further figures.

Guarantees that a classifier is held against the label that is most frequent in its training records, since its base
has no head to answer with; and that every further figure has its interval and says what was measured. Does not call a
model.

Example:
    >>> judged(Measured(evaluation, finished, None, predictions)).measures[0]["title"]
    'Macro F1'
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import replace

from domains.intervals import Interval, bootstrap_interval, paired_difference, resampled_interval
from steward.assurance.free_answers import free_answers, likelihoods
from steward.assurance.judged_answers import judge_answers
from steward.assurance.judged_spans import judge_spans
from steward.assurance.judgement import Judgement, Measured, mean_interval, measure
from steward.runs.labels import majority
from steward.runs.methods import Records
from steward.runs.shards import workflow_for
from steward.vault.objects import open_object
from trainers.events import PairsCompared


def judged(measured: Measured) -> Judgement:
    """The judgement on what a trainer measured, by the kind of records that the method learns from."""
    judgement = _JUDGES[measured.evaluation.model_version.fine_tune.method.records](measured)
    measures = [*judgement.measures, *free_answers(measured.finished)]
    return replace(judgement, measures=measures, further=judgement.further | likelihoods(measured.finished))


def _answers(measured: Measured) -> Judgement:
    return Judgement(measured.finished.base_scores, measured.finished.tuned_scores)


def _preferences(measured: Measured) -> Judgement:
    """The workflow's metric on generated answers decides; which answer is preferred stands beside it."""
    pairs = measured.compared
    if not isinstance(pairs, PairsCompared) or not pairs.ids:
        raise ValueError("the trainer compared no pairs")
    base, tuned = ([float(margin > 0) for margin in side] for side in (pairs.base_margins, pairs.tuned_margins))
    gained = [after - before for before, after in zip(pairs.base_margins, pairs.tuned_margins, strict=True)]
    note = f"{len(base):,} held-out pairs"
    measures = [
        measure(
            "preference_accuracy",
            "Chosen answer found likelier",
            f"Share of {note}; not normalised by length.",
            bootstrap_interval(base),
            bootstrap_interval(tuned),
            paired_difference(base, tuned),
        ),
        measure(
            "preference_moved",
            "Moved towards the chosen answer",
            f"Share of {note} whose margin grew by tuning: the accuracy of the implicit reward.",
            tuned=bootstrap_interval([float(each > 0) for each in gained]),
        ),
        measure(
            "preference_margin",
            "Margin in nats",
            f"Log-probability of the chosen answer less that of the rejected one, mean of {note}.",
            mean_interval(pairs.base_margins),
            mean_interval(pairs.tuned_margins),
            mean_interval(gained),
        ),
    ]
    further = {"preference_margin": {"ids": pairs.ids, "base": pairs.base_margins, "tuned": pairs.tuned_margins}}
    return Judgement(measured.finished.base_scores, measured.finished.tuned_scores, measures, further=further)


def _labels(measured: Measured) -> Judgement:
    finished, fine_tune = measured.finished, measured.evaluation.model_version.fine_tune
    workflow = workflow_for(measured.evaluation.workspace.domain, fine_tune.workflow)
    names = fine_tune.recipe["classification"]["labels"]
    usual, share = majority(fine_tune.dataset_version, workflow, names)
    with open_object(measured.predictions) as file:
        rows = [json.loads(line) for line in file]
    references = [row["reference"].strip() for row in rows]
    answers = [row["tuned"] for row in rows]
    base = [float(reference == usual) for reference in references]
    guesses = [usual] * len(references)
    measures = [
        measure(
            "macro_f1",
            "Macro F1",
            f"Unweighted mean over {len(names)} labels; the base answers with the most frequent training label.",
            _macro(guesses, references, names),
            _macro(answers, references, names),
            _macro_gain(guesses, answers, references, names),
        ),
        measure(
            "asked_in_words",
            "Accuracy of the base model, asked in words",
            "The untuned model has no head for the labels; it writes its answer, and may not know the list.",
            bootstrap_interval(finished.base_scores),
        ),
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


_JUDGES: dict[Records, Callable[[Measured], Judgement]] = {
    Records.ANSWERS: _answers,
    Records.PAIRS: _preferences,
    Records.JUDGED: judge_answers,
    Records.LABELS: _labels,
    Records.SPANS: judge_spans,
}
