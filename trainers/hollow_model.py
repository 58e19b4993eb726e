"""A base model whose layers take no memory yet, and what reads pieces of them from its files.

For processes that hold a part of each layer only (``trainers.spread``): none of them ever has the whole model.

Guarantees: equals ``trainers.base_model.load_base`` once the layers are filled. Does not: know the ways in which some
families are stored otherwise than they are used (fused experts, renamed weights); there is then no hollow model.

Example:
    >>> hollow = load_hollow(folder, device, torch.bfloat16)
    >>> hollow.read(hollow.model.model.layers[0].mlp.up_proj.weight, 0, 1000).shape
    torch.Size([1000])
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from trainers.base_model import causal_class, freeze
from trainers.device import Device
from trainers.model_folder import ModelFolder
from trainers.recomputation import layers_of


@dataclass(frozen=True)
class Hollow:
    """``places`` says of each parameter, by its identity, in which file it lies and under which name."""

    model: Any
    places: dict[int, tuple[Path, str]]

    def read(self, parameter: Tensor, begin: int, end: int) -> Tensor:
        """(end - begin,) numbers of a parameter laid flat, as they lie in the file."""
        path, name = self.places[id(parameter)]
        width = parameter.shape[1:].numel()
        first, last = begin // width, -(-end // width)
        with safe_open(path, framework="pt") as source:
            rows: Tensor = source.get_slice(name)[first:last].reshape(-1)
        return rows[begin - first * width : end - first * width]


def load_hollow(folder: ModelFolder, device: Device, dtype: torch.dtype) -> Hollow | None:
    """The model with everything but its layers in place, or None where it has to be loaded whole.

    Raises:
        TrainerError: ``model.unknown``.
    """
    from accelerate import init_empty_weights
    from transformers import AutoConfig, AutoModelForCausalLM, GenerationConfig

    causal_class(folder)
    try:
        files = {name: path for path in sorted(folder.path.glob("*.safetensors")) for name in _names(path)}
    except (SafetensorError, OSError):
        return None  # who loads it whole will say what is wrong
    where = {"local_files_only": True, "trust_remote_code": False}
    config = AutoConfig.from_pretrained(str(folder.path), **where)
    with init_empty_weights(include_buffers=False):
        model = AutoModelForCausalLM.from_config(config, dtype=dtype)
    model.tie_weights()  # each parameter became another one when it lost its memory
    named = dict(model.named_parameters())
    layers = layers_of(model)
    stored = dict(model.named_parameters(remove_duplicate=False)).keys()
    if (
        layers is None
        or not named.keys() <= files.keys()
        or model.state_dict().keys() - stored
        or getattr(model, "_keep_in_fp32_modules", None)
    ):
        return None
    inside = {id(each) for each in layers.parameters()}
    places: dict[int, tuple[Path, str]] = {}
    for name, each in named.items():
        with safe_open(files[name], framework="pt") as source:
            if list(each.shape) != source.get_slice(name).get_shape():
                return None
            if id(each) in inside:
                filled = torch.empty(each.shape, dtype=dtype, device=device.name)
                filled.untyped_storage().resize_(0)
            else:
                filled = source.get_tensor(name).to(device.name, dtype, copy=True)
        owner, _, own = name.rpartition(".")
        parameter = torch.nn.Parameter(filled, requires_grad=False)
        setattr(model.get_submodule(owner), own, parameter)
        places[id(parameter)] = (files[name], name)
    model.tie_weights()
    for buffer in model.buffers():
        buffer.data = buffer.data.to(device.name)
    if (folder.path / "generation_config.json").is_file():
        model.generation_config = GenerationConfig.from_pretrained(str(folder.path), local_files_only=True)
    freeze(model)
    return Hollow(model, places)


def _names(path: Path) -> list[str]:
    with safe_open(path, framework="pt") as source:
        return list(source.keys())
