"""The tuned model as one folder of merged safetensors, sealed, and the proof that it answers as it was trained.

Guarantees: the archive is written tensor by tensor into one vault object (a deterministic tar), so memory holds one
layer's matrix beside the model; what is compared is read back out of the sealed file, not what was meant to be
written; it gets its name only once the comparison is passed; one that fails is removed and the command fails.
Does not: quantise, nor change the base's precision: a merged bf16 weight rounds the adapter's part away where it is
small, and the comparison says by how much that shows.

Example:
    ``python -m trainers export --spec spec.json --out run/ < keys.json``
"""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor

from compliance.vault import atomic_output, open_reader, seal_writer
from trainers.adapter import ADAPTER
from trainers.archive import MODEL_WEIGHTS, model_texts
from trainers.encoding import Split, encode, encode_labelled
from trainers.errors import EXIT_REFUSED, TrainerError
from trainers.evaluation import Bench, open_bench
from trainers.events import ExportFinished
from trainers.keys import Keys
from trainers.label_head import HEAD
from trainers.lora_linear import row_lengths
from trainers.process import Speaker, Stop
from trainers.shards import context_of, read_records
from trainers.spec import PAIRED, Spec

EXPORT_FILE = "merged.sealed"
UNPROVEN_FILE = "merged.unproven"
#: What the export has to reach: share of positions with the same most likely token, and mean divergence in nats.
LEAST_AGREEMENT = 0.97
MOST_DIVERGENCE = 0.02
COMPARED_RECORDS = 64
COMPARED_POSITIONS = 512

_NAMES = {torch.bfloat16: "BF16", torch.float32: "F32", torch.float16: "F16"}


@dataclass(frozen=True)
class Parity:
    """How alike two models answer at ``positions`` places of held-out answers."""

    positions: int
    agreement: float
    divergence: float

    @property
    def is_reached(self) -> bool:
        """Whether the export may be offered."""
        return self.agreement >= LEAST_AGREEMENT and self.divergence <= MOST_DIVERGENCE


def export(spec: Spec, keys: Keys, out: Path, speak: Speaker, stop: Stop) -> None:
    """Merges, seals, reads back and compares.

    Raises:
        TrainerError: ``export.way`` (a soft prompt cannot be merged); ``export.parity``, after which no export is left;
            and as ``open_bench``.
        Cancelled: a signal came; no export is left.
    """
    if spec.way == "prompt":
        raise TrainerError("export.way", "a soft prompt is no part of any weight", "ship the adapter, which peft loads")
    bench = open_bench(spec, keys, out, is_for_loss=False)
    records = []
    for record in read_records(spec.data.validation, keys.data_key, "validation", are_pairs=spec.method in PAIRED):
        stop.check()
        records.append(record)
        if len(records) >= COMPARED_RECORDS:
            break
    if bench.adapter.labels:
        split = encode_labelled(records, bench.tokenizer, spec.max_length, "truncate", bench.adapter.labels)
    else:
        split = encode(records, bench.tokenizer, spec.max_length, "truncate")
    expected = _answers(bench.adapter.base, split, bench.device.name, stop)
    path = out / UNPROVEN_FILE
    context = context_of(spec.output.context, "merged")
    digest = hashlib.sha256()
    with atomic_output(path) as sink, seal_writer(sink, keys.output_key, context) as writer:
        for chunk in _archive(bench, Path(spec.model.path), stop):
            digest.update(chunk)
            writer.write(chunk)
    is_kept = False
    try:
        with path.open("rb") as source, open_reader(source, keys.output_key, context, writer.commitment) as reader:
            _read_back(io.BufferedReader(reader, 1 << 20), bench, stop)
        with bench.adapter.switched_off():
            parity = compare(expected, _answers(bench.adapter.base, split, bench.device.name, stop))
        is_kept = parity.is_reached
    finally:
        if not is_kept:
            path.unlink(missing_ok=True)
    if not is_kept:
        raise TrainerError(
            "export.parity",
            f"the merged model agrees at {parity.agreement:.4f} of {parity.positions} positions "
            f"(at least {LEAST_AGREEMENT}), divergence {parity.divergence:.4f} nats (at most {MOST_DIVERGENCE})",
            "ship the adapter instead, or train and export with precision fp32",
            EXIT_REFUSED,
        )
    with path.open("rb") as sealed:
        sealed_digest = "sha256:" + hashlib.file_digest(sealed, "sha256").hexdigest()
    size = path.stat().st_size
    path.replace(out / EXPORT_FILE)
    speak(
        ExportFinished(
            run=spec.run,
            file=EXPORT_FILE,
            digest=f"sha256:{digest.hexdigest()}",
            sealed_digest=sealed_digest,
            commitment=writer.commitment.hex(),
            bytes=size,
            positions=parity.positions,
            agreement=parity.agreement,
            divergence=parity.divergence,
        )
    )


def compare(expected: Tensor, found: Tensor) -> Parity:
    """Both (S, V) log-probabilities of the same positions."""
    agreement = (expected.argmax(-1) == found.argmax(-1)).float().mean()
    divergence = (expected.exp() * (expected - found)).sum(-1).mean()
    return Parity(expected.shape[0], float(agreement), float(divergence))


@torch.inference_mode()
def _answers(model: Any, split: Split, device: str, stop: Stop) -> Tensor:
    """(S, V) fp32 log-probabilities at the supervised positions of a split, as many as are compared.

    Of a classifier: of the labels, at the end of each prompt.
    """
    rows: list[Tensor] = []
    count = 0
    for index in range(len(split)):
        stop.check()
        tokens = torch.tensor([list(split.tokens_of(index))], device=device)
        if split.labels is not None:
            state = model.base_model(input_ids=tokens, use_cache=False).last_hidden_state[:, -1]
            logits = state.float() @ model.get_submodule(HEAD).weight.float().T
            rows.append(torch.log_softmax(logits, -1).cpu())
            continue
        places = torch.nonzero(torch.tensor(split.marks_of(index)))[:, 0].to(device) - 1
        logits = model(input_ids=tokens, use_cache=False, logits_to_keep=places).logits[0]
        rows.append(torch.log_softmax(logits.float(), -1).cpu())
        count += len(places)
        if count >= COMPARED_POSITIONS:
            break
    return torch.cat(rows)[:COMPARED_POSITIONS]


def _weights(bench: Bench) -> dict[str, Any]:
    """Name in the released model and the module or tensor that holds each weight; tied ones once."""
    places: dict[str, Any] = {}
    base = bench.adapter.base
    words, head = base.get_input_embeddings().weight, base.get_output_embeddings().weight
    seen: set[int] = set()
    for name, each in base.named_parameters(remove_duplicate=False):
        if ".lora_" in name or (each.data_ptr() in seen and each.numel()):
            continue
        # A classifier has its own head in place of the words', unless that is the embedding as well.
        if bench.adapter.labels and each is head and head is not words:
            continue
        seen.add(each.data_ptr())
        places[name.replace(".base_layer.", ".")] = each
    return dict(sorted(places.items()))


def _merged(bench: Bench, name: str, weight: Tensor) -> Tensor:
    """A weight with its adapter's part added in fp32, in its own precision."""
    path, _, kind = name.rpartition(".")
    module: Any = bench.adapter.base.get_submodule(path) if path else None
    if kind != "weight" or not hasattr(module, "lora_A") or ADAPTER not in module.lora_A:
        return weight
    whole: Tensor = weight.float() + module.get_delta_weight(ADAPTER).float()
    if ADAPTER in module.lora_magnitude_vector:
        whole *= (module.lora_magnitude_vector[ADAPTER].weight / row_lengths(module, ADAPTER))[:, None]
    return whole.to(weight.dtype)


def _archive(bench: Bench, folder: Path, stop: Stop) -> Iterator[bytes]:
    members = model_texts(folder, bench.adapter.labels)
    members["chat_template.jinja"] = str(bench.tokenizer.chat_template).encode()
    for name in sorted(members):
        yield _member(name, len(members[name]))
        yield members[name] + _padding(len(members[name]))
    weights = _weights(bench)
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, each in weights.items():
        begin, end = end, end + each.numel() * each.element_size()
        header[name] = {"dtype": _NAMES[each.dtype], "shape": list(each.shape), "data_offsets": [begin, end]}
    raw = json.dumps(header, separators=(",", ":")).encode()
    # Aligned to eight bytes by blanks. Source: the format description of the safetensors project.
    raw += b" " * (-len(raw) % 8)
    total = 8 + len(raw) + end
    yield _member(MODEL_WEIGHTS, total)
    yield len(raw).to_bytes(8, "little") + raw
    for name, each in weights.items():
        stop.check()
        with torch.no_grad():
            yield _merged(bench, name, each.data).contiguous().cpu().view(torch.uint8).numpy().tobytes()
    yield _padding(total) + bytes(2 * tarfile.BLOCKSIZE)


def _member(name: str, size: int) -> bytes:
    info = tarfile.TarInfo(name)
    info.size, info.mode = size, 0o644
    return info.tobuf(tarfile.USTAR_FORMAT)


def _padding(size: int) -> bytes:
    return bytes(-size % tarfile.BLOCKSIZE)


def _read_back(source: BinaryIO, bench: Bench, stop: Stop) -> None:
    """Puts the weights of the sealed archive into the base model, in place."""
    places = _weights(bench)
    with tarfile.open(fileobj=source, mode="r|") as tar:
        for info in tar:
            member = tar.extractfile(info) if info.name == MODEL_WEIGHTS else None
            if member is None:
                continue
            header = json.loads(member.read(int.from_bytes(member.read(8), "little")))
            for name, place in places.items():
                stop.check()
                begin, end = header[name]["data_offsets"]
                content = torch.frombuffer(bytearray(member.read(end - begin)), dtype=place.dtype)
                with torch.no_grad():
                    place.data.copy_(content.view(place.shape))
