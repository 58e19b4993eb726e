"""What can go wrong in a trainer, said so that somebody can act on it.

Guarantees: a ``TrainerError`` message holds identifiers, counts, paths and settings, never record text or keys; its
``code`` is stable. Does not: wrap faults of our own; those end as ``internal`` with the exception's type only.

Exit codes of ``python -m trainers``: 0 done; 1 a fault of ours; 2 the spec, the data, the model or the machine does
not allow it (``run.failed`` says which and what to do next); 3 cancelled; 4 out of memory; 5 paused.

Example:
    >>> raise TrainerError("model.missing", "no such folder: /models/x", "give the folder of a downloaded model")
"""

from __future__ import annotations

EXIT_DONE = 0
EXIT_FAULT = 1
EXIT_REFUSED = 2
EXIT_CANCELLED = 3
EXIT_MEMORY = 4
EXIT_PAUSED = 5


class TrainerError(Exception):
    """Something the operator can put right.

    Attributes:
        code: stable, dotted, lower case.
        hint: what to do next.
        exit_code: of the process.
    """

    def __init__(self, code: str, message: str, hint: str, exit_code: int = EXIT_REFUSED) -> None:
        super().__init__(message)
        self.code = code
        self.hint = hint
        self.exit_code = exit_code


class Cancelled(Exception):
    """SIGTERM or SIGINT came, or nobody reads the events any more; raised between two pieces of work."""


class Paused(Cancelled):
    """SIGUSR1 came: as ``Cancelled``, but the run is meant to go on later."""
