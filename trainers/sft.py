"""Supervised fine-tuning: learn the answers, given their prompts.

Guarantees: the loss of a step is the mean over all its supervised tokens, however the step is cut into micro-batches;
prompts are read but not learnt. Does not: weigh records; a long answer counts for more than a short one, as usual.

Example:
    >>> losses = Sft().learn(forward, batch, share=1 / supervised_tokens_of_the_step)
"""

from __future__ import annotations

import torch
from torch import Tensor

from trainers.encoding import Split
from trainers.events import Event
from trainers.forward import Forward, Mean, MicroBatch


class Sft:
    """The method: what is learnt from a micro-batch."""

    needs_reference = False

    def units(self, split: Split, index: int) -> int:
        """The supervised tokens of a record, over which a step's loss is a mean."""
        return split.learnt_of(index)

    def survey(self, mean: Mean) -> None:
        """Nothing of the whole has to be known beforehand."""

    def learn(self, forward: Forward, batch: MicroBatch, share: float) -> Tensor:
        """Adds the gradients of ``share`` times the summed loss; returns each record's part in nats, (records,)."""
        losses = forward.losses(batch)
        (losses.sum() * share).backward()  # type: ignore[no-untyped-call]
        kept = losses.detach()
        return torch.zeros(len(batch.lengths), device=kept.device).index_add_(0, batch.owners, kept)

    @torch.no_grad()
    def measure(self, forward: Forward, batch: MicroBatch) -> float:
        """The summed loss in nats, without gradients."""
        return float(forward.losses(batch).sum())

    def measured(self, run: str, step: int) -> Event | None:
        """Nothing is watched beside the loss."""
        return None
