"""What the network finds of what it was never trained on, before any rule helps it.

Guarantees: a span counts as found only if every letter and digit in it is. Does not: replace the scores of the whole
detector, which an outside program takes.

Example:
    >>> score(documents, probabilities, threshold=0.3).recall["PERSON"]
    (49, 49)
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from trainers.tagger.documents import Document
from trainers.tagger.encoding import Passage, encode
from trainers.tagger.labels import LABELS
from trainers.tagger.network import Network
from trainers.tagger.student import Student
from trainers.tagger.training import grouped, padded

MASKED = [index for index, label in enumerate(LABELS) if label.endswith("_MASK")]
Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Score:
    """Found and all spans by kind; precision and recall of characters; share of documents without a miss."""

    threshold: float
    recall: dict[str, tuple[int, int]]
    character_precision: float
    character_recall: float
    whole: float

    def __str__(self) -> str:
        found, asked = (sum(pair[i] for pair in self.recall.values()) for i in (0, 1))
        kinds = ", ".join(f"{kind.lower()} {a}/{b}" for kind, (a, b) in sorted(self.recall.items()))
        return (
            f"at {self.threshold:.2f}: spans {found / max(1, asked):.3f}, precision {self.character_precision:.3f}, "
            f"recall {self.character_recall:.3f}, whole documents {self.whole:.3f} ({kinds})"
        )


@torch.no_grad()
def predict(network: Network | Student, tokenizer: Any, documents: Sequence[Document]) -> list[Array]:
    """For each document the probabilities of every label at every character, (characters, labels)."""
    network.eval()
    items: list[Passage] = []
    owners: list[int] = []
    for number, document in enumerate(documents):
        for passage in encode(document, tokenizer):
            items.append(passage)
            owners.append(number)
    results = [np.zeros((len(document.text), len(LABELS)), np.float32) for document in documents]
    for batch in grouped([len(item.ids) for item in items], 4096, None):
        ids, mask, shapes, _ = padded([items[i] for i in batch])
        with torch.autocast("cpu", torch.bfloat16):
            logits = network(ids, mask, shapes)
        probabilities = logits.float().softmax(-1).numpy()
        for row, index in enumerate(batch):
            passage, target = items[index], results[owners[index]]
            for piece, (start, end) in enumerate(zip(passage.starts, passage.ends, strict=True)):
                target[start:end] = probabilities[row, piece] if passage.is_first[piece] else target[start - 1]
    return results


def score(documents: Sequence[Document], probabilities: Sequence[Array], threshold: float) -> Score:
    """Compare what would be masked at ``threshold`` with what has to be."""
    found: dict[str, int] = defaultdict(int)
    asked: dict[str, int] = defaultdict(int)
    right = wrong = missed = clean = bearing = 0
    for document, each in zip(documents, probabilities, strict=True):
        countable = np.array([c.isalnum() for c in document.text], bool)
        predicted = (each[:, MASKED].sum(1) >= threshold) & countable
        wanted = np.zeros(len(document.text), bool)
        is_whole = True
        spans = [span for span in document.spans if span[2].endswith("_MASK")]
        for start, end, label in spans:
            is_found = bool(predicted[start:end][countable[start:end]].all())
            asked[label[:-5]] += 1
            found[label[:-5]] += is_found
            is_whole &= is_found
            wanted[start:end] |= countable[start:end]
        right += int((predicted & wanted).sum())
        wrong += int((predicted & ~wanted).sum())
        missed += int((wanted & ~predicted).sum())
        bearing += bool(spans)
        clean += bool(spans) and is_whole
    return Score(
        threshold,
        {kind: (found[kind], asked[kind]) for kind in asked},
        right / max(1, right + wrong),
        right / max(1, right + missed),
        clean / max(1, bearing),
    )
