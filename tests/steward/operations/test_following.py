"""A command that waits for queued work sees to it that somebody does it."""

import fcntl
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
from django.conf import settings

from steward.operations import following, supervisor
from steward.operations.children import Child
from steward.operations.supervisor import CannotStart, _only_supervisor

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[Child]:
    """The helpers that a command started: a process that only sleeps stands for each."""
    made: list[Child] = []

    def children() -> list[Child]:
        made.append(Child("worker", [sys.executable, "-c", "import time; time.sleep(60)"], dict(os.environ), 5.0))
        return made[-1:]

    monkeypatch.setattr(following, "background_children", children)
    return made


def test_a_supervisor_that_stops_meanwhile_is_stood_in_for(started: list[Child]) -> None:
    with open(settings.STEWARD_HOME / "supervisor.lock", "a+") as note:
        fcntl.flock(note, fcntl.LOCK_EX)
        with following.working() as helpers:
            assert following.watch(helpers) == []
            assert not started
            fcntl.flock(note, fcntl.LOCK_UN)
            assert following.watch(helpers) == ["Steward was stopped meanwhile; this command carries the work on."]
            assert following.watch(helpers) == []
            (helper,) = started
            assert helper.process is not None
            process = helper.process
            assert process.poll() is None
        assert process.poll() is not None


def test_a_command_that_only_looks_does_not_keep_a_supervisor_from_starting() -> None:
    path = settings.STEWARD_HOME / "supervisor.lock"
    with open(path, "a+") as looker:
        fcntl.flock(looker, fcntl.LOCK_SH)
        release = threading.Timer(0.08, lambda: fcntl.flock(looker, fcntl.LOCK_UN))
        release.start()
        with _only_supervisor("http://127.0.0.1:1"):
            pass
        release.join()
        fcntl.flock(looker, fcntl.LOCK_EX)
        with pytest.raises(CannotStart, match="already runs"), _only_supervisor("http://127.0.0.1:1"):
            pass
    assert supervisor.LOCK_TRIES * supervisor.LOCK_PAUSE_SECONDS < 1


@pytest.mark.slow
def test_a_worker_says_nothing_and_stops_when_told(
    run_manage: Callable[..., Any], other_home: Path, tmp_path: Path
) -> None:
    assert run_manage("migrate", "--verbosity", "0").returncode == 0
    said = tmp_path / "said"
    with open(said, "wb") as stream:
        worker = subprocess.Popen(
            [sys.executable, str(ROOT / "manage.py"), "work"],
            env={**os.environ, "STEWARD_HOME": str(other_home)},
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=stream,
        )
    # Two connections: one that listens for jobs, one that fetches them.
    process, deadline = psutil.Process(worker.pid), time.monotonic() + 40
    while len([each for each in process.net_connections("all") if each.status != "LISTEN"]) < 2:
        assert worker.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.2)
    time.sleep(1)
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(20) in {0, 128 + signal.SIGTERM}
    assert said.read_text() == ""
