"""What may be learnt from a batch, by name.

Guarantees: every name that a spec accepts for ``method`` has its class here, and all have the shape of ``Method``.
Does not: hold any method; each has a file of its own.

Example:
    >>> choose_method(spec, adapter).learn(forward, batch, share=0.01)
"""

from __future__ import annotations

from typing import Protocol

from torch import Tensor

from trainers.adapter import Adapter
from trainers.classification import Classification
from trainers.dpo import Dpo, Orpo
from trainers.encoding import Split
from trainers.events import Event
from trainers.forward import Forward, Mean, MicroBatch
from trainers.kto import Kto
from trainers.label_head import head_of
from trainers.sft import Sft
from trainers.spec import Spec
from trainers.token_classification import TokenClassification


class Method(Protocol):
    """A method. ``needs_reference``: whether the untouched model's log-likelihoods of all answers are wanted first."""

    needs_reference: bool

    def units(self, split: Split, index: int) -> int:
        """How much a record counts in the mean that is the loss of a step."""

    def survey(self, mean: Mean) -> None:
        """Looks at the whole of what comes next, a step or a split, before it is learnt from or measured.

        Args:
            mean: goes over all records of it with the function it is given, and returns the mean a record.
        """

    def learn(self, forward: Forward, batch: MicroBatch, share: float) -> Tensor:
        """Adds the gradients of ``share`` times the summed loss; returns each record's part of the sum, (records,)."""

    def measure(self, forward: Forward, batch: MicroBatch) -> float:
        """The summed loss, without gradients."""

    def measured(self, run: str, step: int) -> Event | None:
        """What ``measure`` saw beside the loss since the last call."""


def choose_method(spec: Spec, adapter: Adapter) -> Method:
    """The method a spec names."""
    if spec.method == "classification":
        return Classification(head_of(adapter.base))
    if spec.method == "token-classification":
        return TokenClassification(head_of(adapter.base), adapter.labels)
    if spec.method == "dpo":
        return Dpo(spec.preference)
    if spec.method == "kto":
        return Kto(spec.preference)
    if spec.method == "orpo":
        return Orpo(spec.preference)
    return Sft()
