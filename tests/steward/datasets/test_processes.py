"""Processes that are killed are replaced and their tasks done again; none is left behind by a killed parent."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

TRIAL = """
import os, signal, sys, time
from multiprocessing import active_children
from pathlib import Path
from steward.datasets.processes import ProcessLost, Processes

def slow_square(number, folder):
    (Path(folder) / f"{number}-{os.getpid()}").touch()
    time.sleep(0.15)
    return number * number

def kill_one_at_work(folder):
    # The process that began a task last, of those that live.
    for path in sorted(Path(folder).glob("[0-9]*-*"), key=lambda path: -path.stat().st_mtime):
        if (pid := int(path.name.partition("-")[2])) in [child.pid for child in active_children()]:
            return os.kill(pid, signal.SIGKILL)

def doomed(number):
    os.kill(os.getpid(), signal.SIGKILL)

def waiting(folder):
    (Path(folder) / f"child-{os.getpid()}").touch()
    time.sleep(600)

def nested(processes, folder):
    for number in range(4):
        inner = dict(processes.in_order(slow_square, [(n, (n, folder)) for n in range(3)]))
        assert inner == {0: 0, 1: 1, 2: 4}, inner
        yield number, (number, folder)

def main(what, folder):
    with Processes(2) as processes:
        if what == "killed":
            results = []
            for number, square in processes.in_order(slow_square, ((n, (n, folder)) for n in range(12))):
                results.append((number, square))
                if number in (1, 5):
                    kill_one_at_work(folder)
            assert results == [(n, n * n) for n in range(12)], results
        elif what == "doomed":
            try:
                list(processes.in_order(doomed, [(1, (1,))]))
            except ProcessLost as error:
                print("lost:", error)
        elif what == "nested":
            for number, square in processes.in_order(slow_square, nested(processes, folder)):
                assert square == number * number
                if number == 0:
                    kill_one_at_work(folder)
        elif what == "waiting":
            list(processes.in_order(waiting, [(1, (folder,)), (2, (folder,))]))
    print("ended")

if __name__ == "__main__":
    main(*sys.argv[1:])
"""


@pytest.fixture
def trial(tmp_path: Path) -> Iterator[list[str]]:
    """The command of a program with processes of its own; what it leaves behind is ended after the test."""
    path = tmp_path / "trial.py"
    path.write_text(TRIAL)
    yield [sys.executable, str(path)]
    for left in children(tmp_path):
        os.kill(left, signal.SIGKILL)


def children(folder: Path) -> list[int]:
    """Processes that noted themselves in the folder and still live."""
    pids = [int(path.name.partition("-")[2]) for path in folder.glob("child-*")]
    return [pid for pid in pids if Path(f"/proc/{pid}/stat").exists() and not is_dead(pid)]


def is_dead(pid: int) -> bool:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"


def ran(command: list[str], what: str, folder: Path) -> str:
    done = subprocess.run([*command, what, str(folder)], capture_output=True, text=True, timeout=60, env=environment())
    assert done.returncode == 0, done.stderr
    return done.stdout


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}


def test_a_killed_process_is_replaced_and_its_tasks_are_done_again(trial: list[str], tmp_path: Path) -> None:
    assert ran(trial, "killed", tmp_path) == "ended\n"
    begun = [path.name.split("-") for path in tmp_path.glob("[0-9]*-*")]
    assert {number for number, _ in begun} == {str(number) for number in range(12)}
    assert len({pid for _, pid in begun}) >= 3  # two are at work at a time


def test_a_task_that_kills_every_process_is_given_up(trial: list[str], tmp_path: Path) -> None:
    said = ran(trial, "doomed", tmp_path)
    assert said.startswith("lost: Processes were killed 4 times over the same records")
    assert said.endswith("ended\n")


def test_a_kill_during_tasks_within_tasks_is_survived(trial: list[str], tmp_path: Path) -> None:
    assert ran(trial, "nested", tmp_path) == "ended\n"


def test_no_process_outlives_a_killed_parent(trial: list[str], tmp_path: Path) -> None:
    parent = subprocess.Popen([*trial, "waiting", str(tmp_path)], env=environment())
    deadline = time.monotonic() + 30
    while len(children(tmp_path)) < 2 and time.monotonic() < deadline:
        time.sleep(0.05)
    assert len(children(tmp_path)) == 2
    parent.kill()
    parent.wait()
    while children(tmp_path) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not children(tmp_path)
