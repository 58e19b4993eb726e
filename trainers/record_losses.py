"""Which records a run finds hard and which easy, each with its loss, sealed: held-out ones and training ones.

Guarantees: losses of held-out records are those of the shipped state, and their mean, weighed by ``units``, is the
run's best held-out loss up to rounding; texts are in the sealed files only, those of the ``SAMPLES`` worst and best.
Does not: make another pass over training records; their losses are those of the passes they were learnt in, the model
being at another step for each. A record whose loss stays high where its like fall is worth a look all the same.

Example:
    >>> measure_records(loop, tokenizer, out, keys.output_key)  # writes held_out.sealed
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import torch

from compliance.vault import ObjectContext
from trainers.encoding import Split
from trainers.events import RecordsMeasured, TrainRecordsMeasured
from trainers.forward import micro_batch
from trainers.loop import Loop
from trainers.process import Stop
from trainers.sealed import Written, write_sealed
from trainers.shards import context_of

RECORDS_FILE = "held_out.sealed"
MET_FILE = "train_records.sealed"
SAMPLES = 10


def measure_records(loop: Loop, tokenizer: Any, out: Path, key: bytes, stop: Stop) -> RecordsMeasured:
    """Writes the file, worst record first: JSON lines of id, loss, units and, of the worst and best, the text.

    The losses are those by the weights in hand.

    Raises:
        TrainerError: ``output.unusable``.
        Cancelled: a signal came.
    """
    split, method = loop.parts.held_out, loop.parts.method
    losses = _losses(loop, stop)
    order = sorted(range(len(split)), key=lambda index: (-losses[index], index))

    def line_of(rank: int, index: int) -> dict[str, Any]:
        line = {"id": split.ids[index], "loss": losses[index], "units": method.units(split, index)}
        is_shown = rank < SAMPLES or rank >= len(order) - SAMPLES
        return line | ({"text": _text(split, index, tokenizer)} if is_shown else {})

    lines = (line_of(*each) for each in enumerate(order))
    digest, written = _seal_lines(out / RECORDS_FILE, lines, key, context_of(loop.spec.output.context, "held-out"))
    return RecordsMeasured(
        run=loop.spec.run,
        file=RECORDS_FILE,
        records=len(split),
        worst=losses[order[0]],
        median=losses[order[len(order) // 2]],
        best=losses[order[-1]],
        digest=digest,
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
    first, last = loop.met
    known = torch.nonzero(~torch.isnan(last))[:, 0]
    order = known[torch.sort(last[known], descending=True, stable=True).indices]

    def line_of(rank: int, index: int) -> dict[str, Any]:
        line = {"id": split.ids[index], "first": float(first[index]), "last": float(last[index])}
        line["units"] = method.units(split, index)
        return line | ({"text": _text(split, index, tokenizer)} if rank < SAMPLES else {})

    lines = (line_of(rank, int(index)) for rank, index in enumerate(order))
    digest, written = _seal_lines(out / MET_FILE, lines, key, context_of(loop.spec.output.context, "train-records"))
    # A state of the first version, taken up at its end, met none.
    losses = last[order] if len(order) else torch.tensor([math.nan])
    return TrainRecordsMeasured(
        run=loop.spec.run,
        file=MET_FILE,
        records=len(order),
        worst=float(losses[0]),
        median=float(losses[len(losses) // 2]),
        best=float(losses[-1]),
        digest=digest,
        sealed_digest=written.sealed_digest,
        commitment=written.commitment,
    )


def _seal_lines(path: Path, lines: Iterable[dict[str, Any]], key: bytes, context: ObjectContext) -> tuple[str, Written]:
    """Seals objects, a line each, as they come; the digest is of the plaintext."""
    digest = hashlib.sha256()

    def pieces() -> Iterator[bytes]:
        for line in lines:
            piece = json.dumps(line, ensure_ascii=False).encode() + b"\n"
            digest.update(piece)
            yield piece

    written = write_sealed(path, pieces(), key, context)
    return f"sha256:{digest.hexdigest()}", written


def _text(split: Split, index: int, tokenizer: Any) -> str:
    text: str = tokenizer.decode(split.own_tokens_of(index))
    return text


@torch.no_grad()
def _losses(loop: Loop, stop: Stop) -> list[float]:
    """Mean loss of each held-out record by the state in hand."""
    parts = loop.parts
    split, method, forward = parts.held_out, parts.method, parts.forward
    losses = []
    parts.adapter.model.eval()
    for index in range(len(split)):
        stop.check()
        batch = micro_batch(split, [index], parts.device.name)
        losses.append(method.measure(forward, batch) / method.units(split, index))
    parts.adapter.model.train(parts.adapter.has_dropout)
    # What was seen here record by record is no evaluation of its own.
    method.measured(loop.spec.run, loop.state.step)
    return losses
