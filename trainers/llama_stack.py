"""A whole model of the Llama family over ``trainers.llama_layer``, sharing the weights of transformers' model.

Guarantees: base weights are shared, not doubled (those that are multiplied together are moved into one tensor, and the
model's own layers read views of it; of a base in four bits the numbers of one matrix exist at a time); a model with
anything unknown in a layer is ``Unsuitable``.
Does not: judge the family's finer settings (scaled embeddings, rotary variants); the comparison in ``trainers.forward``
does that by numbers.

Example:
    >>> stack = LlamaStack(adapter, Head.of(adapter))
    >>> stack.losses(batch).sum().backward()  # gradients are now in adapter.grads
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from trainers.adapter import ADAPTER, Adapter
from trainers.head_loss import Head
from trainers.joint_product import JointProduct
from trainers.llama_layer import Layer, LlamaLayer, Rotary, rms_norm, rms_norm_backward
from trainers.quantised import form_of, weight_of

if TYPE_CHECKING:
    from trainers.forward import MicroBatch

_ATTENTION = ("q_proj", "k_proj", "v_proj", "o_proj")
_MLP = ("gate_proj", "up_proj", "down_proj")
#: Of the last layer so many positions, or a multiple, are computed at a time.
ROWS = 32


class Unsuitable(Exception):
    """The model is not of this family; the message says what is different."""


class LlamaStack:
    """Embedding, layers and final norm on packed sequences, and a head; a ``Forward``."""

    name = "pack"
    kind = "layers"
    reason = "packed through layers written for this family"

    def __init__(self, adapter: Adapter, head: Head) -> None:
        base = adapter.base
        decoder = getattr(base, "model", None)
        if decoder is None or not all(
            hasattr(decoder, part) for part in ("embed_tokens", "layers", "norm", "rotary_emb")
        ):
            raise Unsuitable("own layers know the Llama family only")
        windows = set(getattr(base.config, "layer_types", None) or ["full_attention"])
        if windows != {"full_attention"} or (
            getattr(base.config, "sliding_window", None) and getattr(base.config, "use_sliding_window", True)
        ):
            raise Unsuitable("own layers know no sliding window")
        if not hasattr(base.config, "rms_norm_eps"):
            raise Unsuitable("own layers know norms by the root mean square only")
        for layer in decoder.layers:
            _check_layer(layer, adapter.dtype)
        self._adapter, self._head = adapter, head
        self._is_recomputed = False
        self._decoder = decoder
        self._eps = float(base.config.rms_norm_eps)
        self._layers = [
            _layer_of(layer, base.config, self._eps, adapter, held) for layer, held in _held(adapter, decoder)
        ]
        self.refresh()

    def refresh(self) -> None:
        """Copies the adapter's weights into the precision of the computation."""
        with torch.no_grad():
            for layer in self._layers:
                for product in layer.products():
                    product.refresh()

    def recompute(self) -> None:
        """See ``trainers.forward.Forward``."""
        self._is_recomputed = True

    def losses(self, batch: MicroBatch) -> Tensor:
        """See ``trainers.forward.Forward``; gradients reach ``adapter.grads`` and nothing else."""
        return self._head.losses(self.hidden(batch), batch.targets)

    def hidden(self, batch: MicroBatch) -> Tensor:
        """See ``trainers.forward.Forward``."""
        x = self._decoder.embed_tokens(batch.tokens).detach()
        cos, sin = self._decoder.rotary_emb(x[None], batch.positions[None])
        rotary = Rotary.of(cos[0], sin[0])
        trained = self._adapter.weights.detach().requires_grad_(torch.is_grad_enabled())
        rows = _filled_up(batch.rows, len(batch.tokens))
        for layer in self._layers:
            wanted = rows if layer is self._layers[-1] else None
            x = LlamaLayer.apply(x, trained, layer, rotary, batch.lengths, wanted, self._is_recomputed)  # type: ignore[no-untyped-call]
        hidden: Tensor = _FinalNorm.apply(x[: len(batch.rows)], self._decoder.norm.weight, self._eps)  # type: ignore[no-untyped-call]
        return hidden


class _FinalNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        out = torch.empty_like(x)
        inverse = rms_norm(x, weight, eps, out=out)
        ctx.save_for_backward(x, out, weight, inverse)
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        return rms_norm_backward(grad, *ctx.saved_tensors), None, None


def _filled_up(rows: Tensor, tokens: int) -> Tensor:
    """Positions ``rows`` (S,), and others behind them up to a multiple of ``ROWS``: each product of a new length is
    compiled anew, which for a few rows takes longer than the product."""
    missing = min(-(-len(rows) // ROWS) * ROWS, tokens) - len(rows)
    are_free = torch.ones(tokens, dtype=torch.bool, device=rows.device).index_fill_(0, rows, False)
    return torch.cat([rows, are_free.nonzero()[:missing, 0]])


def _check_layer(layer: Any, dtype: torch.dtype) -> None:
    """A layer may hold the seven linear layers with adapters and its two norms, nothing else."""
    if not hasattr(layer, "input_layernorm") or not hasattr(layer, "post_attention_layernorm"):
        raise Unsuitable("own layers know one norm before the attention and one behind it")
    expected = {f"self_attn.{name}" for name in _ATTENTION} | {f"mlp.{name}" for name in _MLP}
    for path in expected:
        try:
            linear = layer.get_submodule(path)
        except AttributeError:
            raise Unsuitable("own layers know the Llama family only") from None
        if not hasattr(linear, "lora_A") or ADAPTER not in linear.lora_A:
            raise Unsuitable("own layers need adapters on all linear layers")
        if form_of(linear.base_layer) == "nf4":
            if linear.base_layer.compute_dtype != dtype:
                raise Unsuitable("own layers compute in the precision of the model")
        elif type(linear.base_layer) is not torch.nn.Linear:
            raise Unsuitable("own layers know plain and nf4 linear layers only")
        if linear.lora_variant:
            raise Unsuitable("own layers know plain LoRA only")
        is_biased = linear.base_layer.bias is not None
        if is_biased and path.rpartition(".")[2] not in _ATTENTION[:3]:
            raise Unsuitable("own layers know biases of query, key and value only")
    allowed = {*expected, "input_layernorm", "post_attention_layernorm"}
    for name, _ in layer.named_parameters():
        if not any(name.startswith(f"{path}.") for path in allowed):
            raise Unsuitable("a layer has weights that own layers do not know")
    biases = {linear.base_layer.bias is None for linear in (getattr(layer.self_attn, name) for name in _ATTENTION[:3])}
    if len(biases) > 1 or type(layer.mlp.act_fn).__name__ not in ("SiLU", "SiLUActivation"):
        raise Unsuitable("own layers know the SiLU gate only")


def _held(adapter: Adapter, decoder: Any) -> Iterator[tuple[Any, Callable[[], AbstractContextManager[None]]]]:
    """Layers, and what makes sure that their weights are there; while one is in hand here, they are."""
    for index, layer in enumerate(decoder.layers):
        held = nullcontext if adapter.spread is None else functools.partial(adapter.spread.held, index)
        with held():
            yield layer, held


def _joined(parts: list[Tensor]) -> Tensor:
    """One tensor of parts of several layers; of those that lie one behind the other, a view."""
    first = parts[0]
    stores = {each.untyped_storage().data_ptr() for each in parts}
    ends = [each.storage_offset() + each.numel() for each in parts]
    if len(stores) == 1 and [each.storage_offset() for each in parts[1:]] == ends[:-1]:
        rows = sum(each.shape[0] for each in parts)
        return first.as_strided((rows, *first.shape[1:]), first.stride(), first.storage_offset())
    return torch.cat(parts)


def _layer_of(
    layer: Any, config: Any, eps: float, adapter: Adapter, held: Callable[[], AbstractContextManager[None]]
) -> Layer:
    attention, mlp = layer.self_attn, layer.mlp
    projections = [attention.q_proj, attention.k_proj, attention.v_proj]
    biases = [each.base_layer.bias for each in projections]
    kv_heads = int(config.num_key_value_heads)
    return Layer(
        kv_heads=kv_heads,
        groups=int(config.num_attention_heads) // kv_heads,
        head=int(attention.head_dim),
        eps=eps,
        norm_in=layer.input_layernorm.weight.data,
        norm_mlp=layer.post_attention_layernorm.weight.data,
        qkv_bias=None if biases[0] is None else _joined([each.data for each in biases]),
        qkv=_product(projections, adapter),
        out=_product([attention.o_proj], adapter),
        gate_up=_product([mlp.gate_proj, mlp.up_proj], adapter),
        down=_product([mlp.down_proj], adapter),
        held=held,
    )


def _product(linears: list[Any], adapter: Adapter) -> JointProduct:
    lows = [each.lora_A[ADAPTER].weight for each in linears]
    highs = [each.lora_B[ADAPTER].weight for each in linears]
    first = lows[0].data.storage_offset()
    count = sum(each.numel() for each in lows)
    offsets = [first + sum(each.numel() for each in lows[:index]) for index in range(len(lows))]
    scalings = {each.scaling[ADAPTER] for each in linears}
    if [each.data.storage_offset() for each in lows] != offsets or len(scalings) > 1:
        raise Unsuitable("own layers need one rank and one scaling for all")
    bases = [each.base_layer for each in linears]
    product = JointProduct(
        scaling=scalings.pop(),
        a_weight=adapter.weights[first : first + count].view(-1, lows[0].shape[1]),
        a_grad=adapter.grads[first : first + count].view(-1, lows[0].shape[1]),
        b_weights=[each.data for each in highs],
        b_grads=[each.grad for each in highs if each.grad is not None],
        dtype=adapter.dtype,
        whole_weight=_whole_weight(bases, adapter),
    )
    if product.whole_weight is None:
        weights = [each.weight for each in bases]
        for parameter, place in zip(weights, product.take_over([each.data for each in weights]), strict=True):
            parameter.data = place
    return product


def _whole_weight(bases: list[Any], adapter: Adapter) -> Callable[[], Tensor] | None:
    """What gives the weights of layers that read the same input, where they do not lie in memory all the time."""
    if any(form_of(each) for each in bases):
        return lambda: torch.cat([weight_of(each) for each in bases]) if len(bases) > 1 else weight_of(bases[0])
    if adapter.spread is not None:
        whole = _joined([each.weight.data for each in bases])
        return lambda: whole
    return None
