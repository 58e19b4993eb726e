"""A sealed adapter opened for serving: what a run ships, read by what it says of itself.

Low-rank adapters (LoRA, rank-stabilised, DoRA), soft prompts and classifiers are laid over the base that is loaded;
a fully trained model cannot share its weights and becomes a model of its own.

Guarantees: an archive whose settings ask for anything that is not done here is refused and the setting named; weights
fit the base's layers in name and shape; plaintext is in memory only.
Does not: check that the adapter was trained on this very base beyond names and shapes, unless its settings pin the
base's digest, which a run's do.

Example:
    >>> opened = open_archive(read_sealed(path, key, context), model, layers, folder)
    >>> opened.low_rank, opened.bytes
"""

from __future__ import annotations

import copy
import io
import json
import math
import tarfile
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from trainers.archive import ADAPTER_WEIGHTS, MODEL_WEIGHTS
from trainers.errors import TrainerError
from trainers.label_head import HEADS
from trainers.model_folder import ModelFolder
from trainers.row_adapters import Factors, LowRank, RowLayers

SETTINGS = "adapter_config.json"
_PREFIX = "base_model.model."
#: Settings of peft that change what an adapter computes, and the values under which they change nothing.
_NEUTRAL: dict[str, tuple[Any, ...]] = {
    "bias": ("none",),
    "lora_bias": (False, None),
    "fan_in_fan_out": (False, None),
    "rank_pattern": ({}, None),
    "alpha_pattern": ({}, None),
    "layer_replication": (None,),
    "layers_to_transform": (None, []),
    "trainable_token_indices": (None,),
    "target_parameters": (None, []),
    "alora_invocation_tokens": (None,),
    "use_qalora": (False, None),
    "arrow_config": (None,),
    "init_lora_weights": (True, False, None, "gaussian", "orthogonal", "eva"),
}


@dataclass
class OpenedAdapter:
    """What a row needs of its adapter.

    Attributes:
        low_rank: factors laid over the base, or None.
        prompt: (P, D) vectors before every input, or None.
        model: a model of its own, or None where the base's is used.
        head: (labels, D) of a classifier, whose answer is one of ``labels``; or of tags, which it gives to tokens.
        bias: (labels,) of a head for tags.
        bytes: of all of these.
    """

    low_rank: LowRank | None = None
    prompt: Tensor | None = None
    model: Any = None
    head: Tensor | None = None
    labels: tuple[str, ...] = ()
    bias: Tensor | None = None
    bytes: int = 0

    @property
    def are_tags(self) -> bool:
        """Whether the labels are tags, one for each token, and the answer spans."""
        return self.bias is not None


def open_archive(content: bytes, model: Any, layers: RowLayers, folder: ModelFolder) -> OpenedAdapter:
    """The adapter in an archive as ``trainers.archive`` writes it.

    Raises:
        TrainerError: ``adapter.unreadable`` (no such archive), ``adapter.setting`` (wants what is not served),
            ``adapter.other`` (of another base).
    """
    from safetensors import SafetensorError
    from safetensors.torch import load

    members = _members(content)
    settings = json.loads(members.get(SETTINGS, b"null"))
    name = MODEL_WEIGHTS if settings is None else ADAPTER_WEIGHTS
    try:
        tensors = load(members[name])
    except (KeyError, SafetensorError):
        raise _unreadable(f"it holds no {name}") from None
    if settings is None:
        return _whole_model(tensors, json.loads(members.get("config.json", b"{}")), model)
    pinned = settings.get("revision")
    if isinstance(pinned, str) and pinned.startswith("sha256:") and pinned != folder.digest:
        raise TrainerError("adapter.other", "the adapter was made on another base model", "serve it with its own base")
    kind = settings.get("peft_type")
    if kind == "PROMPT_TUNING":
        return _soft_prompt(tensors, model)
    if kind != "LORA":
        raise _unserved(f"peft_type {str(kind)[:40]}")
    return _low_rank(tensors, settings, json.loads(members.get("labels.json", b"[]")), layers)


def _members(content: bytes) -> dict[str, bytes]:
    try:
        with tarfile.open(fileobj=io.BytesIO(content)) as tar:
            found = {member.name: tar.extractfile(member) for member in tar.getmembers() if member.isfile()}
            return {name: source.read() for name, source in found.items() if source is not None}
    except tarfile.TarError:
        raise _unreadable("it is no archive") from None


def _unreadable(why: str) -> TrainerError:
    return TrainerError("adapter.unreadable", f"the adapter cannot be read: {why}", "give adapter.sealed of a run")


def _unserved(what: str) -> TrainerError:
    return TrainerError(
        "adapter.setting", f"the adapter's setting {what} is not served here", "merge it with `export` and serve that"
    )


def _low_rank(
    tensors: dict[str, Tensor], settings: dict[str, Any], labels: list[str], layers: RowLayers
) -> OpenedAdapter:
    for name, neutral in _NEUTRAL.items():
        if name in settings and settings[name] not in neutral:
            raise _unserved(name)
    if (settings.get("modules_to_save") or []) not in ([[name] for name in HEADS] if labels else [[]]):
        raise _unserved("modules_to_save")
    rank = int(settings["r"])
    scaling = settings["lora_alpha"] / (math.sqrt(rank) if settings.get("use_rslora") else rank)
    parts = {name.removeprefix(_PREFIX).removesuffix(".weight"): each for name, each in tensors.items()}
    head, bias = _head(parts, "")
    factors = {}
    for path in sorted({name.rpartition(".")[0] for name in parts}):
        layer = layers.layers.get(path)
        low, high = parts.pop(f"{path}.lora_A", None), parts.pop(f"{path}.lora_B", None)
        lengths = parts.pop(f"{path}.lora_magnitude_vector", None)
        if layer is None or low is None or high is None or not _fits(layer, low, high):
            raise TrainerError("adapter.other", "the adapter is of another model", "serve it with its own base")
        factors[path] = _factors(layer, low, high, lengths, scaling)
    if (
        parts
        or not factors
        or bool(settings.get("use_dora")) != any(each.lengths is not None for each in factors.values())
    ):
        raise _unreadable("its weights are not those its settings name")
    opened = OpenedAdapter(LowRank(factors), labels=tuple(labels))
    some = next(iter(factors.values())).low
    if labels:
        if head is None or head.shape[0] != len(labels) or (bias is None) == (settings.get("task_type") == "TOKEN_CLS"):
            raise _unreadable("it has labels and no head for them")
        opened.head = head.to(some.device, some.dtype)
        opened.bias = None if bias is None else bias.to(some.device, some.dtype)
    tensors_held = [each for part in factors.values() for each in (part.low, part.high)]
    opened.bytes = sum(each.numel() * each.element_size() for each in tensors_held)
    return opened


def _head(parts: dict[str, Tensor], ending: str) -> tuple[Tensor | None, Tensor | None]:
    """Takes weight and bias of a classifier's head out of named tensors, of which weights have this ending."""
    name = next((each for each in HEADS if f"{each}{ending}" in parts), HEADS[0])
    return parts.pop(f"{name}{ending}", None), parts.pop(f"{name}.bias", None)


def _fits(layer: torch.nn.Linear, low: Tensor, high: Tensor) -> bool:
    return low.shape[1:] == (layer.in_features,) and high.shape == (layer.out_features, low.shape[0])


@torch.no_grad()
def _factors(layer: torch.nn.Linear, low: Tensor, high: Tensor, lengths: Tensor | None, scaling: float) -> Factors:
    device, dtype = layer.weight.device, layer.weight.dtype
    low, high = low.to(device), high.to(device).float() * scaling
    if lengths is not None:
        whole = torch.addmm(layer.weight.float(), high, low.float())
        lengths = (lengths.to(device).float() / torch.linalg.vector_norm(whole, dim=1)).to(dtype)
    return Factors(low.to(dtype), high.to(dtype), lengths)


def _soft_prompt(tensors: dict[str, Tensor], model: Any) -> OpenedAdapter:
    words = model.get_input_embeddings().weight
    prompt = tensors.get("prompt_embeddings")
    if prompt is None or prompt.dim() != 2 or prompt.shape[1] != words.shape[1]:
        raise TrainerError("adapter.other", "the soft prompt is of another model", "serve it with its own base")
    prompt = prompt.to(words.device, words.dtype)
    return OpenedAdapter(prompt=prompt, bytes=prompt.numel() * prompt.element_size())


def _whole_model(tensors: dict[str, Tensor], config: dict[str, Any], base: Any) -> OpenedAdapter:
    """A fully trained model beside the base; of a classifier with its head."""
    if config.get("model_type") != base.config.model_type:
        raise TrainerError("adapter.other", "the model is of another family than the base", "serve it by itself")
    named = config.get("id2label") or {}
    head, bias = _head(tensors, ".weight")
    labels = tuple(named[str(number)] for number in range(len(named))) if head is not None else ()
    words = base.get_input_embeddings().weight
    try:
        model, report = type(base).from_pretrained(
            None,
            config=copy.deepcopy(base.config),
            state_dict=tensors,
            dtype=words.dtype,
            output_loading_info=True,
            use_safetensors=True,
        )
    except RuntimeError:  # weights of other shapes; what it says is not ours
        raise TrainerError(
            "adapter.other", "the model's weights are not of the base's shapes", "serve it by itself"
        ) from None
    lacking = {*report["missing_keys"], *(str(each) for each in report["mismatched_keys"]), *report["unexpected_keys"]}
    if lacking - ({"lm_head.weight"} if labels else set()):
        raise TrainerError("adapter.other", "the model's weights are not of the base's shapes", "serve it by itself")
    model.requires_grad_(False)
    model.eval()
    held = sum(each.numel() * each.element_size() for each in model.parameters())
    return OpenedAdapter(
        model=model.to(words.device),
        labels=labels,
        head=None if head is None else head.to(words.device, words.dtype),
        bias=None if bias is None else bias.to(words.device, words.dtype),
        bytes=held,
    )
