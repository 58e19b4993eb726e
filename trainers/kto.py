"""Learning from judgements: answers that are good or bad each by itself become likelier or less likely.

What counts as likelier is measured against how much the model has drifted from where it began, estimated on the same
prompts with each other's answers. That estimate is one number for a whole step, so a step is looked at before it is
learnt from.

Guarantees: loss and gradient are TRL's ``KTOTrainer`` on the same step; the loss of a step is the mean over its
records, however the step is cut; the untouched model's log-probabilities are computed once, before the first step.
Does not: balance good against bad by itself; the two weights in the spec do.

Source: Ethayarajh et al. 2024, arXiv:2402.01306, equations 7 and 8.

Example:
    >>> method = Kto(spec.preference)
    >>> method.survey(lambda look: sum(look(forward, piece) for piece in step) / records_of_the_step)
    >>> method.learn(forward, batch, share=1 / records_of_the_step)
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from trainers.dpo import log_likelihoods
from trainers.encoding import Split
from trainers.events import Event, JudgementsMeasured
from trainers.forward import Forward, Mean, MicroBatch
from trainers.spec import PreferenceSpec


def one_side(batch: MicroBatch, *, is_second: bool) -> MicroBatch:
    """Of a batch of two sequences a record, the first ones or the second ones alone."""
    count = len(batch.lengths) // 2
    first = sum(batch.lengths[:count])
    tokens, kept = slice(first, None) if is_second else slice(first), (batch.owners >= count) == is_second
    reference = None if batch.reference is None else batch.reference.view(2, -1)[int(is_second)]
    return replace(
        batch,
        tokens=batch.tokens[tokens],
        lengths=batch.lengths[count:] if is_second else batch.lengths[:count],
        rows=batch.rows[kept] - (first if is_second else 0),
        targets=batch.targets[kept],
        owners=batch.owners[kept] - (count if is_second else 0),
        reference=reference,
    )


class Kto:
    """The method. ``baseline`` is the drift, at least zero, of the step or split in hand."""

    needs_reference = True

    def __init__(self, settings: PreferenceSpec) -> None:
        self._settings = settings
        self.baseline = 0.0
        self._gains: dict[bool, list[float]] = {True: [], False: []}

    def units(self, split: Split, index: int) -> int:
        """A record counts once."""
        return 1

    def survey(self, mean: Mean) -> None:
        """Takes the mean drift over what comes next as the baseline."""
        self.baseline = max(0.0, mean(self.drift))

    @torch.no_grad()
    def drift(self, forward: Forward, batch: MicroBatch) -> float:
        """The summed gain in log-likelihood of answers that belong to other prompts."""
        side = one_side(batch, is_second=True)
        assert side.reference is not None
        return float((log_likelihoods(forward.losses(side), side) - side.reference).sum())

    def learn(self, forward: Forward, batch: MicroBatch, share: float) -> Tensor:
        """Adds the gradients of ``share`` times the summed loss; returns each record's loss, (records,)."""
        losses, _ = self._losses(forward, batch)
        (losses.sum() * share).backward()  # type: ignore[no-untyped-call]
        return losses.detach()

    @torch.no_grad()
    def measure(self, forward: Forward, batch: MicroBatch) -> float:
        """The summed loss, without gradients; remembers how good and bad answers gained."""
        losses, gains = self._losses(forward, batch)
        assert batch.are_good is not None
        for is_good, gain in zip(batch.are_good.tolist(), gains.tolist(), strict=True):
            self._gains[is_good].append(gain)
        return float(losses.sum())

    def measured(self, run: str, step: int) -> Event | None:
        """What was seen since the last call."""
        good, bad = self._gains[True], self._gains[False]
        if not good and not bad:
            return None
        self._gains = {True: [], False: []}
        gains = [sum(each) / len(each) if each else float("nan") for each in (good, bad)]
        return JudgementsMeasured(run, step, len(good), len(bad), gains[0], gains[1], self.baseline)

    def _losses(self, forward: Forward, batch: MicroBatch) -> tuple[Tensor, Tensor]:
        """(records,) losses, and by how much each answer gained against the untouched model, times beta."""
        side = one_side(batch, is_second=False)
        assert side.reference is not None
        assert batch.are_good is not None
        gained = log_likelihoods(forward.losses(side), side) - side.reference
        ahead = self._settings.beta * torch.where(batch.are_good, gained - self.baseline, self.baseline - gained)
        weight = torch.where(batch.are_good, self._settings.desirable_weight, self._settings.undesirable_weight)
        return weight * (1 - torch.sigmoid(ahead)), self._settings.beta * gained.detach()
