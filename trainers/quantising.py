"""Linear layers in eight or four bits, by torchao, after training.

Guarantees: weights of the blocks only, the embedding and the head stay; eight bits with a scale a row, four bits with a
scale for every 32 neighbours; a layer whose width does not divide by 32 stays as it is in four bits, and is counted.
Eight bits go into a safetensors file without pickle, which transformers reads back number by number.
Does not: quantise activations, nor choose by calibration. Four bits are not written: torchao lays each weight into a
whole byte, so that a file would be no smaller than one of eight bits; K-quants of ``trainers.export`` are to ship.

Example:
    >>> quantise(model, "int4")
    0
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from trainers.errors import TrainerError
from trainers.pruning import blocks_of, linears_of

GROUP = 32
BITS = {"int8": 8, "int4": 4}


def is_installed() -> bool:
    """Whether torchao is there, without loading it."""
    return importlib.util.find_spec("torchao") is not None


def quantise(model: Any, kind: str) -> int:
    """Replaces the weights, in place; returns how many layers had to stay.

    Raises:
        TrainerError: ``compress.quantise``, when torchao is not installed.
    """
    if not is_installed():
        raise TrainerError("compress.quantise", "torchao is not installed", "pip install 'steward[quantise]'")
    with _quiet():
        from torchao.quantization import Int8WeightOnlyConfig, IntxWeightOnlyConfig, quantize_
        from torchao.quantization.granularity import PerGroup
    config = (
        Int8WeightOnlyConfig()
        if kind == "int8"
        else IntxWeightOnlyConfig(weight_dtype=vars(torch)["int4"], granularity=PerGroup(GROUP))
    )
    stayed = 0
    for block in blocks_of(model):
        fitting = {each for each in linears_of(block).values() if kind == "int8" or each.in_features % GROUP == 0}
        stayed += len(linears_of(block)) - len(fitting)
        quantize_(block, config, filter_fn=lambda each, _, fitting=fitting: each in fitting)
    return stayed


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """For imports of torchao, which says on stderr which CUDA libraries it did not find."""
    with contextlib.redirect_stderr(io.StringIO()):
        yield


def flattened(weights: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Weights as plain tensors, and the words of a safetensors file by which torchao puts them together again."""
    with _quiet():
        from torchao.prototype.safetensors.safetensors_support import flatten_tensor_state_dict
    tensors, about = flatten_tensor_state_dict(dict(weights))
    return {name: tensors[name] for name in sorted(tensors)}, about


def is_laid_out(weight: Tensor) -> bool:
    """Whether torchao holds a weight in its own way."""
    return type(weight).__module__.startswith("torchao")


def loading_settings(model: Any) -> Any:
    """What transformers wants in ``config.json`` to load the eight bits as they are: nothing is quantised anew."""
    from transformers import TorchAoConfig

    with _quiet():
        from torchao.quantization import Int8WeightOnlyConfig
    plain = [
        name
        for name, each in model.named_modules()
        if isinstance(each, nn.Linear) and not is_laid_out(each.weight.data)
    ]
    return TorchAoConfig(Int8WeightOnlyConfig(), modules_to_not_convert=plain)


def packed_bytes(weight: nn.Parameter, kind: str) -> int:
    """What a quantised weight takes on a disk: its bits and their scales, of eight bits as torchao writes them (fp32
    and a zero point), of four, which it does not write, in sixteen bits."""
    scales = 5 * weight.shape[0] if kind == "int8" else 2 * (weight.numel() // GROUP)
    return weight.numel() * BITS[kind] // 8 + scales
