"""A home where nothing was done yet, and several processes that begin at once. Real clusters."""

import contextlib
import fcntl
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from django.conf import settings
from django.db import connection

from steward import embedded
from steward.audit.database_roles import APP, arrange_roles
from steward.audit.management.commands.migrate import ADVISORY_LOCK

ROOT = Path(__file__).resolve().parents[3]
pytestmark = pytest.mark.slow


@pytest.fixture
def begin(other_home: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Starts `manage.py` in the new home and does not wait for it."""
    begun: list[subprocess.Popen[str]] = []

    def start(*arguments: str) -> subprocess.Popen[str]:
        begun.append(
            subprocess.Popen(
                [sys.executable, str(ROOT / "manage.py"), *arguments],
                env={**os.environ, "STEWARD_HOME": str(other_home)},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
        )
        return begun[-1]

    yield start
    for process in begun:
        with process:
            process.send_signal(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(60)
            process.kill()


def workspace(name: str) -> list[str]:
    return ["workspace", name, "--domain", "healthcare", "--member", f"{name}=analyst"]


def test_commands_beside_the_first_start_wait_for_it_and_nothing_has_to_start_twice(begin: Any) -> None:
    with contextlib.closing(_free_port()) as probe:
        port = probe.getsockname()[1]
    up = begin("up", "--port", str(port))
    commands = [begin(*workspace(name)) for name in ("north", "south")]
    for command in commands:
        said, _ = command.communicate(timeout=180)
        assert command.returncode == 0, said
        assert "analyst" in said
    lines = []
    for line in up.stdout:
        lines.append(line)
        if "Steward runs at" in line:
            break
    time.sleep(1)
    up.send_signal(signal.SIGINT)
    lines += up.communicate(timeout=60)[0].splitlines(keepends=True)
    assert up.returncode == 0, lines
    assert not [line for line in lines if "ended" in line or "permission denied" in line]


def _free_port() -> Any:
    import socket

    probe = socket.socket()
    probe.bind(("127.0.0.1", 0))
    return probe


def test_one_migrates_while_others_wait_and_a_command_waits_for_a_supervisor_that_starts(
    begin: Any, other_home: Path
) -> None:
    folder = other_home / "postgres"
    with embedded.hold(folder), embedded.connect(folder) as server:
        server.execute("SELECT pg_advisory_lock(%s)", [ADVISORY_LOCK])
        both = [begin(*workspace(name)) for name in ("north", "south")]
        _wait_for(lambda: len(_waiting(server)) == 2)
        assert not server.execute("SELECT 1 FROM pg_tables WHERE schemaname = 'public'").fetchall()
        server.execute("SELECT pg_advisory_unlock(%s)", [ADVISORY_LOCK])
        for command in both:
            said, _ = command.communicate(timeout=180)
            assert command.returncode == 0, said

        with open(other_home / "supervisor.lock", "a+") as note:
            fcntl.flock(note, fcntl.LOCK_EX)
            waits = begin("sign_in_link", "north")
            assert "Steward is starting in this home" in waits.stdout.readline()
            assert waits.poll() is None
            note.write('{"pid": 1, "address": "http://127.0.0.1:8123"}')
            note.flush()
            said, _ = waits.communicate(timeout=60)
            assert waits.returncode == 0, said
            assert said.startswith("http://127.0.0.1:8123/sign-in/link/")


def _waiting(server: Any) -> list[Any]:
    return list(server.execute("SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND NOT granted").fetchall())


def _wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 90
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)


@pytest.mark.django_db(transaction=True)
def test_rights_are_arranged_anew_without_a_moment_in_which_the_sealer_has_none() -> None:
    refused: list[psycopg.Error] = []
    is_over = threading.Event()
    asked = 0

    def ask() -> None:
        nonlocal asked
        name = settings.DATABASES["default"]["NAME"]
        host = settings.DATABASES["default"]["HOST"]
        with psycopg.connect(host=host, port=5432, user=APP, dbname=name, autocommit=True) as app:
            while not is_over.is_set():
                try:
                    app.execute("SELECT count(*) FROM ledger_outbox")
                    asked += 1
                except psycopg.Error as error:
                    refused.append(error)

    sealer = threading.Thread(target=ask)
    sealer.start()
    try:
        for _ in range(30):
            arrange_roles(sender=None, using=connection.alias)  # type: ignore[arg-type]
    finally:
        is_over.set()
        sealer.join()
    assert asked
    assert refused == []
