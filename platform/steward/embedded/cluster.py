"""One PostgreSQL cluster: made, started, asked, stopped. Callers hold the startup lock of `steward.embedded.holding`.

Guarantees: a half-made cluster is never used; a pid file left by a killed server is removed only when none of its
processes lives; no statement or value reaches the server's log. Does not: decide who needs the server.
"""

import contextlib
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from steward.embedded.errors import EmbeddedDatabaseError
from steward.embedded.folders import MAJOR_VERSION, SOCKET_NAME, binaries, socket_folder

SUPERUSER = "postgres"
DATABASE = "steward"
START_SECONDS = 60
STOP_SECONDS = 30
START_ATTEMPTS = 3
# Servers that this process started, so that one which ended is reaped and does not linger as a zombie.
_started: dict[Path, subprocess.Popen[bytes]] = {}


def django_settings(folder: Path) -> dict[str, Any]:
    """Return Django's settings for the cluster kept in `folder`, whether it runs or not."""
    return {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": DATABASE,
        "USER": SUPERUSER,
        "HOST": str(socket_folder(folder)),
        "PORT": "5432",
    }


def connect(folder: Path, database: str = DATABASE) -> Any:
    """Return an autocommitting psycopg connection as superuser. The server must be running.

    Raises:
        psycopg.OperationalError: it is not.
    """
    import psycopg

    return psycopg.connect(
        host=str(socket_folder(folder)), port=5432, user=SUPERUSER, dbname=database, autocommit=True, connect_timeout=10
    )


def is_running(folder: Path) -> bool:
    """Tell whether a server listens on the cluster's socket and is not just dying."""
    if not _is_listening(folder):
        return False
    if _server_pid(folder) is not None:
        return True
    # What is left of a killed server still holds the socket for a moment. Or the server runs where its processes cannot
    # be seen, in another container: then it answers.
    import psycopg

    try:
        connect(folder, SUPERUSER).close()
    except psycopg.OperationalError:
        return False
    return True


def _is_listening(folder: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(5)
        try:
            probe.connect(str(socket_folder(folder) / SOCKET_NAME))
        except OSError:
            return False
    return True


def wait_until_ready(folder: Path) -> None:
    """Wait for a server that listens but still recovers from a crash, or has just been started by another process.

    Raises:
        EmbeddedDatabaseError: it does not accept connections within `START_SECONDS`.
    """
    import psycopg

    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            connect(folder, SUPERUSER).close()
        except psycopg.OperationalError as error:
            if time.monotonic() > deadline:
                raise EmbeddedDatabaseError(f"the server does not become ready. {_last_words(folder)}") from error
            time.sleep(0.05)
        else:
            return


def stop(folder: Path) -> None:
    """Stop the cluster's server: open transactions are rolled back, everything committed is on disk.

    Raises:
        EmbeddedDatabaseError: it did not end within `STOP_SECONDS`, nor when it was told to abort.
    """
    pid = _server_pid(folder)
    if pid is None:
        return
    # Source: PostgreSQL 18, 18.5 "Shutting Down the Server": SIGINT fast, SIGQUIT immediate (recovers at next start).
    for order in (signal.SIGINT, signal.SIGQUIT):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, order)
        deadline = time.monotonic() + STOP_SECONDS
        while time.monotonic() < deadline:
            if _server_pid(folder) != pid:
                _reap(folder)
                return
            time.sleep(0.02)
    raise EmbeddedDatabaseError(f"process {pid} does not stop. End it with: kill -QUIT {pid}")


def _reap(folder: Path) -> None:
    server = _started.pop(folder, None)
    if server is not None:
        server.wait()


def start(folder: Path, owner: pwd.struct_passwd | None, options: Sequence[str]) -> None:
    """Start the server and wait until it answers; the startup lock is held."""
    data = folder / "data"
    _make_cluster(folder, owner)
    _refuse_other_version(data)
    _clear_stale_pid(folder)
    quoted = str(socket_folder(folder)).replace('"', '""')
    settings = [
        "listen_addresses=",
        f'unix_socket_directories="{quoted}"',
        "unix_socket_permissions=0700",
        "max_connections=100",
        "timezone=UTC",
        "log_timezone=UTC",
        # Statements and DETAIL lines carry values; neither may reach a log.
        "log_statement=none",
        "log_min_error_statement=panic",
        "log_parameter_max_length_on_error=0",
        "log_error_verbosity=terse",
        *options,
    ]
    command = [str(binaries() / "postgres"), "-D", str(data), *(f"--{setting}" for setting in settings)]
    deadline = time.monotonic() + START_SECONDS
    with open(folder / "server.log", "ab") as log:
        # More than once: right after a crash what remains of the old server may still hold its memory.
        for _ in range(START_ATTEMPTS):
            server = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True, **_as_user(owner)
            )
            if _answers(folder, server, deadline):
                _started[folder] = server
                _make_database(folder)
                return
            time.sleep(0.5)
    raise EmbeddedDatabaseError(f"the server did not start. {_last_words(folder)}")


def _answers(folder: Path, server: subprocess.Popen[bytes], deadline: float) -> bool:
    """Wait until the server accepts connections; False if it ended instead."""
    import psycopg

    while time.monotonic() < deadline:
        if server.poll() is not None:
            return False
        try:
            connect(folder, SUPERUSER).close()
        except psycopg.OperationalError:
            time.sleep(0.03)
        else:
            return True
    server.send_signal(signal.SIGINT)
    server.wait(STOP_SECONDS)
    return False


def _make_database(folder: Path) -> None:
    with connect(folder, SUPERUSER) as connection:
        if connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [DATABASE]).fetchone() is None:
            connection.execute(f"CREATE DATABASE {DATABASE}")


def _make_cluster(folder: Path, owner: pwd.struct_passwd | None) -> None:
    """Run initdb beside the final place and move the result there, so that a half-made cluster is never used."""
    if (folder / "data" / "PG_VERSION").exists():
        return
    for leftover in folder.glob("data.making-*"):
        shutil.rmtree(leftover)
    draft = Path(tempfile.mkdtemp(prefix="data.making-", dir=folder))
    if owner is not None:
        os.chown(draft, owner.pw_uid, owner.pw_gid)
    made = subprocess.run(
        [
            str(binaries() / "initdb"),
            f"--pgdata={draft}",
            f"--username={SUPERUSER}",
            "--encoding=UTF8",
            "--locale-provider=builtin",
            "--builtin-locale=C.UTF-8",
            "--locale=C",
            # Whoever can enter the socket's folder owns the data files anyway.
            "--auth-local=trust",
            "--auth-host=reject",
            "--no-instructions",
        ],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        **_as_user(owner),
    )
    if made.returncode != 0:
        reason = " ".join(made.stderr.split())[-400:]
        raise EmbeddedDatabaseError(f"a new cluster could not be made in {folder}: {reason}")
    draft.rename(folder / "data")


def _refuse_other_version(data: Path) -> None:
    found = (data / "PG_VERSION").read_text().strip()
    if found != str(MAJOR_VERSION):
        raise EmbeddedDatabaseError(
            f"the data in {data} were written by PostgreSQL {found}, this Steward carries {MAJOR_VERSION}. "
            "Use a Steward with the former to write a backup, and restore it here."
        )


def _clear_stale_pid(folder: Path) -> None:
    """Remove pid files whose number now belongs to another program; PostgreSQL itself would refuse to start.

    Raises:
        EmbeddedDatabaseError: processes of the old server still work on the data; a second server would destroy them.
    """
    data = folder / "data"
    if _server_pid(folder) is not None:
        return
    _reap(folder)
    deadline = time.monotonic() + STOP_SECONDS
    while survivors := _processes_in(data):
        if time.monotonic() > deadline:
            numbers = " ".join(map(str, survivors))
            raise EmbeddedDatabaseError(f"processes of a crashed server linger. End them: kill -QUIT {numbers}")
        time.sleep(0.1)
    (data / "postmaster.pid").unlink(missing_ok=True)
    (socket_folder(folder) / f"{SOCKET_NAME}.lock").unlink(missing_ok=True)


def _processes_in(data: Path) -> list[int]:
    """Return the PostgreSQL processes that work in this data folder, which is their working directory."""
    import psutil

    found = []
    for process in psutil.process_iter(["pid", "name"]):
        with contextlib.suppress(psutil.Error):
            if process.info["name"] == "postgres" and process.cwd() == str(data.resolve()):
                found.append(process.info["pid"])
    return found


def _server_pid(folder: Path) -> int | None:
    """Return the process id of the cluster's server if that process lives and is one."""
    import psutil

    data = folder / "data"
    try:
        pid = int((data / "postmaster.pid").read_text().split("\n", 1)[0])
        process = psutil.Process(pid)
        is_ours = process.status() != psutil.STATUS_ZOMBIE and str(data) in process.cmdline()
    except (FileNotFoundError, ValueError, psutil.NoSuchProcess):
        return None
    return pid if is_ours else None


def _last_words(folder: Path) -> str:
    """Return the end of the server's log, which holds no values (see the settings above)."""
    lines = (folder / "server.log").read_text(errors="replace").splitlines()
    return f"Its last words: {' / '.join(lines[-3:])}. The whole log: {folder / 'server.log'}"


def _as_user(owner: pwd.struct_passwd | None) -> dict[str, Any]:
    """Return the arguments that make a subprocess run as `owner`, with an environment of its own."""
    environment = {"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC"}
    if owner is None:
        return {"env": environment, "cwd": "/"}
    return {"env": environment, "cwd": "/", "user": owner.pw_uid, "group": owner.pw_gid, "extra_groups": []}
