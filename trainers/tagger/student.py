"""The network that is shipped: word pieces with the shapes of their words, then convolutions that reach ever farther.

Guarantees: every value between two layers lies within ``INPUT_MOST`` or ``STATE_MOST``, so that eight bits hold it with
a scale that is known beforehand. A word is seen with 16 pieces on either side.
Does not: learn from labels alone; ``distilling`` teaches it what the encoder (``network``) says.

Source: Strubell et al. 2017, arXiv:1702.02098 (iterated dilated convolutions).

Example:
    >>> Student(torch.zeros(9, WIDTH)).reach
    16
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import layer_norm, pad

from compliance.redaction.kinds import SHAPES
from trainers.tagger.labels import LABELS

WIDTH = 256
DILATIONS = (1, 1, 2, 4, 8)
INPUT_MOST = 4.0
STATE_MOST = 8.0
_START_SPREAD = 0.8


class Student(nn.Module):
    """Embeddings, convolutions of window 3 and one linear head over ``LABELS``.

    Args:
        words: where the embeddings of the word pieces begin, (pieces, ``WIDTH``); see ``starting_words``.
        dropout: before the first convolution and before the head.
    """

    def __init__(self, words: Tensor, dropout: float = 0.05) -> None:
        super().__init__()
        self.words = nn.Embedding(len(words), WIDTH, _weight=words.clone())
        self.shapes = nn.Embedding(SHAPES, WIDTH)
        self.shapes.weight.data.mul_(0.5)
        self.windows = nn.ModuleList(nn.Linear(3 * WIDTH, WIDTH) for _ in DILATIONS)
        for number, window in enumerate(self.windows):
            assert isinstance(window, nn.Linear)
            nn.init.normal_(window.weight, 0.0, (2 / (3 * WIDTH)) ** 0.5 * (0.5 if number else 1.0))
            nn.init.zeros_(window.bias)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(WIDTH, len(LABELS))

    @property
    def reach(self) -> int:
        """How many pieces before and after a word are seen."""
        return sum(DILATIONS)

    def forward(self, ids: Tensor, mask: Tensor, shapes: Tensor) -> Tensor:
        """Logits (B, T, labels) for piece ids, mask and shapes, each (B, T); what is masked counts as zero."""
        seen = mask[..., None].to(torch.bfloat16 if torch.is_autocast_enabled("cpu") else torch.float32)
        embedded = (self.words(ids) + self.shapes(shapes)).clamp(-INPUT_MOST, INPUT_MOST)
        state = self.dropout(embedded.to(seen.dtype) * seen)
        for number, (window, dilation) in enumerate(zip(self.windows, DILATIONS, strict=True)):
            found = window(_neighbours(state, dilation))
            if number:
                found = state + found.clamp(-STATE_MOST, STATE_MOST)
            state = found.clamp(0.0, STATE_MOST) * seen
        logits: Tensor = self.head(self.dropout(state))
        return logits


def _neighbours(state: Tensor, dilation: int) -> Tensor:
    """For each piece the states before, at and behind it, (B, T, 3 * width)."""
    length = state.shape[1]
    wide = pad(state, (0, 0, dilation, dilation))
    return torch.cat([wide[:, first : first + length] for first in (0, dilation, 2 * dilation)], -1)


def starting_words(table: Tensor) -> Tensor:
    """The encoder's embeddings (pieces, hidden) in ``WIDTH`` numbers each: the directions in which they differ most.

    The variance is then spread evenly over the numbers, by a rotation that ``torch.manual_seed`` decides.
    """
    normed = layer_norm(table.float(), table.shape[1:])
    normed = normed - normed.mean(0)
    directions, _, _ = torch.linalg.svd(normed.T @ normed)
    turn, _ = torch.linalg.qr(torch.randn(WIDTH, WIDTH))
    chosen = normed @ directions[:, :WIDTH] @ turn
    spread: Tensor = (chosen / chosen.std() * _START_SPREAD).contiguous()
    return spread
