"""How likely a model finds held-out answers: of pairs by how much the chosen one is ahead, of judged ones each alone.

Guarantees: a number in nats for each record of the split, in its order. Does not: normalise by length; of two equally
good answers the longer one is less likely. Nor does it weigh by beta: what a margin gained against the base model's,
times beta, is the reward that DPO learns.

Source: Rafailov et al. 2023, arXiv:2305.18290, section 4.

Example:
    >>> margins(forward, split, device, stop)[0]
    1.25
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from trainers import batches
from trainers.device import Device
from trainers.dpo import log_likelihoods
from trainers.encoding import Split
from trainers.forward import Forward, micro_batch
from trainers.process import Stop


@torch.no_grad()
def margins(forward: Forward, split: Split, device: Device, stop: Stop) -> list[float]:
    """Log-probability of the chosen answer less that of the rejected one, of each pair."""
    found = [0.0] * len(split)
    for piece, answers in _looked_at(forward, split, device, stop):
        chosen, rejected = answers.chunk(2)
        for index, margin in zip(piece, (chosen - rejected).tolist(), strict=True):
            found[index] = margin
    return found


@torch.no_grad()
def likelihoods(forward: Forward, split: Split, device: Device, stop: Stop) -> list[float]:
    """Log-probability of the answer of each record, of which there is one."""
    found = [0.0] * len(split)
    for piece, answers in _looked_at(forward, split, device, stop):
        for index, likelihood in zip(piece, answers.tolist(), strict=True):
            found[index] = likelihood
    return found


def _looked_at(forward: Forward, split: Split, device: Device, stop: Stop) -> Iterator[tuple[list[int], Tensor]]:
    """Places of records and the log-probabilities of their answers, (answers,), piece by piece."""
    cut = batches.bucket if forward.name == "bucket" else batches.pack
    for piece in cut(list(range(len(split))), split.lengths, device.micro_tokens):
        stop.check()
        batch = micro_batch(split, piece, device.name)
        yield piece, log_likelihoods(forward.losses(batch), batch)
