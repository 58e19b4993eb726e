"""The numbers of a model's settings, judged by themselves before a library makes anything of them.

Guarantees: no number is NaN, or infinite where nothing released is; sizes, layers, shares and epsilons are what they
can be; rotary positions have a base, a kind of scaling that is known, and factors that leave positions finite and in
their order. Does not: hold sizes against the weights (``trainers.admission`` does), nor know every family's own words:
what it does not know passes.

Source: transformers 5.23, ``modeling_rope_utils`` (``ROPE_INIT_FUNCTIONS`` and the conditions that
``_validate_*_rope_parameters`` only warn of); the sizes of released families.

Example:
    >>> number_problems({"rope_theta": 0}, tensors=20)
    ['rope_theta is 0; it must be from 1 to 1e+15']
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from typing import Any, TypeGuard

#: The largest whole number of a size: what databases and indices take everywhere.
MAX_SIZE = 2**31 - 1
#: What families call the number of their layers, each of which is made before a weight is looked at.
_LAYERS = re.compile(r"(?:num_|n_)?(?:hidden_|encoder_|decoder_)?layers?")
_SIZES = re.compile(
    r"hidden_size|vocab_size|num_attention_heads|num_key_value_heads|max_position_embeddings"
    r"|n_embd|n_heads?|n_positions|n_ctx|original_max_position_embeddings"
)
_SHARE = re.compile(r"(?:\w+_)?(?:dropout|pdrop)(?:_prob|_rate|_p)?")
_EPSILON = re.compile(r"(?:\w+_)?(?:eps|epsilon)")
#: Settings by name: least and most.
_BETWEEN: dict[str, tuple[float, float]] = {
    **dict.fromkeys(("rope_theta", "rotary_emb_base", "rope_local_base_freq", "global_rope_theta"), (1.0, 1e15)),
    **dict.fromkeys(("partial_rotary_factor", "rotary_pct"), (1e-3, 4.0)),
}
#: The same within the settings of rotary positions, whose names say something else elsewhere.
_ROTARY: dict[str, tuple[float, float]] = {
    **_BETWEEN,
    "factor": (1.0, 1e6),
    **dict.fromkeys(("low_freq_factor", "high_freq_factor", "attention_factor", "beta_fast", "beta_slow"), (1e-6, 1e6)),
    **dict.fromkeys(("short_factor", "long_factor"), (1e-3, 1e6)),
}
_ROTARY_SETTINGS = ("rope_parameters", "rope_scaling")
#: "mrope" and "su" are older words, which transformers renames.
_KINDS = ("default", "linear", "dynamic", "yarn", "longrope", "llama3", "proportional", "axial", "mrope", "su", None)
#: Where the released files of a family hold a bound that is none. Source: Mamba 2's ``config.json``.
_MAY_BE_INFINITE = ("time_step_limit",)


def number_problems(settings: dict[str, Any], tensors: int) -> list[str]:
    """What is wrong with the numbers of a configuration whose weights come in so many tensors (0: not known)."""
    problems = []
    for parts in (settings, *(each for each in settings.values() if isinstance(each, dict))):
        for key, value in parts.items():
            if _LAYERS.fullmatch(str(key)) and _is_number(value) and value > tensors > 0:
                problems.append(f"{_short(key)} is more than the files have weights")
            elif said := _bound_problem(str(key), value, _BETWEEN):
                problems.append(said)
        for name in _ROTARY_SETTINGS:
            problems += _rotary_problems(parts.get(name))
    return list(dict.fromkeys(problems))


def odd_numbers(value: Any, within: str = "") -> Iterator[str]:
    """Names of settings, at any depth, that are NaN, or infinite where nothing released is."""
    if isinstance(value, dict):
        tagged = value.get("__float__")  # transformers' way of writing them
        if isinstance(tagged, str) and (within not in _MAY_BE_INFINITE or tagged == "NaN"):
            yield within
        for key, each in value.items():
            yield from odd_numbers(each, str(key))
    elif isinstance(value, list):
        for each in value:
            yield from odd_numbers(each, within)
    elif isinstance(value, float) and not math.isfinite(value) and (within not in _MAY_BE_INFINITE or value != value):
        yield within


def _rotary_problems(settings: Any) -> list[str]:
    """Of one set of rotary positions, or of one for each kind of layer."""
    if not isinstance(settings, dict):
        return []
    problems = [said for each in settings.values() for said in _rotary_problems(each)]
    for key in ("rope_type", "type"):
        if settings.get(key) not in _KINDS:
            problems.append(f"{key} names a scaling of rotary positions that is not known")
    for key, value in settings.items():
        for each in value if isinstance(value, list) else [value]:
            if said := _bound_problem(str(key), each, _ROTARY):
                problems.append(said)
    for low, high in (("low_freq_factor", "high_freq_factor"), ("beta_slow", "beta_fast")):
        lower, higher = settings.get(low), settings.get(high)
        if _is_number(lower) and _is_number(higher) and not lower < higher:
            problems.append(f"{low} must be less than {high}")
    return problems


def _bound_problem(key: str, value: Any, between: dict[str, tuple[float, float]]) -> str:
    if not _is_number(value) or (isinstance(value, float) and not math.isfinite(value)):
        return ""  # ``odd_numbers`` tells of those
    if _LAYERS.fullmatch(key) or _SIZES.fullmatch(key):
        least, most = 1.0, float(MAX_SIZE)
    elif _SHARE.fullmatch(key) or _EPSILON.fullmatch(key):
        least, most = 0.0, 1.0
    elif key in between:
        least, most = between[key]
    else:
        return ""
    if least <= value <= most:
        return ""
    said = str(value)
    said = said if len(said) <= 20 else f"{said[:20]}…"
    return f"{_short(key)} is {said}; it must be from {least:g} to {most:.10g}"


def _is_number(value: Any) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _short(key: Any) -> str:
    return str(key)[:40]
