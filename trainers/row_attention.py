"""Attention for a batch of rows of any length, each with keys and values of its own.

The tokens of all rows stand one after the other in one sequence: one token of each row that is being answered, a piece
of each prompt that is being read. Each attends to its own row only.

Guarantees: a row's memory grows as it is filled and is free when the row goes; a row never holds more positions than
it was promised. Does not: share prompts between rows; support soft caps, sinks or biases (it raises, and the model is
refused when it is opened).

Example:
    >>> model.set_attn_implementation(register())
    >>> model(inputs_embeds=…, position_ids=…, use_cache=False, pieces=[Piece(cache, 0, 5), Piece(other, 5, 6)])
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

NAME = "steward_rows"
#: Positions by which a row's memory grows at least.
GROWTH = 64


class RowCache:
    """Keys and values of one row in every layer: K key/value heads, room for ``limit`` positions."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.length = 0
        self._layers: dict[int, tuple[Tensor, Tensor]] = {}

    def put(self, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Appends (K, n, d) to a layer and returns all it has, (K, length + n, d) each, as views."""
        end = self.length + keys.shape[1]
        held = self._layers.get(layer)
        if held is None or held[0].shape[1] < end:
            room = min(self.limit, max(end + GROWTH, self.length * 3 // 2))
            grown = tuple(each.new_empty((each.shape[0], room, each.shape[2])) for each in (keys, values))
            if held is not None:
                for old, new in zip(held, grown, strict=True):
                    new[:, : self.length] = old[:, : self.length]
            held = (grown[0], grown[1])
            self._layers[layer] = held
        for each, new in zip(held, (keys, values), strict=True):
            each[:, self.length : end] = new
        return held[0][:, :end], held[1][:, :end]


@dataclass(frozen=True)
class Piece:
    """Tokens ``start`` to ``end`` of the pass; they follow what ``cache`` holds."""

    cache: RowCache
    start: int
    end: int


def register() -> str:
    """Makes the function known to transformers and returns its name."""
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    ALL_ATTENTION_FUNCTIONS.register(NAME, row_attention)
    return NAME


def row_attention(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    scaling: float | None = None,
    pieces: list[Piece],
    sliding_window: int | None = None,
    dropout: float = 0.0,
    **extra: Any,
) -> tuple[Tensor, None]:
    """As transformers calls it. ``query`` (1, H, T, d), ``key`` and ``value`` (1, K, T, d); returns (1, T, H, d).

    Raises:
        NotImplementedError: the layer wants something this does not do.
    """
    wanted = [name for name in ("softcap", "position_bias", "s_aux", "head_mask") if extra.get(name) is not None]
    if attention_mask is not None or dropout or wanted or not getattr(module, "is_causal", True):
        raise NotImplementedError("masks, dropout, caps, sinks and biases are not supported")
    layer = module.layer_idx
    assert isinstance(layer, int)
    heads, tokens, size = query.shape[1:]
    kv_heads = key.shape[1]
    out = query.new_empty((1, tokens, heads, value.shape[3]))
    for piece in pieces:
        here = slice(piece.start, piece.end)
        keys, values = piece.cache.put(layer, key[0, :, here], value[0, :, here])
        count = piece.end - piece.start
        if count == 1:
            if sliding_window is not None:
                keys, values = keys[:, -sliding_window:], values[:, -sliding_window:]
            # The queries that share a head of keys stand where several tokens would: one token needs no mask.
            asked = query[:, :, piece.start].view(1, kv_heads, heads // kv_heads, size)
            found = scaled_dot_product_attention(asked, keys[None], values[None], scale=scaling)
            out[0, piece.start] = found.reshape(heads, -1)
            continue
        mask = _causal(piece.cache.length, count, sliding_window, query.device)
        found = scaled_dot_product_attention(
            query[:, :, here], keys[None], values[None], attn_mask=mask, scale=scaling, enable_gqa=heads != kv_heads
        )
        out[0, here] = found[0].transpose(0, 1)
    return out, None


def _causal(past: int, count: int, window: int | None, device: torch.device) -> Tensor:
    """(count, past + count) what each of the new tokens may look at."""
    ages = torch.arange(past, past + count, device=device)[:, None] - torch.arange(past + count, device=device)[None]
    return ages >= 0 if window is None else (ages >= 0) & (ages < window)
