"""The state of a run between two steps, sealed, so that going on equals never having stopped.

``checkpoint.sealed`` is the last one. Where more are to be kept, ``checkpoint-00000012.sealed`` is that after step 12.

Guarantees: adapter, both moments, average, best adapter, losses of training records, random state and counters travel
as safetensors and JSON inside one vault object, written atomically; a checkpoint of another spec is refused; older ones
are removed only once a newer one is whole.
Does not: pickle anything, ever.

Example:
    >>> save_checkpoint(out, state, tensors, identity(spec), keys.output_key, context)
    >>> state, tensors = load_checkpoint(checkpoint_file(out), identity(spec), keys.output_key, context)
"""

from __future__ import annotations

import errno
import json
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from compliance.vault import ObjectContext, atomic_output
from trainers.errors import TrainerError
from trainers.saved_step import HEADER_FILE
from trainers.sealed import CHECKPOINT_FILE, opened_sealed, write_sealed
from trainers.tensor_file import Later, pieces_of_file, read_file

SCHEMA = "steward.checkpoint/1"
#: What a file system says that knows no second name of a file. Source: link(2).
_ONE_NAME = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS)
_KEPT = re.compile(r"checkpoint-[0-9]{8,}\.sealed")


@dataclass
class State:
    """Counters of a run. ``stale`` counts evaluations without a better state, ``skipped`` updates left out in a row.

    ``left_out`` are all updates that were not made. ``loss_scale`` and the ``good_steps`` since it was last changed are
    those of ``trainers.loss_scale``. ``best_loss`` is that of the best state, ``best_score`` its score where the best
    is chosen by a metric.
    """

    step: int = 0
    tokens: int = 0
    flops: int = 0
    best_loss: float = float("inf")
    best_score: float | None = None
    best_step: int = 0
    stale: int = 0
    skipped: int = 0
    left_out: int = 0
    loss_scale: float | None = None
    good_steps: int = 0
    micro_tokens: int = 0
    seconds: float = 0.0


def kept_steps(folder: Path) -> list[int]:
    """Steps whose states were kept beside the last one, in their order."""
    names = (each.name for each in folder.glob("checkpoint-*.sealed"))
    return sorted(int(name[len("checkpoint-") : -len(".sealed")]) for name in names if _KEPT.fullmatch(name))


def _kept_file(folder: Path, step: int) -> Path:
    return folder / f"checkpoint-{step:08d}.sealed"


def keep_checkpoint(folder: Path, step: int, best_step: int, most: int) -> None:
    """Keeps the checkpoint just written under its step, and of the older ones the last ``most`` and the best.

    The kept file is the same one by a second name, so it costs no room and no time.

    Raises:
        TrainerError: ``output.unusable``; ``output.one_name``, where the file system has no second names.
    """
    target = _kept_file(folder, step)
    staged = target.with_suffix(".partial")
    try:
        staged.unlink(missing_ok=True)
        os.link(folder / CHECKPOINT_FILE, staged)
        staged.replace(target)
        steps = kept_steps(folder)
        for each in set(steps) - set(steps[-most:]) - {best_step}:
            _kept_file(folder, each).unlink()
    except OSError as fault:
        code, hint = "output.unusable", "free space or let the folder be written, then run again"
        if fault.errno in _ONE_NAME:
            code, hint = "output.one_name", "give another folder, or set keep_checkpoints to 1"
        raise TrainerError(code, f"{target}: {fault.strerror}", hint) from None


def checkpoint_file(folder: Path, step: int | None = None) -> Path:
    """The file of the last state, or of the one that was kept after ``step``.

    Raises:
        TrainerError: ``checkpoint.missing``, naming the steps that were kept.
    """
    file = folder / CHECKPOINT_FILE if step is None else _kept_file(folder, step)
    if not file.is_file():
        steps = kept_steps(folder)
        kept = f"kept are the states after steps {', '.join(map(str, steps))}: resume with --step" if steps else ""
        what = "no checkpoint" if step is None else f"no state after step {step}"
        raise TrainerError(
            "checkpoint.missing", f"{what} in {folder}", kept or "use run to start from the beginning; none was kept"
        )
    return file


def go_back(folder: Path, step: int) -> None:
    """Makes a kept state, which was opened and found to be the run's own, the last one; later ones are removed.

    Raises:
        TrainerError: ``checkpoint.missing``; ``output.unusable``, as little done as possible.
    """
    kept = checkpoint_file(folder, step)
    staged = folder / f"{CHECKPOINT_FILE}.partial"
    try:
        staged.unlink(missing_ok=True)
        os.link(kept, staged)
        _write_header(folder, {"schema": SCHEMA, "step": step})
        staged.replace(folder / CHECKPOINT_FILE)
        for each in kept_steps(folder):
            if each > step:
                _kept_file(folder, each).unlink()
    except OSError as fault:
        raise TrainerError(
            "output.unusable", f"{folder}: {fault.strerror}", "free space or let the folder be written, then try again"
        ) from None


def _write_header(folder: Path, header: dict[str, Any]) -> None:
    with atomic_output(folder / HEADER_FILE) as sink:
        sink.write(json.dumps(header, indent=2).encode() + b"\n")


def save_checkpoint(
    folder: Path,
    state: State,
    tensors: Mapping[str, Tensor | Later],
    identity: str,
    key: bytes,
    context: ObjectContext,
) -> int:
    """Replaces the checkpoint; returns the length of the sealed file.

    Raises:
        TrainerError: ``output.unusable``.
    """
    facts = {"schema": SCHEMA, "identity": identity, "state": asdict(state)}
    # JSON has no infinity, and before the first evaluation the best loss is just that.
    if state.best_loss == float("inf"):
        facts["state"] = asdict(state) | {"best_loss": None}
    pieces = pieces_of_file(tensors, {"steward": json.dumps(facts)})
    written = write_sealed(folder / CHECKPOINT_FILE, pieces, key, context)
    header = {"schema": SCHEMA, "identity": identity, "step": state.step, "commitment": written.commitment}
    try:
        _write_header(folder, header)
    except OSError as fault:
        raise TrainerError(
            "output.unusable", f"{folder / HEADER_FILE}: {fault.strerror}", "free space, then run again"
        ) from None
    return written.bytes


def load_checkpoint(
    file: Path,
    identity: str,
    key: bytes,
    context: ObjectContext,
    keep: Callable[[str, Tensor], Tensor] = lambda _, tensor: tensor,
) -> tuple[State, dict[str, Tensor]]:
    """The state and its tensors, or what ``keep`` gives of each; no two are in memory whole.

    Raises:
        TrainerError: ``output.unreadable``, naming older states if any; ``checkpoint.other`` if it is of another spec.
    """
    states = []

    def judge(metadata: dict[str, str]) -> None:
        facts = json.loads(metadata["steward"])
        values = facts["state"]
        loss = float("inf") if values["best_loss"] is None else values["best_loss"]
        states.append(State(**(values | {"best_loss": loss})))
        if str(facts["identity"]) != identity:
            raise TrainerError(
                "checkpoint.other",
                "the output folder holds a checkpoint of another spec or another base model",
                "give another folder, or the spec and the base model that the checkpoint was made with",
            )

    try:
        with opened_sealed(file, key, context) as source:
            tensors = read_file(source, judge, keep)
    except TrainerError as fault:
        steps = kept_steps(file.parent)
        if fault.code != "output.unreadable" or not steps:
            raise
        older = f"or resume with --step from one of the states kept after steps {', '.join(map(str, steps))}"
        raise TrainerError(fault.code, str(fault), f"{fault.hint}, {older}", fault.exit_code) from None
    except (ValueError, KeyError, TypeError):
        raise TrainerError(
            "output.unreadable", "the checkpoint is of another version", "remove it to start the run anew"
        ) from None
    return states[0], tensors
