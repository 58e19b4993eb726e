"""Prompt tuning: a few trained vectors before every input, the model itself untouched.

The vectors answer to ids of their own above the vocabulary, so that packing, padding, generation and the chat treat a
soft prompt as tokens like any others.

Guarantees: gradients reach the vectors only; the shipped file is peft's (``prompt_embeddings``), and peft puts the same
vectors before the same input. Does not: decide where the ids go; ``Adapter.prefix`` names them, and whoever makes an
input puts them first.

Source: Lester et al. 2021, arXiv:2104.08691 (beginning with vectors of words of the vocabulary, as there).

Example:
    >>> prompt, settings = lay_prompt(model, tokens=20, seed=0)
    >>> prompt.ids[0] == model.config.vocab_size
    True
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


class PromptedEmbedding(torch.nn.Module):
    """An embedding whose ids go on above the vocabulary with trained vectors."""

    def __init__(self, inner: Any, vectors: Tensor) -> None:
        super().__init__()
        self.inner = inner
        self.vectors = torch.nn.Parameter(vectors)

    @property
    def weight(self) -> Tensor:
        """Of the vocabulary, (V, D)."""
        kept: Tensor = self.inner.weight
        return kept

    @property
    def ids(self) -> tuple[int, ...]:
        """The ids of the trained vectors."""
        first = self.weight.shape[0]
        return tuple(range(first, first + self.vectors.shape[0]))

    def forward(self, tokens: Tensor) -> Tensor:
        """Vectors of any ids."""
        first = self.weight.shape[0]
        is_soft = tokens >= first
        words: Tensor = self.inner(torch.where(is_soft, 0, tokens))
        soft = self.vectors[torch.where(is_soft, tokens - first, 0)].to(words.dtype)
        return torch.where(is_soft[..., None], soft, words)


def lay_prompt(model: Any, tokens: int, seed: int) -> tuple[PromptedEmbedding, dict[str, Any]]:
    """Puts the embedding into the model; returns it and peft's settings for it."""
    from peft import PromptTuningConfig

    inner = model.get_input_embeddings()
    source = torch.Generator().manual_seed(seed)
    words = torch.randint(0, inner.weight.shape[0], (tokens,), generator=source)
    with torch.no_grad():
        vectors = inner(words.to(inner.weight.device)).float().clone()
    prompted = PromptedEmbedding(inner, vectors)
    model.set_input_embeddings(prompted)
    config = PromptTuningConfig(
        task_type="CAUSAL_LM",
        num_virtual_tokens=tokens,
        token_dim=vectors.shape[1],
        num_transformer_submodules=1,
        num_attention_heads=model.config.num_attention_heads,
        num_layers=model.config.num_hidden_layers,
        prompt_tuning_init="SAMPLE_VOCAB",
    )
    return prompted, config.to_dict()
