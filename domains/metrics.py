"""Scores of answers, one record at a time, and what may be concluded from many of them.

Guarantees that every score lies in [0, 1], depends on the two texts alone, and needs nothing but the standard library.
Does not call a model and does not judge meaning: a right answer in other words scores low on the strict metrics.

Example:
    >>> score("label_match", "allergy.", "ALLERGY")
    1.0
    >>> METRICS["numeric_match"].score("$1,452.4 million", "1452.4")
    1.0
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from domains.intervals import Interval, bootstrap_interval, paired_difference

__all__ = [
    "METRICS",
    "Interval",
    "Metric",
    "bootstrap_interval",
    "exact_match",
    "label_match",
    "macro_f1",
    "normalise_label",
    "numeric_match",
    "paired_difference",
    "rouge_l",
    "score",
    "span_f1",
    "span_parts",
    "token_f1",
]

_ANSWER_PREFIX = re.compile(
    r"^(?:the\s+)?(?:answer|label|category|section|type|class)(?:\s+is)?\s*[:=]\s*", re.IGNORECASE
)
_NUMBER = re.compile(r"\(?[-+−–]?\s*[$€£¥]?\s*[-−–]?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?|\(?[-+−–]?\s*[$€£¥]?\.\d+")
_WORD = re.compile(r"\w+(?:[.,]\d+)*", re.UNICODE)

RELATIVE_TOLERANCE = 1e-6
"""Two numbers this close (relative to the reference) are the same answer: room for float printing, not for rounding."""


def _squeeze(text: str) -> str:
    return " ".join(unicodedata.normalize("NFKC", text).split())


def _first_line(text: str) -> str:
    return next((line for line in text.splitlines() if line.strip()), "")


def exact_match(prediction: str, reference: str) -> float:
    """1 where the texts are equal after Unicode NFKC and collapsing of blanks, else 0. Case counts."""
    return float(_squeeze(prediction) == _squeeze(reference))


def normalise_label(text: str) -> str:
    """A label as it is compared: its first line, lower case, without `Answer:` before it or punctuation around it.

    Underscore, hyphen, slash and blank count as the same.

    >>> normalise_label("Answer: Not-Mentioned.")
    'not mentioned'
    """
    line = _ANSWER_PREFIX.sub("", _squeeze(_first_line(text)))
    return " ".join(re.sub(r"[\s_/\-]+", " ", line).strip(" .,:;!?\"'`*()[]<>").split()).casefold()


def label_match(prediction: str, reference: str) -> float:
    """1 where the answer is the reference label (see `normalise_label`), else 0. The mean is the accuracy.

    An answer that names several labels, or a label inside a sentence, is wrong: the closed list was asked for.
    """
    return float(normalise_label(prediction) == normalise_label(reference))


def _number_of(text: str) -> float | None:
    match = _NUMBER.search(unicodedata.normalize("NFKC", text))
    if match is None:
        return None
    found = match.group()
    # Accounting style: a number in parentheses is negative.
    is_negative = bool(re.search(r"[-−–]", found)) or (
        found.startswith("(") and text[match.end() :].lstrip(" %")[:1] == ")"
    )
    value = float(re.sub(r"[^\d.]", "", found))
    return -value if is_negative else value


def numeric_match(prediction: str, reference: str) -> float:
    """1 where the first number of the answer equals the reference's within `RELATIVE_TOLERANCE`, else 0.

    Currency signs, thousands commas and blanks do not count; `(1,234)` is negative; scale words ("million") and percent
    signs are not interpreted. Two texts without any number are compared by `exact_match`.
    """
    expected, given = _number_of(reference), _number_of(prediction)
    if expected is None:
        return exact_match(prediction, reference)
    if given is None:
        return 0.0
    return float(abs(given - expected) <= RELATIVE_TOLERANCE * max(abs(expected), 1e-9))


def _words(text: str) -> list[str]:
    return _WORD.findall(_squeeze(text).casefold())


def _f1(overlap: int, predicted: int, expected: int) -> float:
    return 2.0 * overlap / (predicted + expected) if predicted + expected else 1.0


def token_f1(prediction: str, reference: str) -> float:
    """Harmonic mean of word precision and recall, order ignored; both empty gives 1.

    Source: SQuAD's F1 (Rajpurkar et al., EMNLP 2016), without its removal of English articles.
    """
    predicted, expected = Counter(_words(prediction)), Counter(_words(reference))
    return _f1(sum((predicted & expected).values()), predicted.total(), expected.total())


def rouge_l(prediction: str, reference: str) -> float:
    """F-measure of the longest common subsequence of words; both empty gives 1.

    Source: Lin, "ROUGE: A Package for Automatic Evaluation of Summaries", 2004, with beta = 1 and no stemming.
    """
    predicted, expected = _words(prediction), _words(reference)
    row = [0] * (len(expected) + 1)
    for word in predicted:
        diagonal = 0
        for column, other in enumerate(expected, start=1):
            above = row[column]
            row[column] = diagonal + 1 if word == other else max(above, row[column - 1])
            diagonal = above
    return _f1(row[-1], len(predicted), len(expected))


def _spans(text: str) -> set[tuple[int, int, str]]:
    """Spans written as JSON lists of start, end and label; what is no such list holds none."""
    try:
        listed = json.loads(text)
    except (ValueError, RecursionError):
        return set()
    return {
        (each[0], each[1], each[2])
        for each in (listed if isinstance(listed, list) else [])
        if isinstance(each, list) and [type(part) for part in each] == [int, int, str]
    }


def span_f1(prediction: str, reference: str) -> float:
    """Harmonic mean of the precision and recall of labelled spans, right only with begin, end and label; both none: 1.

    Spans are JSON lists of start, end and label, as a tagger gives them: ``[[4, 11, "DRUG"]]``.

    Source: the CoNLL-2003 shared task's score (Tjong Kim Sang and De Meulder), of one text.
    """
    predicted, expected = _spans(prediction), _spans(reference)
    return _f1(len(predicted & expected), len(predicted), len(expected))


def span_parts(prediction: str, reference: str, label: str | None = None) -> tuple[int, int]:
    """What a text adds to the two sums that the micro F1 of many texts is the ratio of (`domains.intervals.pooled`).

    Args:
        label: counts spans of this label only.
    """
    predicted, expected = (
        {span for span in _spans(text) if label is None or span[2] == label} for text in (prediction, reference)
    )
    return 2 * len(predicted & expected), len(predicted) + len(expected)


def macro_f1(pairs: Iterable[tuple[str, str]], labels: Sequence[str] = ()) -> float:
    """Unweighted mean over labels of each label's F1.

    Args:
        pairs: (prediction, reference) for every record.
        labels: the closed list; without it, the labels that occur among the references. A label that occurs neither
            among the references nor the predictions is left out. An answer outside the list counts as a miss of its
            reference.

    Returns:
        A value in [0, 1]; 0 for no pairs.
    """
    seen = [(normalise_label(prediction), normalise_label(reference)) for prediction, reference in pairs]
    wanted = [normalise_label(label) for label in labels] or sorted({reference for _, reference in seen})
    counts = Counter(seen)
    predicted: Counter[str] = Counter(prediction for prediction, _ in seen)
    expected: Counter[str] = Counter(reference for _, reference in seen)
    scores = [
        _f1(counts[label, label], predicted[label], expected[label])
        for label in wanted
        if predicted[label] or expected[label]
    ]
    return sum(scores) / len(scores) if scores else 0.0


@dataclass(frozen=True, slots=True)
class Metric:
    """A metric of the registry: `score` per record; `is_binary` where it is always 0 or 1; a title for people."""

    name: str
    title: str
    score: Callable[[str, str], float]
    is_binary: bool


METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric("exact_match", "Exact match", exact_match, True),
        Metric("label_match", "Accuracy", label_match, True),
        Metric("numeric_match", "Numeric match", numeric_match, True),
        Metric("token_f1", "Word F1", token_f1, False),
        Metric("rouge_l", "ROUGE-L", rouge_l, False),
        Metric("span_f1", "Span F1", span_f1, False),
    )
}
"""Every metric that a workflow or a command may name."""


def score(name: str, prediction: str, reference: str) -> float:
    """The score of one answer by the named metric, in [0, 1].

    Raises:
        KeyError: no such metric in `METRICS`.
    """
    return METRICS[name].score(prediction, reference)
