"""Which records a run finds hard and which easy, each with its loss, sealed: held-out ones and training ones.

Guarantees: losses of held-out records are those of the shipped state, and their mean, weighed by ``units``, is the
run's best held-out loss up to rounding; texts are in the sealed files only, those of the ``SAMPLES`` worst and best.
Does not: make another pass over training records; their losses are those of the passes they were learnt in, the model
being at another step for each. A record whose loss stays high where its like fall is worth a look all the same.

Example:
    >>> measure_records(loop, tokenizer, out, keys.output_key)  # writes held_out.sealed
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import torch

from trainers.archive import digest_of
from trainers.encoding import Split
from trainers.events import RecordsMeasured, TrainRecordsMeasured
from trainers.forward import micro_batch
from trainers.loop import Loop
from trainers.process import Stop
from trainers.sealed import write_sealed
from trainers.shards import context_of

RECORDS_FILE = "held_out.sealed"
MET_FILE = "train_records.sealed"
SAMPLES = 10


def measure_records(loop: Loop, tokenizer: Any, out: Path, key: bytes, stop: Stop) -> RecordsMeasured:
    """Writes the file, worst record first: JSON lines of id, loss, units and, of the worst and best, the text.

    Raises:
        TrainerError: ``output.unusable``.
        Cancelled: a signal came.
    """
    split, method = loop.parts.held_out, loop.parts.method
    losses = _losses(loop, stop)
    order = sorted(range(len(split)), key=lambda index: (-losses[index], index))
    lines = []
    for rank, index in enumerate(order):
        line = {"id": split.ids[index], "loss": losses[index], "units": method.units(split, index)}
        if rank < SAMPLES or rank >= len(order) - SAMPLES:
            line["text"] = _text(split, index, tokenizer)
        lines.append(json.dumps(line, ensure_ascii=False))
    content = ("\n".join(lines) + "\n").encode()
    written = write_sealed(out / RECORDS_FILE, content, key, context_of(loop.spec.output.context, "held-out"))
    return RecordsMeasured(
        run=loop.spec.run,
        file=RECORDS_FILE,
        records=len(split),
        worst=losses[order[0]],
        median=losses[order[len(order) // 2]],
        best=losses[order[-1]],
        digest=digest_of(content),
        sealed_digest=written.sealed_digest,
        commitment=written.commitment,
    )


def tell_met(loop: Loop, tokenizer: Any, out: Path, key: bytes) -> TrainRecordsMeasured:
    """Writes the training records that were met, worst first by the loss when last learnt from.

    JSON lines of id, first loss, last loss, units and, of the worst, the text.

    Raises:
        TrainerError: ``output.unusable``.
    """
    split, method = loop.parts.train, loop.parts.method
    first, last = loop.met.tolist()
    order = sorted(
        (index for index in range(len(split)) if not math.isnan(last[index])), key=lambda index: (-last[index], index)
    )
    lines = []
    for rank, index in enumerate(order):
        line = {"id": split.ids[index], "first": first[index], "last": last[index], "units": method.units(split, index)}
        if rank < SAMPLES:
            line["text"] = _text(split, index, tokenizer)
        lines.append(json.dumps(line, ensure_ascii=False))
    # A state of the first version, taken up at its end, met none.
    losses = [last[index] for index in order] or [math.nan]
    content = "".join(f"{line}\n" for line in lines).encode()
    written = write_sealed(out / MET_FILE, content, key, context_of(loop.spec.output.context, "train-records"))
    return TrainRecordsMeasured(
        run=loop.spec.run,
        file=MET_FILE,
        records=len(order),
        worst=losses[0],
        median=losses[len(losses) // 2],
        best=losses[-1],
        digest=digest_of(content),
        sealed_digest=written.sealed_digest,
        commitment=written.commitment,
    )


def _text(split: Split, index: int, tokenizer: Any) -> str:
    """A record as the model reads it, without the ids of a soft prompt, which stand for no text."""
    text: str = tokenizer.decode(split.tokens[split.starts[index] : split.starts[index + 1]].tolist())
    return text


@torch.no_grad()
def _losses(loop: Loop, stop: Stop) -> list[float]:
    """Mean loss of each held-out record by the best state."""
    parts = loop.parts
    split, method, forward = parts.held_out, parts.method, parts.forward
    losses = []
    parts.adapter.model.eval()
    with parts.adapter.holding(loop.best):
        forward.refresh()
        for index in range(len(split)):
            stop.check()
            batch = micro_batch(split, [index], parts.device.name)
            losses.append(method.measure(forward, batch) / method.units(split, index))
    forward.refresh()
    parts.adapter.model.train(parts.adapter.has_dropout)
    # What was seen here record by record is no evaluation of its own.
    method.measured(loop.spec.run, loop.state.step)
    return losses
