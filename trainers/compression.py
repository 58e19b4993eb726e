"""``compress``: the tuned model made smaller in several ways, each judged before anybody relies on it.

Ways, by name: ``int8``, ``int4`` (torchao); ``magnitude-50``, ``wanda-50`` (per cent of each row set to zero),
``magnitude-2:4``, ``wanda-2:4``; ``blocks-3`` (so many blocks dropped), ``groups-1`` (so many groups of heads in each
block). Behind a way that leaves a model of plain weights, ``+heal`` trains it for a few steps more with the run's own
loop and data (zeros of a pruned model stay zeros).

Guarantees: every way starts from the same tuned model, adapter in its weights, in fp32 where memory allows that (each
row says it), because a precision the adapter's small part is rounded away in would be measured as a loss; calibration
and healing read training records, figures come from held-out ones; size, speed, agreement, loss and metric are measured
the same for the tuned model and for each way; the report holds figures only. A way is rounded to what its file would
hold, fp16 where all weights are in its range, before it is measured. ``--keep WAY`` seals that way's model as a folder
that transformers loads (``int8`` where torchao is installed) and has it read back by a process of its own: a file that
does not give the figures of the row is removed, and the command fails. Does not: choose; and ``int4`` is not kept,
since a file of it would be no smaller than one of ``int8``: ``export`` has forms of four bits.

Example:
    ``python -m trainers compress --spec spec.json --out run/ --ways int8,wanda-2:4,blocks-3+heal < keys.json``
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import re
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from domains import metrics
from trainers import dropping, keeping, pruning, quantising
from trainers.adapter import lay_lora
from trainers.base_model import load_base
from trainers.device import Device
from trainers.encoding import Split, encode, encode_judged, encode_pairs, prompt_tokens
from trainers.errors import TrainerError
from trainers.evaluation import Bench, open_bench
from trainers.events import CompressionFinished, CompressionMeasured
from trainers.exam import Exam
from trainers.export_limits import limits_of
from trainers.fit import free_bytes
from trainers.footprint import MEBIBYTE, PROCESS_BYTES
from trainers.forward import choose_forward
from trainers.generation import answer_all
from trainers.keys import Keys
from trainers.loop import Loop, Parts
from trainers.merging import fits_fp16, merged, weights_of
from trainers.methods import choose_method
from trainers.model_folder import check_folder
from trainers.parity import PRECISIONS, UNPROVEN_SUFFIX, Answers, answers, compare, refusal, told
from trainers.plan import RESERVE
from trainers.process import Speaker, Stop
from trainers.reading_back import Sealed, ask
from trainers.references import reference_of
from trainers.sealed import Written
from trainers.shards import Record, context_of, read_records
from trainers.spec import JUDGED, PAIRED, LoraSpec, Spec

DEFAULT_WAYS = ("int8", "int4", "magnitude-50", "wanda-50", "wanda-2:4", "groups-1+heal", "blocks-3+heal")
REPORT_FILE = "compression.json"
TUNED = "tuned"
CALIBRATION_ROWS = 32
EXAM_RECORDS = 64
#: Kept for passes over short texts and what they leave compiled, which are counted in no other way here.
PASSES_BYTES = {"cpu": 360 * MEBIBYTE, "cuda": 0}
#: Speed is measured by one long reading and by one answer token after token, each the best of so many.
SPEED_TRIES, READ_TOKENS, ANSWER_TOKENS = 3, 512, 24
FORM = "compressed"

_WAY = re.compile(r"(int8|int4)|(magnitude|wanda)-(?:(\d{1,2})|2:4)(\+heal)?|(blocks|groups)-(\d{1,3})(\+heal)?")


@dataclass(frozen=True)
class Task:
    """What is asked for: ways by name, a metric ('' for none) with its longest answer and records, healing, keeping."""

    ways: tuple[str, ...]
    metric: str = ""
    max_new_tokens: int = 32
    limit: int = 64
    heal_steps: int = 20
    keep: str = ""


@dataclass
class _Room:
    """What all ways share. ``device`` says what models are computed in, ``stored`` what their files hold."""

    spec: Spec
    keys: Keys
    out: Path
    task: Task
    bench: Bench
    device: Device
    stored: torch.dtype
    exam: Exam
    asked: list[Record]
    calibration: list[list[int]]
    speak: Speaker
    stop: Stop


def check_task(spec: Spec, task: Task) -> None:
    """Whether a task can be done at all.

    Raises:
        TrainerError: ``compress.way``, ``evaluate.metric``.
    """
    for way in task.ways:
        if not _WAY.fullmatch(way):
            raise TrainerError("compress.way", f"{way[:40]!r} is no way to compress", f"for example {DEFAULT_WAYS[-1]}")
    if task.keep and task.keep not in task.ways:
        raise TrainerError("compress.way", "only a way of the list can be kept", "name it in --ways too")
    if task.keep == "int4":
        hint = "keep int8, or export --format gguf-q4_k_m"
        raise TrainerError("compress.way", "int4 cannot be kept: its file would be as large as int8's", hint)
    if spec.classification is not None or spec.way == "prompt":
        raise TrainerError("compress.way", "classifiers and soft prompts are not compressed here", "ship the adapter")
    if task.metric and task.metric not in metrics.METRICS:
        raise TrainerError("evaluate.metric", "no such metric", f"one of {', '.join(sorted(metrics.METRICS))}")


def _check_ways(model: Any, ways: tuple[str, ...]) -> None:
    """Refuses what the model's shape does not allow, before the ways that it does allow are measured for hours."""
    for way in ways:
        match = _WAY.fullmatch(way)
        assert match is not None
        _, pruned, share, _, dropped, count, _ = match.groups()
        if pruned and not share:
            pruning.check_fours(model)
        elif pruned:
            pruning.blocks_of(model)
        elif dropped == "blocks":
            dropping.check_blocks(model, int(count))
        elif dropped:
            dropping.check_head_groups(model, int(count))


def compress(spec: Spec, keys: Keys, out: Path, task: Task, speak: Speaker, stop: Stop) -> None:
    """Measures the tuned model and every way, writes the report, keeps what is to be kept.

    Raises:
        TrainerError: as ``check_task`` and ``open_bench``; ``compress.shape``, ``compress.family``,
            ``compress.quantise``; ``export.parity``, after which nothing is kept.
        Cancelled: a signal came; no report is written.
    """
    check_task(spec, task)
    begun = time.monotonic()
    room = _room(spec, keys, out, task, speak, stop)
    tuned = _fresh(room)
    _check_ways(tuned, task.ways)
    expected, first = _measured(room, TUNED, tuned, None)
    del tuned
    rows = [first]
    kept: Written | None = None
    for way in task.ways:
        model = _fresh(room)
        _apply(room, way, model)
        keeping.round_to(model, room.stored)
        found, row = _measured(room, way, model, expected)
        rows.append(row)
        if way == task.keep:
            path = out / (keeping.kept_name(way) + UNPROVEN_SUFFIX)
            kept = keeping.write(model, way, room.stored, spec, room.bench, path, keys.output_key)
        del model  # before another process lays the same beside it
        if kept is not None and way == task.keep:
            _prove(room, row, found, kept)
    report = {"run": spec.run, "metric": task.metric, "rows": [_said(row) for row in rows]}
    content = json.dumps(report, indent=1, sort_keys=True).encode() + b"\n"
    (out / REPORT_FILE).write_bytes(content)
    speak(
        CompressionFinished(
            run=spec.run,
            ways=len(task.ways),
            file=REPORT_FILE,
            digest="sha256:" + hashlib.sha256(content).hexdigest(),
            kept=task.keep,
            kept_file=keeping.kept_name(task.keep) if kept else "",
            sealed_digest=kept.sealed_digest if kept else "",
            commitment=kept.commitment if kept else "",
            kept_bytes=kept.bytes if kept else 0,
            seconds=time.monotonic() - begun,
        )
    )


def _said(row: CompressionMeasured) -> dict[str, Any]:
    return {name: value if value == value else None for name, value in dataclasses.asdict(row).items() if name != "run"}


def _records(room_spec: Spec, keys: Keys, shard: str, most: int, stop: Stop) -> list[Record]:
    spec, records = room_spec, []
    place = getattr(spec.data, shard) or spec.data.validation
    for record in read_records(place, keys.data_key, shard, spec.method):
        stop.check()
        records.append(record)
        if len(records) >= most:
            break
    return records


def _room(spec: Spec, keys: Keys, out: Path, task: Task, speak: Speaker, stop: Stop) -> _Room:
    bench = open_bench(spec, keys, out, is_for_loss=False)
    device, tokenizer = _finest(bench, task), bench.tokenizer
    stored = torch.float16 if device.precision == "fp32" and fits_fp16(bench.adapter) else device.dtype
    held_out = _records(spec, keys, "validation", EXAM_RECORDS, stop)
    some = _split(spec, _records(spec, keys, "train", CALIBRATION_ROWS, stop), tokenizer)
    calibration = [some.tokens_of(index) for index in range(len(some))]
    asked = _records(spec, keys, "test", task.limit, stop) if task.metric else []
    asked = [record for record in asked if record.is_reference]
    exam = Exam.of(_split(spec, held_out, tokenizer), tokenizer, held_out, bench.stops, 0, spec.max_length)
    prompts = [prompt_tokens(tokenizer, each, spec.max_length) for each in asked]
    exam = dataclasses.replace(exam, prompts=prompts, max_new_tokens=task.max_new_tokens)
    return _Room(spec, keys, out, task, bench, device, stored, exam, asked, calibration, speak, stop)


def _finest(bench: Bench, task: Task) -> Device:
    """The device in fp32, if a model in it fits beside the trained one, else in the precision of the run."""
    weights = list(bench.adapter.base.parameters())
    held = sum(each.numel() * each.element_size() for each in weights)
    # Beside the file in memory that is read back the reader has the model too; ours is gone by then.
    needed = 4 * sum(each.numel() for each in weights_of(bench.adapter).values()) * (2 if task.keep else 1)
    name = bench.device.name
    if PROCESS_BYTES[name] + PASSES_BYTES[name] + held + needed > free_bytes(name) * (1 - RESERVE):
        return bench.device
    return dataclasses.replace(bench.device, precision="fp32", precision_reason="it fits")


def _split(spec: Spec, records: list[Record], tokenizer: Any) -> Split:
    return encode(records, tokenizer, spec.max_length, "truncate")


def _fresh(room: _Room) -> Any:
    """The tuned model, its adapter in its weights."""
    model = load_base(check_folder(Path(room.spec.model.path), room.spec.model.digest), room.device)
    adapter = room.bench.adapter
    weights = weights_of(adapter)
    with torch.no_grad():
        for name, place in dict(model.named_parameters()).items():
            place.copy_(merged(adapter, name, weights[name].data))
    return model


def _apply(room: _Room, way: str, model: Any) -> None:
    match = _WAY.fullmatch(way)
    assert match is not None
    quantised, pruned, share, heal, dropped, count, heal_dropped = match.groups()
    masks: dict[str, Tensor] = {}
    if quantised:
        quantising.quantise(model, quantised)
    elif pruned:
        sparsity = pruning.Sparsity(int(share or 50) / 100, is_2_4=share is None)
        pruning.prune(model, pruned, sparsity, room.calibration)
        masks = _zeros(model)
    elif dropped == "blocks":
        dropping.drop_blocks(model, int(count), room.calibration)
    else:
        dropping.drop_head_groups(model, int(count), room.calibration)
    if heal or heal_dropped:
        _heal(room, way, model, masks)


def _zeros(model: Any) -> dict[str, Tensor]:
    return {
        f"{index}.{name}": each.weight == 0
        for index, block in enumerate(pruning.blocks_of(model))
        for name, each in pruning.linears_of(block).items()
    }


def _heal(room: _Room, way: str, model: Any, masks: dict[str, Tensor]) -> None:
    """A few steps of the run's own loop with low-rank layers, which then go into the weights."""
    spec, steps = room.spec, room.task.heal_steps
    lora = spec.lora if spec.way in ("lora", "dora") else LoraSpec()
    healing = dataclasses.replace(
        spec,
        way="lora",
        lora=lora,
        quantise=None,
        epochs=1000,
        max_steps=steps,
        evaluate_every=steps,
        patience=None,
        best_by="loss",
        average_decay=None,
        keep_checkpoints=1,
    )
    train, held_out = (_learnt(room, shard) for shard in ("train", "validation"))
    adapter = lay_lora(model, lora, spec.seed)
    adapter.model.train(adapter.has_dropout)
    forward = choose_forward(adapter, spec.packing)
    parts = Parts(adapter, forward, room.device, choose_method(healing, adapter), train, held_out)
    torch.manual_seed(spec.seed)
    place = room.out / f".{keeping.kept_name(way)}.healing"
    place.mkdir(mode=0o700, exist_ok=True)
    try:
        loop = Loop(healing, parts, place, room.keys.output_key, room.speak, room.stop)
        loop.look_at_start()
        loop.go()
    finally:
        shutil.rmtree(place, ignore_errors=True)
    with torch.no_grad():
        adapter.weights.copy_(loop.best)
        adapter.model.merge_and_unload()
        blocks = pruning.blocks_of(model)
        for name, zero in masks.items():
            index, _, layer = name.partition(".")
            pruning.linears_of(blocks[int(index)])[layer].weight.masked_fill_(zero, 0)
    model.requires_grad_(False)
    model.eval()


def _learnt(room: _Room, shard: str) -> Split:
    spec = room.spec
    records = _records(spec, room.keys, shard, 1 << 40, room.stop)
    read = encode_pairs if spec.method in PAIRED else encode_judged if spec.method in JUDGED else encode
    return read(records, room.bench.tokenizer, spec.max_length, spec.too_long)


def _measured(room: _Room, way: str, model: Any, expected: Answers | None) -> tuple[Answers, CompressionMeasured]:
    """Asks a model, and says what came out. ``expected`` is None for the tuned model, which is the measure."""
    found = answers(model, room.exam, room.device.name, room.stop)
    alike = compare(expected or found, found)
    reading, answering = _speeds(model, room)
    texts = _answered(room, model)
    score, low, high = _score(room, texts)
    row = CompressionMeasured(
        run=room.spec.run,
        way=way,
        precision=room.device.precision,
        bytes=_bytes(model, way, room.stored.itemsize),
        parameters=sum(each.numel() for each in model.parameters()),
        zero_share=0.0 if way in quantising.BITS else pruning.zero_share(model),
        read_tokens_per_second=reading,
        answer_tokens_per_second=answering,
        positions=alike.positions,
        agreement=alike.agreement,
        divergence=alike.divergence,
        loss=found.loss,
        metric=room.task.metric,
        scored=len(room.asked),
        score=score,
        score_low=low,
        score_high=high,
    )
    room.speak(row)
    return dataclasses.replace(found, texts=texts), row


def _bytes(model: Any, way: str, itemsize: int) -> int:
    """What the weights take on a disk: quantised ones packed, zeros of pruned ones left out (a bit says where, or two
    for each that stays in 2:4), all others in ``itemsize`` bytes."""
    total = 0
    inside = {id(each.weight) for block in pruning.blocks_of(model) for each in pruning.linears_of(block).values()}
    for each in model.parameters():
        dense = each.numel() * itemsize
        if id(each) not in inside:
            total += dense
        elif quantising.is_laid_out(each.data):
            total += quantising.packed_bytes(each, way)
        elif "2:4" in way:
            total += dense // 2 + each.numel() // 8
        elif way.startswith(("magnitude", "wanda")):
            kept = int((each != 0).sum())
            total += min(dense, kept * itemsize + each.numel() // 8)
        else:
            total += dense
    return total


@torch.inference_mode()
def _speeds(model: Any, room: _Room) -> tuple[float, float]:
    """Tokens a second when reading many at once, and when answering one after the other."""
    row = (max(room.exam.rows, key=len) * READ_TOKENS)[: min(READ_TOKENS, model.config.max_position_embeddings // 2)]
    tokens = torch.tensor([row], device=room.device.name)
    prompt = row[: max(1, len(row) // 8)]
    reading, answering = [], []
    for _ in range(SPEED_TRIES):
        room.stop.check()
        begun = time.perf_counter()
        model(input_ids=tokens, use_cache=False, logits_to_keep=1)
        reading.append(time.perf_counter() - begun)
        begun = time.perf_counter()
        list(answer_all(model, [prompt], set(), ANSWER_TOKENS))
        answering.append(time.perf_counter() - begun)
    return len(row) / min(reading), ANSWER_TOKENS / min(answering)


def _answered(room: _Room, model: Any) -> list[list[int]]:
    """Whole answers to the exam's prompts, as token ids."""
    texts: list[list[int]] = [[] for _ in room.exam.prompts]
    for indices, answered in answer_all(model, room.exam.prompts, room.bench.stops, room.task.max_new_tokens):
        room.stop.check()
        for index, tokens in zip(indices, answered, strict=True):
            texts[index] = tokens
    return texts


def _score(room: _Room, texts: list[list[int]]) -> tuple[float, float, float]:
    """Mean of the metric over the asked records, with its 95 % bootstrap interval."""
    if not texts:
        return math.nan, math.nan, math.nan
    said = room.bench.tokenizer.batch_decode(texts, skip_special_tokens=True)
    right = [reference_of(room.bench.tokenizer, each) for each in room.asked]
    interval = metrics.bootstrap_interval(
        [metrics.score(room.task.metric, *pair) for pair in zip(said, right, strict=True)]
    )
    return interval.estimate, interval.low, interval.high


def _prove(room: _Room, row: CompressionMeasured, measured: Answers, written: Written) -> None:
    """Has the written file answer by a process of its own; it gets its name only if it gives the row's figures.

    Raises:
        TrainerError: ``export.parity``.
    """
    name, kind, limits = keeping.kept_name(row.way), keeping.kept_kind(row.way), limits_of(FORM, "")
    path, context = room.out / (name + UNPROVEN_SUFFIX), context_of(room.spec.output.context, kind)
    try:
        sealed = Sealed(path, room.keys.output_key, context, bytes.fromhex(written.commitment))
        found = ask(sealed, FORM, room.exam, room.device.name, room.stop)
        found.check_words()
        parity = compare(measured, found.answers)
        if room.asked:
            score, _, _ = _score(room, found.answers.texts)
            parity = dataclasses.replace(parity, scored=len(room.asked), trained_score=row.score, exported_score=score)
        said = told(room.spec.run, FORM, PRECISIONS[room.stored], found.reader, room.task.metric, parity, limits)
        room.speak(said)
        if not said.offered:
            raise refusal(parity, limits)
        path.replace(room.out / name)
    finally:
        path.unlink(missing_ok=True)
