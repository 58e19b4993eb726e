"""The state of a run between two steps, sealed, so that going on equals never having stopped.

Guarantees: adapter, both moments, best adapter, random state and counters travel as safetensors and JSON inside one
vault object, written atomically; a checkpoint of another spec is refused. Does not: pickle anything, ever.

Example:
    >>> save_checkpoint(out, state, tensors, identity(spec), keys.output_key, context)
    >>> state, tensors = load_checkpoint(out, identity(spec), keys.output_key, context)
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from compliance.vault import ObjectContext, atomic_output
from trainers.errors import TrainerError
from trainers.sealed import CHECKPOINT_FILE, read_sealed, write_sealed

SCHEMA = "steward.checkpoint/1"
HEADER_FILE = "checkpoint.json"


@dataclass
class State:
    """Counters of a run. ``stale`` counts evaluations without a better loss, ``skipped`` updates left out in a row."""

    step: int = 0
    tokens: int = 0
    flops: int = 0
    best_loss: float = float("inf")
    best_step: int = 0
    stale: int = 0
    skipped: int = 0
    micro_tokens: int = 0
    seconds: float = 0.0


def has_checkpoint(folder: Path) -> bool:
    """Whether a run can go on from here."""
    return (folder / CHECKPOINT_FILE).is_file()


def save_checkpoint(
    folder: Path, state: State, tensors: dict[str, Tensor], identity: str, key: bytes, context: ObjectContext
) -> int:
    """Replaces the checkpoint; returns the length of the sealed file.

    Raises:
        TrainerError: ``output.unusable``.
    """
    facts = {"schema": SCHEMA, "identity": identity, "state": asdict(state)}
    # JSON has no infinity, and before the first evaluation the best loss is just that.
    if state.best_loss == float("inf"):
        facts["state"] = asdict(state) | {"best_loss": None}
    content = save(tensors, metadata={"steward": json.dumps(facts)})
    written = write_sealed(folder / CHECKPOINT_FILE, content, key, context)
    header = {"schema": SCHEMA, "identity": identity, "step": state.step, "commitment": written.commitment}
    with atomic_output(folder / HEADER_FILE) as sink:
        sink.write(json.dumps(header, indent=2).encode() + b"\n")
    return written.bytes


def load_checkpoint(folder: Path, identity: str, key: bytes, context: ObjectContext) -> tuple[State, dict[str, Tensor]]:
    """The state and its tensors.

    Raises:
        TrainerError: ``output.unreadable``; ``checkpoint.other`` when it is of another spec.
    """
    content = read_sealed(folder / CHECKPOINT_FILE, key, context)
    try:
        length = int.from_bytes(content[:8], "little")
        facts = json.loads(json.loads(content[8 : 8 + length])["__metadata__"]["steward"])
        tensors = load(content)
        found = str(facts["identity"])
        values = facts["state"]
        state = State(**(values | {"best_loss": float("inf") if values["best_loss"] is None else values["best_loss"]}))
    except (SafetensorError, ValueError, KeyError, TypeError):
        raise TrainerError(
            "output.unreadable", "the checkpoint is of another version", "remove it to start the run anew"
        ) from None
    if found != identity:
        raise TrainerError(
            "checkpoint.other",
            "the output folder holds a checkpoint of another spec",
            "give another folder, or the spec that the checkpoint was made with",
        )
    return state, tensors
