"""The learned tagger: a small encoder that says of each word which kind of identifier it is, and whether to mask it.

Guarantees: one thread, no network; the files' digests are checked before they are loaded; a failure raises.
Does not: decide what is masked; it reports pieces with a probability, and the profile's thresholds decide.

The weights in ``model/`` are ours (see ``model/CARD.md``); ``python -m trainers.tagger`` makes them anew.

Example:
    >>> [piece.type for piece in Tagger().find(["I am Priya Raman."], in_context=False, least={"default": 0.5})[0]]
    ['PERSON']
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from compliance.redaction.errors import RedactionError
from compliance.redaction.finding import Finding
from compliance.redaction.gazetteers import phrases, word_set
from compliance.redaction.kinds import KINDS
from compliance.redaction.pieces import piece_shapes, word_starts

SHIPPED = Path(__file__).with_name("model")
_MAX_PIECES = 512
_BATCH_PIECES = 384
# Below this share of the probability that begins a span, a neighbouring word no longer belongs to it.
_NEIGHBOUR = 0.4
# A word is public where it stands if it is this unlikely that it has to be masked.
_PUBLIC_MOST = 0.05
PUBLIC = "PUBLIC"
"""Type of the words that need no masking in their context, whatever their form; never an entity type."""
_SMALL = frozenset(
    ["of", "the", "and", "in", "at", "by", "to", "for", "on", "a", "an", "with", "from", "as", "or", *",.;:)’'"]
)
_JOINED = " \t\n-.,'’/&"
# Kind of the tagger -> entity type of the profiles; a demographic fact is told apart by its words.
_TYPES = {
    "PERSON": "PERSON",
    "LOCATION": "LOCATION",
    "ADDRESS": "ADDRESS",
    "ORGANIZATION": "ORGANIZATION",
    "DATE": "DATE",
    "AGE": "AGE",
    "QUANTITY": "MONEY",
    "CODE": "OTHER_ID",
    "MISC": "QUASI",
    "CONTACT": "OTHER_ID",
}
_DEMOGRAPHIC = {"FAMILY", "NATIONALITY", "PROFESSION"}
_FAMILY = frozenset(
    [
        "mother", "father", "wife", "husband", "brother", "brothers", "sister", "sisters", "son", "sons", "daughter",
        "daughters", "child", "children", "uncle", "aunt", "cousin", "nephew", "niece", "grandmother", "grandfather",
        "parents", "widow", "widower", "partner", "fiancée", "stepson", "brother-in-law", "mother-in-law",
    ]
)  # fmt: skip
# What the tagger says of a code is a guess beside a form or a check digit; of names it knows more.
_CEILING = {"PERSON": 0.95, "ORGANIZATION": 0.9, "LOCATION": 0.9, "ADDRESS": 0.8, "ZIP": 0.6, "OTHER_ID": 0.6}

Array = np.ndarray[Any, Any]


@dataclass(frozen=True, slots=True)
class _Word:
    """One word of a passage: its place, its likeliest kind, the probability that it is an identifier to be masked."""

    start: int
    end: int
    kind: int
    score: float
    is_public: bool


class Tagger:
    """A loaded model. Not shared between processes; loading takes a fraction of a second and about 60 MB."""

    def __init__(self, folder: Path = SHIPPED) -> None:
        """Load tokenizer and weights.

        Args:
            folder: holds ``tagger.onnx``, ``tokenizer.json`` and ``digests.json``.

        Raises:
            RedactionError: files are missing, do not match their digests, or do not load.
        """
        try:
            digests: dict[str, str] = json.loads((folder / "digests.json").read_text(encoding="utf-8"))
            parts = {name: (folder / name).read_bytes() for name in ("tagger.onnx", "tokenizer.json")}
        except (OSError, ValueError) as error:
            raise RedactionError(f"the tagger's files are not readable ({type(error).__name__})") from None
        for name, raw in parts.items():
            if "sha256:" + hashlib.sha256(raw).hexdigest() != digests.get(name):
                raise RedactionError(f"the tagger's {name} is not the one that was shipped; install Steward again")
        try:
            import onnxruntime
            from tokenizers import Tokenizer

            options = onnxruntime.SessionOptions()
            options.intra_op_num_threads = options.inter_op_num_threads = 1
            options.log_severity_level = 3
            self._tokenizer: Any = Tokenizer.from_str(parts["tokenizer.json"].decode())
            self._tokenizer.no_padding()
            self._tokenizer.no_truncation()
            self._session: Any = onnxruntime.InferenceSession(parts["tagger.onnx"], options, ["CPUExecutionProvider"])
        except Exception as error:  # noqa: BLE001 - two libraries raise what they like; all of it means "no tagger"
            raise RedactionError(f"the tagger does not load ({type(error).__name__})") from None

    def find(
        self, passages: Sequence[str], *, in_context: bool, least: Mapping[str, float], kinds: Collection[str] = KINDS
    ) -> list[list[Finding]]:
        """Label passages.

        Args:
            passages: folded text, each at most ``passages.MAX_CHARS`` characters.
            in_context: count only what singles somebody out where it stands (a party's employer, not the court);
                otherwise whatever is of the kind.
            least: least probability of a span, in (0, 1), for each kind, and as ``default`` for the others.
            kinds: those of ``KINDS`` that count.

        Returns:
            For each passage the labelled runs, offsets in that passage; ``least`` scores 0.5, certainty 1. With
            ``in_context`` also the words that are ``PUBLIC``.

        Raises:
            RedactionError: a passage is too long, or the model fails.
        """
        results: list[list[Finding]] = [[] for _ in passages]
        counted = np.array([kind in kinds for kind in KINDS], np.float32)
        leasts = [least.get(kind, least["default"]) for kind in KINDS]
        encodings = self._tokenizer.encode_batch(list(passages))
        order = sorted(range(len(passages)), key=lambda i: len(encodings[i].ids))
        for batch in _batches(order, [len(e.ids) for e in encodings]):
            if len(encodings[batch[-1]].ids) > _MAX_PIECES:
                raise RedactionError(f"a passage of {len(passages[batch[-1]])} characters is too long for the tagger")
            probabilities = self._run([passages[i] for i in batch], [encodings[i] for i in batch])
            for index, rows in zip(batch, probabilities, strict=True):
                words = _words(encodings[index], rows, counted, in_context)
                results[index] = list(_runs(words, passages[index], leasts))
        return results

    def _run(self, passages: list[str], encodings: list[Any]) -> Array:
        """Probabilities (B, T, labels) for a padded batch."""
        shape = (len(encodings), max(len(e.ids) for e in encodings))
        ids, mask, shapes = (np.zeros(shape, np.int64) for _ in range(3))
        for row, (passage, encoding) in enumerate(zip(passages, encodings, strict=True)):
            count = len(encoding.ids)
            ids[row, :count], mask[row, :count] = encoding.ids, 1
            shapes[row, :count] = piece_shapes(passage, encoding.word_ids, encoding.offsets)
        try:
            logits = self._session.run(None, {"ids": ids, "mask": mask, "shapes": shapes})[0]
        except Exception as error:  # noqa: BLE001 - a failed pass must never look like an empty result
            raise RedactionError(f"the tagger failed ({type(error).__name__}); the document is not redacted") from None
        if not np.isfinite(logits).all():
            raise RedactionError("the tagger returned numbers that are not finite; the document is not redacted")
        powers: Array = np.exp(logits - logits.max(-1, keepdims=True))
        powers /= powers.sum(-1, keepdims=True)
        return powers


def _words(encoding: Any, probabilities: Array, counted: Array, in_context: bool) -> list[_Word]:
    """The words of a passage with what the network says of each (of its first piece)."""
    first = np.flatnonzero(word_starts(encoding.word_ids))
    # Outputs are: no identifier, then for each kind "keep" and "mask"; see trainers.tagger.labels.
    pairs = probabilities[first, 1:].reshape(len(first), len(KINDS), 2)
    weights = (pairs[:, :, 1] if in_context else pairs.sum(-1)) * counted
    kinds, scores = weights.argmax(-1), weights.sum(-1)
    public = pairs[:, :, 1].sum(-1) < _PUBLIC_MOST
    ends = [*(first[1:] - 1), len(encoding.word_ids) - 2]
    offsets = encoding.offsets
    return [
        _Word(offsets[begin][0], offsets[end][1], int(kind), float(score), in_context and bool(is_public))
        for begin, end, kind, score, is_public in zip(first, ends, kinds, scores, public, strict=True)
    ]


def _runs(words: list[_Word], passage: str, leasts: list[float]) -> Iterator[Finding]:
    """Spans of neighbouring words of one kind, each begun by a word that reaches what its kind asks for."""
    taken = [word.score >= leasts[word.kind] for word in words]
    for step in (1, -1):
        order = range(len(words)) if step == 1 else range(len(words) - 1, -1, -1)
        for index in order:
            before = index - step
            if taken[index] or not (0 <= before < len(words) and taken[before]):
                continue
            word = words[index]
            taken[index] = word.kind == words[before].kind and word.score >= _NEIGHBOUR * leasts[word.kind]
    run: list[_Word] = []
    for word, is_taken in zip(words, taken, strict=True):
        if word.is_public and not is_taken:
            yield Finding(word.start, word.end, PUBLIC, 1.0, "tagger.public")
        joins = bool(run) and word.kind == run[-1].kind and not passage[run[-1].end : word.start].strip(_JOINED)
        if run and not (is_taken and joins):
            yield from _finding(run, passage, leasts[run[0].kind])
            run = []
        if is_taken:
            run.append(word)
    if run:
        yield from _finding(run, passage, leasts[run[0].kind])


def _finding(run: list[_Word], passage: str, least: float) -> Iterator[Finding]:
    """One finding for a run, without the small words at its edges; none if nothing else is in it."""
    words = [passage[word.start : word.end].lower() in _SMALL for word in run]
    if all(words):
        return
    run = run[words.index(False) : len(words) - words[::-1].index(False)]
    kind = KINDS[run[0].kind]
    start, end = run[0].start, run[-1].end
    value = passage[start:end]
    name = _demographic(value) if kind == "DEMOGRAPHIC" else _TYPES[kind]
    if kind == "ADDRESS" and not any(map(str.isalpha, value)):
        name = "ZIP"
    surest = max(word.score for word in run)
    score = min(0.5 + 0.5 * (surest - least) / (1 - least), _CEILING.get(name, 0.85))
    yield Finding(start, end, name, score, f"tagger.{kind.lower()}")


def kinds_of(types: Collection[str]) -> frozenset[str]:
    """The kinds that a profile with these entity types has a use for."""
    kinds = {kind for kind, name in _TYPES.items() if name in types}
    return frozenset(kinds | ({"DEMOGRAPHIC"} if _DEMOGRAPHIC & set(types) else set()))


def _demographic(value: str) -> str:
    words = value.lower().replace("’", "'").split()
    if any(word in _FAMILY for word in words):
        return "FAMILY"
    if any(word in word_set("nationalities") or word in phrases("countries") for word in words) or value[0].isupper():
        return "NATIONALITY"
    return "PROFESSION"


@cache
def process_tagger() -> Tagger:
    """The tagger that all detectors of this process share; runs may come from several threads."""
    return Tagger()


def _batches(order: list[int], lengths: list[int]) -> list[list[int]]:
    """Group passages of like length, at most ``_BATCH_PIECES`` padded pieces a batch."""
    batches: list[list[int]] = []
    for index in order:
        if batches and lengths[index] * (len(batches[-1]) + 1) <= _BATCH_PIECES:
            batches[-1].append(index)
        else:
            batches.append([index])
    return batches
