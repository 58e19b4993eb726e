"""Who needs the embedded server: it starts with the first holder and stops with the last.

Guarantees: of processes that start at once one starts the server and the others wait for it; a holder that is killed
counts no longer. Does not: restart a server that dies under its holders; the supervisor does, with `revive`.
"""

import contextlib
import fcntl
import os
import signal
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO

from steward.embedded import cluster, folders
from steward.embedded.errors import EmbeddedDatabaseError

# These read code or ask for help: they must work where no database can run.
_COMMANDS_WITHOUT_DATABASE = frozenset({"", "help", "version", "--version", "check", "findstatic", "spectacular"})
# These look after the server themselves.
_COMMANDS_THAT_HOLD_IT = frozenset({"up", "doctor"})


def needs_database(arguments: Sequence[str]) -> bool:
    """Whether a management command works on a database that it finds running.

    Args:
        arguments: the command line, `arguments[1]` being the command.
    """
    command = arguments[1] if len(arguments) > 1 else ""
    asks_help = any(word in {"-h", "--help"} for word in arguments[1:])
    return not asks_help and command not in _COMMANDS_WITHOUT_DATABASE | _COMMANDS_THAT_HOLD_IT


def database_for_command(arguments: Sequence[str]) -> contextlib.AbstractContextManager[None]:
    """Return a context in which the database of a management command runs.

    Args:
        arguments: the command line, `arguments[1]` being the command.

    Raises:
        SystemExit: on entry, if the embedded server cannot start; the reason is printed.
    """
    if not needs_database(arguments):
        return contextlib.nullcontext()
    from django.conf import settings

    if settings.STEWARD_DATABASE_URL:
        return contextlib.nullcontext()
    return _hold_or_exit(settings.STEWARD_POSTGRES)


@contextlib.contextmanager
def _hold_or_exit(folder: Path) -> Iterator[None]:
    # A terminated command must still let go of the server, so SIGTERM unwinds like Ctrl-C does.
    signal.signal(signal.SIGTERM, _leave)
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(hold(folder))
        except EmbeddedDatabaseError as error:
            raise SystemExit(f"The embedded database: {error}") from error
        yield


def _leave(number: int, frame: object) -> None:
    raise SystemExit(128 + number)


@contextlib.contextmanager
def hold(folder: Path, options: Sequence[str] = ()) -> Iterator[None]:
    """Keep the cluster in `folder` running for as long as the context lasts; make and start it if need be.

    The last holder stops it. A holder that is killed lets go by dying, since its hold is the operating system's lock.

    Args:
        folder: absolute; made with mode 0700.
        options: further server settings (`name=value`) if this call is the one that starts the server.

    Raises:
        EmbeddedDatabaseError: the server cannot be made or started.
    """
    owner = folders.server_user()
    folders.prepare(folder, owner)
    holder_pid = os.getpid()
    with open(folder / "holders.lock", "ab") as holders:
        with _startup_lock(folder):
            fcntl.flock(holders, fcntl.LOCK_SH)
            if cluster.is_running(folder):
                cluster.wait_until_ready(folder)
            else:
                cluster.start(folder, owner, options)
        try:
            yield
        finally:
            # A forked child leaves through here as well; the hold is its parent's.
            if os.getpid() == holder_pid:
                with _startup_lock(folder):
                    if _is_last(holders):
                        cluster.stop(folder)


def revive(folder: Path, options: Sequence[str] = ()) -> None:
    """Start the cluster's server again after it died under its holders; nothing happens if it runs.

    Raises:
        EmbeddedDatabaseError: it does not start.
    """
    with _startup_lock(folder):
        if not cluster.is_running(folder):
            cluster.start(folder, folders.server_user(), options)


@contextlib.contextmanager
def _startup_lock(folder: Path) -> Iterator[None]:
    """Let one process at a time look whether the server runs, start it or stop it."""
    with open(folder / "startup.lock", "ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _is_last(holders: IO[bytes]) -> bool:
    """Tell whether nobody else holds the server, by turning our share of the lock into the whole of it."""
    try:
        fcntl.flock(holders, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
