"""Which layers of a model get adapters.

Guarantees: every name that was asked for is of at least one layer, and every layer of these names can carry an adapter
that is trained, shipped, merged and served alike; anything else is refused by name before training. ``all-linear`` is
every linear layer but the head.
Does not: reach experts that a family holds in one weight for all: those are no layers of their own. The way ``full``
trains them.

Example:
    >>> targeted(model, ("all-linear",))
    ['model.layers.0.mlp.down_proj', 'model.layers.0.mlp.gate_proj', …]
"""

from __future__ import annotations

from typing import Any

import torch

from trainers.errors import TrainerError

ALL = "all-linear"


def targeted(model: Any, names: tuple[str, ...]) -> list[str]:
    """The names, which may be ends of paths, as peft takes them; of all layers their paths.

    Raises:
        TrainerError: ``model.targets``.
    """
    from transformers.pytorch_utils import Conv1D

    linear = {path for path, each in model.named_modules() if isinstance(each, torch.nn.Linear | Conv1D)}
    words, head = model.get_input_embeddings(), model.get_output_embeddings()
    heads = {path for path, each in model.named_modules() if each is head}
    if names == (ALL,):
        found = sorted(linear - heads)
        if not found:
            raise refused("this model has no linear layer")
        return found
    meant = {name: {path for path, _ in model.named_modules() if f".{path}".endswith(f".{name}")} for name in names}
    for name, paths in meant.items():
        if not paths:
            raise refused(f"no layer of this model is named {name}")
        if paths - linear:
            raise refused(f"{name} is no linear layer")
        if paths & heads and head is not None and head.weight is words.weight:
            raise refused(f"{name} shares its weight with the embedding of the words, which would change with it")
    return sorted(names)


def refused(what: str) -> TrainerError:
    """What is said of targets that cannot be."""
    return TrainerError(
        "model.targets", what, f"set lora.targets to ['{ALL}'] or to names of this model's linear layers"
    )
