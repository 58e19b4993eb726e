"""The tuned model in a form that others load, sealed, and the proof that it answers as it was trained.

Forms: ``merged``, a folder of safetensors with tokenizer and template (a deterministic tar); ``gguf-f16``,
``gguf-q8_0`` and the K-quants ``gguf-q6_k``, ``gguf-q5_k_m``, ``gguf-q4_k_m``, one file for llama.cpp and its friends.
(The run's own ``adapter.sealed`` is what peft loads; it is no export of this command.)

Guarantees: what is compared is read back out of the sealed file by a process of its own, with transformers or llama.cpp
itself, not what was meant to be written; the file gets its name only once the comparison is within the form's limits
(``trainers.export_limits``); one that is not is removed and the command fails; the figures are said either way.
Sealed is all that is left, unless ``is_plain`` asks for the file in clear beside it, which comes after the proof.
``merged`` keeps the base's precision where the comparison allows that: bf16 rounds away what the adapter adds where
that is small. Otherwise it is written in fp16, whose steps are eight times finer, or at last in fp32.

Example:
    ``python -m trainers export --spec spec.json --out run/ --format gguf-q4_k_m --metric label_match < keys.json``
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from compliance.vault import ObjectContext, atomic_output, open_reader, seal_writer
from domains import metrics
from trainers import llama_cpp
from trainers.archive import model_texts
from trainers.encoding import encode, encode_labelled
from trainers.errors import TrainerError
from trainers.evaluation import Bench, open_bench
from trainers.events import ExportFinished
from trainers.exam import Exam
from trainers.export_limits import Limits, Parity, limits_of
from trainers.generation import answer_all
from trainers.gguf_file import check_gguf, write_gguf
from trainers.keys import Keys
from trainers.memory_file import MemoryFile
from trainers.merging import fits_fp16, form_merged, merged, weights_of
from trainers.model_tar import tar_of
from trainers.parity import PRECISIONS, UNPROVEN_SUFFIX, Answers, answers, compare, refusal, told
from trainers.process import Speaker, Stop
from trainers.reading_back import Sealed, ask
from trainers.references import reference_of
from trainers.shards import Record, context_of, read_records
from trainers.spec import Spec
from trainers.token_classification import encode_tagged

#: The sealed file of each form, and the name of its content where it is asked for in clear.
FORMATS = {
    "merged": ("merged.sealed", "merged.tar"),
    **{
        f"gguf-{kind}": (f"model-{kind}.gguf.sealed", f"model-{kind}.gguf")
        for kind in ("f16", "q8_0", *llama_cpp.FILE_TYPES)
    },
}
COMPARED_RECORDS = 64
CHUNK_BYTES = 1 << 20


@dataclass(frozen=True)
class Question:
    """A metric that whole answers to held-out prompts are scored by, and their most tokens; none with ``metric`` ''."""

    metric: str = ""
    max_new_tokens: int = 32


@dataclass(frozen=True)
class _Job:
    """What the steps of an export share."""

    spec: Spec
    bench: Bench
    format: str
    stop: Stop

    @property
    def limits(self) -> Limits:
        """What the export has to reach."""
        return limits_of(self.format, self.spec.quantise.form if self.spec.quantise else "")


def export(
    spec: Spec,
    keys: Keys,
    out: Path,
    format_name: str,
    speak: Speaker,
    stop: Stop,
    *,
    is_plain: bool,
    question: Question | None = None,
) -> None:
    """Writes, seals, reads back and compares.

    Raises:
        TrainerError: ``export.way`` (a soft prompt cannot be merged), ``export.family``, ``export.tokenizer``,
            ``export.quantise`` (no llama.cpp here), ``evaluate.metric`` (unknown); ``export.parity``, after which no
            export is left; and as ``open_bench``.
        Cancelled: a signal came; no export is left.
    """
    question = question or Question()
    _check(spec, format_name, question)
    job = _Job(spec, open_bench(spec, keys, out, is_for_loss=False), format_name, stop)
    if format_name != "merged":
        check_gguf(job.bench)
    records = _held_out(job, keys)
    exam = _exam(job, records, question)
    expected = _trained(job, exam)
    sealed_name, plain_name = FORMATS[format_name]
    path = out / (sealed_name + UNPROVEN_SUFFIX)
    context = context_of(spec.output.context, format_name)
    is_kept = False
    for precision in _precisions(job):
        digest, commitment = _seal(job, precision, path, keys.output_key, context)
        try:
            sealed = Sealed(path, keys.output_key, context, commitment)
            parity = _prove(job, precision, sealed, exam, expected, records, question, speak)
            is_kept = parity.is_within(job.limits)
        finally:
            if not is_kept:
                path.unlink(missing_ok=True)
        if is_kept:
            break
    else:
        raise refusal(parity, job.limits)
    with path.open("rb") as file:
        sealed_digest = "sha256:" + hashlib.file_digest(file, "sha256").hexdigest()
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


def _check(spec: Spec, format_name: str, question: Question) -> None:
    if spec.way == "prompt":
        raise TrainerError("export.way", "a soft prompt is no part of any weight", "ship the adapter, which peft loads")
    if question.metric and question.metric not in metrics.METRICS:
        known = ", ".join(sorted(metrics.METRICS))
        raise TrainerError("evaluate.metric", "no such metric", f"one of {known}")
    if format_name.removeprefix("gguf-") in llama_cpp.FILE_TYPES and not llama_cpp.is_installed():
        raise TrainerError(
            "export.quantise", "llama.cpp is not installed", "pip install 'steward[quantise]', or export gguf-q8_0"
        )


def _precisions(job: _Job) -> Iterator[torch.dtype | None]:
    """What the weights of a folder may be written in, best liked first; of a GGUF file its form says it."""
    if job.format != "merged":
        yield None
        return
    own = _own_precision(job)
    yield own
    if own == torch.bfloat16 and fits_fp16(job.bench.adapter):
        yield torch.float16
    if own != torch.float32:
        yield torch.float32


def _own_precision(job: _Job) -> torch.dtype:
    """What the base's large weights are held in."""
    adapter = job.bench.adapter
    _, name = max((each.numel(), name) for name, each in weights_of(adapter).items())
    return form_merged(adapter, name, weights_of(adapter)[name])[1]


def _prove(
    job: _Job,
    precision: torch.dtype | None,
    sealed: Sealed,
    exam: Exam,
    expected: Answers,
    records: list[Record],
    question: Question,
    speak: Speaker,
) -> Parity:
    """Has the file answered by a process of its own, compares, and says what came out."""
    found = ask(sealed, job.format, exam, job.bench.device.name, job.stop)
    found.check_words()
    parity, limits = compare(expected, found.answers), job.limits
    if question.metric:
        scores = [_score(job, answered.texts, records, question) for answered in (expected, found.answers)]
        parity = replace(parity, scored=len(exam.prompts), trained_score=scores[0], exported_score=scores[1])
    word = PRECISIONS[precision] if precision is not None else ""
    speak(told(job.spec.run, job.format, word, found.reader, question.metric, parity, limits))
    return parity


def _held_out(job: _Job, keys: Keys) -> list[Record]:
    spec, records = job.spec, []
    for record in read_records(spec.data.validation, keys.data_key, "validation", spec.method):
        job.stop.check()
        records.append(record)
        if len(records) >= COMPARED_RECORDS:
            break
    return records


def _exam(job: _Job, records: list[Record], question: Question) -> Exam:
    spec, tokenizer, labels = job.spec, job.bench.tokenizer, job.bench.adapter.labels
    if job.bench.adapter.are_tags:
        split = encode_tagged(records, tokenizer, spec.max_length, "truncate", labels)
    elif labels:
        split = encode_labelled(records, tokenizer, spec.max_length, "truncate", labels)
    else:
        split = encode(records, tokenizer, spec.max_length, "truncate")
    most = question.max_new_tokens if question.metric and not labels else 0
    return Exam.of(split, tokenizer, records, job.bench.stops, most, spec.max_length)


def _trained(job: _Job, exam: Exam) -> Answers:
    """What the trained model answers."""
    model = job.bench.adapter.base
    found = answers(model, exam, job.bench.device.name, job.stop)
    texts: list[list[int]] = [[] for _ in exam.prompts]
    for indices, answered in answer_all(model, exam.prompts, set(exam.stops), exam.max_new_tokens):
        job.stop.check()
        for index, tokens in zip(indices, answered, strict=True):
            texts[index] = tokens
    return replace(found, texts=texts)


def _score(job: _Job, texts: list[list[int]], records: list[Record], question: Question) -> float:
    """Mean score of whole answers; of a classifier, whose answers are its labels, none is asked for."""
    if not texts:
        return float("nan")
    said = job.bench.tokenizer.batch_decode(texts, skip_special_tokens=True)
    right = [reference_of(job.bench.tokenizer, each) for each in records[: len(texts)]]
    return sum(metrics.score(question.metric, *pair) for pair in zip(said, right, strict=True)) / len(texts)


def _seal(
    job: _Job, precision: torch.dtype | None, path: Path, key: bytes, context: ObjectContext
) -> tuple[str, bytes]:
    """Writes the sealed file; returns the digest of its content and the commitment to its key."""
    digest = hashlib.sha256()
    chunks = _gguf(job) if precision is None else _folder(job, precision)
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
    kind = job.format.removeprefix("gguf-")
    with MemoryFile("plain.gguf") as plain, MemoryFile("quantised.gguf") as quantised:
        is_written_here = kind not in llama_cpp.FILE_TYPES
        write_gguf(plain.path, job.bench, kind if is_written_here else "f16", _card(job, "gguf"), job.stop)
        if not is_written_here:
            llama_cpp.quantise(plain, quantised, kind)
        with (plain if is_written_here else quantised).path.open("rb") as source:
            while chunk := source.read(CHUNK_BYTES):
                yield chunk


def _folder(job: _Job, precision: torch.dtype) -> Iterator[bytes | memoryview]:
    """The tar of a model folder, tensor by tensor, so that memory holds one matrix beside the model."""
    adapter, own = job.bench.adapter, _own_precision(job)
    texts = model_texts(Path(job.spec.model.path), adapter.labels, are_tags=adapter.are_tags)
    # Whoever loads the folder takes the precision from here, whatever the weights are written in.
    config = json.loads(texts["config.json"]) | {"dtype": str(precision).removeprefix("torch.")}
    config.pop("torch_dtype", None)
    texts["config.json"] = json.dumps(config, indent=2, ensure_ascii=False).encode() + b"\n"
    texts["README.md"] = (_card(job, "transformers") + f"- weights in {PRECISIONS[precision]}\n").encode()
    texts["chat_template.jinja"] = str(job.bench.tokenizer.chat_template).encode()
    weights = weights_of(adapter)
    forms = {name: form_merged(adapter, name, each) for name, each in weights.items()}
    forms = {name: (shape, precision if dtype == own else dtype) for name, (shape, dtype) in forms.items()}

    def value_of(name: str) -> Tensor:
        job.stop.check()
        return merged(adapter, name, weights[name].data).to(forms[name][1])

    return tar_of(texts, forms, value_of)


def _card(job: _Job, library: str) -> str:
    """The run's own card, with what this file is in place of its front matter."""
    text = job.bench.card.rpartition("---\n\n")[2]
    return f"---\nlibrary_name: {library}\n---\n\n{text}- exported as {job.format}, the adapter's part in the weights\n"
