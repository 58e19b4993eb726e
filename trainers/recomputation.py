"""Layers that keep their input only and are run through once more on the way back.

Guarantees: losses and gradients are those of the model as it was, dropout included. Does not: pay; a step costs about a
third more, so this is for what would not fit otherwise. Source: Chen et al. 2016, arXiv:1604.06174.

Example:
    >>> recompute_layers(model)
    30
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch.utils.checkpoint import checkpoint


def recompute_layers(model: Any, during: Callable[[], AbstractContextManager[Any]] = nullcontext) -> int:
    """Wraps the layers of a causal model of transformers; returns how many.

    Args:
        model: whose layers lie in one list.
        during: what has to hold while a layer is run through again, where the way forth held it as well.

    Raises:
        TrainerError: ``spec.recompute``, when the layers are not where transformers' decoders keep them.
    """
    from trainers.errors import TrainerError

    layers = layers_of(model)
    if layers is None:
        raise TrainerError(
            "spec.recompute", "this model's layers are not in one list", "set recompute to never and micro_tokens lower"
        )
    for layer in layers:
        layer.forward = functools.partial(
            checkpoint, layer.forward, use_reentrant=False, context_fn=lambda: (nullcontext(), during())
        )
    return len(layers)


def layers_of(model: Any) -> torch.nn.ModuleList | None:
    """The decoder's layers where transformers keeps them, in the one list of their number."""
    stacks = [
        each
        for each in model.modules()
        if isinstance(each, torch.nn.ModuleList) and len(each) == model.config.num_hidden_layers
    ]
    return stacks[0] if len(stacks) == 1 else None
