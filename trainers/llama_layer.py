"""One decoder layer of the Llama family with LoRA, its forward and backward pass written out.

Guarantees: the gradients of the adapter equal those of peft's own layers up to rounding (``trainers.forward`` checks
the outputs of a model once before it relies on this; the tests check the gradients); nothing is computed for frozen
weights, and below the first layer no gradient at all.
Does not: support dropout, sliding windows or normalised queries; such models take the general way.

Why written out: on a CPU the products of the frozen weights already run at what the machine can do, and what is left
is passes over activations. Here each pass is made once, in place where possible, in bf16; query, key and value (and
gate and up) share one product, and their adapters share it too (``trainers.joint_product``).

Shapes: T tokens of all sequences one after the other, D hidden, M inner, K key/value heads, G queries each, d a head,
R the ranks of the adapters of a product together. Source: Touvron et al. 2023, arXiv:2302.13971 (the layer).

Example:
    >>> out = LlamaLayer.apply(x, adapter.weights, layer, Rotary.of(cos, sin), lengths, None, False)
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import silu

from trainers.block_attention import Attended, attend, attend_backward
from trainers.joint_product import JointProduct


@dataclass
class Layer:
    """What a layer computes with: four products with the adapters in them, its norms, and how its heads are laid out.

    ``qkv_bias`` where the family has one. ``held`` makes sure that all weights are there for a while
    (``trainers.spread``).
    """

    kv_heads: int
    groups: int
    head: int
    eps: float
    norm_in: Tensor
    norm_mlp: Tensor
    qkv_bias: Tensor | None
    qkv: JointProduct
    out: JointProduct
    gate_up: JointProduct
    down: JointProduct
    held: Callable[[], AbstractContextManager[None]] = nullcontext

    def products(self) -> tuple[JointProduct, ...]:
        """All four."""
        return self.qkv, self.out, self.gate_up, self.down


def rms_norm(x: Tensor, weight: Tensor, eps: float, out: Tensor) -> Tensor:
    """Writes (T, D) normalised and weighted to ``out``; returns (T, 1) by what each row was multiplied."""
    length = torch.linalg.vector_norm(x, dim=-1, keepdim=True, dtype=torch.float32)
    inverse: Tensor = length.square_().div_(x.shape[-1]).add_(eps).rsqrt_().to(x.dtype)
    torch.mul(x, inverse, out=out).mul_(weight)
    return inverse


def rms_norm_backward(
    grad: Tensor, x: Tensor, normed: Tensor, weight: Tensor, inverse: Tensor, out: Tensor | None = None
) -> Tensor:
    """Gradient by ``x``, of which ``rms_norm`` made ``normed``; overwrites nothing else than ``out``."""
    along = (grad * normed).mean(-1, keepdim=True, dtype=torch.float32)
    along = along.mul_(inverse).mul_(inverse).to(x.dtype)
    return torch.mul(grad, inverse, out=out).mul_(weight).addcmul_(x, along, value=-1)


@dataclass
class Rotary:
    """What turns keys, and queries, which are scaled on the way: cos (T, 1, d), each twice, and sin (T, 1, d / 2)."""

    cos: Tensor
    sin: Tensor
    cos_scaled: Tensor
    sin_scaled: Tensor

    @classmethod
    def of(cls, cos: Tensor, sin: Tensor) -> Rotary:
        """Of both as transformers gives them, (T, d)."""
        scale, half = cos.shape[1] ** -0.5, cos.shape[1] // 2
        parts = cos[:, None], sin[:, None, :half].contiguous()
        return cls(*parts, *(each * scale for each in parts))


def turn(heads: Tensor, cos: Tensor, sin: Tensor, out: Tensor) -> None:
    """Writes ``heads`` (T, H, d) at their rotary positions to ``out``."""
    half = heads.shape[-1] // 2
    torch.mul(heads, cos, out=out)
    out[..., :half].addcmul_(heads[..., half:], sin, value=-1)
    out[..., half:].addcmul_(heads[..., :half], sin)


def _heads(qkv: Tensor, layer: Layer) -> tuple[Tensor, Tensor, Tensor]:
    """Views of (T, qkv): queries (T, K * G, d), keys and values (T, K, d)."""
    heads = qkv.view(len(qkv), -1, layer.head)
    queries = layer.kv_heads * layer.groups
    keys = queries + layer.kv_heads
    return heads[:, :queries], heads[:, queries:keys], heads[:, keys:]


class LlamaLayer(torch.autograd.Function):
    """The layer as one step of autograd. The adapter's gradients go straight into the adapter's flat vector."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        _weights: Tensor,
        layer: Layer,
        rotary: Rotary,
        lengths: list[int],
        rows: Tensor | None,
        is_recomputed: bool,
    ) -> Tensor:
        """Args: ``x`` (T, D); ``_weights`` only tells autograd that something here is trained.

        Of the last layer ``rows`` (S,) are the positions, each once, whose output (S, D) somebody reads. With
        ``is_recomputed`` only ``x`` is kept and the way back begins with the layer once more.
        """
        with layer.held():
            middle, kept = _attention_half(x, layer, rotary, lengths, rows)
            out, kept_mlp = _mlp_half(middle, layer)
        ctx.x, ctx.kept, ctx.kept_mlp = x, None, None
        if not is_recomputed:
            ctx.kept, ctx.kept_mlp = kept, kept_mlp
        ctx.fixed = (layer, rotary, lengths, rows)
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, None, None, None, None, None, None]:
        """Args: ``grad`` (T, D) or (S, D) by the output. Returns the one by ``x`` where it is needed."""
        with ctx.fixed[0].held():
            return LlamaLayer._way_back(ctx, grad), None, None, None, None, None, None

    @staticmethod
    def _way_back(ctx: Any, grad: Tensor) -> Tensor | None:
        layer, rotary, lengths, rows = ctx.fixed
        x, kept, kept_mlp = ctx.x, ctx.kept, ctx.kept_mlp
        ctx.x = ctx.kept = ctx.kept_mlp = None
        if kept is None:
            middle, kept = _attention_half(x, layer, rotary, lengths, rows)
            kept_mlp = _mlp_half(middle, layer)[1]
            del middle
        inverse, normed, attended, mixed = kept
        by_out = _mlp_backward(grad, layer, *kept_mlp)
        del kept, kept_mlp
        layer.out.add_grads(mixed, by_out)
        by_qkv = _by_qkv(layer.out.back(by_out), attended, layer, rotary, rows)
        layer.qkv.add_grads(normed, by_qkv)
        if not ctx.needs_input_grad[0]:
            return None
        by_normed, width = layer.qkv.back(by_qkv), x.shape[1]
        by_x = rms_norm_backward(by_normed, x, normed[:, :width], layer.norm_in, inverse)
        by_middle = by_out[:, :width]
        return by_x.add_(by_middle) if rows is None else by_x.index_add_(0, rows, by_middle)


def _attention_half(
    x: Tensor, layer: Layer, rotary: Rotary, lengths: list[int], rows: Tensor | None
) -> tuple[Tensor, tuple[Any, ...]]:
    """(T, D) behind the attention, or of some ``rows`` (S, D), and what the way back needs of it."""
    normed = layer.qkv.room(len(x))
    inverse = rms_norm(x, layer.norm_in, layer.eps, out=normed[:, : layer.qkv.inputs])
    qkv = layer.qkv.forth(normed)
    if layer.qkv_bias is not None:
        qkv.add_(layer.qkv_bias)
    queries, keys, values = _heads(qkv, layer)
    turned, turned_keys = (torch.empty(each.shape, dtype=x.dtype, device=x.device) for each in (queries, keys))
    turn(queries, rotary.cos_scaled, rotary.sin_scaled, out=turned)
    turn(keys, rotary.cos, rotary.sin, out=turned_keys)
    by_head = turned.view(len(qkv), layer.kv_heads, layer.groups, layer.head)
    found, attended = attend(by_head, turned_keys, values, lengths)
    if rows is not None:
        found, x = found[rows], x[rows]
    mixed = layer.out.room(len(x))
    mixed[:, : layer.out.inputs] = found.flatten(1)
    middle = layer.out.forth(mixed).add_(x)
    return middle, (inverse, normed, attended, mixed)


def _by_qkv(by_mixed: Tensor, attended: Attended, layer: Layer, rotary: Rotary, rows: Tensor | None) -> Tensor:
    """(T, O + R) gradient by the first product, with room; of that by the mixed values (T, D), or of rows (S, D)."""
    tokens = attended.shape[0]
    if rows is not None:
        by_mixed = by_mixed.new_zeros((tokens, by_mixed.shape[1])).index_copy_(0, rows, by_mixed)
    by_q, by_k, by_v = attend_backward(by_mixed.view(attended.shape), attended)
    by_qkv = layer.qkv.room_back(tokens)
    queries, keys, values = _heads(by_qkv[:, : layer.qkv.outputs], layer)
    turn(by_q.flatten(1, 2), rotary.cos_scaled, -rotary.sin_scaled, out=queries)
    turn(by_k, rotary.cos, -rotary.sin, out=keys)
    values.copy_(by_v)
    return by_qkv


def _mlp_half(middle: Tensor, layer: Layer) -> tuple[Tensor, tuple[Tensor, ...]]:
    """(T, D) behind the gated half, and what ``_mlp_backward`` takes."""
    normed = layer.gate_up.room(len(middle))
    inverse = rms_norm(middle, layer.norm_mlp, layer.eps, out=normed[:, : layer.gate_up.inputs])
    gate_up = layer.gate_up.forth(normed)
    gate, up = gate_up.chunk(2, dim=1)
    inner = layer.down.room(len(middle))
    torch.ops.aten.silu.out(gate, out=inner[:, : layer.down.inputs]).mul_(up)
    out = layer.down.forth(inner).add_(middle)
    return out, (middle, inverse, normed, gate_up, inner)


def _mlp_backward(
    grad: Tensor, layer: Layer, middle: Tensor, inverse: Tensor, normed: Tensor, gate_up: Tensor, inner: Tensor
) -> Tensor:
    """Gradient by ``middle``, through the gated half of the layer and past it, with room for the next (T, D + R)."""
    by_down = layer.down.room_back(len(grad))
    by_down[:, : layer.down.outputs] = grad
    layer.down.add_grads(inner, by_down)
    by_inner = layer.down.back(by_down)
    gate, up = gate_up.chunk(2, dim=1)
    by_gate_up = layer.gate_up.room_back(len(grad))
    by_gate, by_up = by_gate_up[:, : layer.gate_up.outputs].chunk(2, dim=1)
    torch.mul(by_inner, silu(gate), out=by_up)
    torch.ops.aten.silu_backward.grad_input(by_inner.mul_(up), gate, grad_input=by_gate)
    layer.gate_up.add_grads(normed, by_gate_up)
    by_normed, width = layer.gate_up.back(by_gate_up), layer.gate_up.inputs
    by_middle = layer.out.room_back(len(grad))
    place = by_middle[:, :width]
    rms_norm_backward(by_normed, middle, normed[:, :width], layer.norm_mlp, inverse, out=place).add_(grad)
    return by_middle
