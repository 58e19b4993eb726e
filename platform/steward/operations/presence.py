"""Whether a supervisor (`manage.py up`) runs in this home, and what it says of itself.

Guarantees that a supervisor which was killed is taken for none, since its lock is the operating system's. Imports no
model, so that a command can ask before Django is set up.

Example:
    >>> is_supervised(), read_note().get("address")
    (True, 'http://127.0.0.1:8000')
"""

import fcntl
import json
import sys
import time
from pathlib import Path

from django.conf import settings

LOOK_EVERY_SECONDS = 0.05
SAY_AFTER_SECONDS = 2.0


def note_path() -> Path:
    """The file that a supervisor locks while it runs, and writes into once the database is up to date."""
    return Path(settings.STEWARD_HOME, "supervisor.lock")


def is_supervised() -> bool:
    """Whether a supervisor runs in this home and thus a worker and a sealer do, or are about to."""
    try:
        with open(note_path(), "rb") as note:
            fcntl.flock(note, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


def read_note() -> dict[str, object]:
    """What the running supervisor wrote of itself: `pid`, `address`, `children`. Empty if none runs, or it starts."""
    try:
        found = json.loads(note_path().read_text() or "{}")
    except (FileNotFoundError, json.JSONDecodeError):
        return {}
    return found if isinstance(found, dict) else {}


def wait_while_it_starts() -> None:
    """Returns once a supervisor that is starting has brought the database up to date, or is gone.

    Without this a command in a new home would find half the tables.
    """
    begun, has_said = time.monotonic(), False
    while is_supervised() and not read_note():
        if not has_said and time.monotonic() - begun > SAY_AFTER_SECONDS:
            sys.stderr.write("Steward is starting in this home; waiting until its database is up to date ...\n")
            has_said = True
        time.sleep(LOOK_EVERY_SECONDS)
