"""Labelled stretches of a text, as tags of its tokens and back.

Tags are ``O`` (outside), ``B-x`` (a span of type x begins) and ``I-x`` (it goes on). Source: Ramshaw and Marcus 1995,
arXiv:cmp-lg/9505040, in the form of CoNLL-2002; reading as the conlleval script does, for which an ``I-x`` behind
anything but its own kind begins a span.

Guarantees: spans that begin and end where tokens do, and of which no two share a token, come back as they were.
Does not: hold overlapping spans; of two that share a token the first has it. A tokenizer's tokens with no width (its
special ones) have no tag.

Example:
    >>> tags = tags_of(("DRUG",))
    >>> numbers = tag_tokens([(0, 3), (3, 11)], [Span(4, 11, "DRUG")], tags)
    >>> [tags[number] for number in numbers]
    ['O', 'B-DRUG']
    >>> spans_in(numbers, [(0, 3), (3, 11)], "the aspirin", tags)
    [Span(start=4, end=11, label='DRUG')]
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import astuple, dataclass

OUTSIDE = "O"
#: What torch's cross-entropy leaves out by default.
NO_TAG = -100


@dataclass(frozen=True, order=True)
class Span:
    """``start`` and ``end`` in code points, the end not included."""

    start: int
    end: int
    label: str


def tags_of(types: Sequence[str]) -> tuple[str, ...]:
    """All tags for these types of spans, the outside first."""
    return (OUTSIDE, *(f"{kind}-{each}" for each in types for kind in "BI"))


def tag_tokens(offsets: Sequence[tuple[int, int]], spans: Iterable[Span], tags: Sequence[str]) -> list[int]:
    """The number of each token's tag, ``NO_TAG`` for a token without width.

    Args:
        offsets: start and end of each token in the text, in order.
        spans: whose labels ``tags`` were made of.
        tags: as ``tags_of`` gives them.
    """
    numbers = {tag: number for number, tag in enumerate(tags)}
    found = [NO_TAG if start >= end else 0 for start, end in offsets]
    for span in sorted(spans):
        kind = "B"
        for index, (start, end) in enumerate(offsets):
            if start < min(end, span.end) and end > span.start and found[index] == 0:
                found[index] = numbers[f"{kind}-{span.label}"]
                kind = "I"
    return found


def chunks(numbers: Sequence[int], tags: Sequence[str]) -> list[tuple[int, int, str]]:
    """Runs of tokens that are a span: first, last (included) and type; tokens without a tag are passed over."""
    found: list[tuple[int, int, str]] = []
    before = OUTSIDE
    for index, number in enumerate(numbers):
        if number == NO_TAG:
            continue
        tag = tags[number]
        if tag != OUTSIDE:
            if tag[0] == "I" and before[2:] == tag[2:]:
                found[-1] = (found[-1][0], index, tag[2:])
            else:
                found.append((index, index, tag[2:]))
        before = tag
    return found


def spans_in(numbers: Sequence[int], offsets: Sequence[tuple[int, int]], text: str, tags: Sequence[str]) -> list[Span]:
    """The spans that tags of tokens say, without blanks at their ends, which belong to many a token."""
    found = []
    for first, last, label in chunks(numbers, tags):
        start, end = offsets[first][0], offsets[last][1]
        start += len(text[start:end]) - len(text[start:end].lstrip())
        end = start + len(text[start:end].rstrip())
        if start < end:
            found.append(Span(start, end, label))
    return found


def untagged(numbers: Sequence[int], offsets: Sequence[tuple[int, int]], text: str, tags: Sequence[str]) -> list[Span]:
    """The spans that a model's tags of all tokens say; those it gave to tokens without width count for nothing."""
    kept = [NO_TAG if start >= end else number for number, (start, end) in zip(numbers, offsets, strict=True)]
    return spans_in(kept, offsets, text, tags)


def from_words(words: Sequence[str], labels: Sequence[str]) -> tuple[str, list[Span]]:
    """A text of words and its spans, from one label a word: tags, or plain types of which equal neighbours are one.

    Args:
        words: put together with single blanks.
        labels: as many, each ``O``, ``B-x``, ``I-x`` or a type.
    """
    starts, at = [], 0
    for word in words:
        starts.append(at)
        at += len(word) + 1
    spans: list[Span] = []
    before = OUTSIDE
    for word, start, label in zip(words, starts, labels, strict=True):
        kind, label = (label[0], label[2:]) if label[:2] in ("B-", "I-") else ("I", label)
        if label != OUTSIDE:
            if kind == "I" and before == label:
                spans[-1] = Span(spans[-1].start, start + len(word), label)
            else:
                spans.append(Span(start, start + len(word), label))
        before = label
    return " ".join(words), spans


def written(spans: Iterable[Span]) -> str:
    """Spans as text: JSON lists of start, end and label, in order."""
    return json.dumps([list(astuple(each)) for each in sorted(spans)], ensure_ascii=False)
