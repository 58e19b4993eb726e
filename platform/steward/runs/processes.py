"""Trainer processes: started apart from the worker, found again after it died, told to stop.

Guarantees that keys go over stdin only and that a trainer outlives the worker that started it: its events go into a
file that any later worker reads on from. Does not interpret events; see `following`.
"""

import contextlib
import os
import signal
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

import psutil

from steward.trainer_process import trainer_environment
from trainers.keys import Keys

START_TOLERANCE_SECONDS = 2.0
# Trainers that this process started and has not seen end; they outlive it on purpose.
_started: dict[int, "subprocess.Popen[bytes]"] = {}


def key_line(data_key: bytes, output_key: bytes) -> bytes:
    """The one line that a trainer reads from stdin."""
    return Keys(data_key, output_key).line().encode()


def start_trainer(
    command: Sequence[str],
    folder: Path,
    keys: bytes,
    remember: Callable[[int, float], None],
    devices: Mapping[str, str] = MappingProxyType({}),
) -> None:
    """Starts a trainer in a session of its own; its events are appended to `events.jsonl` in `folder`.

    Args:
        remember: stores process id and start time (seconds since the epoch), which together name the process. Called
            before the trainer gets its keys: one that nobody remembers has none, and ends by itself.
        devices: variables that say which devices it may use.
    """
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    drop_half_line(folder / "events.jsonl")
    with open(folder / "events.jsonl", "ab") as events, open(folder / "trainer.log", "ab") as log:
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=events,
            stderr=log,
            cwd=folder,
            env=trainer_environment(devices),
            start_new_session=True,
        )
    assert process.stdin is not None
    _started[process.pid] = process
    remember(process.pid, psutil.Process(process.pid).create_time())
    with contextlib.suppress(BrokenPipeError):  # it ended at once; its events say why
        process.stdin.write(keys)
        process.stdin.close()


def drop_half_line(path: Path) -> None:
    """Cuts off what a trainer was saying when it was killed or the disk was full; the next one starts a new line."""
    with contextlib.suppress(FileNotFoundError):
        said = path.read_bytes()
        end = said.rfind(b"\n") + 1
        if end != len(said):
            os.truncate(path, end)


def is_alive(process_id: int | None, started_at: float | None) -> bool:
    """Whether that very process still runs (a zombie does not; another process of the same id does not count)."""
    if process_id is None or started_at is None:
        return False
    own = _started.get(process_id)
    if own is not None and own.poll() is not None:
        del _started[process_id]
        return False
    try:
        process = psutil.Process(process_id)
        return (
            process.status() != psutil.STATUS_ZOMBIE
            and abs(process.create_time() - started_at) < START_TOLERANCE_SECONDS
        )
    except psutil.NoSuchProcess:
        return False


def ask_to_stop(process_id: int, started_at: float) -> None:
    """Sends SIGTERM to that very process, if it still runs. The trainer then ends within seconds."""
    if is_alive(process_id, started_at):
        os.kill(process_id, signal.SIGTERM)


def ask_to_pause(process_id: int, started_at: float) -> None:
    """Sends SIGUSR1 to that very process, if it still runs. The trainer then keeps its last step and ends."""
    if is_alive(process_id, started_at):
        os.kill(process_id, signal.SIGUSR1)


def collect(process_id: int | None, within_seconds: float = 10.0) -> None:
    """Waits for a trainer of ours that has said its last word, so that no zombie stays. Others' are not waited for."""
    own = _started.pop(process_id or 0, None)
    if own is not None:
        with contextlib.suppress(subprocess.TimeoutExpired):
            own.wait(within_seconds)
