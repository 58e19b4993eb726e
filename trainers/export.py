"""The tuned model in a form that others load, sealed, and the proof that it answers as it was trained.

Forms: ``merged``, a folder of safetensors with tokenizer and template (a deterministic tar); ``gguf-f16`` and
``gguf-q8_0``, one file for llama.cpp and its friends, which transformers loads anew for the comparison. (The run's own
``adapter.sealed`` is what peft loads; it is no export of this command.)

Guarantees: what is compared is read back out of the sealed file, not what was meant to be written; the file gets its
name only once the comparison is passed; one that fails is removed and the command fails; the figures are said either
way. Sealed is all that is left, unless ``is_plain`` asks for the file in clear beside it, which comes after the proof.
Does not: change the base's precision in ``merged``: a bf16 weight rounds the adapter's part away where it is small, and
the comparison says by how much that shows.

Example:
    ``python -m trainers export --spec spec.json --out run/ --format gguf-q8_0 < keys.json``
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO

import torch

from compliance.vault import ObjectContext, atomic_output, open_reader, seal_writer
from trainers.adapter import lay_shipped
from trainers.archive import MODEL_WEIGHTS, model_texts
from trainers.base_model import load_base
from trainers.encoding import Split, encode, encode_labelled
from trainers.errors import EXIT_REFUSED, TrainerError
from trainers.evaluation import Bench, open_bench
from trainers.events import ExportFinished, ExportMeasured
from trainers.gguf_file import check_gguf, load_gguf, told_of_itself, write_gguf
from trainers.keys import Keys
from trainers.memory_file import MemoryFile
from trainers.merging import form_merged, merged, weights_of
from trainers.model_folder import check_folder
from trainers.parity import LEAST_AGREEMENT, MOST_DIVERGENCE, MOST_LOSS_DIFFERENCE, Answers, answers, compare
from trainers.process import Speaker, Stop
from trainers.shards import context_of, read_records
from trainers.spec import Spec
from trainers.token_classification import encode_tagged

#: The sealed file of each form, and the name of its content where it is asked for in clear.
FORMATS = {
    "merged": ("merged.sealed", "merged.tar"),
    "gguf-f16": ("model-f16.gguf.sealed", "model-f16.gguf"),
    "gguf-q8_0": ("model-q8_0.gguf.sealed", "model-q8_0.gguf"),
}
UNPROVEN_SUFFIX = ".unproven"
COMPARED_RECORDS = 64
CHUNK_BYTES = 1 << 20

_NAMES = {torch.bfloat16: "BF16", torch.float32: "F32", torch.float16: "F16"}


@dataclass(frozen=True)
class _Job:
    """What the steps of an export share."""

    spec: Spec
    bench: Bench
    format: str
    stop: Stop


def export(spec: Spec, keys: Keys, out: Path, format_name: str, speak: Speaker, stop: Stop, *, is_plain: bool) -> None:
    """Writes, seals, reads back and compares.

    Raises:
        TrainerError: ``export.way`` (a soft prompt cannot be merged), ``export.family``, ``export.tokenizer``;
            ``export.parity``, after which no export is left; and as ``open_bench``.
        Cancelled: a signal came; no export is left.
    """
    if spec.way == "prompt":
        raise TrainerError("export.way", "a soft prompt is no part of any weight", "ship the adapter, which peft loads")
    job = _Job(spec, open_bench(spec, keys, out, is_for_loss=False), format_name, stop)
    if format_name != "merged":
        check_gguf(job.bench)
    split = _held_out(job, keys)
    expected = answers(job.bench.adapter.base, split, job.bench.device.name, stop)
    sealed_name, plain_name = FORMATS[format_name]
    path = out / (sealed_name + UNPROVEN_SUFFIX)
    context = context_of(spec.output.context, format_name)
    digest, commitment = _seal(job, path, keys.output_key, context)
    is_kept = False
    try:
        with path.open("rb") as source, open_reader(source, keys.output_key, context, commitment) as reader:
            found = _read_back(job, io.BufferedReader(reader, CHUNK_BYTES), split)
        parity = compare(expected, found)
        is_kept = parity.is_reached
        facts = (parity.positions, parity.agreement, parity.divergence, parity.loss_difference)
        speak(ExportMeasured(spec.run, format_name, *facts, is_kept))
    finally:
        if not is_kept:
            path.unlink(missing_ok=True)
    if not is_kept:
        raise TrainerError(
            "export.parity",
            f"the exported model agrees at {parity.agreement:.4f} of {parity.positions} positions "
            f"(at least {LEAST_AGREEMENT}), divergence {parity.divergence:.4f} nats (at most {MOST_DIVERGENCE}), "
            f"held-out loss {parity.loss_difference:+.4f} (at most {MOST_LOSS_DIFFERENCE} away)",
            "ship the adapter instead, or train and export with precision fp32",
            EXIT_REFUSED,
        )
    with path.open("rb") as sealed:
        sealed_digest = "sha256:" + hashlib.file_digest(sealed, "sha256").hexdigest()
    size = path.stat().st_size
    path.replace(out / sealed_name)
    if is_plain:
        _lay_open(out / sealed_name, out / plain_name, keys.output_key, context)
    speak(
        ExportFinished(
            run=spec.run,
            file=sealed_name,
            digest=digest,
            sealed_digest=sealed_digest,
            commitment=commitment.hex(),
            bytes=size,
            positions=parity.positions,
            agreement=parity.agreement,
            divergence=parity.divergence,
        )
    )


def _held_out(job: _Job, keys: Keys) -> Split:
    spec, tokenizer, labels = job.spec, job.bench.tokenizer, job.bench.adapter.labels
    records = []
    for record in read_records(spec.data.validation, keys.data_key, "validation", spec.method):
        job.stop.check()
        records.append(record)
        if len(records) >= COMPARED_RECORDS:
            break
    if job.bench.adapter.are_tags:
        return encode_tagged(records, tokenizer, spec.max_length, "truncate", labels)
    if labels:
        return encode_labelled(records, tokenizer, spec.max_length, "truncate", labels)
    return encode(records, tokenizer, spec.max_length, "truncate")


def _seal(job: _Job, path: Path, key: bytes, context: ObjectContext) -> tuple[str, bytes]:
    """Writes the sealed file; returns the digest of its content and the commitment to its key."""
    digest = hashlib.sha256()
    chunks = _folder(job) if job.format == "merged" else _gguf(job)
    try:
        with atomic_output(path) as sink, seal_writer(sink, key, context) as writer:
            for chunk in chunks:
                digest.update(chunk)
                writer.write(chunk)
    except OSError as fault:
        raise TrainerError("output.unusable", f"{path}: {fault.strerror}", "free space, then export again") from None
    return f"sha256:{digest.hexdigest()}", writer.commitment


def _lay_open(sealed: Path, plain: Path, key: bytes, context: ObjectContext) -> None:
    """The content of a sealed file in clear, for its owner's eyes only; complete or not at all."""
    staged = plain.with_name(f".{plain.name}.partial")
    staged.unlink(missing_ok=True)
    try:
        handle = os.open(staged, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(handle, "wb") as sink, sealed.open("rb") as source, open_reader(source, key, context) as reader:
            shutil.copyfileobj(io.BufferedReader(reader, CHUNK_BYTES), sink, CHUNK_BYTES)
        staged.replace(plain)
    except OSError as fault:
        raise TrainerError("output.unusable", f"{plain}: {fault.strerror}", "free space, then export again") from None
    finally:
        staged.unlink(missing_ok=True)


def _gguf(job: _Job) -> Iterator[bytes]:
    with MemoryFile("model.gguf") as file:
        write_gguf(file.path, job.bench, job.format.removeprefix("gguf-"), _card(job, "gguf"), job.stop)
        with file.path.open("rb") as source:
            while chunk := source.read(CHUNK_BYTES):
                yield chunk


def _read_back(job: _Job, source: BinaryIO, split: Split) -> Answers:
    """What the model in a sealed file answers."""
    bench = job.bench
    if job.format == "merged":
        if job.spec.quantise is not None:
            bench = _plain(job)
        _put_back(source, bench, job.stop)
        with bench.adapter.switched_off():
            return answers(bench.adapter.base, split, bench.device.name, job.stop)
    with MemoryFile("model.gguf") as file:
        with file.path.open("wb") as sink:
            shutil.copyfileobj(source, sink, CHUNK_BYTES)
        vocabulary, template = told_of_itself(file.path)
        tokenizer = bench.tokenizer
        known = tokenizer.convert_ids_to_tokens(list(range(min(len(tokenizer), len(vocabulary)))))
        if template != str(tokenizer.chat_template) or vocabulary[: len(known)] != known:
            raise TrainerError("export.parity", "the file tells of another tokenizer", "ship the adapter instead")
        model = load_gguf(file.folder, file.name)
    return answers(model, split, "cpu", job.stop)


def _plain(job: _Job) -> Bench:
    """A bench of the same kind whose base has room for numbers, where the trained one has bits."""
    spec = replace(job.spec, quantise=None)
    folder = check_folder(Path(spec.model.path), spec.model.digest)
    adapter = lay_shipped(load_base(folder, job.bench.device), spec)
    adapter.model.eval()
    return replace(job.bench, adapter=adapter)


def _folder(job: _Job) -> Iterator[bytes]:
    """The tar of a model folder, tensor by tensor, so that memory holds one matrix beside the model."""
    adapter = job.bench.adapter
    members = model_texts(Path(job.spec.model.path), adapter.labels, are_tags=adapter.are_tags)
    members["README.md"] = _card(job, "transformers").encode()
    members["chat_template.jinja"] = str(job.bench.tokenizer.chat_template).encode()
    for name in sorted(members):
        yield _member(name, len(members[name]))
        yield members[name] + _padding(len(members[name]))
    weights = weights_of(adapter)
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, each in weights.items():
        shape, dtype = form_merged(adapter, name, each)
        begin, end = end, end + shape.numel() * dtype.itemsize
        header[name] = {"dtype": _NAMES[dtype], "shape": list(shape), "data_offsets": [begin, end]}
    raw = json.dumps(header, separators=(",", ":")).encode()
    # Aligned to eight bytes by blanks. Source: the format description of the safetensors project.
    raw += b" " * (-len(raw) % 8)
    total = 8 + len(raw) + end
    yield _member(MODEL_WEIGHTS, total)
    yield len(raw).to_bytes(8, "little") + raw
    for name, each in weights.items():
        job.stop.check()
        yield merged(adapter, name, each.data).contiguous().cpu().view(torch.uint8).numpy().tobytes()
    yield _padding(total) + bytes(2 * tarfile.BLOCKSIZE)


def _card(job: _Job, library: str) -> str:
    """The run's own card, with what this file is in place of its front matter."""
    text = job.bench.card.rpartition("---\n\n")[2]
    return f"---\nlibrary_name: {library}\n---\n\n{text}- exported as {job.format}, the adapter's part in the weights\n"


def _member(name: str, size: int) -> bytes:
    info = tarfile.TarInfo(name)
    info.size, info.mode = size, 0o644
    return info.tobuf(tarfile.USTAR_FORMAT)


def _padding(size: int) -> bytes:
    return bytes(-size % tarfile.BLOCKSIZE)


def _put_back(source: BinaryIO, bench: Bench, stop: Stop) -> None:
    """Puts the weights of the sealed archive into the base model, in place."""
    places = weights_of(bench.adapter)
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
