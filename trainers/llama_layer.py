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
    >>> out = LlamaLayer.apply(x, adapter.weights, frozen, lora, (cos, sin), lengths, None, False)
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import silu

from trainers.block_attention import attend, attend_backward


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


def rms_norm_backward(grad: Tensor, x: Tensor, weight: Tensor, inverse: Tensor) -> Tensor:
    """Gradient by ``x``; overwrites nothing it was given."""
    unit = x * inverse
    grad = grad * weight
    along = (grad * unit).mean(-1, keepdim=True, dtype=torch.float32).to(x.dtype)
    return grad.sub_(unit.mul_(along)).mul_(inverse)


def rotate_(heads: Tensor, cos: Tensor, sin: Tensor) -> None:
    """Rotary positions in place. ``heads``: (T, H, d); ``cos``: (T, 1, d), each twice; ``sin``: (T, 1, d / 2)."""
    half = heads.shape[-1] // 2
    turned = heads * cos
    turned[..., :half].addcmul_(heads[..., half:], sin, value=-1)
    turned[..., half:].addcmul_(heads[..., :half], sin)
    heads.copy_(turned)


def _heads(qkv: Tensor, frozen: FrozenLayer) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Views of (T, qkv): queries (T, K, G, d), keys and values (T, K, d), and what rotates (T, K * G + K, d)."""
    tokens, count = qkv.shape[0], frozen.kv_heads * frozen.groups
    heads = qkv.view(tokens, -1, frozen.head)
    queries = heads[:, :count].view(tokens, frozen.kv_heads, frozen.groups, frozen.head)
    rotating = count + frozen.kv_heads
    return queries, heads[:, count:rotating], heads[:, rotating:], heads[:, :rotating]


class LlamaLayer(torch.autograd.Function):
    """The layer as one step of autograd. The adapter's gradients go straight into the adapter's flat vector."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        _weights: Tensor,
        frozen: FrozenLayer,
        lora: LayerLora,
        rotary: tuple[Tensor, Tensor],
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
        frozen, lora, (cos, sin), lengths, rows = ctx.fixed
        x, kept, kept_mlp = ctx.x, ctx.kept, ctx.kept_mlp
        ctx.x = ctx.kept = ctx.kept_mlp = None
        if kept is None:
            middle, kept = _attention_half(x, frozen, lora, (cos, sin), lengths, rows)
            kept_mlp = _mlp_half(middle, frozen, lora)[1]
            del middle
        inverse, normed, low_qkv, qkv, shares, mixed, low_out = kept
        by_middle = _mlp_backward(grad, frozen, lora, *kept_mlp)
        del kept, kept_mlp
        by_low = lora.out.add_grads(mixed, low_out, by_middle)
        by_mixed = (by_low @ lora.out.a).addmm_(by_middle, frozen.out)
        if rows is not None:
            by_mixed = torch.zeros((len(x), by_mixed.shape[1]), dtype=x.dtype, device=x.device).index_copy_(
                0, rows, by_mixed
            )
        queries, keys, values, _ = _heads(qkv, frozen)
        found = attend_backward(by_mixed.view(queries.shape), queries, keys, values, shares, lengths)
        by_qkv = torch.empty_like(qkv)
        by_queries, by_keys, by_values, rotating = _heads(by_qkv, frozen)
        torch.mul(found[0], frozen.head**-0.5, out=by_queries)
        by_keys.copy_(found[1])
        by_values.copy_(found[2])
        rotate_(rotating, cos, -sin)
        by_low = lora.qkv.add_grads(normed, low_qkv, by_qkv)
        if not ctx.needs_input_grad[0]:
            return None
        by_normed = (by_low @ lora.qkv.a).addmm_(by_qkv, frozen.qkv)
        by_x = rms_norm_backward(by_normed, x, frozen.norm_in, inverse)
        return by_x.add_(by_middle) if rows is None else by_x.index_add_(0, rows, by_middle)


def _attention_half(
    x: Tensor,
    frozen: FrozenLayer,
    lora: LayerLora,
    rotary: tuple[Tensor, Tensor],
    lengths: list[int],
    rows: Tensor | None,
) -> tuple[Tensor, tuple[Any, ...]]:
    """(T, D) behind the attention, or of some ``rows`` (S, D), and what the way back needs of it."""
    normed, inverse = rms_norm(x, frozen.norm_in, frozen.eps)
    low_qkv = normed @ lora.qkv.a.T
    qkv = (low_qkv @ lora.qkv.b.T).addmm_(normed, frozen.qkv.T)
    if frozen.qkv_bias is not None:
        qkv.add_(frozen.qkv_bias)
    queries, keys, values, rotating = _heads(qkv, frozen)
    rotate_(rotating, *rotary)
    queries.mul_(frozen.head**-0.5)
    mixed, shares = attend(queries, keys, values, lengths)
    mixed = mixed.view(x.shape[0], -1)
    if rows is not None:
        mixed, x = mixed[rows], x[rows]
    low_out = mixed @ lora.out.a.T
    middle = (low_out @ lora.out.b.T).addmm_(mixed, frozen.out.T).add_(x)
    return middle, (inverse, normed, low_qkv, qkv, shares, mixed, low_out)


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
    return rms_norm_backward(by_normed, middle, frozen.norm_mlp, inverse).add_(grad)
