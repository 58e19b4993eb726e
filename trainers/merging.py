"""The weights of a tuned model, with the adapter's part in them.

Guarantees: one weight is made at a time; one that the adapter is part of comes in fp32, so that whoever writes it
rounds it once. Of a quantised base the numbers that its bits stand for are merged, in the precision of the run, because
with those the adapter was trained.
Does not: write anything.

Example:
    >>> for name, place in weights_of(bench.adapter).items():
    ...     merged(bench.adapter, name, place.data)
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from trainers.adapter import ADAPTER, Adapter
from trainers.quantised import form_of, shape_of, weight_of


def weights_of(adapter: Adapter) -> dict[str, Any]:
    """Name in the released model and the module or tensor that holds each weight; tied ones once."""
    places: dict[str, Any] = {}
    base = adapter.base
    words, head = base.get_input_embeddings().weight, base.get_output_embeddings().weight
    seen: set[int] = set()
    for name, each in base.named_parameters(remove_duplicate=False):
        if ".lora_" in name or (each.data_ptr() in seen and each.numel()):
            continue
        # A classifier has its own head in place of the words', unless that is the embedding as well.
        if adapter.labels and each is head and head is not words:
            continue
        seen.add(each.data_ptr())
        places[name.replace(".base_layer.", ".")] = each
    return dict(sorted(places.items()))


def form_merged(adapter: Adapter, name: str, weight: Tensor) -> tuple[torch.Size, torch.dtype]:
    """Shape and precision of a weight of the base as it was trained with."""
    linear = _linear(adapter, name)
    if linear is None or not form_of(linear):
        return weight.shape, weight.dtype
    return shape_of(linear), adapter.dtype


def _linear(adapter: Adapter, name: str) -> Any:
    """The layer of the base that a weight belongs to, where it has a weight."""
    path, _, kind = name.rpartition(".")
    module: Any = adapter.base.get_submodule(path) if path and kind == "weight" else None
    return getattr(module, "base_layer", module)


@torch.no_grad()
def merged(adapter: Adapter, name: str, weight: Tensor) -> Tensor:
    """A weight as the base holds it, or in fp32 with its adapter's part added."""
    path, _, kind = name.rpartition(".")
    module: Any = adapter.base.get_submodule(path) if path else None
    linear = _linear(adapter, name)
    if linear is not None and form_of(linear):
        weight = weight_of(linear).to(adapter.dtype)
    if kind != "weight" or not hasattr(module, "lora_A") or ADAPTER not in module.lora_A:
        return weight
    whole: Tensor = weight.float() + module.get_delta_weight(ADAPTER).float()
    if ADAPTER in module.lora_magnitude_vector:
        side = 0 if module.fan_in_fan_out else 1  # GPT-2's layers hold their weights the other way around
        lengths = torch.linalg.vector_norm(whole, dim=side, keepdim=True)
        whole *= module.lora_magnitude_vector[ADAPTER].weight.unsqueeze(side) / lengths
    return whole


def fits_fp16(adapter: Adapter) -> bool:
    """Whether all weights, merged, are in fp16's range."""
    most = torch.finfo(torch.float16).max
    return all(
        float(merged(adapter, name, each.data).abs().max()) <= most for name, each in weights_of(adapter).items()
    )
