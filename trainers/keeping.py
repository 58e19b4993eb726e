"""A compressed model sealed as a folder that transformers loads, in the very numbers that were measured.

Guarantees: the file holds what is in memory: weights are rounded to its precision before they are measured
(``round_to``), so that nothing is lost by writing; transformers computes with them in the precision they were measured
in, because the configuration says so. Bits that torchao laid out are written as they are. Does not: prove the file;
``trainers.compression`` has it read back.

Example:
    >>> round_to(model, torch.float16)
    >>> written = write(model, "wanda-50", torch.float16, spec, bench, path, key)
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from trainers import quantising
from trainers.archive import model_texts
from trainers.evaluation import Bench
from trainers.model_tar import tar_of
from trainers.sealed import Written, write_sealed
from trainers.shards import context_of
from trainers.spec import Spec


def kept_name(way: str) -> str:
    """The sealed file of a way that is kept."""
    return f"compressed-{way.replace(':', '_').replace('+', '-')}.sealed"


def kept_kind(way: str) -> str:
    """What the file is bound to, beside the run's place."""
    return kept_name(way).removesuffix(".sealed")


@torch.no_grad()
def round_to(model: Any, dtype: torch.dtype) -> None:
    """Gives all weights values that ``dtype`` can hold, in place; they go on being computed with as before."""
    for each in model.parameters():
        if not quantising.is_laid_out(each.data):
            each.copy_(each.to(dtype))


def write(model: Any, way: str, dtype: torch.dtype, spec: Spec, bench: Bench, path: Path, key: bytes) -> Written:
    """Seals a model, its weights in ``dtype``.

    Raises:
        TrainerError: ``output.unusable``.
    """
    seen: dict[int, str] = {}
    weights: dict[str, Tensor] = {}
    for name, each in sorted(model.named_parameters(remove_duplicate=False)):
        # A weight that torchao laid out has no address; it is tied to no other.
        if seen.setdefault(each.data_ptr() or id(each), name) == name:
            weights[name] = each.data
    plain = {name for name, each in weights.items() if not quantising.is_laid_out(each)}
    about: dict[str, str] = {}
    if way in quantising.BITS:
        weights, about = quantising.flattened(weights)
    forms = {name: (each.shape, dtype if name in plain else each.dtype) for name, each in weights.items()}
    pieces = tar_of(_texts(model, way, spec, bench), forms, lambda name: weights[name].to(forms[name][1]), about)
    return write_sealed(path, pieces, key, context_of(spec.output.context, kept_kind(way)))


def _texts(model: Any, way: str, spec: Spec, bench: Bench) -> dict[str, bytes]:
    texts = model_texts(Path(spec.model.path))
    config = copy.deepcopy(model.config)
    config.architectures = [type(model).__name__]
    if way in quantising.BITS:
        config.quantization_config = quantising.loading_settings(model)
    # Its precision is what is computed with, and stays that of the model in memory.
    texts["config.json"] = config.to_json_string(use_diff=False).encode()
    texts["chat_template.jinja"] = str(bench.tokenizer.chat_template).encode()
    text = bench.card.rpartition("---\n\n")[2]
    texts["README.md"] = f"---\nlibrary_name: transformers\n---\n\n{text}- compressed as {way}\n".encode()
    return texts
