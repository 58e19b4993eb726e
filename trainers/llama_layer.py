"""One decoder layer of the Llama family with LoRA, its forward and backward pass written out.

Guarantees: the gradients of the adapter equal those of peft's own layers up to rounding (``trainers.forward`` checks
the outputs of a model once before it relies on this; the tests check the gradients); nothing is computed for frozen
weights, and below the first layer no gradient at all.
Does not: support dropout, sliding windows or normalised queries; such models take the general way.

Why written out: on a CPU the products of the frozen weights already run at what the machine can do, and what is left
is passes over activations. Here each pass is made once, in place where possible, in bf16; query, key and value (and
gate and up) share one product, as their A matrices do.

The adapter's small part always comes first and the frozen product is added to it inside one product, which sums in
fp32 and rounds once. The other way round the part would be added to numbers already on bf16's grid, and at the
beginning of a run, being smaller than half a step of that grid, it would vanish (measured: held-out loss 5.10 instead
of 4.96 after eight steps).

Shapes: T tokens of all sequences one after the other, D hidden, M inner, K key/value heads, G queries each, d a head,
r the rank. Source: Touvron et al. 2023, arXiv:2302.13971 (the layer); Hu et al. 2021, arXiv:2106.09685 (LoRA).

Example:
    >>> out = LlamaLayer.apply(x, adapter.weights, frozen, lora, Rotary.of(cos, sin), lengths, None, False)
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import silu

from trainers.block_attention import attend, attend_backward, room_for_keys


@dataclass
class FrozenLayer:
    """What a layer computes with beside its adapters.

    ``weights`` gives the four matrices by name when a product wants them: those that are there, or of a quantised base
    their numbers, made anew and dropped after the product. ``qkv_bias`` where the family has one. ``held`` makes sure
    that all of them are there for a while (``trainers.spread``).
    """

    kv_heads: int
    groups: int
    head: int
    eps: float
    norm_in: Tensor
    norm_mlp: Tensor
    qkv_bias: Tensor | None
    weights: dict[str, Callable[[], Tensor]]
    held: Callable[[], AbstractContextManager[None]] = nullcontext

    @property
    def qkv(self) -> Tensor:
        """(qkv, D) query, key and value together."""
        return self.weights["qkv"]()

    @property
    def out(self) -> Tensor:
        """(D, heads)."""
        return self.weights["out"]()

    @property
    def gate_up(self) -> Tensor:
        """(2 * M, D)."""
        return self.weights["gate_up"]()

    @property
    def down(self) -> Tensor:
        """(D, M)."""
        return self.weights["down"]()


@dataclass
class LoraPair:
    """A and B of layers that read the same input: A stacked (n * r, in), B block by block (out, n * r), scaled.

    ``a`` and ``b`` are copies in the precision of the computation, renewed by ``refresh``; the rest are views into the
    adapter's flat vectors.
    """

    scaling: float
    a_weight: Tensor
    a_grad: Tensor
    b_weights: list[Tensor]
    b_grads: list[Tensor]
    a: Tensor = field(init=False)
    b: Tensor = field(init=False)

    def allocate(self, dtype: torch.dtype) -> None:
        """Makes room for the copies."""
        rank, outs = self.b_weights[0].shape[1], sum(each.shape[0] for each in self.b_weights)
        self.a = torch.empty(self.a_weight.shape, dtype=dtype, device=self.a_weight.device)
        self.b = torch.zeros((outs, rank * len(self.b_weights)), dtype=dtype, device=self.a_weight.device)

    def _blocks(self) -> list[tuple[slice, slice]]:
        places = []
        row = 0
        for index, each in enumerate(self.b_weights):
            rows, rank = each.shape
            places.append((slice(row, row + rows), slice(index * rank, (index + 1) * rank)))
            row += rows
        return places

    def refresh(self) -> None:
        """Copies the weights after they changed."""
        self.a.copy_(self.a_weight)
        for (rows, columns), each in zip(self._blocks(), self.b_weights, strict=True):
            self.b[rows, columns] = each * self.scaling

    def add_grads(self, x: Tensor, low: Tensor, grad: Tensor) -> Tensor:
        """Adds the gradients of A and B and returns that of ``low``.

        Args:
            x: (T, in), what A read.
            low: (T, n * r), what A gave.
            grad: (T, out), the gradient of what B was added to.
        """
        by_low = grad @ self.b
        self.a_grad.add_(by_low.T @ x)
        for (rows, columns), each in zip(self._blocks(), self.b_grads, strict=True):
            each.add_(grad[:, rows].T @ low[:, columns], alpha=self.scaling)
        return by_low


@dataclass
class LayerLora:
    """The four places of a layer where adapters sit."""

    qkv: LoraPair
    out: LoraPair
    gate_up: LoraPair
    down: LoraPair


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """(T, D) normalised and weighted, and (T, 1) by what each row was multiplied."""
    length = torch.linalg.vector_norm(x, dim=-1, keepdim=True, dtype=torch.float32)
    inverse = length.square_().div_(x.shape[-1]).add_(eps).rsqrt_().to(x.dtype)
    return (x * inverse).mul_(weight), inverse


def rms_norm_backward(grad: Tensor, x: Tensor, normed: Tensor, weight: Tensor, inverse: Tensor) -> Tensor:
    """Gradient by ``x``, of which ``rms_norm`` made ``normed``; overwrites nothing it was given."""
    along = (grad * normed).mean(-1, keepdim=True, dtype=torch.float32)
    along = along.mul_(inverse).mul_(inverse).to(x.dtype)
    return (grad * inverse).mul_(weight).addcmul_(x, along, value=-1)


@dataclass
class Rotary:
    """What turns keys, and queries which are scaled on the way: cos (T, 1, d), each twice, and sin (T, 1, d / 2)."""

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
    """Writes ``heads`` (K, T, G, d) at their rotary positions to ``out``."""
    half = heads.shape[-1] // 2
    torch.mul(heads, cos, out=out)
    out[..., :half].addcmul_(heads[..., half:], sin, value=-1)
    out[..., half:].addcmul_(heads[..., :half], sin)


def _heads(qkv: Tensor, frozen: FrozenLayer) -> tuple[Tensor, Tensor, Tensor]:
    """Views of (T, qkv), heads first: queries (K, T, G, d), keys and values (K, T, 1, d)."""
    count = frozen.kv_heads * frozen.groups
    heads = qkv.unflatten(1, (-1, frozen.head)).transpose(0, 1)
    keys, values = heads[count:, :, None].chunk(2)
    return heads[:count].unflatten(0, (frozen.kv_heads, frozen.groups)).transpose(1, 2), keys, values


class LlamaLayer(torch.autograd.Function):
    """The layer as one step of autograd. The adapter's gradients go straight into the adapter's flat vector."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        _weights: Tensor,
        frozen: FrozenLayer,
        lora: LayerLora,
        rotary: Rotary,
        lengths: list[int],
        rows: Tensor | None,
        is_recomputed: bool,
    ) -> Tensor:
        """Args: ``x`` (T, D); ``_weights`` only tells autograd that something here is trained.

        Of the last layer ``rows`` (S,) are the positions, each once, whose output (S, D) somebody reads. With
        ``is_recomputed`` only ``x`` is kept and the way back begins with the layer once more.
        """
        with frozen.held():
            middle, kept = _attention_half(x, frozen, lora, rotary, lengths, rows)
            out, kept_mlp = _mlp_half(middle, frozen, lora)
        ctx.x, ctx.kept, ctx.kept_mlp = x, None, None
        if not is_recomputed:
            ctx.kept, ctx.kept_mlp = kept, kept_mlp
        ctx.fixed = (frozen, lora, rotary, lengths, rows)
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, None, None, None, None, None, None, None]:
        """Args: ``grad`` (T, D) or (S, D) by the output. Returns the one by ``x`` where it is needed."""
        with ctx.fixed[0].held():
            return LlamaLayer._way_back(ctx, grad), None, None, None, None, None, None, None

    @staticmethod
    def _way_back(ctx: Any, grad: Tensor) -> Tensor | None:
        frozen, lora, rotary, lengths, rows = ctx.fixed
        x, kept, kept_mlp = ctx.x, ctx.kept, ctx.kept_mlp
        ctx.x = ctx.kept = ctx.kept_mlp = None
        if kept is None:
            middle, kept = _attention_half(x, frozen, lora, rotary, lengths, rows)
            kept_mlp = _mlp_half(middle, frozen, lora)[1]
            del middle
        inverse, normed, low_qkv, heads, shares, mixed, low_out = kept
        by_middle = _mlp_backward(grad, frozen, lora, *kept_mlp)
        del kept, kept_mlp
        by_low = lora.out.add_grads(mixed, low_out, by_middle)
        by_mixed = (by_low @ lora.out.a).addmm_(by_middle, frozen.out)
        by_qkv = _by_qkv(by_mixed, heads, shares, frozen, rotary, lengths, rows)
        by_low = lora.qkv.add_grads(normed, low_qkv, by_qkv)
        if not ctx.needs_input_grad[0]:
            return None
        by_normed = (by_low @ lora.qkv.a).addmm_(by_qkv, frozen.qkv)
        by_x = rms_norm_backward(by_normed, x, normed, frozen.norm_in, inverse)
        return by_x.add_(by_middle) if rows is None else by_x.index_add_(0, rows, by_middle)


def _attention_half(
    x: Tensor,
    frozen: FrozenLayer,
    lora: LayerLora,
    rotary: Rotary,
    lengths: list[int],
    rows: Tensor | None,
) -> tuple[Tensor, tuple[Any, ...]]:
    """(T, D) behind the attention, or of some ``rows`` (S, D), and what the way back needs of it."""
    normed, inverse = rms_norm(x, frozen.norm_in, frozen.eps)
    low_qkv = normed @ lora.qkv.a.T
    qkv = (low_qkv @ lora.qkv.b.T).addmm_(normed, frozen.qkv.T)
    if frozen.qkv_bias is not None:
        qkv.add_(frozen.qkv_bias)
    heads = _turned(qkv, frozen, rotary)
    found, shares = attend(*heads, lengths)
    mixed = found.view(frozen.kv_heads, len(x), frozen.groups, frozen.head)
    if rows is not None:
        mixed, x = mixed[:, rows], x[rows]
    mixed = mixed.transpose(0, 1).reshape(len(x), -1)
    low_out = mixed @ lora.out.a.T
    middle = (low_out @ lora.out.b.T).addmm_(mixed, frozen.out.T).add_(x)
    return middle, (inverse, normed, low_qkv, heads, shares, mixed, low_out)


def _turned(qkv: Tensor, frozen: FrozenLayer, rotary: Rotary) -> tuple[Tensor, Tensor, Tensor]:
    """Queries, keys and values of (T, qkv) as ``attend`` takes them."""
    queries, keys, values = _heads(qkv, frozen)
    q = torch.empty(queries.shape, dtype=qkv.dtype, device=qkv.device)
    k, v = (room_for_keys(frozen.kv_heads, len(qkv), frozen.head, qkv) for _ in range(2))
    turn(queries, rotary.cos_scaled, rotary.sin_scaled, out=q)
    turn(keys, rotary.cos, rotary.sin, out=k[:, : len(qkv), None])
    v[:, : len(qkv), None] = values
    return q.flatten(1, 2), k, v


def _by_qkv(
    by_mixed: Tensor,
    heads: tuple[Tensor, Tensor, Tensor],
    shares: list[Tensor],
    frozen: FrozenLayer,
    rotary: Rotary,
    lengths: list[int],
    rows: Tensor | None,
) -> Tensor:
    """(T, qkv) gradient by what ``_turned`` was given, from that by the mixed values (T, D), or of ``rows`` (S, D)."""
    grad = by_mixed.unflatten(1, (frozen.kv_heads, frozen.groups, frozen.head)).transpose(0, 1)
    if rows is None:
        grad = grad.contiguous()
    else:
        whole = grad.new_zeros((frozen.kv_heads, sum(lengths), frozen.groups, frozen.head))
        grad = whole.index_copy_(1, rows, grad)
    by_q, by_k, by_v = attend_backward(grad.flatten(1, 2), *heads, shares, lengths)
    by_qkv = by_mixed.new_empty((sum(lengths), (frozen.groups + 2) * frozen.kv_heads * frozen.head))
    queries, keys, values = _heads(by_qkv, frozen)
    turn(by_q.view(queries.shape), rotary.cos_scaled, -rotary.sin_scaled, out=queries)
    turn(by_k[:, :, None], rotary.cos, -rotary.sin, out=keys)
    values.copy_(by_v[:, :, None])
    return by_qkv


def _mlp_half(middle: Tensor, frozen: FrozenLayer, lora: LayerLora) -> tuple[Tensor, tuple[Tensor, ...]]:
    """(T, D) behind the gated half, and what ``_mlp_backward`` takes."""
    normed, inverse = rms_norm(middle, frozen.norm_mlp, frozen.eps)
    low_gate_up = normed @ lora.gate_up.a.T
    gate_up = (low_gate_up @ lora.gate_up.b.T).addmm_(normed, frozen.gate_up.T)
    gate, up = gate_up.chunk(2, dim=1)
    inner = silu(gate).mul_(up)
    low_down = inner @ lora.down.a.T
    out = (low_down @ lora.down.b.T).addmm_(inner, frozen.down.T).add_(middle)
    return out, (middle, inverse, normed, low_gate_up, gate_up, inner, low_down)


def _mlp_backward(
    grad: Tensor,
    frozen: FrozenLayer,
    lora: LayerLora,
    middle: Tensor,
    inverse: Tensor,
    normed: Tensor,
    low_gate_up: Tensor,
    gate_up: Tensor,
    inner: Tensor,
    low_down: Tensor,
) -> Tensor:
    """(T, D) gradient by ``middle``, through the gated half of the layer and past it."""
    by_low = lora.down.add_grads(inner, low_down, grad)
    by_inner = (by_low @ lora.down.a).addmm_(grad, frozen.down)
    gate, up = gate_up.chunk(2, dim=1)
    by_gate_up = torch.empty_like(gate_up)
    by_gate, by_up = by_gate_up.chunk(2, dim=1)
    torch.mul(by_inner, silu(gate), out=by_up)
    torch.ops.aten.silu_backward.grad_input(by_inner.mul_(up), gate, grad_input=by_gate)
    by_low = lora.gate_up.add_grads(normed, low_gate_up, by_gate_up)
    by_normed = (by_low @ lora.gate_up.a).addmm_(by_gate_up, frozen.gate_up)
    return rms_norm_backward(by_normed, middle, normed, frozen.norm_mlp, inverse).add_(grad)
