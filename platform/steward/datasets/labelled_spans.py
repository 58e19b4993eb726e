"""Labelled stretches of a text: read from a file, carried through redaction.

In a payload they are `[start, end, place of the label]` beside `text` and `labels`, the few words that the record uses.
Labels are texts of the payload like any other, so redaction examines them; a place is a number.

A stretch follows its text. One that holds a finding holds what stands in its place; one that begins or ends within a
finding is widened to the whole replacement, since a replacement has no inside: what is left of the original's halves
cannot be told. One whose text was removed altogether is gone with it. Where two stretches of different labels meet in
one replacement, neither label is true of it any more; such a record is set aside and never trained on. Two of the same
label become one.

Guarantees that what comes out of `carried` lies within the new text, does not overlap, and covers, of what was not
replaced, exactly what it covered before. Does not: judge labels; `runs.labels` does.

Example:
    >>> found = [{"start": 0, "end": 11, "replacement_start": 0, "replacement_end": 8}]
    >>> carried([[4, 11, 0], [18, 25, 1]], found)
    [[0, 8, 0], [15, 22, 1]]
"""

import json
import re
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from steward.datasets.formats import Problems
from steward.datasets.redaction_work import shown_place

Stretch = list[int]
#: A label is one word of a short list: long enough for people's tag sets, too short for a sentence.
LABEL = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,39}")
MAX_LABELS = 50
MAX_SPANS = 10_000


def carried(spans: Sequence[Stretch], findings: Sequence[Mapping[str, Any]]) -> list[Stretch] | None:
    """The spans in the redacted text, in order; None where two labels met in one replacement.

    Args:
        findings: of the same text, in order, with both of their spans.
    """
    moved: list[Stretch] = []
    for start, end, label in sorted(spans):
        place = shown_place(findings, start, end)
        if place[0] >= place[1]:
            continue
        if moved and moved[-1][1] > place[0]:
            if moved[-1][2] != label:
                return None
            moved[-1][1] = max(moved[-1][1], place[1])
        else:
            moved.append([*place, label])
    return moved


def in_words(answer: str, text: str) -> str:
    """Spans as a tagger writes them out, as a person reads them: each label with what it stands for.

    Example:
        >>> in_words('[[0, 7, "DRUG"]]', "aspirin daily")
        'DRUG: aspirin'
    """
    return "\n".join(f"{label}: {text[start:end]}" for start, end, label in json.loads(answer))


class SpanReader:
    """`text` and `spans`, a list of objects with `start`, `end` (in characters) and `label`; other keys are dropped."""

    def __init__(self, problems: Problems) -> None:
        self._problems = problems
        self._labels: set[str] = set()

    def __call__(self, line: int, row: Mapping[str, Any]) -> dict[str, Any] | None:
        before = self._problems.count
        text, listed = row.get("text"), row.get("spans")
        if not isinstance(text, str) or not text.strip():
            self._problems.add(line, "text", "not_a_text", "The value must be a non-empty text.")
            text = ""
        if not isinstance(listed, list) or len(listed) > MAX_SPANS:
            message = (
                f"“spans” must be a list of at most {MAX_SPANS:,} objects with start, end and label; it may be empty."
            )
            self._problems.add(line, "spans", "spans_invalid", message)
            return None
        read = [self._span(line, f"spans[{place}]", each, text) for place, each in enumerate(listed, 1)]
        spans = sorted(each for each in read if each is not None)
        if any(one[1] > other[0] for one, other in pairwise(spans)):
            message = "Two spans overlap. A character has one label; keep one of the two."
            self._problems.add(line, "spans", "spans_overlap", message)
        if self._problems.count > before:
            return None
        labels = sorted({label for _, _, label in spans})
        return {
            "text": text,
            "labels": labels,
            "spans": [[start, end, labels.index(label)] for start, end, label in spans],
        }

    def _span(self, line: int, column: str, span: Any, text: str) -> tuple[int, int, str] | None:
        before = self._problems.count
        given = span if isinstance(span, dict) else {}
        start, end, label = (given.get(name) for name in ("start", "end", "label"))
        if type(start) is not int or type(end) is not int:
            self._problems.add(
                line, column, "span_invalid", "A span needs whole numbers as start and end, and a label."
            )
        elif text and not 0 <= start < end <= len(text):
            message = f"The span must begin and end within the text, which has {len(text):,} characters."
            self._problems.add(line, column, "span_outside", message)
        if not isinstance(label, str) or not LABEL.fullmatch(label):
            message = "A label is one word of at most 40 letters, digits, hyphens and underscores, such as DRUG."
            self._problems.add(line, column, "label_unfit", message)
        elif label not in self._labels:
            self._labels.add(label)
            if len(self._labels) == MAX_LABELS + 1:
                message = f"The file has more than {MAX_LABELS} different labels. Labels are a short closed list."
                self._problems.add(line, column, "labels_too_many", message)
        return (start, end, label) if self._problems.count == before else None  # type: ignore[return-value]
