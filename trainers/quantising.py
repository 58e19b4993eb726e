"""Linear layers in eight or four bits, by torchao, after training.

Guarantees: weights of the blocks only, the embedding and the head stay; eight bits with a scale a row, four bits with a
scale for every 32 neighbours; a layer whose width does not divide by 32 stays as it is in four bits, and is counted.
Does not: quantise activations, nor choose by calibration; K-quants of ``trainers.export`` are the form to ship, these
show what a server that quantises on loading will answer.

Example:
    >>> quantise(model, "int4")
    0
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
from typing import Any

import torch
from torch import nn

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
    with contextlib.redirect_stderr(io.StringIO()):  # It says which CUDA libraries it did not find.
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


def packed_bytes(weight: nn.Parameter, kind: str) -> int:
    """What a quantised weight takes on a disk: its bits, and its scales in sixteen bits."""
    scales = weight.shape[0] if kind == "int8" else weight.numel() // GROUP
    return weight.numel() * BITS[kind] // 8 + 2 * scales
