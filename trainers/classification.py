"""Sequence classification: which of a few labels a prompt has, read off the model's state at the prompt's end.

A record is the one that supervised tuning takes; its last message is the label. The state that the language-model head
would read to begin the answer goes through a head of its own, one row a label, which is trained with the rest.

Guarantees: loss and shipped files are those of transformers' ``AutoModelForSequenceClassification`` on the rendered
prompt; the loss of a step is the mean over its records. Does not: label single tokens, nor weigh rare labels.

Example:
    >>> Classification(head).learn(forward, batch, share=1 / records_of_the_step)
"""

from __future__ import annotations

import torch
from torch import Tensor

from trainers.encoding import Split
from trainers.events import ClassesMeasured, Event
from trainers.forward import Forward, Mean, MicroBatch


class Classification:
    """The method."""

    needs_reference = False

    def __init__(self, head: torch.nn.Linear) -> None:
        self._head = head
        count = head.weight.shape[0]
        self._seen = torch.zeros(count, count, dtype=torch.int64)

    def units(self, split: Split, index: int) -> int:
        """A record counts once."""
        return 1

    def logits(self, forward: Forward, batch: MicroBatch) -> Tensor:
        """(sequences, labels) fp32."""
        return forward.hidden(batch).float() @ self._head.weight.float().T

    def survey(self, mean: Mean) -> None:
        """Nothing of the whole has to be known beforehand."""

    def learn(self, forward: Forward, batch: MicroBatch, share: float) -> Tensor:
        """Adds the gradients of ``share`` times the summed loss; returns each record's loss in nats, (records,)."""
        losses = torch.nn.functional.cross_entropy(self.logits(forward, batch), batch.targets, reduction="none")
        (losses.sum() * share).backward()  # type: ignore[no-untyped-call]
        return losses.detach()

    def said(self, forward: Forward, batch: MicroBatch) -> list[int]:
        """The number of the likeliest label of each sequence."""
        numbers: list[int] = self.logits(forward, batch).argmax(-1).tolist()
        return numbers

    @torch.no_grad()
    def measure(self, forward: Forward, batch: MicroBatch) -> float:
        """The summed loss in nats, without gradients; remembers what was taken for what."""
        logits = self.logits(forward, batch)
        pairs = (batch.targets.cpu(), logits.argmax(-1).cpu())
        self._seen.index_put_(pairs, torch.ones(len(batch.targets), dtype=torch.int64), accumulate=True)
        return float(torch.nn.functional.cross_entropy(logits, batch.targets, reduction="sum"))

    def measured(self, run: str, step: int) -> Event | None:
        """Accuracy and macro F1 (over labels that occur or were given) since the last call."""
        seen, total = self._seen.double(), int(self._seen.sum())
        if not total:
            return None
        right, involved = seen.diag(), seen.sum(0) + seen.sum(1)
        scores = 2 * right[involved > 0] / involved[involved > 0]
        self._seen.zero_()
        return ClassesMeasured(run, step, total, float(right.sum()) / total, float(scores.mean()))
