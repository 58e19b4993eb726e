"""What a fine-tune will need of this machine, said before it is asked for.

Guarantees: the sums are the trainer's own (``trainers.footprint``); nothing is decrypted, lengths come from the sizes
of sealed records; what cannot be known here (time before any run of the model, prices nobody set) is left out.
Does not: bind anybody. The trainer counts tokens exactly and checks again before its first step.

Example:
    >>> foretell(version, base_model, recipe).memory_bytes
    1983905792
"""

import json
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import psutil
from django.conf import settings
from django.db.models import F
from django.db.models.functions import Length, Mod

from steward.catalog.models import BaseModel
from steward.datasets.models import DatasetVersion, Record, Split
from steward.runs.claims import Pool
from steward.runs.dispatch import present_pool, wanted_devices, wanted_nodes
from steward.runs.models import FineTune, RunState
from trainers.footprint import ModelShape, work
from trainers.plan import Machine, choose_plan, likely_forward
from trainers.spec import JUDGED, PAIRED, Spec

# Letters a token stands for, measured with the bundled model's tokenizer on the packs' English texts, and what a chat
# template and the sealing of a record add.
CHARS_PER_TOKEN = 4.1
TEMPLATE_TOKENS = 24
SEALED_BYTES = 60
#: A record's prompt stands before two answers: before a pair's own (the prompt is likely half of it), and of a judged
#: one before another record's answer too.
READ_TIMES = {**dict.fromkeys(PAIRED, 1.5), **dict.fromkeys(JUDGED, 2.0)}
SAMPLE_RECORDS = 2_000
MICRO_TOKENS = {"cpu": 1024, "cuda": 8192}


@dataclass(frozen=True, slots=True)
class Foretold:
    """Bytes, tokens, seconds, watt-hours. ``seconds`` and what follows from them are None where nothing is known.

    Memory is that of one of ``processes``, and so is what is free; tokens, steps, energy and cost are those of all.
    ``longer_records`` of the training records are likely longer than ``longest_record`` tokens: they will be left out,
    or with ``are_cut`` be cut.
    """

    fits: bool
    memory_bytes: int
    free_bytes: int
    parts: dict[str, int]
    micro_tokens: int
    is_recomputed: bool
    advice: str
    longest_record: int
    longer_records: int
    are_cut: bool
    tokens: int
    steps: int
    seconds: float | None
    basis: str
    processes: int
    watt_hours: float | None
    cost: float | None
    currency: str


def foretell(version: DatasetVersion, base_model: BaseModel, spec: Spec) -> Foretold | None:
    """The foreseeable need, or None while the model's folder or the version's training records are not there."""
    shape = _shape(base_model)
    likely = _likely_lengths(version, base_model, spec, Split.TRAIN)
    if shape is None or not likely:
        return None
    lengths = _read_lengths(likely, spec)
    last = _last_run(base_model, spec)
    machine, free = _machine(last, spec.parallel.processes)
    verdict = choose_plan(spec, shape, lengths, machine, likely_forward(spec), free)
    held_out = _likely_lengths(version, base_model, spec, Split.VALIDATION)
    whole = work(spec, lengths, _read_lengths(held_out, spec))
    scale = max(1.0, version.split_counts.get(Split.TRAIN, 0) / len(lengths))
    longer = round(scale * sum(round(each) > _most_read(spec) for each in likely))
    steps = max(1, round(whole.steps * scale))
    if spec.max_steps is not None and steps > spec.max_steps:
        scale, steps = scale * spec.max_steps / steps, spec.max_steps
    tokens = int(whole.tokens * scale)
    seconds = whole.passes * scale * _seconds_a_pass(last) if last is not None else None
    return Foretold(
        fits=verdict.fits,
        memory_bytes=verdict.needed.total,
        free_bytes=free,
        parts={each.name: getattr(verdict.needed, each.name) for each in fields(verdict.needed)},
        micro_tokens=verdict.plan.micro_tokens,
        is_recomputed=verdict.plan.is_recomputed,
        advice=verdict.advice,
        longest_record=spec.max_length,
        longer_records=longer,
        are_cut=spec.too_long == "truncate",
        tokens=tokens,
        steps=steps,
        seconds=seconds,
        basis="" if last is None else last.name,
        processes=spec.parallel.size,
        **energy_and_cost(seconds, spec.parallel.size),
    )


def energy_and_cost(seconds: float | None, devices: int = 1) -> dict[str, Any]:
    """Watt-hours and price of so many seconds of each device, by what the operator said one draws and costs.

    None where the operator said nothing.
    """
    watts, price = settings.STEWARD_DEVICE_WATTS, settings.STEWARD_DEVICE_HOUR_PRICE
    hours = None if seconds is None else seconds * devices / 3600
    return {
        "watt_hours": None if hours is None or not watts else hours * watts,
        "cost": None if hours is None or not price else hours * price,
        "currency": settings.STEWARD_CURRENCY,
    }


def told_and_taken(fine_tune: FineTune) -> dict[str, Any] | None:
    """What the trainer foretold before its first step beside what the run took, once both are known in part."""
    told = fine_tune.facts.get("fit")
    if told is None:
        return None
    is_done, devices = fine_tune.state == RunState.SUCCEEDED, wanted_devices(fine_tune.recipe)
    taken = energy_and_cost(fine_tune.train_seconds if is_done else None, devices)
    return {
        **told,
        **{f"told_{name}": value for name, value in energy_and_cost(told["seconds"], devices).items()},
        **{f"taken_{name}": value for name, value in taken.items()},
        "taken_memory_bytes": fine_tune.facts.get("peak_memory_bytes"),
        "taken_seconds": fine_tune.train_seconds if is_done else None,
    }


def _shape(base_model: BaseModel) -> ModelShape | None:
    """The model's sizes; none while a bundled model was not laid out yet, or where its family has words of its own."""
    path = Path(base_model.path, "config.json")
    try:
        return ModelShape.of(json.loads(path.read_text()), base_model.parameters)
    except (FileNotFoundError, KeyError):
        return None


def _likely_lengths(version: DatasetVersion, base_model: BaseModel, spec: Spec, split: Split) -> list[float]:
    """Likely tokens of an even sample of a split's records; in the mean exact, where the version was trained on."""
    rows = Record.objects.filter(version=version, subject__split=split)
    stride = max(1, version.record_count // SAMPLE_RECORDS)
    if stride > 1:
        rows = rows.annotate(place=Mod(F("ordinal"), stride)).filter(place=0)
    sizes = rows.annotate(size=Length("ciphertext")).values_list("size", flat=True)[: 4 * SAMPLE_RECORDS]
    read = READ_TIMES.get(spec.method, 1.0)
    lengths = [read * (TEMPLATE_TOKENS + max(0, size - SEALED_BYTES) / CHARS_PER_TOKEN) for size in sizes]
    known = _known_mean(version, base_model, spec.method, split)
    if known is not None and lengths:
        scale = known * len(lengths) / sum(lengths)
        lengths = [each * scale for each in lengths]
    return lengths


def _most_read(spec: Spec) -> int:
    """Tokens that are read of a record at most, of both its answers where it has two."""
    return spec.max_length if spec.method not in READ_TIMES else 2 * spec.max_length


def _read_lengths(likely: list[float], spec: Spec) -> list[int]:
    return [max(1, min(round(each), _most_read(spec))) for each in likely]


def _known_mean(version: DatasetVersion, base_model: BaseModel, method: str, split: Split) -> float | None:
    """Tokens of a record as an earlier trainer counted them for the same method."""
    part = f"data_{split}"
    runs = FineTune.objects.filter(dataset_version=version, base_model=base_model, facts__has_key=part)
    found = runs.order_by("-created_at").values_list("recipe", "facts")
    facts = next((facts for recipe, facts in found if recipe.get("method", "sft") == method), None)
    return facts[part]["tokens"] / facts[part]["records"] if facts and facts[part]["records"] else None


def _seconds_a_pass(last: FineTune) -> float:
    """Of a token that goes forth once in a process, as a finished run took it; one that ended early did less than told.

    Methods differ in how often a token goes through the model, hardly in how long that takes; how many processes there
    are changes how many of them each has. What they say to one another is in it as far as it was in that run.
    """
    told = last.facts["fit"]
    return last.train_seconds / (told["passes"] * last.tokens / told["tokens"])


def _last_run(base_model: BaseModel, spec: Spec) -> FineTune | None:
    """The newest finished run of this model that trained the same way on the same kind of place; it knows the pace.

    One by as many processes, if there is one.
    """
    done = FineTune.objects.filter(
        base_model=base_model,
        pool=present_pool(),
        state=RunState.SUCCEEDED,
        tokens__gt=0,
        train_seconds__gt=0,
        facts__fit__has_key="passes",
    )
    same = [each for each in done.order_by("-finished_at")[:50] if each.recipe.get("way", "lora") == spec.way]
    alike = (each for each in same if wanted_devices(each.recipe) == spec.parallel.size)
    return next(alike, same[0] if same else None)


def _machine(last: FineTune | None, processes: int) -> tuple[Machine, int]:
    """The device that runs are made on, as the last one found it, and what is free there for one of its processes.

    Of a machine that is not this one only what the last run found free is known.
    """
    facts = last.facts if last is not None else {}
    device = str(facts.get("device") or "cpu")
    number = 4 if str(facts.get("precision") or _cpu_precision()) == "fp32" else 2
    machine, found = Machine(device, number, MICRO_TOKENS[device]), facts.get("fit", {}).get("free_bytes")
    if device == "cuda" and found:
        return machine, int(found)
    if last is not None and last.pool == Pool.RAY and found:
        return machine, int(found) * wanted_devices(last.recipe) // wanted_nodes(last.recipe) // processes
    return machine, psutil.virtual_memory().available // processes


def _cpu_precision() -> str:
    """What a trainer would choose on this CPU. Source: trainers.device."""
    flags = Path("/proc/cpuinfo").read_text()
    return "bf16" if "avx512_bf16" in flags or "amx_bf16" in flags else "fp32"
