"""peft's LoRA and DoRA layers with the sum rounded once.

Guarantees: equals peft's own forward pass up to rounding, dropout, switched-off and merged adapters included.
Does not: handle other variants, quantised or convolutional layers, nor DoRA with dropout; those keep peft's way.

Why: in bf16 peft adds the adapter's part to an output that is on bf16's grid already. At the beginning of a run the
part is smaller than half a step of that grid and vanishes, so the model learns less than it was told to. Added inside
the product, which sums in fp32, it counts (``trainers.llama_layer`` does the same, with figures).

Example:
    >>> sum_inside(peft_model)
"""

from __future__ import annotations

import functools
from typing import Any

import torch
from torch import Tensor

from trainers.quantised import weight_of


def sum_inside(model: Any, adapter: str) -> None:
    """Gives every plain LoRA or DoRA layer of a peft model the forward pass of this module."""
    from peft.tuners.lora import Linear
    from peft.tuners.lora.variants import DoraLinearVariant

    for module in model.modules():
        if type(module) is not Linear or type(module.base_layer) is not torch.nn.Linear:
            continue
        variant = module.lora_variant.get(adapter)
        is_dora = type(variant) is DoraLinearVariant and type(module.lora_dropout[adapter]) is torch.nn.Identity
        if (variant is None or is_dora) and adapter in module.lora_A and not module.lora_bias[adapter]:
            module.forward = functools.partial(_forward, module, adapter, is_dora, module.forward)


def _forward(
    module: Any, adapter: str, is_dora: bool, peft_forward: Any, x: Tensor, *rest: Any, **named: Any
) -> Tensor:
    if module.disable_adapters or module.merged or rest or named or module.active_adapters != [adapter]:
        kept: Tensor = peft_forward(x, *rest, **named)
        return kept
    base = module.base_layer
    flat = x.reshape(-1, x.shape[-1])
    low = module.lora_dropout[adapter](flat) @ module.lora_A[adapter].weight.to(x.dtype).T
    part = low @ (module.lora_B[adapter].weight * module.scaling[adapter]).to(x.dtype).T
    out = torch.addmm(part, flat, base.weight.T)
    if is_dora:
        out = out * (module.lora_magnitude_vector[adapter].weight / row_lengths(module, adapter)).to(out.dtype)
    if base.bias is not None:
        out = out + base.bias
    return out.view(*x.shape[:-1], out.shape[-1])


@torch.no_grad()
def row_lengths(module: Any, adapter: str) -> Tensor:
    """(out,) fp32 lengths of the rows of base and adapter together; DoRA takes them as constants (its section 4.3)."""
    low, high = module.lora_A[adapter].weight, module.lora_B[adapter].weight
    whole = torch.addmm(weight_of(module.base_layer).float(), high, low, alpha=module.scaling[adapter])
    lengths: Tensor = torch.linalg.vector_norm(whole, dim=1)
    return lengths
