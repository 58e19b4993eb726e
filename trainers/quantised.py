"""A base model whose linear layers are held in 4 or 8 bits by bitsandbytes, and their weights as numbers again.

Guarantees: what is quantised is what transformers quantises (all linear layers but the head); a layer answers the same
whether it is trained on or only asked; without bitsandbytes a run is refused before data are read.
Does not: quantise what is trained, nor say that fewer bits are faster; on a CPU they save memory and cost time.

Example:
    >>> settings = bits_and_bytes(spec.quantise, torch.bfloat16)
    >>> weight_of(model.model.layers[0].mlp.up_proj).shape
    torch.Size([1536, 576])
"""

from __future__ import annotations

import importlib.util
import logging
from typing import Any

import torch
from torch import Tensor

from trainers.device import DTYPES
from trainers.errors import TrainerError
from trainers.spec import QuantiseSpec


def check_quantiser() -> None:
    """Whether the part that quantises is there.

    Raises:
        TrainerError: ``machine.quantise``.
    """
    if importlib.util.find_spec("bitsandbytes") is None:
        raise TrainerError(
            "machine.quantise",
            "the spec asks for a quantised base, and bitsandbytes is not installed",
            "install Steward's extra named quantise, or remove quantise from the spec",
        )


def bits_and_bytes(quantise: QuantiseSpec, dtype: torch.dtype) -> Any:
    """transformers' settings for a quantised model whose other parts are in ``dtype``.

    Raises:
        TrainerError: as ``check_quantiser``.
    """
    check_quantiser()
    # It tells every product that the input is cast, and that a faster kernel could be downloaded.
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    from transformers import BitsAndBytesConfig

    if quantise.form == "int8":
        return BitsAndBytesConfig(load_in_8bit=True)
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=quantise.is_double,
        bnb_4bit_compute_dtype=DTYPES.get(quantise.compute, dtype),
    )


def settle(model: Any) -> None:
    """Keeps bitsandbytes from laying weights out anew once a model is only asked: the layers would no longer train.

    Raises:
        TrainerError: ``model.quantise``, for layers that bitsandbytes 0.50 takes for others on a CPU: with rows that do
            not end where a block of ``nf4`` ends, it gives back wrong numbers (measured).
    """
    for module in model.modules():
        if not hasattr(module, "support_avx512bf16_for_cpu"):
            continue
        module.support_avx512bf16_for_cpu = False
        if module.weight.device.type == "cpu" and module.in_features % module.weight.quant_state.blocksize:
            raise TrainerError(
                "model.quantise",
                f"a layer reads {module.in_features} numbers, no multiple of {module.weight.quant_state.blocksize}",
                "set quantise.form to int8, or quantise on an accelerator",
            )


def form_of(linear: Any) -> str:
    """``nf4``, ``int8`` or, of a plain layer, nothing."""
    return {"Params4bit": "nf4", "Int8Params": "int8"}.get(type(linear.weight).__name__, "")


def shape_of(linear: Any) -> torch.Size:
    """(out, in) of a linear layer, quantised or not."""
    return torch.Size((linear.out_features, linear.in_features)) if form_of(linear) else linear.weight.shape


def weight_of(linear: Any) -> Tensor:
    """(out, in) the weight of a linear layer as numbers: the parameter itself, or what its bits stand for.

    Of ``nf4`` in the precision the model was loaded in, of ``int8`` in fp32.
    """
    form = form_of(linear)
    found: Tensor = linear.weight
    if form == "nf4":
        from bitsandbytes.functional import dequantize_4bit

        found = dequantize_4bit(linear.weight.data, linear.weight.quant_state)
    elif form == "int8":
        from bitsandbytes.functional import int8_vectorwise_dequant

        # The first product moves both from the parameter into the layer's state.
        state, kept = linear.state, linear.weight
        values, scales = (state.CB, state.SCB) if state.CB is not None else (kept.data, kept.SCB)
        found = int8_vectorwise_dequant(values, scales)
    return found
