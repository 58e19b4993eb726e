"""Judging a model that was tuned on judged answers: what it writes decides, what it finds likely stands beside it.

The workflow's metric holds generated answers against the held-out ones that were judged good; a bad answer is no
reference. Beside it stands how far the model tells the two kinds apart by their likelihood.

Guarantees an interval for each figure, good and bad answers drawn again each by themselves, as they are of different
prompts. Does not: pair anything.

Source: Ethayarajh et al. 2024, arXiv:2402.01306: what an answer gained against the untouched model is the reward.

Example:
    >>> order([2.0, 1.0], [0.0, 1.0])
    0.875
"""

import math
from bisect import bisect_left, bisect_right
from collections.abc import Sequence

from domains.intervals import two_sample_interval
from steward.assurance.judgement import Judgement, Measure, Measured, mean_interval, measure
from trainers.events import JudgementsCompared


def judge_answers(measured: Measured) -> Judgement:
    """The judgement; without bad or without good answers among the compared ones only what can be said of one kind."""
    compared, finished = measured.compared, measured.finished
    if not isinstance(compared, JudgementsCompared) or not compared.ids:
        raise ValueError("the trainer compared no judged answers")
    measures = [*_apart(compared), *_gained(compared)]
    columns = {
        "ids": compared.ids,
        "is_good": compared.are_good,
        "tokens": compared.tokens,
        "base": compared.base_likelihoods,
        "tuned": compared.tuned_likelihoods,
    }
    further = {"judged_likelihood": columns}
    return Judgement(finished.base_scores, finished.tuned_scores, measures, further=further)


def _apart(compared: JudgementsCompared) -> list[Measure]:
    """How far good answers are from bad ones."""
    rates = {
        name: [nats / count for nats, count in zip(each, compared.tokens, strict=True)]
        for name, each in (("base", compared.base_likelihoods), ("tuned", compared.tuned_likelihoods))
    }
    rates["gain"] = [after - before for before, after in zip(rates["base"], rates["tuned"], strict=True)]
    sides = {name: _by_verdict(compared, values) for name, values in rates.items()}
    good, bad = (len(each) for each in sides["gain"])
    if not good or not bad:
        return []
    counted = f"{good:,} good and {bad:,} bad held-out answers"
    return [
        measure(
            "judgement_separation",
            "Good answers ahead of bad ones, in nats",
            f"Mean log-probability of a token of {counted}, good less bad. The metric above speaks of the good ones' "
            "prompts only.",
            **{name: two_sample_interval(*each, difference) for name, each in sides.items()},
        ),
        measure(
            "judgement_order",
            "Good answer gained more than a bad one",
            f"Share of pairs of {counted}, ties half: the implicit reward tells them apart; 0.5 is chance.",
            tuned=two_sample_interval(*_by_verdict(compared, _gains(compared)), order),
        ),
    ]


def _gained(compared: JudgementsCompared) -> list[Measure]:
    """How good and bad answers fared each by themselves: both may have fallen."""
    return [
        measure(
            f"{name}_gain",
            f"{name.capitalize()} answers gained, in nats",
            f"Log-probability by the tuned model less that by the base, mean of {len(values):,} whole answers.",
            gain=mean_interval(values),
        )
        for name, values in zip(("good", "bad"), _by_verdict(compared, _gains(compared)), strict=True)
        if values
    ]


def _gains(compared: JudgementsCompared) -> list[float]:
    pairs = zip(compared.base_likelihoods, compared.tuned_likelihoods, strict=True)
    return [after - before for before, after in pairs]


def _by_verdict(compared: JudgementsCompared, values: Sequence[float]) -> tuple[list[float], list[float]]:
    """The values of good answers, and those of bad ones."""
    judged = list(zip(values, compared.are_good, strict=True))
    return [each for each, is_good in judged if is_good], [each for each, is_good in judged if not is_good]


def difference(good: Sequence[float], bad: Sequence[float]) -> float:
    """The mean of one less that of the other."""
    return math.fsum(good) / len(good) - math.fsum(bad) / len(bad)


def order(good: Sequence[float], bad: Sequence[float]) -> float:
    """The share of pairs in which the good one is higher, ties half."""
    ranked = sorted(bad)
    below = sum(bisect_left(ranked, each) + bisect_right(ranked, each) for each in good)
    return below / (2 * len(good) * len(bad))
