"""LoRA adapters: laid on a model by peft, held as one flat vector, shipped as one deterministic archive.

Guarantees: all trainable numbers and their gradients are views into two fp32 vectors, so optimiser, clipping,
checkpoint and digest each deal with one tensor; the archive of equal weights, base and template is equal byte by byte.
Does not: touch the base weights.

Example:
    >>> adapter = lay_lora(model, spec.lora, seed=0)
    >>> archive = pack_adapter(adapter, spec, base_digest, tokenizer)
"""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from trainers.errors import TrainerError
from trainers.lora_linear import sum_inside
from trainers.spec import LoraSpec

ADAPTER = "default"


@dataclass
class Adapter:
    """A model with adapters.

    Attributes:
        model: peft's model.
        weights: (P,) fp32, every trainable number; the parameters of ``model`` are views into it.
        grads: (P,) fp32, their gradients, likewise.
        places: name of each parameter (as in ``adapter_model.safetensors``), its shape and its place in the vector.
    """

    model: Any
    weights: Tensor
    grads: Tensor
    places: list[tuple[str, torch.Size, int]]

    @property
    def base(self) -> Any:
        """The causal model with the adapters in its linear layers."""
        return self.model.get_base_model()

    def named(self, vector: Tensor) -> dict[str, Tensor]:
        """A flat vector cut into named tensors."""
        return {name: vector[at : at + shape.numel()].view(shape) for name, shape, at in self.places}

    @contextmanager
    def holding(self, vector: Tensor) -> Iterator[None]:
        """Puts other weights in for a while, for example the best ones."""
        kept = self.weights.detach().clone()
        with torch.no_grad():
            self.weights.copy_(vector)
        try:
            yield
        finally:
            with torch.no_grad():
                self.weights.copy_(kept)


def lay_lora(model: Any, lora: LoraSpec, seed: int) -> Adapter:
    """Puts LoRA layers on a model; A is drawn from the seed, B is zero, so the model answers as before.

    Raises:
        TrainerError: ``model.targets``, when no layer of the model has one of the names.
    """
    from peft import LoraConfig, get_peft_model

    targets = "all-linear" if lora.targets == ("all-linear",) else list(lora.targets)
    config = LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=targets,
        use_rslora=lora.is_rank_stabilised,
        task_type="CAUSAL_LM",
    )
    torch.manual_seed(seed)
    try:
        laid = get_peft_model(model, config, adapter_name=ADAPTER)
    except ValueError:
        raise TrainerError(
            "model.targets",
            f"no linear layer of this model is named {', '.join(lora.targets)}",
            "set lora.targets to ['all-linear'] or to names of this model's layers",
        ) from None
    sum_inside(laid, ADAPTER)
    return _flatten(laid)


def _order(name: str) -> tuple[str, int, str, int]:
    """Layers one after the other; within one, all A before all B; query, key, value and gate, up side by side.

    Layers that read the same input thereby have their A matrices in one piece, which one product can use.
    """
    sides = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
    place = next((index for index, side in enumerate(sides) if f".{side}." in name), len(sides))
    prefix, _, rest = name.partition(".layers.")
    number, _, tail = rest.partition(".")
    return prefix, int(number) if number.isdecimal() else -1, "B" if "lora_B" in tail else "A", place


def _flatten(laid: Any) -> Adapter:
    trained = [(name, each) for name, each in laid.named_parameters() if each.requires_grad]
    trained.sort(key=lambda pair: (*_order(pair[0]), pair[0]))
    device = trained[0][1].device
    count = sum(each.numel() for _, each in trained)
    weights = torch.empty(count, dtype=torch.float32, device=device)
    grads = torch.zeros(count, dtype=torch.float32, device=device)
    places = []
    at = 0
    for name, each in trained:
        end = at + each.numel()
        weights[at:end] = each.data.reshape(-1)
        each.data = weights[at:end].view(each.shape)
        each.grad = grads[at:end].view(each.shape)
        places.append((name.replace(f".{ADAPTER}.", "."), each.shape, at))
        at = end
    return Adapter(laid, weights, grads, places)


def load_adapter(adapter: Adapter, archive: bytes) -> None:
    """Puts the weights of an archive into the model.

    Raises:
        TrainerError: ``adapter.other``, when they are not of this model and these settings.
    """
    from safetensors.torch import load

    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        member = tar.extractfile("adapter_model.safetensors")
        tensors = load(member.read()) if member is not None else {}
    if {name: each.shape for name, each in tensors.items()} != {name: shape for name, shape, _ in adapter.places}:
        raise TrainerError(
            "adapter.other", "the adapter is of another model or rank", "use the spec the adapter was made with"
        )
    for name, place in adapter.named(adapter.weights).items():
        place.copy_(tensors[name])


def pack_adapter(adapter: Adapter, vector: Tensor, base: dict[str, str], facts: str, tokenizer: Any) -> bytes:
    """The archive (tar) that peft and its friends load once unpacked.

    Args:
        adapter: for names and settings.
        vector: (P,) the weights to ship.
        base: ``name`` and ``digest`` of the base model's folder.
        facts: the text of ``README.md``.
        tokenizer: for its chat template.
    """
    from safetensors.torch import save

    config = adapter.model.peft_config[ADAPTER].to_dict()
    config |= {"base_model_name_or_path": base["name"], "revision": base["digest"], "inference_mode": True}
    config["target_modules"] = sorted(config["target_modules"]) if config["target_modules"] else None
    tensors = {name: each.detach().cpu().contiguous() for name, each in adapter.named(vector).items()}
    members = {
        "README.md": facts.encode(),
        "adapter_config.json": json.dumps(config, indent=2, sort_keys=True, default=str).encode(),
        "adapter_model.safetensors": save(tensors, metadata={"format": "pt"}),
    }
    if tokenizer.chat_template:
        members["chat_template.jinja"] = str(tokenizer.chat_template).encode()
    return deterministic_tar(members)


def deterministic_tar(members: dict[str, bytes]) -> bytes:
    """A POSIX tar of the members in the order of their names, with no time, no owner and fixed modes."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name in sorted(members):
            info = tarfile.TarInfo(name)
            info.size = len(members[name])
            info.mode = 0o644
            tar.addfile(info, io.BytesIO(members[name]))
    return buffer.getvalue()


def digest_of(content: bytes) -> str:
    """``sha256:`` and 64 hexadecimal digits."""
    return "sha256:" + hashlib.sha256(content).hexdigest()
