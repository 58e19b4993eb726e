"""Judging a model that finds labelled spans: the micro F1 of whole spans, and by label, against a list of phrases.

A span is right with begin, end and label, or it is wrong. The base model has no head for tags, and one drawn at random
would make any tuning look good; so the base is what a list of the training records' phrases finds (`phrase_book`).

Guarantees that base and tuned are judged on the same texts, and that the base's answers are sealed with the tuned ones.
Does not: give half a point for a span that is almost right.

Example:
    >>> judge_spans(measured).baseline
    {'kind': 'phrases', 'phrases': 214}
"""

import json
from collections import Counter
from collections.abc import Sequence
from typing import Any

from domains.intervals import Part, bootstrap_interval, paired_difference, pooled_difference, pooled_interval
from domains.metrics import span_f1, span_parts
from steward.assurance.judgement import Judgement, Measure, Measured, measure
from steward.assurance.phrase_book import PhraseBook
from steward.datasets.models import DatasetVersion, Split
from steward.datasets.reading import OpenRedacted, RecordReader
from steward.runs.shards import is_set_aside
from steward.vault.models import SealedObject
from steward.vault.objects import ObjectWriter, open_object
from trainers.spans import Span, written

#: Labels that get a line of their own, the most frequent ones, and how often their records are drawn again.
MOST_LABELS = 12
LABEL_RESAMPLES = 400

Row = dict[str, Any]


def judge_spans(measured: Measured) -> Judgement:
    """The judgement. Opens training and test records of the version once."""
    version = measured.evaluation.model_version.fine_tune.dataset_version
    book = PhraseBook((record.payload["text"], _spans(record)) for record in _records(version, Split.TRAIN))
    texts = {str(record.ordinal): record.payload["text"] for record in _records(version, Split.TEST)}
    with open_object(measured.predictions) as file:
        rows = [json.loads(line) for line in file]
    for row in rows:
        # Somebody who was erased while the models answered has no text any more; nothing is found in it.
        found = book.spans_in(texts.get(row["id"], ""))
        row["base"] = written(Span(*each) for each in found)
        row["base_score"] = span_f1(row["base"], row["reference"])
    parts = {side: _parts(rows, side) for side in ("base", "tuned")}
    return Judgement(
        base=[row["base_score"] for row in rows],
        tuned=measured.finished.tuned_scores,
        measures=[*_by_label(rows), *_beside(rows)],
        baseline={"kind": "phrases", "phrases": len(book)},
        parts=parts,
        predictions=_sealed(measured, rows),
    )


def _records(version: DatasetVersion, split: Split) -> list[OpenRedacted]:
    assert version.redaction is not None
    found = RecordReader(version).redacted(version.redaction, split=split, is_for_training=True)
    return [record for record in found if not is_set_aside(record.payload)]


def _spans(record: OpenRedacted) -> list[tuple[int, int, str]]:
    return [(start, end, record.payload["labels"][place]) for start, end, place in record.payload["spans"]]


def _parts(rows: Sequence[Row], side: str, label: str | None = None) -> list[Part]:
    return [span_parts(row[side], row["reference"], label) for row in rows]


def _by_label(rows: Sequence[Row]) -> list[Measure]:
    counts = Counter(label for row in rows for _, _, label in json.loads(row["reference"]))
    measures = []
    for label, count in counts.most_common(MOST_LABELS):
        base, tuned = _parts(rows, "base", label), _parts(rows, "tuned", label)
        measures.append(
            measure(
                f"f1_{label}",
                f"F1 of {label}",
                f"{count:,} spans in {len(rows):,} held-out texts.",
                pooled_interval(base, resamples=LABEL_RESAMPLES),
                pooled_interval(tuned, resamples=LABEL_RESAMPLES),
                pooled_difference(base, tuned, resamples=LABEL_RESAMPLES),
            )
        )
    return measures


def _beside(rows: Sequence[Row]) -> list[Measure]:
    base, tuned = ([row[f"{side}_score"] for row in rows] for side in ("base", "tuned"))
    return [
        measure(
            "text_f1",
            "Mean F1 of a text",
            "Each text counts once, however many spans it has; one without any is right if nothing is found in it.",
            bootstrap_interval(base),
            bootstrap_interval(tuned),
            paired_difference(base, tuned),
        )
    ]


def _sealed(measured: Measured, rows: Sequence[Row]) -> SealedObject:
    """The predictions with the base's answers, sealed under the same key; not saved yet."""
    with ObjectWriter(measured.evaluation.workspace, measured.predictions.key, "predictions") as writer:
        for row in rows:
            writer.write(json.dumps(row, ensure_ascii=False).encode() + b"\n")
    return writer.sealed
