"""How many positions a model was made to tell apart, as its configuration says, and so how long a record may be.

Guarantees: no more than the configuration promises. Families that were trained on longer texts with scaled positions
(Llama 3, LongRoPE, most linear ones) name the new number as ``max_position_embeddings``; YaRN may name the first one,
and by how much that is stretched. Does not: try whether the promise is kept, nor guess where ``linear`` and ``dynamic``
stand beside a number that was left as it was: what is named is the bound there.

Source: transformers, ``modeling_rope_utils``; Peng et al. 2023, arXiv:2309.00071 (YaRN).

Example:
    >>> positions_of({"max_position_embeddings": 32768, "rope_scaling": {"rope_type": "yarn", "factor": 4.0}})
    131072
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from trainers.model_settings import MAX_SIZE
from trainers.spec import Spec


def positions_of(config: Mapping[str, Any]) -> int | None:
    """The number of positions, or None where none is named: of models that have no such bound."""
    named = config.get("max_position_embeddings", config.get("n_positions"))
    if not isinstance(named, int):
        return None
    return max([named, *(_stretched(config, each, named) for each in _scalings(config))])


def room_for_records(spec: Spec, config: Mapping[str, Any]) -> int | None:
    """Tokens of a record that a model can tell apart, beside those of a soft prompt before it; None without a bound."""
    positions = positions_of(config)
    return None if positions is None else positions - soft_prompt_tokens(spec)


def soft_prompt_tokens(spec: Spec) -> int:
    """Tokens that stand before every record."""
    return spec.prompt.tokens if spec.way == "prompt" else 0


def _scalings(config: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """How positions are scaled: once, or for each kind of layer."""
    for name in ("rope_scaling", "rope_parameters"):
        said = config.get(name)
        if isinstance(said, dict):
            yield said
            yield from (each for each in said.values() if isinstance(each, dict))


def _stretched(config: Mapping[str, Any], scaling: Mapping[str, Any], named: int) -> int:
    if scaling.get("rope_type", scaling.get("type")) != "yarn":
        return named
    # As transformers has it: the model's own word first, and without one the number above is what is stretched.
    first = config.get("original_max_position_embeddings") or scaling.get("original_max_position_embeddings") or named
    factor = scaling.get("factor")
    if not isinstance(first, int) or not isinstance(factor, int | float) or not math.isfinite(factor):
        return named
    return int(min(first * factor, MAX_SIZE))
