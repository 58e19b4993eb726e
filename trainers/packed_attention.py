"""Attention functions for transformers' models that keep packed sequences apart: in blocks, or by a flash kernel.

Guarantees: each sequence attends to itself only, causally, within its sliding window where the layer has one.
Does not: support soft-capped scores or attention biases; it raises, and the caller takes another way.

Example:
    >>> model.set_attn_implementation(register("blocks"))
    >>> model(input_ids=packed[None], position_ids=positions[None], packed_lengths=[3, 5], use_cache=False)
"""

from __future__ import annotations

from itertools import accumulate
from typing import Any

import torch
from torch import Tensor

from trainers.block_attention import Attended, attend, attend_backward


class _PackedAttention(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, lengths: list[int]) -> Tensor:
        out, saved = attend(q, k, v, lengths)
        # By autograd's own hand: what a layer that is run through again keeps elsewhere would not be freed.
        ctx.save_for_backward(saved.q, saved.k, saved.v, *saved.shares)
        ctx.fixed = (saved.order, saved.shape)
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        order, shape = ctx.fixed
        q, k, v, *shares = ctx.saved_tensors
        return (*attend_backward(grad, Attended(order, shape, q, k, v, shares)), None)


def register(kind: str) -> str:
    """Makes the function of a kind, ``blocks`` or ``flash``, known to transformers and returns its name there."""
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    # A name with flash in it would have transformers look for a package of that name.
    name, function = {"blocks": ("steward_blocks", packed_attention), "flash": ("steward_varlen", flash_attention)}[
        kind
    ]
    ALL_ATTENTION_FUNCTIONS.register(name, function)
    return name


def packed_attention(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    scaling: float | None = None,
    packed_lengths: list[int],
    sliding_window: int | None = None,
    dropout: float = 0.0,
    **extra: Any,
) -> tuple[Tensor, None]:
    """As transformers calls it. ``query`` (1, H, T, d), ``key`` and ``value`` (1, K, T, d); returns (1, T, H, d).

    Raises:
        NotImplementedError: the layer wants something this does not do.
    """
    _check(module, attention_mask, dropout, extra)
    if sliding_window is not None and max(packed_lengths) > sliding_window:
        raise NotImplementedError("a sequence is longer than the layer's window")
    heads, tokens, size = query.shape[1:]
    kv_heads = key.shape[1]
    scale = size**-0.5 if scaling is None else scaling
    q = (query[0] * scale).transpose(0, 1).reshape(tokens, kv_heads, heads // kv_heads, size)
    # Under autocast queries and keys come back from their rotation in fp32; all three go on as the values are.
    q, k = q.to(value.dtype), key[0].transpose(0, 1).to(value.dtype)
    out: Tensor = _PackedAttention.apply(q, k, value[0].transpose(0, 1), packed_lengths)  # type: ignore[no-untyped-call]
    return out.reshape(1, tokens, heads, value.shape[3]), None


def flash_attention(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    scaling: float | None = None,
    packed_lengths: list[int],
    sliding_window: int | None = None,
    dropout: float = 0.0,
    **extra: Any,
) -> tuple[Tensor, None]:
    """The same by torch's own flash kernel for sequences of many lengths, which wants CUDA and sixteen bits.

    Raises:
        NotImplementedError: as ``packed_attention``.
    """
    from torch.nn.attention.varlen import varlen_attn

    _check(module, attention_mask, dropout, extra)
    starts = torch.tensor([0, *accumulate(packed_lengths)], dtype=torch.int32, device=query.device)
    longest = max(packed_lengths)
    # A window of w tokens is the token itself and w - 1 before it.
    before = -1 if sliding_window is None else sliding_window - 1
    q, k, v = (each[0].transpose(0, 1).to(value.dtype) for each in (query, key, value))
    out = varlen_attn(
        q,
        k,
        v,
        starts,
        starts,
        longest,
        longest,
        scale=query.shape[-1] ** -0.5 if scaling is None else scaling,
        window_size=(before, 0),
        enable_gqa=query.shape[1] != key.shape[1],
    )
    assert isinstance(out, Tensor)
    return out[None], None


def _check(module: torch.nn.Module, mask: Tensor | None, dropout: float, extra: dict[str, Any]) -> None:
    if mask is not None or dropout or any(extra.get(name) is not None for name in ("softcap", "position_bias")):
        raise NotImplementedError("masks, dropout, caps and biases are not supported on packed sequences")
    if not getattr(module, "is_causal", True):
        raise NotImplementedError("not a causal layer")
