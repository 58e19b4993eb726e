"""Choosing a token: the likeliest, or one drawn with a temperature from the likeliest few.

Guarantees: a row draws from a source of its own, so what it draws depends on its seed and its logits alone; temperature
0 is greedy, and so is one too small to divide by. Does not: penalise repetition.

Source: Holtzman et al. 2019, arXiv:1904.09751 (top p: the smallest set of tokens that together reach it).

Example:
    >>> Sampler(temperature=0.7, top_p=0.9, seed=1).choose(logits)
"""

from __future__ import annotations

import torch
from torch import Tensor

#: Below it logits divided by a temperature may leave single precision, and nothing but the likeliest is drawn anyway.
LEAST_TEMPERATURE = 1e-6


class Sampler:
    """Of one row."""

    def __init__(self, temperature: float, top_p: float, seed: int) -> None:
        self._temperature, self._top_p = temperature, top_p
        self._source = torch.Generator().manual_seed(seed)

    @property
    def is_greedy(self) -> bool:
        """Whether the likeliest token is taken, which the caller may find for many rows at once."""
        return self._temperature < LEAST_TEMPERATURE

    def choose(self, logits: Tensor) -> int:
        """A token id from (V,) logits."""
        if self.is_greedy:
            return int(logits.argmax())
        shares = torch.softmax(logits.float().cpu() / self._temperature, -1)
        if self._top_p < 1:
            ordered, places = shares.sort(descending=True, stable=True)
            # A token belongs to the set while those before it have not reached the share yet; the first always does.
            ordered[1:][ordered.cumsum(-1)[:-1] >= self._top_p] = 0
            return int(places[torch.multinomial(ordered, 1, generator=self._source)])
        return int(torch.multinomial(shares, 1, generator=self._source))
