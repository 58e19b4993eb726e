"""``run``, ``resume``, ``fit`` and ``validate``: from a spec to a sealed adapter.

Guarantees: data are read before the model is loaded, so bad data fail fast; ``adapter.sealed`` is written once, from
the best state; equal specs, data and machine give an equal adapter digest, interrupted or not.
Does not: delete checkpoints; whoever owns the output folder does.

Example:
    >>> train(load_spec(path), keys, out, speak, stop, must_resume=False)
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from trainers.adapter import Adapter, lay
from trainers.admission import admit
from trainers.advice import advice_on
from trainers.answers import Answers
from trainers.archive import digest_of, pack
from trainers.base_model import load_base, stop_tokens
from trainers.checkpoint import checkpoint_file, go_back
from trainers.device import Device, choose_device, memory_bytes
from trainers.encoding import Split, encode, encode_judged, encode_labelled, encode_pairs
from trainers.errors import EXIT_FAULT, TrainerError
from trainers.events import DataLoaded, FitChecked, RunFinished, RunStarted, SpecValid
from trainers.fit import check_fit, exchange_seconds, free_bytes, machine_of
from trainers.forward import choose_forward
from trainers.holding import Holding
from trainers.hollow_model import load_hollow
from trainers.keys import Keys
from trainers.loop import Loop, Parts, is_memory_short
from trainers.methods import choose_method
from trainers.model_folder import ModelFolder
from trainers.parallel import ALONE, Group, settle
from trainers.plan import Verdict, choose_plan, known_shape, likely_forward, refuse_unfit
from trainers.positions import positions_of, soft_prompt_tokens
from trainers.process import Speaker, Stop
from trainers.quantised import check_quantiser
from trainers.record_losses import measure_records, tell_met
from trainers.saved_step import has_checkpoint
from trainers.sealed import ADAPTER_FILE, read_sealed, write_sealed
from trainers.shards import Record, context_of, read_records
from trainers.spans import tags_of
from trainers.spec import JUDGED, PAIRED, TAGGED, ObjectSpec, Spec
from trainers.spread import spread_frozen, spread_trained
from trainers.token_classification import encode_tagged


def _watched(records: Iterable[Record], stop: Stop) -> Iterable[Record]:
    for record in records:
        stop.check()
        yield record


def _first_kept(records: Iterable[Record], kept: list[Record], most: int) -> Iterable[Record]:
    for record in records:
        if record.is_reference and len(kept) < most:
            kept.append(record)
        yield record


def load_split(
    spec: Spec,
    shard: ObjectSpec,
    name: str,
    tokenizer: Any,
    keys: Keys,
    stop: Stop,
    asked: list[Record] | None = None,
) -> Split:
    """Reads and tokenises one shard; the first references, as many as are answered on the way, also go to ``asked``.

    Raises:
        TrainerError: as ``read_records`` and ``trainers.encoding.encode``.
    """
    records = _watched(read_records(shard, keys.data_key, name, spec.method), stop)
    if asked is not None:
        records = _first_kept(records, asked, spec.answers.prompts)
    try:
        return _encoded(spec, records, tokenizer)
    except TrainerError as fault:
        if not fault.code.startswith("data.") or str(fault).startswith(name):
            raise
        raise TrainerError(fault.code, f"{name}: {fault}", fault.hint) from None


def _encoded(spec: Spec, records: Iterable[Record], tokenizer: Any) -> Split:
    if spec.classification is not None:
        labels = spec.classification.labels
        if spec.method in TAGGED:
            return encode_tagged(records, tokenizer, spec.max_length, spec.too_long, tags_of(labels))
        return encode_labelled(records, tokenizer, spec.max_length, spec.too_long, labels)
    if spec.method in PAIRED:
        return encode_pairs(records, tokenizer, spec.max_length, spec.too_long)
    if spec.method in JUDGED:
        return encode_judged(records, tokenizer, spec.max_length, spec.too_long)
    return encode(records, tokenizer, spec.max_length, spec.too_long, are_all_learnt=spec.turns == "all")


def load_trained(spec: Spec, folder: ModelFolder, device: Device, group: Group = ALONE) -> Adapter:
    """The model laid out for training: full training keeps its weights in fp32 and multiplies as the device does.

    Where layers are spread over the processes, each reads its part of them; of a model that has to be loaded whole
    first they take turns.

    Raises:
        TrainerError: as ``load_base``, ``lay`` and ``spread_frozen``.
    """
    dtype = torch.float32 if spec.way == "full" else device.dtype
    if group.size == 1 or spec.parallel.shard != "weights":
        return _laid(spec, load_base(folder, device, dtype, spec.quantise), device)
    spread = spread_trained if spec.way == "full" else spread_frozen
    # What begins with parts or lengths of the weights has to see them.
    is_blind = spec.way != "dora" and spec.lora.init == "default"
    hollow = load_hollow(folder, device, dtype) if is_blind else None
    if hollow is not None:
        adapter = _laid(spec, hollow.model, device, is_spread=True)
        spread(adapter, group, hollow.read)
        return adapter
    for rank in range(group.size):
        if rank == group.rank:
            adapter = _laid(spec, load_base(folder, device, dtype), device, is_spread=True)
            spread(adapter, group)
        group.total(0.0)
    return adapter


def _laid(spec: Spec, model: Any, device: Device, *, is_spread: bool = False) -> Adapter:
    adapter = lay(model, spec, is_spread=is_spread)
    if spec.way == "full" and device.dtype != torch.float32:
        adapter.autocast = device.dtype
    adapter.model.train(adapter.has_dropout)
    return adapter


def check_context(spec: Spec, folder: ModelFolder, splits: Iterable[Split]) -> None:
    """Refuses records that are longer than the model can tell positions apart.

    Beyond what it was made for a model either breaks or learns what it forgets again.

    Raises:
        TrainerError: ``data.long``.
    """
    most, before = positions_of(folder.config), soft_prompt_tokens(spec)
    longest = max(split.longest_row for split in splits)
    if most is None or before + longest <= most:
        return
    after = f" behind {before} of the soft prompt" if before else ""
    shorter = f"set max_length to at most {most - before}; too_long says what becomes of longer records"
    if before and longest < most:
        shorter = f"set prompt.tokens to at most {most - longest}"
    elif before > most // 2:
        shorter = "set prompt.tokens lower, and max_length so that both together are no more"
    raise TrainerError(
        "data.long",
        f"the longest record has {longest} tokens{after}, the model tells {most} positions apart",
        shorter,
    )


def _announce(spec: Spec, name: str, split: Split, speak: Speaker) -> None:
    speak(
        DataLoaded(
            run=spec.run,
            split=name,
            records=len(split),
            tokens=split.token_count,
            supervised=split.supervised_count,
            longest=max(split.lengths),
            truncated=split.truncated,
            truncated_tokens=split.truncated_tokens,
            refused=split.refused,
        )
    )


@dataclass(frozen=True)
class Bench:
    """All that a run works with, before its first step. There is no ``verdict`` on models of unusual shape."""

    parts: Parts
    folder: ModelFolder
    tokenizer: Any
    verdict: Verdict | None

    def fit(self, spec: Spec, exchange: float = 0.0) -> FitChecked | None:
        """What the run will need, with a short trial on the machine; ``exchange`` as in ``check_fit``."""
        return None if self.verdict is None else check_fit(spec, self.parts, self.verdict, exchange)


def assemble(spec: Spec, keys: Keys, out: Path | None, speak: Speaker, stop: Stop, group: Group = ALONE) -> Bench:
    """Reads the data, loads the model and settles how steps will be made; ``out`` is where a run would write.

    Raises:
        TrainerError: for data, model and machine; ``memory.unfit`` before anything large is loaded.
        Cancelled: a signal came.
    """
    if spec.quantise is not None:
        check_quantiser()
    folder, tokenizer = admit(Path(spec.model.path), spec.model.digest)
    splits = {}
    asked: list[Record] = []
    for name, shard in (("train", spec.data.train), ("validation", spec.data.validation)):
        kept = asked if name == "validation" else None
        splits[name] = load_split(spec, shard, name, tokenizer, keys, stop, kept)
        _announce(spec, name, splits[name], speak)
    check_context(spec, folder, splits.values())
    device = choose_device(spec.precision)
    shape, lengths = known_shape(folder), splits["train"].lengths
    free = free_bytes(device.name, spec.parallel.processes)
    if shape is not None:
        refuse_unfit(choose_plan(spec, shape, lengths, machine_of(device), likely_forward(spec), free))
    adapter = load_trained(spec, folder, device, group)
    stop.check()
    forward = choose_forward(adapter, spec.packing)
    verdict = None
    if shape is not None:
        verdict = choose_plan(spec, shape, lengths, machine_of(device), forward.kind, free)
        device = replace(device, micro_tokens=verdict.plan.micro_tokens)
    if spec.recompute == "always" or (verdict is not None and verdict.plan.is_recomputed):
        forward.recompute()
    answers = None
    if asked and out is not None:
        answers = Answers(spec, asked, tokenizer, stop_tokens(adapter.base, tokenizer), out, keys.output_key)
    method = choose_method(spec, adapter)
    parts = Parts(adapter, forward, device, method, splits["train"], splits["validation"], answers)
    for split in splits.values():
        split.prefix = adapter.prefix
    return Bench(parts, folder, tokenizer, verdict)


def _foretell(spec: Spec, bench: Bench, speak: Speaker, holding: Holding) -> None:
    """Says what the run will need; one whose trial runs out of memory finds smaller pieces in its first step."""
    # Before the trial and outside of it: in one process alone it may run out of memory, and the others would wait.
    exchange = exchange_seconds(holding)
    # All try at once, as they will work: those of one machine share its memory and its cores.
    holding.group.total(0.0)
    try:
        said = bench.fit(spec, exchange)
    except (MemoryError, RuntimeError) as fault:
        if not is_memory_short(fault):
            raise
        return
    if said is not None:
        speak(said)


def prepare(
    spec: Spec, keys: Keys, out: Path, speak: Speaker, stop: Stop, group: Group = ALONE
) -> tuple[Loop, ModelFolder, Any]:
    """Everything up to the first step.

    Raises:
        TrainerError: as ``assemble``.
        Cancelled: a signal came.
    """
    bench = assemble(spec, keys, out, speak, stop, group)
    parts, folder = bench.parts, bench.folder
    # A checkpoint is of one base, whether or not somebody pinned it.
    spec = replace(spec, model=replace(spec.model, digest=folder.digest))
    device, forward, adapter = parts.device, parts.forward, parts.adapter
    torch.manual_seed(spec.seed)
    loop = Loop(spec, parts, out, keys.output_key, speak, stop, group)
    loop.look_at_start()
    if spec.start is not None:
        # Behind the look at the untouched model, against which preferences go on being measured.
        loop.begin_with(read_sealed(Path(spec.start.path), keys.data_key, context_of(spec.start.context)))
    speak(
        RunStarted(
            run=spec.run,
            device=device.name,
            precision=device.precision,
            precision_reason=device.precision_reason,
            packing=forward.name,
            packing_reason=forward.reason,
            threads=device.threads,
            base_digest=folder.digest,
            parameters=folder.parameters,
            trainable=adapter.count,
            steps=loop.schedule.steps,
            micro_tokens=loop.state.micro_tokens,
        )
    )
    for said in advice_on(spec, parts.train, loop.schedule.steps):
        speak(said)
    if not has_checkpoint(out):
        _foretell(spec, bench, speak, loop.holding)
    return loop, folder, bench.tokenizer


def fit(spec: Spec, keys: Keys, speak: Speaker, stop: Stop) -> None:
    """Says whether the run would fit this machine, how it would go about it and how long it would take.

    Raises:
        TrainerError: as ``assemble``; ``model.shape``, when the model's sizes are not named in the usual words.
    """
    if spec.parallel.processes > 1:
        settle(0, spec.parallel.processes)
    said = assemble(spec, keys, None, speak, stop).fit(spec)
    if said is None:
        raise TrainerError("model.shape", "config.json does not name the model's sizes", "run it and watch memory")
    speak(said)


def train(
    spec: Spec,
    keys: Keys,
    out: Path,
    speak: Speaker,
    stop: Stop,
    *,
    must_resume: bool,
    from_step: int | None = None,
    group: Group = ALONE,
) -> None:
    """Runs a spec to its end, from the checkpoint in ``out`` where there is one, or from an older one that was kept.

    Of several processes all learn, and the first alone speaks to people, saves and ships.

    Raises:
        TrainerError: ``checkpoint.missing`` when ``must_resume`` and there is none; as ``prepare``, ``go_back`` and
            ``Loop.go``.
        Cancelled: a signal came; ``out`` holds a checkpoint if at least one step was made.
    """
    if must_resume:
        checkpoint_file(out, from_step)
    loop, folder, tokenizer = prepare(spec, keys, out, speak, stop, group)
    if from_step is not None or has_checkpoint(out):
        loop.resume(from_step)
    group.total(0.0)  # nothing later is removed before everybody has opened what the run goes back to
    if from_step is not None and not group.rank:
        go_back(out, from_step)
    loop.go()
    if not loop.holding.is_shared:
        group.release()
    if not math.isfinite(loop.state.best_loss):
        raise TrainerError(
            "training.diverged",
            "no held-out loss was finite",
            "lower optimiser.learning_rate, or set precision to fp32",
            EXIT_FAULT,
        )
    best = loop.holding.whole(loop.best)
    loop.go_back_to_best()
    if loop.parts.adapter.spread is None:
        group.release()  # the first process has all that is left to do, which may take long
    measured = loop.holding.by_first(lambda: measure_records(loop, tokenizer, out, keys.output_key, stop))
    group.release()
    if measured is None:
        return
    speak(measured)
    speak(tell_met(loop, tokenizer, out, keys.output_key))
    _finish(spec, keys, out, speak, loop, best, folder, tokenizer)


def _finish(
    spec: Spec,
    keys: Keys,
    out: Path,
    speak: Speaker,
    loop: Loop,
    best: Tensor,
    folder: ModelFolder,
    tokenizer: Any,
) -> None:
    adapter, state = loop.parts.adapter, loop.state
    archive = pack(adapter, best, folder, _card(spec, adapter, loop, folder), tokenizer)
    context = context_of(spec.output.context)
    written = write_sealed(out / ADAPTER_FILE, archive, keys.output_key, context)
    speak(
        RunFinished(
            run=spec.run,
            adapter_digest=digest_of(archive),
            sealed_digest=written.sealed_digest,
            commitment=written.commitment,
            adapter_bytes=len(archive),
            step=state.step,
            best_step=state.best_step,
            best_loss=state.best_loss,
            stopped_early=loop.stopped_early,
            seconds=loop.seconds,
            tokens=state.tokens,
            flops=state.flops,
            memory_bytes=memory_bytes(loop.parts.device.name),
        )
    )


def _card(spec: Spec, adapter: Adapter, loop: Loop, folder: ModelFolder) -> str:
    """README.md of the adapter; depends on the spec, the data and the result alone, never on the time of day."""
    state = loop.state
    kinds = ", rsLoRA" if spec.lora.is_rank_stabilised else ""
    kinds += ", begun as PiSSA and shipped at twice the rank" if adapter.origin is not None else ""
    low_rank = f"(rank {spec.lora.rank}, alpha {spec.lora.alpha}{kinds})"
    ways = {
        "lora": f"LoRA {low_rank}",
        "dora": f"DoRA {low_rank}",
        "prompt": f"Soft prompt of {spec.prompt.tokens} vectors",
        "full": "All weights trained",
    }
    held = f", the base held as {spec.quantise.form} by bitsandbytes while it was trained" if spec.quantise else ""
    is_paired, labels = spec.method in PAIRED, spec.classification.labels if spec.classification is not None else ()
    library, title = ("transformers", "Model") if spec.way == "full" else ("peft", "Adapter")
    return (
        f"---\nlibrary_name: {library}\n---\n\n"
        f"# {title} of run {spec.run}\n\n"
        f"{ways[spec.way]} on {folder.path.name}, {adapter.count} trained weights{held}.\n\n"
        + (
            f"- learnt from pairs of answers ({spec.method.upper()}, beta {spec.preference.beta:g})\n"
            if is_paired
            else ""
        )
        + (f"- {'finds spans of' if spec.method in TAGGED else 'tells apart'}: {', '.join(labels)}\n" if labels else "")
        + f"- base model digest: `{folder.digest}` (over the base folder's files; peft's `revision` holds it too)\n"
        f"- held-out loss {state.best_loss:.6f} after step {state.best_step} of {state.step}; this is that state\n"
        f"- trained on {len(loop.parts.train)} records, chosen by {len(loop.parts.held_out)} held-out ones\n"
    )


def validate(spec: Spec, keys: Keys, speak: Speaker, stop: Stop) -> None:
    """Checks spec, model folder, tokenizer, template and every shard, without loading weights: what stops a run here
    would stop it there, but for memory and what shows only in passes through the model.

    Raises:
        TrainerError: the first thing that is wrong with the model, or all that is wrong with a shard.
    """
    if spec.quantise is not None:
        check_quantiser()
    folder, tokenizer = admit(Path(spec.model.path), spec.model.digest)
    shards = {"train": spec.data.train, "validation": spec.data.validation, "test": spec.data.test}
    records = 0
    for name, shard in shards.items():
        if shard is not None:
            split = load_split(spec, shard, name, tokenizer, keys, stop)
            _announce(spec, name, split, speak)
            if name != "test":  # of which evaluation reads no more than the model tells apart
                check_context(spec, folder, [split])
            records += len(split)
    choose_device(spec.precision)
    speak(
        SpecValid(
            run=spec.run,
            base_digest=folder.digest,
            architecture=folder.architecture,
            parameters=folder.parameters,
            records=records,
        )
    )
