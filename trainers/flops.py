"""How much arithmetic a run does, counted from shapes.

Guarantees: counts multiplications and additions of matrix products (two per multiply-add) that are really made: no
gradient by frozen weights, the head on supervised positions only. Does not: count norms, activations, the optimiser.

Example:
    >>> Flops.of(adapter).training(tokens=1000, pairs=100_000, supervised=50)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

import torch

from trainers.adapter import Adapter
from trainers.quantised import shape_of


@dataclass(frozen=True)
class Flops:
    """``linear`` counts frozen weights of linear layers without the head, ``adapter`` trained ones, ``head`` V x D.

    Of a fully trained model all linear layers are trained ones; a soft prompt multiplies nothing.
    """

    linear: int
    adapter: int
    head: int
    attention: int

    @classmethod
    def of(cls, adapter: Adapter) -> Self:
        """From the shapes of a model."""
        base: Any = adapter.base
        head = base.get_output_embeddings()
        linear = sum(
            shape_of(each).numel()
            for name, each in base.named_modules()
            if not any(True for _ in each.children())
            and getattr(getattr(each, "weight", None), "ndim", 0) == 2
            and not isinstance(each, torch.nn.Embedding)
            and each is not head
            and ".lora_" not in name
        )
        config = base.config
        width = int(getattr(config, "hidden_size", 0) or 0)
        layers = int(getattr(config, "num_hidden_layers", 0) or 0)
        frozen = linear if adapter.settings is not None else 0
        trained = adapter.count if adapter.is_low_rank else linear - frozen
        return cls(frozen, trained, 0 if head is None else head.weight.numel(), width * layers)

    def training(self, tokens: int, pairs: int, supervised: int) -> int:
        """Forward and backward.

        Args:
            tokens: that went through.
            pairs: query and key pairs that attend, that is half the sum of squared lengths.
            supervised: positions the head saw; its logits are made twice.
        """
        return tokens * (4 * self.linear + 6 * self.adapter) + 12 * pairs * self.attention + 6 * supervised * self.head

    def forward(self, tokens: int, pairs: int, supervised: int) -> int:
        """Forward only."""
        return tokens * 2 * (self.linear + self.adapter) + 4 * pairs * self.attention + 2 * supervised * self.head
