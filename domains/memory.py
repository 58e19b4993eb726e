"""Memory that tuning a causal language model needs, from its published architecture.

Guarantees one documented formula for all models, so that they can be compared. Does not replace the fit check on the
machine at hand: allocator fragmentation, the driver's own memory and unusual architectures (mixture of experts, vision
towers, long contexts beyond `TOKENS_PER_STEP`) are not in it.

The estimate is the sum of
- weights: 2 bytes a parameter (bfloat16); QLoRA stores all but embeddings and head in NF4 with double
  quantisation, 4.127 bits a parameter (Source: Dettmers et al., "QLoRA", 2023, section 3);
- trained parameters: 16 bytes each in mixed precision with Adam - 2 weight, 2 gradient, 4 master weight, 8 moments
  (Source: Rajbhandari et al., "ZeRO", 2020, section 3.1); for full tuning the weights are not counted twice;
- activations with every layer recomputed: 2 bytes x layers x tokens x hidden, and 34 bytes x tokens x hidden for
  the layer being recomputed (Source: Korthikanti et al., 2022, table 2, attention scores not stored);
- logits on supervised positions: 8 bytes x vocabulary x a quarter of the tokens (ours).

Example:
    >>> tiny = Architecture(2, 8, 16, 2, 2, 4, 100, True)
    >>> count_parameters(tiny)
    2120
"""

from __future__ import annotations

from dataclasses import dataclass

WAYS = ("lora", "qlora", "full")
TOKENS_PER_STEP = 4096
LORA_RANK = 16
NF4_BITS = 4.127
SUPERVISED_SHARE = 0.25


@dataclass(frozen=True, slots=True)
class Architecture:
    """The sizes in a decoder's published configuration (gated feed-forward block, grouped attention)."""

    layers: int
    hidden: int
    feed_forward: int
    heads: int
    kv_heads: int
    head_size: int
    vocabulary: int
    is_tied: bool


def linear_shapes(shape: Architecture) -> tuple[tuple[int, int], ...]:
    """(inputs, outputs) of the seven linear maps of one layer: q, k, v, o, gate, up, down."""
    queries, keys = shape.heads * shape.head_size, shape.kv_heads * shape.head_size
    return (
        (shape.hidden, queries),
        (shape.hidden, keys),
        (shape.hidden, keys),
        (queries, shape.hidden),
        (shape.hidden, shape.feed_forward),
        (shape.hidden, shape.feed_forward),
        (shape.feed_forward, shape.hidden),
    )


def count_embeddings(shape: Architecture) -> int:
    """Parameters of the input embedding and, where it is not tied to it, the output head."""
    return shape.vocabulary * shape.hidden * (1 if shape.is_tied else 2)


def count_parameters(shape: Architecture) -> int:
    """All parameters but biases and extra norms, which are under a tenth of a percent in the models catalogued."""
    per_layer = sum(inputs * outputs for inputs, outputs in linear_shapes(shape)) + 2 * shape.hidden
    return shape.layers * per_layer + shape.hidden + count_embeddings(shape)


def count_lora_parameters(shape: Architecture, rank: int = LORA_RANK) -> int:
    """Trained parameters of LoRA of this rank on every linear map."""
    return shape.layers * sum(rank * (inputs + outputs) for inputs, outputs in linear_shapes(shape))


def estimate_memory_bytes(
    shape: Architecture, parameters: int, way: str, *, tokens: int = TOKENS_PER_STEP, rank: int = LORA_RANK
) -> int:
    """Bytes needed to tune the model.

    Args:
        shape: the sizes of the model.
        parameters: its parameter count as published.
        way: `lora`, `qlora` or `full`.
        tokens: tokens on the device at once (micro-batch x length).
        rank: of the LoRA matrices.

    Raises:
        KeyError: an unknown way.
    """
    embeddings = count_embeddings(shape)
    adapters = 16.0 * count_lora_parameters(shape, rank)
    weights = {
        "lora": 2.0 * parameters + adapters,
        "qlora": 2.0 * embeddings + NF4_BITS / 8.0 * (parameters - embeddings) + adapters,
        "full": 16.0 * parameters,
    }[way]
    activations = 2.0 * shape.layers * tokens * shape.hidden + 34.0 * tokens * shape.hidden
    logits = 8.0 * shape.vocabulary * tokens * SUPERVISED_SHARE
    return round(weights + activations + logits)
