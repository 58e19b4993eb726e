"""The learned tagger: a small network that says of each word which kind of identifier it is, and whether to mask it.

Guarantees: one thread, no network; the files' digests are checked before they are loaded; a failure raises.
Does not: decide what is masked; it reports pieces with a probability, and the profile's thresholds decide.

The weights in ``model/`` are ours (see ``model/CARD.md``); ``python -m trainers.tagger`` makes them anew.

Example:
    >>> (passage,) = Tagger().find(["I am Priya Raman."], in_context=False, least={"default": 0.5})
    >>> [found.type for found in passage.findings]
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
from compliance.redaction.pieces import Cut, Cutter

SHIPPED = Path(__file__).with_name("model")
# Below this share of the probability that begins a span, a neighbouring word no longer belongs to it.
_NEIGHBOUR = 0.4
# A word is public where it stands if it is this unlikely that it has to be masked.
_PUBLIC_MOST = 0.05
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
class Tagged:
    """What was found in a passage.

    Attributes:
        findings: labelled runs of words.
        public: start and end of each word that needs no masking where it stands, whatever its form; only told
            in context.
    """

    findings: list[Finding]
    public: list[tuple[int, int]]


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
            tokenizer: Any = Tokenizer.from_str(parts["tokenizer.json"].decode())
            tokenizer.no_padding()
            tokenizer.no_truncation()
            self._cutter = Cutter(tokenizer)
            self._session: Any = onnxruntime.InferenceSession(parts["tagger.onnx"], options, ["CPUExecutionProvider"])
        except Exception as error:  # noqa: BLE001 - two libraries raise what they like; all of it means "no tagger"
            raise RedactionError(f"the tagger does not load ({type(error).__name__})") from None

    def find(
        self, passages: Sequence[str], *, in_context: bool, least: Mapping[str, float], kinds: Collection[str] = KINDS
    ) -> list[Tagged]:
        """Label passages.

        Args:
            passages: folded text, each of a few thousand characters at most.
            in_context: count only what singles somebody out where it stands (a party's employer, not the court);
                otherwise whatever is of the kind.
            least: least probability of a span, in (0, 1), for each kind, and as ``default`` for the others.
            kinds: those of ``KINDS`` that count.

        Returns:
            For each passage what was found, offsets in that passage; ``least`` scores 0.5, certainty 1.

        Raises:
            RedactionError: the model fails.
        """
        counted = None if len(kinds) == len(KINDS) else np.array([kind in kinds for kind in KINDS], np.float32)
        leasts = np.array([least.get(kind, least["default"]) for kind in KINDS], np.float32)
        results = []
        for passage in passages:
            cut = self._cutter.cut(passage)
            # Outputs are: no identifier, then for each kind "keep" and "mask"; see trainers.tagger.labels.
            pairs = self._run(cut)[:, 1:].reshape(len(cut.firsts), len(KINDS), 2)
            results.append(_tagged(passage, cut, pairs, in_context, leasts, counted))
        return results

    def _run(self, cut: Cut) -> Array:
        """Probabilities (words, labels)."""
        feed = {"ids": np.array(cut.ids), "shapes": np.array(cut.shapes), "firsts": np.array(cut.firsts, np.int64)}
        try:
            probabilities: Array = self._session.run(None, feed)[0]
        except Exception as error:  # noqa: BLE001 - a failed pass must never look like an empty result
            raise RedactionError(f"the tagger failed ({type(error).__name__}); the document is not redacted") from None
        # One number that is none makes the sum none.
        if not np.isfinite(probabilities.sum()):
            raise RedactionError("the tagger returned numbers that are not finite; the document is not redacted")
        return probabilities


def _tagged(passage: str, cut: Cut, pairs: Array, in_context: bool, leasts: Array, counted: Array | None) -> Tagged:
    """What the probabilities (words, kinds, keep or mask) make of a passage."""
    if not cut.firsts:
        return Tagged([], [])
    masks = pairs[:, :, 1]
    weights = masks if in_context else pairs.sum(-1)
    if counted is not None:
        weights = weights * counted
    kinds, scores = weights.argmax(-1), weights.sum(-1)
    wanted = leasts[kinds]
    candidates = np.flatnonzero(scores >= _NEIGHBOUR * wanted).tolist()
    taken = _taken(candidates, kinds, scores >= wanted) if candidates else []
    findings = [
        finding
        for run in _runs(taken, kinds, cut, passage)
        if (finding := _finding(run, KINDS[kinds[run[0]]], scores, float(wanted[run[0]]), cut, passage)) is not None
    ]
    public: list[tuple[int, int]] = []
    if in_context:
        is_public = masks.sum(-1) < _PUBLIC_MOST
        is_public[taken] = False
        public = [(cut.starts[index], cut.ends[index]) for index in np.flatnonzero(is_public).tolist()]
    return Tagged(findings, public)


def _taken(candidates: list[int], kinds: Array, is_sure: Array) -> list[int]:
    """Words that reach what their kind asks for, and their neighbours of the same kind that come near it; sorted."""
    taken = {index for index in candidates if is_sure[index]}
    for step, order in ((1, candidates), (-1, candidates[::-1])):
        for index in order:
            if index not in taken and index - step in taken and kinds[index] == kinds[index - step]:
                taken.add(index)
    return sorted(taken)


def _runs(taken: list[int], kinds: Array, cut: Cut, passage: str) -> Iterator[list[int]]:
    """Neighbouring words of one kind with nothing but blanks and joining marks between them."""
    run: list[int] = []
    for index in taken:
        if run and not (
            index == run[-1] + 1
            and kinds[index] == kinds[run[-1]]
            and not passage[cut.ends[run[-1]] : cut.starts[index]].strip(_JOINED)
        ):
            yield run
            run = []
        run.append(index)
    if run:
        yield run


def _finding(run: list[int], kind: str, scores: Array, least: float, cut: Cut, passage: str) -> Finding | None:
    """One finding for a run, without the small words at its edges; none if nothing else is in it."""
    small = [passage[cut.starts[index] : cut.ends[index]].lower() in _SMALL for index in run]
    if all(small):
        return None
    run = run[small.index(False) : len(small) - small[::-1].index(False)]
    start, end = cut.starts[run[0]], cut.ends[run[-1]]
    value = passage[start:end]
    name = _demographic(value) if kind == "DEMOGRAPHIC" else _TYPES[kind]
    if kind == "ADDRESS" and not any(map(str.isalpha, value)):
        name = "ZIP"
    surest = float(max(scores[index] for index in run))
    score = min(0.5 + 0.5 * (surest - least) / (1 - least), _CEILING.get(name, 0.85))
    return Finding(start, end, name, score, f"tagger.{kind.lower()}")


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
