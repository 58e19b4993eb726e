"""What a run ships: one deterministic tar, the same bytes for the same weights, base and template.

Two layouts. Low-rank adapters and soft prompts leave as peft keeps them (``adapter_config.json``,
``adapter_model.safetensors``); a fully trained model leaves as a model folder (``config.json``, the tokenizer's files,
``model.safetensors``). Both carry ``README.md`` and the chat template.

Guarantees: no time, owner or path of this machine is in the archive; weights that go back into a model were of its
names and shapes. Does not: seal; ``trainers.sealed`` does.

Example:
    >>> content = pack(adapter, best, folder, card, tokenizer)
    >>> load(adapter, content)
"""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from pathlib import Path
from typing import Any

from torch import Tensor

from trainers.adapter import Adapter
from trainers.errors import TrainerError
from trainers.label_head import classifier_name
from trainers.model_folder import ModelFolder

ADAPTER_WEIGHTS = "adapter_model.safetensors"
MODEL_WEIGHTS = "model.safetensors"
#: What belongs to a model beside its weights.
TEXT_FILES = (
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "tokenizer.model",
    "LICENSE",
)


def weights_file(adapter: Adapter) -> str:
    """The member of the archive that holds the trained numbers."""
    return MODEL_WEIGHTS if adapter.settings is None else ADAPTER_WEIGHTS


def pack(adapter: Adapter, vector: Tensor, folder: ModelFolder, card: str, tokenizer: Any) -> bytes:
    """The archive that peft, or for a whole model transformers, loads once unpacked.

    Args:
        adapter: for names and settings.
        vector: (P,) the weights to ship.
        folder: of the base model; its digest is pinned as the adapter's revision.
        card: the text of ``README.md``.
        tokenizer: for its chat template.
    """
    from safetensors.torch import save

    dtype = adapter.weights.dtype if adapter.autocast is None else adapter.autocast
    named, settings = adapter.shipped(vector)
    tensors = {name: each.detach().to("cpu", dtype).contiguous() for name, each in named.items()}
    members = {"README.md": card.encode(), weights_file(adapter): save(tensors, metadata={"format": "pt"})}
    if settings is None:
        members |= model_texts(folder.path, adapter.labels, are_tags=adapter.are_tags)
    else:
        settings |= {"base_model_name_or_path": folder.path.name, "revision": folder.digest, "inference_mode": True}
        members["adapter_config.json"] = json.dumps(settings, indent=2, sort_keys=True, default=str).encode()
        if adapter.labels:
            members["labels.json"] = json.dumps(adapter.labels, ensure_ascii=False).encode()
    if tokenizer.chat_template:
        members["chat_template.jinja"] = str(tokenizer.chat_template).encode()
    return deterministic_tar(members)


def model_texts(folder: Path, labels: tuple[str, ...] = (), *, are_tags: bool = False) -> dict[str, bytes]:
    """Configuration, tokenizer and licence of a model folder; of a classifier with its class and labels."""
    texts = {name: (folder / name).read_bytes() for name in TEXT_FILES if (folder / name).is_file()}
    if labels:
        config = json.loads(texts["config.json"])
        config["architectures"] = [classifier_name(config["model_type"], are_tags=are_tags)]
        config["id2label"] = {str(number): label for number, label in enumerate(labels)}
        config["label2id"] = {label: number for number, label in enumerate(labels)}
        texts["config.json"] = json.dumps(config, indent=2, ensure_ascii=False).encode() + b"\n"
    return texts


def load(adapter: Adapter, archive: bytes, vector: Tensor | None = None) -> str:
    """Puts the weights of an archive into the model, or into another vector of all that is trained; returns its card.

    Raises:
        TrainerError: ``adapter.other``, when they are not of this model and these settings.
    """
    from safetensors.torch import load as load_tensors

    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        name = weights_file(adapter)
        member = tar.extractfile(name) if name in tar.getnames() else None
        tensors = load_tensors(member.read()) if member is not None else {}
        card = tar.extractfile("README.md") if "README.md" in tar.getnames() else None
        text = card.read().decode() if card is not None else ""
    if {name: each.shape for name, each in tensors.items()} != {name: shape for name, shape, _ in adapter.places}:
        raise TrainerError(
            "adapter.other", "the adapter is of another model, way or rank", "use the spec the adapter was made with"
        )
    for name, place in adapter.named(adapter.weights if vector is None else vector).items():
        place.copy_(tensors[name])
    return text


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
