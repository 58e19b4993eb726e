"""Whether a supervisor (`manage.py up`) runs in this home, what it says of itself, and where Steward is reached.

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


def local_address(bind: str, port: int) -> str:
    """The address to type into a browser on this machine, where the web server listens at `bind`, e.g. `0.0.0.0`."""
    host = f"[{bind}]" if ":" in bind else bind
    return f"http://{'127.0.0.1' if host in {'0.0.0.0', '[::]'} else host}:{port}"  # noqa: S104


def public_address() -> str | None:
    """The address under which people reach Steward through its TLS proxy; none where there is no proxy."""
    return f"https://{settings.STEWARD_HOSTS[0]}" if settings.STEWARD_TLS and settings.STEWARD_HOSTS else None


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
