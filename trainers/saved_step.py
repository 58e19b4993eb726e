"""Whether an output folder holds a state to go on from, and after which step it was.

Guarantees: read without torch, for the last words of a process that may be asked to go before torch is loaded.
Does not: open the checkpoint, which takes a key; ``trainers.checkpoint`` does.

Example:
    >>> saved_step(Path("run"))
    (12, True)
"""

from __future__ import annotations

import json
from pathlib import Path

from trainers.sealed import CHECKPOINT_FILE

#: Step and key commitment of the checkpoint, in clear.
HEADER_FILE = "checkpoint.json"


def has_checkpoint(folder: Path) -> bool:
    """Whether a run can go on from here."""
    return (folder / CHECKPOINT_FILE).is_file()


def saved_step(folder: Path | None) -> tuple[int, bool]:
    """The step of the checkpoint on disk, which is what can be taken up again, and whether there is one.

    A header that is missing or damaged counts as step 0: it only tells people, and the checkpoint knows better.
    """
    if folder is None or not has_checkpoint(folder):
        return 0, False
    try:
        step = json.loads((folder / HEADER_FILE).read_bytes())["step"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return 0, True
    return step if type(step) is int else 0, True
