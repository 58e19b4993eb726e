"""Learning from pairs: of two answers to one prompt the chosen one is to become likelier than the rejected one.

``Dpo`` measures against the model as it began, whose log-probabilities are computed once, before the first step.
``Orpo`` needs no such reference: it learns the chosen answer as supervised tuning does and adds the odds of the two.

Guarantees: the loss of a step is the mean over its pairs, however the step is cut; both answers of a pair are always
in one micro-batch; prompts are read but not learnt. Does not: normalise DPO by length, as the paper does not.

Source: Rafailov et al. 2023, arXiv:2305.18290 (DPO); Mitchell 2023, "A note on DPO with noisy preferences" (label
smoothing); Hong et al. 2024, arXiv:2403.07691 (ORPO).

Example:
    >>> method = Dpo(spec.preference)
    >>> method.learn(forward, batch, share=1 / pairs_of_the_step)
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from trainers.encoding import Split
from trainers.events import Event, PreferenceMeasured
from trainers.forward import Forward, Mean, MicroBatch
from trainers.spec import PreferenceSpec


def log_likelihoods(losses: Tensor, batch: MicroBatch) -> Tensor:
    """(sequences,) log-probability of each answer, from the losses of its tokens."""
    return -torch.zeros(len(batch.lengths), device=losses.device).index_add(0, batch.owners, losses)


class _Pairs(ABC):
    """What both have in common: pairs as units, and what is watched on held-out ones."""

    def __init__(self, settings: PreferenceSpec) -> None:
        self._settings = settings
        self._seen = self._right = 0
        self._margin = 0.0

    def units(self, split: Split, index: int) -> int:
        """A pair counts once."""
        return 1

    def survey(self, mean: Mean) -> None:  # noqa: B027 - of pairs nothing is wanted
        """Nothing of the whole has to be known beforehand."""

    def learn(self, forward: Forward, batch: MicroBatch, share: float) -> Tensor:
        """Adds the gradients of ``share`` times the summed loss; returns each pair's loss, (pairs,)."""
        losses, _ = self._losses(forward, batch)
        (losses.sum() * share).backward()  # type: ignore[no-untyped-call]
        return losses.detach()

    @torch.no_grad()
    def measure(self, forward: Forward, batch: MicroBatch) -> float:
        """The summed loss, without gradients; remembers how the pairs were told apart."""
        losses, margins = self._losses(forward, batch)
        self._seen += len(margins)
        self._right += int((margins > 0).sum())
        self._margin += float(margins.sum())
        return float(losses.sum())

    def measured(self, run: str, step: int) -> Event | None:
        """What was seen since the last call."""
        if not self._seen:
            return None
        said = PreferenceMeasured(run, step, self._seen, self._right / self._seen, self._margin / self._seen)
        self._seen = self._right = 0
        self._margin = 0.0
        return said

    @abstractmethod
    def _losses(self, forward: Forward, batch: MicroBatch) -> tuple[Tensor, Tensor]:
        """(pairs,) losses, and by how much the chosen answer is ahead."""


class Dpo(_Pairs):
    """Direct preference optimisation; ``label_smoothing`` is the share of pairs believed to be the wrong way round."""

    needs_reference = True

    def _losses(self, forward: Forward, batch: MicroBatch) -> tuple[Tensor, Tensor]:
        assert batch.reference is not None
        gained = log_likelihoods(forward.losses(batch), batch) - batch.reference
        chosen, rejected = gained.chunk(2)
        margins = self._settings.beta * (chosen - rejected)
        doubt = self._settings.label_smoothing
        return -(1 - doubt) * logsigmoid(margins) - doubt * logsigmoid(-margins), margins.detach()


class Orpo(_Pairs):
    """Odds-ratio preference optimisation; ``beta`` is the paper's lambda."""

    needs_reference = False

    def _losses(self, forward: Forward, batch: MicroBatch) -> tuple[Tensor, Tensor]:
        counts = torch.bincount(batch.owners, minlength=len(batch.lengths))
        means = log_likelihoods(forward.losses(batch), batch) / counts
        # log odds = log p - log(1 - p), with p the geometric mean of an answer's token probabilities.
        odds = means - torch.log1p(-torch.exp(means.clamp(max=-1e-6)))
        (chosen, _), (chosen_odds, rejected_odds) = means.chunk(2), odds.chunk(2)
        margins = chosen_odds - rejected_odds
        return -chosen - self._settings.beta * logsigmoid(margins), margins.detach()
