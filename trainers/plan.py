"""How a run will go about it on a machine with so much memory free: the first plan that fits, or why none does.

Where the usual plan does not fit, smaller micro-batches are tried, then keeping only the inputs of layers; where none
fits, the advice names a change of the spec, computed by the same sums.

Guarantees: importing this loads neither torch nor Django, so a form in a browser and a trainer decide alike.
Does not: foresee what other programs on the machine will take.

Example:
    >>> choose_plan(spec, shape, lengths, Machine("cpu", 2, 1024), "layers", free=8 << 30).fits
    True
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from trainers.errors import EXIT_MEMORY, TrainerError
from trainers.footprint import Footprint, ModelShape, Plan, footprint
from trainers.model_folder import ModelFolder
from trainers.spec import SHARDS, QuantiseSpec, Spec

#: Left to the rest of the machine and to what the sums do not see.
RESERVE = 0.06
#: Needs beyond this share of what is free are refused at once; up to it the sums may be wrong, and the run is tried.
SURPLUS = 1.15
#: Micro-batches down to this size cost no speed worth naming (measured on 2 cores; accelerators want more).
COMFORTABLE_TOKENS = {"cpu": 512, "cuda": 4096}
LEAST_TOKENS = 16
SHORTER = (2048, 1024, 512, 256)


@dataclass(frozen=True)
class Machine:
    """What counts of a device: name, bytes of a number in its precision, usual micro-batch in tokens."""

    name: str
    dtype_bytes: int
    micro_tokens: int


@dataclass(frozen=True)
class Verdict:
    """The plan that will be followed, what it needs and what is there, in bytes; ``advice`` is empty where it fits."""

    plan: Plan
    needed: Footprint
    free: int
    advice: str = ""

    @property
    def fits(self) -> bool:
        """Whether the need is within what is free, a reserve left out."""
        return self.needed.held <= self.free * (1 - RESERVE)


def free_main_bytes() -> int:
    """Main memory this process may come to hold, what it holds already included.

    The least of the machine's and those of the control groups it is in.
    Source: Linux, Documentation/admin-guide/cgroup-v2.rst (memory.max, memory.current).
    """
    own = _kilobytes(Path("/proc/self/status"), "VmRSS:")
    free = _kilobytes(Path("/proc/meminfo"), "MemAvailable:")
    return min([free + own, *(limit - used + own for limit, used in _group_limits())])


def _kilobytes(path: Path, name: str) -> int:
    line = next((each for each in path.read_text().splitlines() if each.startswith(name)), f"{name} 0 kB")
    return int(line.split()[1]) * 1024


def _group_limits() -> Iterator[tuple[int, int]]:
    """Limit and use of each control group above this process that has a limit."""
    said = Path("/proc/self/cgroup").read_text().splitlines()
    own = next((line.split("::")[1] for line in said if line.startswith("0::")), "/")
    root = Path("/sys/fs/cgroup")
    folder = root / own.lstrip("/")
    for each in (folder, *folder.parents):
        if each.is_relative_to(root) and (each / "memory.max").is_file():
            limit = (each / "memory.max").read_text().strip()
            if limit.isdecimal():
                yield int(limit), int((each / "memory.current").read_text())


def choose_plan(
    spec: Spec, shape: ModelShape, lengths: Sequence[int], machine: Machine, forward: str, free: int
) -> Verdict:
    """The first plan that fits, or the smallest one with advice.

    Args:
        spec: whose ``micro_tokens`` and ``recompute`` are kept to where they are given.
        shape: of the base model.
        lengths: tokens of each training record.
        machine: whose precision and usual micro-batch are taken.
        forward: as in ``trainers.footprint.Plan``.
        free: bytes, as ``free_main_bytes`` or the device gives them.
    """
    verdict = None
    for plan in _plans(spec, machine, forward):
        verdict = Verdict(plan, footprint(spec, shape, lengths, plan), free)
        if verdict.fits:
            return verdict
    assert verdict is not None
    return replace(verdict, advice=_advice(spec, shape, lengths, verdict))


def _plans(spec: Spec, machine: Machine, forward: str) -> Iterator[Plan]:
    first = Plan(machine.name, forward, machine.dtype_bytes, spec.micro_tokens or machine.micro_tokens, False)
    sizes = [first.micro_tokens]
    while spec.micro_tokens is None and sizes[-1] // 2 >= LEAST_TOKENS:
        sizes.append(sizes[-1] // 2)
    comfortable = [size for size in sizes if size >= COMFORTABLE_TOKENS[machine.name]] or sizes[:1]
    if spec.recompute != "always":
        yield from (replace(first, micro_tokens=size) for size in comfortable)
    if spec.recompute != "never":
        yield from (replace(first, micro_tokens=size, is_recomputed=True) for size in sizes)
    else:
        yield from (replace(first, micro_tokens=size) for size in sizes[len(comfortable) :])


def known_shape(folder: ModelFolder) -> ModelShape | None:
    """The model's sizes, or None where its family names them in words of its own."""
    try:
        return ModelShape.of(folder.config, folder.parameters)
    except KeyError:
        return None


def likely_forward(spec: Spec) -> str:
    """What ``trainers.forward`` will probably choose, before a model is loaded that could tell."""
    if spec.packing == "bucket":
        return "bucket"
    return "layers" if spec.way == "lora" and not spec.lora.dropout else "pack"


def refuse_unfit(verdict: Verdict) -> None:
    """Ends a run that would be killed for its memory, while nothing is lost yet.

    Raises:
        TrainerError: ``memory.unfit``.
    """
    if verdict.needed.held > verdict.free * SURPLUS:
        raise TrainerError(
            "memory.unfit",
            f"needs about {verdict.needed.held >> 20} MiB, {verdict.free >> 20} MiB are free",
            verdict.advice,
            EXIT_MEMORY,
        )


def _advice(spec: Spec, shape: ModelShape, lengths: Sequence[int], verdict: Verdict) -> str:
    """The first single change of the spec that fits, else the largest cause."""
    for words, changed, shortened in _changes(spec, lengths):
        plan = replace(verdict.plan, forward="layers" if changed.way == "lora" else verdict.plan.forward)
        if replace(verdict, plan=plan, needed=footprint(changed, shape, shortened, plan)).fits:
            return f"{words} would fit"
    needed = {name: size for name, size in asdict(verdict.needed).items() if name != "idle"}
    cause = max(needed, key=lambda each: needed[each])
    return f"no single change would fit; most is taken by {cause}: a smaller base model or more memory is needed"


def _shards(spec: Spec, lengths: Sequence[int]) -> Iterator[tuple[str, Spec, Sequence[int]]]:
    """What changes nothing of the result: more is shared out among the processes."""
    further = SHARDS[SHARDS.index(spec.parallel.shard) + 1 :] if spec.parallel.size > 1 else ()
    for shard in further:
        if shard != "weights" or spec.quantise is None:
            yield f"parallel.shard {shard}", replace(spec, parallel=replace(spec.parallel, shard=shard)), lengths


def _changes(spec: Spec, lengths: Sequence[int]) -> Iterator[tuple[str, Spec, Sequence[int]]]:
    yield from _shards(spec, lengths)
    if spec.micro_tokens is not None and spec.micro_tokens > LEAST_TOKENS:
        yield "micro_tokens left to the trainer", replace(spec, micro_tokens=LEAST_TOKENS), lengths
    for most in (each for each in SHORTER if each < spec.max_length):
        yield f"max_length {most}", spec, [min(each, most) for each in lengths]
    if spec.way in ("full", "dora"):
        yield "way lora", replace(spec, way="lora"), lengths
        rank = replace(spec.lora, rank=min(8, spec.lora.rank))
        yield f"way lora with rank {rank.rank}", replace(spec, way="lora", lora=rank), lengths
    if spec.quantise is None and spec.way != "prompt":
        quantised = replace(spec, way="lora", quantise=QuantiseSpec())
        yield "way lora with the base quantised to nf4", quantised, lengths
