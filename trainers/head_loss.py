"""Loss of chosen positions only, through the language-model head in chunks.

Guarantees: logits of at most ``CHUNK_BYTES`` exist at any time, forward and backward; the loss is summed in fp32.
Does not: give a gradient to the head itself, which is frozen.

Example:
    >>> losses = token_losses(hidden[rows], head_weight, targets)  # (S,) one for each supervised token
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

CHUNK_BYTES = 64 << 20


def _chunks(rows: int, vocabulary: int) -> Iterator[slice]:
    size = max(1, CHUNK_BYTES // (4 * vocabulary))
    for first in range(0, rows, size):
        yield slice(first, min(first + size, rows))


class _HeadLoss(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
        losses = torch.empty(hidden.shape[0], dtype=torch.float32, device=hidden.device)
        normalisers = torch.empty_like(losses)
        for part in _chunks(hidden.shape[0], weight.shape[0]):
            logits = (hidden[part] @ weight.T).float()
            normalisers[part] = torch.logsumexp(logits, -1)
            losses[part] = normalisers[part] - logits.gather(1, targets[part, None])[:, 0]
        ctx.save_for_backward(hidden, weight, targets, normalisers)
        return losses

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        hidden, weight, targets, normalisers = ctx.saved_tensors
        by_hidden = torch.empty_like(hidden)
        for part in _chunks(hidden.shape[0], weight.shape[0]):
            shares = (hidden[part] @ weight.T).float().sub_(normalisers[part, None]).exp_()
            rows = torch.arange(shares.shape[0], device=shares.device)
            shares[rows, targets[part]] -= 1.0
            by_hidden[part] = shares.mul_(grad[part, None]).to(hidden.dtype) @ weight
        return by_hidden, None, None


def token_losses(hidden: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
    """Negative log-likelihood of each target.

    Args:
        hidden: (S, D) what the head reads, for the supervised positions.
        weight: (V, D) of the head, frozen.
        targets: (S,) token ids.

    Returns:
        (S,) fp32.
    """
    losses: Tensor = _HeadLoss.apply(hidden, weight, targets)  # type: ignore[no-untyped-call]
    return losses
