"""Public text without labels, as a lesson in what is nobody's name: dialogues, contracts, reports, abstracts.

Guarantees: a stretch that might be an identifier (the rules found something, or a capitalised word that no dictionary
knows) is blind, so nothing wrong is taught about it; everything else is taught to be no identifier.
Does not: need labels, nor keep the text; it is read where it lies.

Example:
    >>> next(background_documents(Path("data"), count=1, seed=1)).spans
    ()
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from random import Random
from typing import Any

from compliance.redaction import Detector, load_profile
from compliance.redaction.vocabulary import is_word
from trainers.tagger.documents import Document

_LENGTH = 900
_CAPITALISED = re.compile(r"[A-ZÀ-ÖØ-ÞŁŚŞİŽČ][\w’'-]*(?:\s+(?:of|and|&|the|for)?\s*[A-ZÀ-ÖØ-ÞŁŚŞİŽČ][\w’'-]*)*")
#: File below the data folder -> profile whose rules say where an identifier may stand.
SOURCES = {
    "healthcare/mts_dialog.train.jsonl": "healthcare",
    "healthcare/pubmedqa.train.jsonl": "healthcare",
    "finance/tat_qa.dev.jsonl": "finance",
    "legal/contract_nli.train.documents.jsonl": "legal",
    "legal/cuad_clauses.jsonl": "legal",
}


def background_documents(folder: Path, count: int, seed: int) -> Iterator[Document]:
    """``count`` stretches of about 900 characters, equally many from each source.

    Raises:
        OSError: a source is missing.
    """
    random = Random(seed)  # noqa: S311 - not a secret
    share = -(-count // len(SOURCES))
    for name, profile in SOURCES.items():
        rules = Detector(load_profile(profile).without_tagger())
        texts = list(_texts(folder / name))
        random.shuffle(texts)
        for text in islice(texts, share):
            start = random.randrange(max(1, len(text) - _LENGTH))
            piece = text[start : start + _LENGTH]
            yield Document(piece, (), name, tuple(_uncertain(piece, rules)))


def public_stretches(folder: Path, most_chars: int, random: Random) -> Iterator[Document]:
    """Stretches as ``background_documents`` yields, one behind the other, of at most ``most_chars`` from each source.

    Raises:
        OSError: a source is missing.
    """
    for name, profile in SOURCES.items():
        rules = Detector(load_profile(profile).without_tagger())
        texts = list(_texts(folder / name))
        random.shuffle(texts)
        read = 0
        for text in texts:
            if read > most_chars:
                break
            for start in range(0, len(text), _LENGTH):
                piece = text[start : start + _LENGTH]
                read += len(piece)
                yield Document(piece, (), name, tuple(_uncertain(piece, rules)))


def _texts(path: Path) -> Iterator[str]:
    with path.open(encoding="utf-8") as lines:
        for line in lines:
            yield from (text for text in _strings(json.loads(line)) if len(text) > 80)


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for each in value.values() if isinstance(value, dict) else value:
            yield from _strings(each)


def _uncertain(text: str, rules: Detector) -> Iterator[tuple[int, int]]:
    for finding in rules.detect(text):
        yield finding.start, finding.end
    for match in _CAPITALISED.finditer(text):
        words = re.findall(r"[\w’'-]+", match[0])
        begins = not text[: match.start()].strip() or text[: match.start()].rstrip()[-1] in ".:;!?\n"
        if not all(is_word(word.lower()) for word in words) or (len(words) > 1 and not begins):
            yield match.span()
