"""The disk under a run's folder: which faults are its own, and whether it has room for the next checkpoint.

Guarantees that a disk that is full, read-only or not mounted is told from every other trouble, and is named in words
with what to do next. Does not: reserve room; what is free now may be taken a moment later, and then the trainer says
so.

Example:
    >>> lacking(fine_tune)
    '/srv/steward/runs has 3.1 MB free and the next checkpoint takes 12.4 MB; free some space there'
"""

import errno
import shutil
import tempfile

from django.conf import settings

from steward.runs.models import FineTune
from steward.runs.specs import checkpoint_of, run_folder

#: What a run is put aside with where it was not the trainer that found the disk unusable.
UNUSABLE = "output.unusable"
#: What a trainer says of a disk, and the vault where it seals the shards. Source: trainers.sealed,
#: trainers.number_store; vault.objects.
CODES = frozenset({UNUSABLE, "disk.full", "disk_full"})
_ERRORS = frozenset(
    {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO, errno.EACCES, errno.EPERM, errno.ENOENT}
)
#: Room for events, losses and notes beside a checkpoint.
_SPARE_BYTES = 1 << 20
_TRIED_BYTES = 1 << 16


def is_to_blame(error: BaseException) -> bool:
    """Whether a fault of ours is the disk's; a connection that breaks has other numbers."""
    return isinstance(error, OSError) and error.errno in _ERRORS


def lacking(fine_tune: FineTune) -> str | None:
    """Why a trainer could not leave its next checkpoint in the run's folder, and what to do; None where it can."""
    folder = run_folder(fine_tune)
    if not (folder / "spec.json").is_file():
        return f"the run's files are not under {settings.STEWARD_RUNS}; mount the disk that holds them"
    try:
        checkpoint = checkpoint_of(fine_tune)
        needed = (checkpoint.stat().st_size if checkpoint.exists() else 0) + _SPARE_BYTES
        with tempfile.TemporaryFile(dir=folder, buffering=0) as tried:
            tried.write(bytes(_TRIED_BYTES))
        free = shutil.disk_usage(folder).free
    except OSError as error:
        return in_words(error)
    if free < needed:
        room = f"{settings.STEWARD_RUNS} has {free / 1e6:,.1f} MB free and the next checkpoint takes"
        return f"{room} {needed / 1e6:,.1f} MB; free some space there"
    return None


def in_words(error: OSError) -> str:
    """A fault of the disk for people, without the name of a file."""
    reason = error.strerror or type(error).__name__
    return f"{settings.STEWARD_RUNS} cannot be written ({reason}); free space there or let it be written"
