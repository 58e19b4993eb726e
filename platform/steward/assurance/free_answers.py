"""What is told of free answers beside their score: how likely the records' own became, and how many were broken off.

Guarantees an interval for each figure, and that an answer which did not end is never passed over in silence. Says
nothing of answers from a closed list or of spans, where the trainer was not asked for it.

Example:
    >>> [each["name"] for each in free_answers(finished)]
    ['reference_likelihood', 'unended']
"""

from typing import Any

from domains.intervals import bootstrap_interval
from steward.assurance.judgement import Measure, mean_interval, measure
from trainers.events import EvaluateFinished

#: The measure that a gate asks for.
LIKELIHOOD = "reference_likelihood"


def free_answers(finished: EvaluateFinished) -> list[Measure]:
    """What is told beside the scores of free answers; nothing of others."""
    base, tuned = finished.base_likelihoods, finished.tuned_likelihoods
    if not base:
        return []
    gained = [after - before for before, after in zip(base, tuned, strict=True)]
    count, longer = len(finished.ids), ""
    if finished.outgrown:
        longer = f" {finished.outgrown:,} of the records' own answers are longer than that."
    return [
        measure(
            LIKELIHOOD,
            "Held-out answer's likelihood, nats a token",
            f"Mean log-probability of a token of {len(base):,} held-out answers; the nearer to 0 the likelier.",
            mean_interval(base),
            mean_interval(tuned),
            mean_interval(gained),
        ),
        measure(
            "unended",
            "Answers broken off",
            f"Share of {count:,} answers that did not end within {finished.room:,} tokens, the room that the longest "
            f"held-out answer needs and a quarter more, at most the workflow's.{longer}",
            bootstrap_interval(_flags(finished.base_unended, count)),
            bootstrap_interval(_flags(finished.tuned_unended, count)),
        ),
    ]


def likelihoods(finished: EvaluateFinished) -> dict[str, dict[str, list[Any]]]:
    """By record, what the first of these measures rests on; nothing of other answers."""
    if not finished.likelihood_ids:
        return {}
    sides = {"base": finished.base_likelihoods, "tuned": finished.tuned_likelihoods}
    return {LIKELIHOOD: {"ids": finished.likelihood_ids, **sides}}


def _flags(some: int, count: int) -> list[float]:
    return [1.0] * some + [0.0] * (count - some)
