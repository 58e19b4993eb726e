"""peft's LoRA layer with the sum rounded once.

Guarantees: equals peft's own forward pass up to rounding, dropout, switched-off and merged adapters included.
Does not: handle variants (DoRA and the like), quantised or convolutional layers; those keep peft's way.

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


def sum_inside(model: Any, adapter: str) -> None:
    """Gives every plain LoRA layer of a peft model the forward pass of this module."""
    from peft.tuners.lora import Linear

    for module in model.modules():
        is_plain = type(module) is Linear and type(module.base_layer) is torch.nn.Linear and not module.lora_variant
        if is_plain and adapter in module.lora_A and not module.lora_bias[adapter]:
            module.forward = functools.partial(_forward, module, adapter, module.forward)


def _forward(module: Any, adapter: str, peft_forward: Any, x: Tensor, *rest: Any, **named: Any) -> Tensor:
    if module.disable_adapters or module.merged or rest or named or module.active_adapters != [adapter]:
        kept: Tensor = peft_forward(x, *rest, **named)
        return kept
    base = module.base_layer
    flat = x.reshape(-1, x.shape[-1])
    low = module.lora_dropout[adapter](flat) @ module.lora_A[adapter].weight.to(x.dtype).T
    part = low @ (module.lora_B[adapter].weight * module.scaling[adapter]).to(x.dtype).T
    out = torch.addmm(part, flat, base.weight.T)
    if base.bias is not None:
        out = out + base.bias
    return out.view(*x.shape[:-1], out.shape[-1])
