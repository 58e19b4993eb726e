"""The trained network as an ONNX graph with eight-bit weights, for a runtime without torch.

Guarantees: large products run on integers (weights scaled by column, activations by tensor); embeddings are eight-bit
with a scale a row; attention, norms and the head stay 32-bit floats. Does not: train for quantisation; ``parity`` says
what it costs.

Source: ONNX Runtime contrib operators DynamicQuantizeMatMul, MultiHeadAttention and Gelu.

Example:
    >>> write_folder(network, Path("compliance/redaction/model"))
"""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor

from trainers.tagger.labels import LABELS
from trainers.tagger.network import EPSILON, HEADS, HIDDEN, Network
from trainers.tagger.rampart import installed_folder
from trainers.tagger.student import DILATIONS, INPUT_MOST, STATE_MOST, WIDTH, Student

_RUNTIME = "com.microsoft"


@dataclass(frozen=True, slots=True)
class _Scale:
    """How eight bits stand for numbers: ``step * (integer - zero)``."""

    step: float
    zero: int

    def quantised(self, values: Any) -> Any:
        """The nearest integers, within 0 and 255."""
        return np.clip(np.rint(values / self.step) + self.zero, 0, 255).astype(np.uint8)


class _Graph:
    """Nodes and tensors as they are added; names are made from what a thing is."""

    def __init__(self, weights: dict[str, Any]) -> None:
        self.weights = weights
        self.nodes: list[Any] = []
        self.tensors: dict[str, Any] = {}

    def constant(self, name: str, value: Any) -> str:
        """A tensor under a name; the same name twice is the same tensor."""
        self.tensors.setdefault(name, numpy_helper.from_array(np.array(value, order="C"), name))
        return name

    def add(self, operator: str, inputs: list[str], output: str, domain: str = "", **attributes: Any) -> str:
        """One node with one output."""
        self.nodes.append(helper.make_node(operator, inputs, [output], domain=domain, **attributes))
        return output

    def product(self, source: str, names: list[str], output: str) -> str:
        """``source @ W + b`` on integers; several layers that share their input become one product."""
        weight = np.concatenate([self.weights[f"{name}.weight"] for name in names]).T
        bias = np.concatenate([self.weights[f"{name}.bias"] for name in names])
        scales = np.maximum(np.abs(weight).max(0), 1e-8) / 127
        integers = np.clip(np.rint(weight / scales), -127, 127).astype(np.int8)
        inputs = [
            source,
            self.constant(f"{output}.weight", integers),
            self.constant(f"{output}.scale", scales.astype(np.float32)),
            self.constant(f"{output}.zero", np.zeros(len(scales), np.int8)),
            self.constant(f"{output}.bias", bias.astype(np.float32)),
        ]
        return self.add("DynamicQuantizeMatMul", inputs, output, _RUNTIME)

    def scale(self, scale: _Scale) -> list[str]:
        """Step and zero of a scale, as operators want them."""
        name = f"scale.{scale.step:.6f}.{scale.zero}"
        return [
            self.constant(f"{name}.step", np.float32(scale.step)),
            self.constant(f"{name}.zero", np.uint8(scale.zero)),
        ]

    def sum(self, one: str, of_one: _Scale, other: str, of_other: _Scale, output: str, of_output: _Scale) -> str:
        """The sum of two tensors of integers; what leaves the range of the output's scale becomes its bound."""
        inputs = [one, *self.scale(of_one), other, *self.scale(of_other), *self.scale(of_output)]
        return self.add("QLinearAdd", inputs, output, _RUNTIME)

    def convolution(
        self, source: str, of_source: _Scale, name: str, dilation: int, output: str, of_output: _Scale
    ) -> str:
        """A window of three over (1, T, 1, width) integers; the weights of each output have a step of their own."""
        weight = self.weights[f"{name}.weight"].reshape(WIDTH, 3, WIDTH).transpose(0, 2, 1)[..., None]
        steps = np.maximum(np.abs(weight).max((1, 2, 3)), 1e-8) / 127
        integers = np.clip(np.rint(weight / steps[:, None, None, None]), -127, 127).astype(np.int8)
        bias = np.rint(self.weights[f"{name}.bias"] / (steps * of_source.step)).astype(np.int32)
        inputs = [
            source,
            *self.scale(of_source),
            self.constant(f"{name}.integers", integers),
            self.constant(f"{name}.steps", steps.astype(np.float32)),
            self.constant(f"{name}.zeros", np.zeros(WIDTH, np.int8)),
            *self.scale(of_output),
            self.constant(f"{name}.offset", bias),
        ]
        return self.add(
            "QLinearConv", inputs, output, _RUNTIME, channels_last=1, kernel_shape=[3, 1],
            dilations=[dilation, 1], pads=[dilation, 0, dilation, 0], strides=[1, 1],
        )  # fmt: skip

    def norm(self, source: str, name: str, output: str) -> str:
        """Layer normalisation over the last dimension."""
        parts = [self.constant(f"{name}.{part}", self.weights[f"{name}.{part}"]) for part in ("weight", "bias")]
        return self.add("LayerNormalization", [source, *parts], output, axis=-1, epsilon=EPSILON)


def write_folder(student: Student, folder: Path) -> None:
    """Write ``tagger.onnx``, ``tokenizer.json`` and their digests, as ``compliance.redaction.tagger`` reads them."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "tagger.onnx").write_bytes(student_model(student.eval()))
    shutil.copyfile(installed_folder() / "tokenizer.json", folder / "tokenizer.json")
    digests = {
        name: "sha256:" + hashlib.sha256((folder / name).read_bytes()).hexdigest()
        for name in ("tagger.onnx", "tokenizer.json")
    }
    (folder / "digests.json").write_text(json.dumps(digests, indent=1) + "\n", encoding="utf-8")


def teacher_model(network: Network) -> bytes:
    """The serialised encoder: ``ids``, ``mask``, ``shapes`` (B, T) of int64 in, ``logits`` (B, T, labels) out."""
    graph = _Graph({name: value.detach().float().numpy() for name, value in network.state_dict().items()})
    state = _embedded(graph)
    # 1 for a piece, 0 for padding, as the attention operator wants it.
    padding = graph.add("Cast", ["mask"], "padding", to=TensorProto.INT32)
    for number in range(len(network.layers)):
        state = _layer(graph, state, padding, f"layers.{number}")
    head = graph.constant("head.weight", graph.weights["head.weight"].T)
    product = graph.add("MatMul", [state, head], "head.product")
    graph.add("Add", [product, graph.constant("head.bias", graph.weights["head.bias"])], "logits")
    shape = {name: ["B", "T"] for name in ("ids", "mask", "shapes")}
    return _serialised(graph, shape, "logits", ["B", "T", len(LABELS)])


def word_table(model: bytes) -> Tensor:
    """The embeddings (pieces, hidden) in a serialised encoder."""
    tensors = {t.name: numpy_helper.to_array(t) for t in onnx.load_model_from_string(model).graph.initializer}
    return torch.from_numpy(tensors["words"].astype(np.float32) * tensors["words.scale"])


def student_model(student: Student) -> bytes:
    """The serialised student: ``ids``, ``shapes`` (T,) and ``firsts`` (N,) in, ``probabilities`` (N, labels) out.

    ``firsts`` are the indices of the pieces for which an answer is wanted. States are eight-bit integers throughout.
    """
    graph = _Graph({name: value.detach().float().numpy() for name, value in student.state_dict().items()})
    given = _Scale(INPUT_MOST / 127, 128)
    states, changes = _Scale(STATE_MOST / 255, 0), _Scale(STATE_MOST / 127, 128)
    rows = []
    for name in ("words", "shapes"):
        table = graph.constant(f"{name}.table", given.quantised(graph.weights[f"{name}.weight"]))
        rows.append(graph.add("Gather", [table, "ids" if name == "words" else "shapes"], f"{name}.rows", axis=0))
    embedded = graph.sum(rows[0], given, rows[1], given, "embedded", given)
    plane = graph.constant("plane", np.array([1, -1, 1, WIDTH]))
    state = graph.add("Reshape", [embedded, plane], "embedded.plane")
    for number, dilation in enumerate(DILATIONS):
        if number == 0:
            state = graph.convolution(state, given, "windows.0", dilation, "state.0", states)
            continue
        change = graph.convolution(state, states, f"windows.{number}", dilation, f"change.{number}", changes)
        state = graph.sum(state, states, change, changes, f"state.{number}", states)
    flat = graph.add("Reshape", [state, graph.constant("flat", np.array([-1, WIDTH]))], "states")
    chosen = graph.add("Gather", [flat, "firsts"], "chosen", axis=0)
    floats = graph.add("DequantizeLinear", [chosen, *graph.scale(states)], "floats")
    head = graph.constant("head.weight", graph.weights["head.weight"].T)
    product = graph.add("MatMul", [floats, head], "head.product")
    logits = graph.add("Add", [product, graph.constant("head.bias", graph.weights["head.bias"])], "logits")
    graph.add("Softmax", [logits], "probabilities", axis=-1)
    return _serialised(graph, {"ids": ["T"], "shapes": ["T"], "firsts": ["N"]}, "probabilities", ["N", len(LABELS)])


def _serialised(graph: _Graph, inputs: dict[str, list[Any]], output: str, shape: list[Any]) -> bytes:
    given = [helper.make_tensor_value_info(name, TensorProto.INT64, each) for name, each in inputs.items()]
    made = helper.make_tensor_value_info(output, TensorProto.FLOAT, shape)
    whole = helper.make_graph(graph.nodes, "tagger", given, [made], list(graph.tensors.values()))
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid(_RUNTIME, 1)]
    model = helper.make_model(whole, opset_imports=opsets, ir_version=9, producer_name="steward")
    onnx.checker.check_model(model)
    serialised: bytes = model.SerializeToString()
    return serialised


def _embedded(graph: _Graph) -> str:
    table = graph.weights["words.weight"]
    scales = np.maximum(np.abs(table).max(1, keepdims=True), 1e-8) / 127
    integers = np.clip(np.rint(table / scales), -127, 127).astype(np.int8)
    rows = graph.add("Gather", [graph.constant("words", integers), "ids"], "words.rows", axis=0)
    steps = graph.constant("words.scale", scales.astype(np.float32))
    steps = graph.add("Gather", [steps, "ids"], "words.steps", axis=0)
    rows = graph.add("Cast", [rows], "words.floats", to=TensorProto.FLOAT)
    words = graph.add("Mul", [rows, steps], "words.vectors")
    shapes = graph.constant("shapes.table", graph.weights["shapes.weight"])
    seen = graph.add("Gather", [shapes, "shapes"], "shapes.vectors", axis=0)
    extent = graph.add("Shape", ["ids"], "ids.shape")
    bounds = [graph.constant("one", np.array([1])), graph.constant("two", np.array([2]))]
    length = graph.add("Slice", [extent, *bounds], "T")
    places = graph.constant("places.table", graph.weights["places.weight"])
    zero = graph.constant("zero", np.array([0]))
    here = graph.add("Slice", [places, zero, length, zero], "places")
    total = graph.add("Add", [graph.add("Add", [words, seen], "words.shaped"), here], "embedded")
    return graph.norm(total, "norm", "embedded.norm")


def _layer(graph: _Graph, state: str, padding: str, name: str) -> str:
    joint = graph.product(state, [f"{name}.{part}" for part in ("query", "key", "value")], f"{name}.qkv")
    parts = [f"{name}.{part}" for part in ("q", "k", "v")]
    thirds = graph.constant("thirds", np.array([HIDDEN] * 3))
    graph.nodes.append(helper.make_node("Split", [joint, thirds], parts, axis=-1))
    mixed = graph.add("MultiHeadAttention", [*parts, "", padding], f"{name}.mixed", _RUNTIME, num_heads=HEADS)
    out = graph.product(mixed, [f"{name}.out"], f"{name}.projected")
    residual = graph.add("Add", [out, state], f"{name}.residual")
    state = graph.norm(residual, f"{name}.attended", f"{name}.normed")
    wide = graph.product(state, [f"{name}.wide"], f"{name}.widened")
    active = graph.add("Gelu", [wide], f"{name}.active", _RUNTIME)
    narrow = graph.product(active, [f"{name}.narrow"], f"{name}.narrowed")
    residual = graph.add("Add", [narrow, state], f"{name}.residual2")
    return graph.norm(residual, f"{name}.done", f"{name}.result")
