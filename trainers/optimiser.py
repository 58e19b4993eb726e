"""AdamW over one flat vector, the learning rate over the steps, and a moving average of the vector.

Guarantees: the whole state is two vectors (with the average three) and the number of steps; equal inputs give equal
bits on a CPU.
Does not: treat parts of the vector differently.

Example:
    >>> optimiser = AdamW(adapter.weights, spec.optimiser)
    >>> optimiser.step(adapter.grads, step=0, learning_rate=learning_rate_at(0, steps=100, settings=spec.optimiser))
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from trainers.spec import OptimiserSpec

#: Source: Loshchilov and Hutter 2019, arXiv:1711.05101; the defaults that torch and the peers use.
BETA_FIRST = 0.9
BETA_SECOND = 0.999
EPSILON = 1e-8


def learning_rate_at(step: int, steps: int, settings: OptimiserSpec) -> float:
    """Rate of update ``step`` (from 0): linear warm-up, then constant, linear to zero or half a cosine to zero."""
    warmup = math.ceil(settings.warmup_ratio * steps) if settings.warmup_steps is None else settings.warmup_steps
    if step < warmup:
        return settings.learning_rate * (step + 1) / warmup
    done = (step - warmup) / max(1, steps - warmup)
    share = {"constant": 1.0, "linear": 1.0 - done, "cosine": 0.5 * (1.0 + math.cos(math.pi * done))}
    return settings.learning_rate * share[settings.schedule]


def clip(grads: Tensor, norm: float, most: float) -> None:
    """Shortens a vector of length ``norm``, or a part of it, as for length ``most`` where it is longer (0: never)."""
    if most and norm > most:
        grads.mul_(most / norm)


class AdamW:
    """Decoupled weight decay. ``first`` and ``second`` are the running moments, (P,) fp32."""

    def __init__(self, weights: Tensor, settings: OptimiserSpec) -> None:
        self._weights = weights
        self._decay = settings.weight_decay
        self.first = torch.zeros_like(weights)
        self.second = torch.zeros_like(weights)

    @torch.no_grad()
    def step(self, grads: Tensor, step: int, learning_rate: float) -> None:
        """Moves the weights; ``step`` counts the updates made before this one."""
        self.first.lerp_(grads, 1 - BETA_FIRST)
        self.second.mul_(BETA_SECOND).addcmul_(grads, grads, value=1 - BETA_SECOND)
        root = (self.second / (1 - BETA_SECOND ** (step + 1))).sqrt_().add_(EPSILON)
        if self._decay:
            self._weights.mul_(1 - learning_rate * self._decay)
        self._weights.addcdiv_(self.first, root, value=-learning_rate / (1 - BETA_FIRST ** (step + 1)))


class Average:
    """An exponential moving average of the weights; ``vector`` is (P,) fp32.

    Its decay rises to the wanted one, so that a short run's average is not mostly its beginning. Source: the rule
    ``min(decay, (1 + n) / (10 + n))`` of TensorFlow's ExponentialMovingAverage, n the updates made before.
    """

    def __init__(self, weights: Tensor, decay: float) -> None:
        self._weights = weights
        self._decay = decay
        self.vector = weights.detach().clone()

    @torch.no_grad()
    def follow(self, step: int) -> None:
        """Takes the weights of update ``step`` (from 0) in."""
        self.vector.lerp_(self._weights, 1 - min(self._decay, (1 + step) / (10 + step)))
