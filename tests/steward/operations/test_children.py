"""A supervised child is restarted, with growing pauses, and never outlives its supervisor."""

import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from steward.operations.children import LONGEST_PAUSE_SECONDS, Child

ROOT = Path(__file__).resolve().parents[3]


def child(code: str, grace_seconds: float = 5.0) -> Child:
    return Child("part", [sys.executable, "-c", code], dict(os.environ), grace_seconds)


def wait_for(condition: Callable[[], object], seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_child_that_dies_is_started_again() -> None:
    part = child("import time; time.sleep(60)")
    part.start()
    assert part.process is not None
    first = part.process.pid
    os.kill(first, signal.SIGKILL)
    told: list[str] = []
    wait_for(lambda: told.append(part.watch() or "") or part.process is None)
    assert told[-1] == "part ended (signal SIGKILL); it starts again in 1 s"
    part.next_start_at = 0.0
    part.watch()
    assert part.process is not None
    assert part.process.pid != first
    part.ask_to_stop()
    part.wait_until_stopped()


def test_pauses_grow_up_to_a_minute() -> None:
    part = child("raise SystemExit(3)")
    pauses = []
    for _ in range(9):
        part.next_start_at = 0.0
        part.start()
        assert part.process is not None
        part.process.wait()
        part.watch()
        pauses.append(round(part.next_start_at - time.monotonic()))
    assert pauses == [1, 2, 4, 8, 16, 32, 60, 60, 60]
    assert max(pauses) <= LONGEST_PAUSE_SECONDS


def test_a_child_that_ignores_the_request_to_stop_is_killed(tmp_path: Path) -> None:
    note = tmp_path / "deaf"
    code = f"""
        import signal, time
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        open({str(note)!r}, "w").close()
        time.sleep(60)
    """
    part = child(textwrap.dedent(code), grace_seconds=0.3)
    part.start()
    wait_for(note.exists)
    part.ask_to_stop()
    assert not part.wait_until_stopped()


def test_what_a_dead_child_left_in_its_group_is_ended(tmp_path: Path) -> None:
    note = tmp_path / "pid"
    code = f"""
        import subprocess, sys, time
        left = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
        open({str(note)!r}, "w").write(str(left.pid))
        time.sleep(60)
    """
    part = child(textwrap.dedent(code))
    part.start()
    wait_for(lambda: note.exists() and note.read_text())
    assert part.process is not None
    part.process.kill()
    wait_for(part.watch)
    wait_for(lambda: not _lives(int(note.read_text())))


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the kernel's notice of a parent's death is Linux's")
def test_children_of_a_killed_supervisor_end() -> None:
    code = """
        import os, sys, time
        from steward.operations.children import Child
        part = Child("part", [sys.executable, "-c", "import time; time.sleep(60)"], dict(os.environ), 5)
        part.start()
        print(part.process.pid, flush=True)
        time.sleep(60)
    """
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "platform")}
    command = [sys.executable, "-c", textwrap.dedent(code)]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as supervisor:
        assert supervisor.stdout is not None
        pid = int(supervisor.stdout.readline())
        supervisor.kill()
    wait_for(lambda: not _lives(pid))


def _lives(pid: int) -> bool:
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
