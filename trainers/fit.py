"""How long a run will take, and whether it fits, measured on the machine before the first step.

Time comes from two passes over a few of the run's own records, scaled to the whole; memory from ``trainers.plan``. Of a
run by several processes all make the passes at once, as they will share the machine, and then one step's exchange.

Guarantees: weights, gradients and random state are as they were before; the same code decides in ``run`` and in
``python -m trainers fit``. Does not: know what else the machine will be busy with; ``fit`` makes the trial of a run by
several processes in one, which exchanges nothing.

Example:
    >>> check_fit(spec, parts, choose_plan(…)).seconds
    588.2
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from trainers import batches
from trainers.device import Device
from trainers.events import FitChecked
from trainers.footprint import work
from trainers.forward import micro_batch
from trainers.optimiser import AdamW
from trainers.plan import Machine, Verdict, free_main_bytes
from trainers.spec import Spec

if TYPE_CHECKING:
    from trainers.holding import Holding
    from trainers.loop import Parts

#: What is timed: enough for products to run at their full speed, little beside any run.
PROBE_TOKENS = 512
#: Numbers that one trial update of the optimiser moves.
TRIAL_NUMBERS = 1 << 20


def machine_of(device: Device) -> Machine:
    """What ``trainers.plan`` has to know of a device."""
    return Machine(device.name, device.dtype.itemsize, device.micro_tokens)


def free_bytes(device: str, processes: int = 1) -> int:
    """Memory this process may come to hold on a device, what it holds already included.

    Args:
        processes: that share the machine's main memory; a GPU is one process's alone.
    """
    if device == "cuda":
        return int(torch.cuda.mem_get_info()[0]) + int(torch.cuda.memory_reserved())
    return free_main_bytes() // processes


def check_fit(spec: Spec, parts: Parts, verdict: Verdict, exchange: float = 0.0) -> FitChecked:
    """What the run will need beside what is free, with the time it will take, measured by a short trial.

    The trial is a part of that time: a run makes it too, and its clock is running.

    Args:
        exchange: seconds that processes spend on one another in a step, as ``exchange_seconds`` has them.

    Raises:
        MemoryError, RuntimeError: the trial ran out of memory.
    """
    begun = time.perf_counter()
    lengths, held_out = parts.train.lengths, parts.held_out.lengths
    whole = work(spec, lengths, held_out)
    forth_and_back, forth = _seconds_a_token(parts)
    seconds = whole.own_tokens * forth_and_back + whole.forth_tokens * forth
    seconds += whole.steps * exchange
    seconds += whole.steps * _update_seconds(parts.adapter.count // spec.parallel.holders, parts.device.name, spec)
    needed = verdict.needed
    return FitChecked(
        run=spec.run,
        fits=verdict.fits,
        memory_bytes=needed.total,
        free_bytes=verdict.free,
        process_bytes=needed.process,
        weights_bytes=needed.weights,
        trained_bytes=needed.trained,
        activation_bytes=needed.activations + needed.attention,
        head_bytes=needed.head,
        micro_tokens=verdict.plan.micro_tokens,
        recompute=verdict.plan.is_recomputed,
        steps=whole.steps,
        tokens=whole.tokens,
        passes=whole.passes,
        seconds=seconds + time.perf_counter() - begun,
        advice=verdict.advice,
        idle_bytes=needed.idle,
    )


def exchange_seconds(holding: Holding) -> float:
    """Of one step: what processes say to one another behind their passes. All ask at once; the second time counts.

    What layers that are spread say during a pass is a part of the pass.
    """
    group, seconds = holding.group, 0.0
    if group.size == 1:
        return seconds
    holding.adapter.clear_grads()
    for _ in range(2):
        group.total(0.0)
        begun = time.perf_counter()
        holding.norm(holding.summed_grads())
        holding.publish()
        # A step's loss, and the losses of its records.
        group.total(group.total(0.0))
        seconds = time.perf_counter() - begun
    holding.adapter.clear_grads()
    return seconds


def _seconds_a_token(parts: Parts) -> tuple[float, float]:
    """Of a pass forth and back, and of one forth only, over records of the training split, each the second time."""
    split, method, forward = parts.train, parts.method, parts.forward
    lengths = split.lengths
    typical = sorted(range(len(lengths)), key=lambda each: (abs(lengths[each] - _mean(lengths)), each))
    cut = batches.bucket if forward.name == "bucket" else batches.pack
    piece = max(cut(typical[:64], {each: lengths[each] for each in typical[:64]}, PROBE_TOKENS), key=len)
    batch = micro_batch(split, piece, parts.device.name)
    if method.needs_reference and batch.reference is None:
        # What the untouched model thinks is not known yet; no number of it changes how long a pass takes.
        batch.reference = torch.zeros(len(batch.lengths), device=parts.device.name)
    tokens = sum(batch.lengths)
    random = torch.get_rng_state()
    found = []
    for work_on in (lambda: method.learn(forward, batch, 0.0), lambda: method.measure(forward, batch)):
        for _ in range(2):
            begun = time.perf_counter()
            # A step and an evaluation begin with it.
            method.survey(lambda look: look(forward, batch) / len(piece))
            work_on()
            if parts.device.name == "cuda":
                torch.cuda.synchronize()
            seconds = time.perf_counter() - begun
        found.append(seconds / tokens)
    method.measured("", 0)
    parts.adapter.clear_grads()
    torch.set_rng_state(random)
    return found[0], found[1]


def _mean(lengths: Sequence[int]) -> float:
    return sum(lengths) / len(lengths)


def _update_seconds(count: int, device: str, spec: Spec) -> float:
    """Of one update of ``count`` numbers, from a trial on fewer."""
    trial = torch.zeros(min(count, TRIAL_NUMBERS), device=device)
    optimiser, grads = AdamW(trial, spec.optimiser), torch.ones_like(trial)
    optimiser.step(grads, 0, 0.0)
    begun = time.perf_counter()
    optimiser.step(grads, 1, 0.0)
    # The gradient's norm and scaling read them twice more.
    return 1.3 * (time.perf_counter() - begun) * count / trial.numel()
