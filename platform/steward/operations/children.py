"""One supervised child process: started, watched, restarted with growing pauses, stopped.

Guarantees: a child does not outlive its supervisor, even one that is killed (on Linux the kernel tells it); what a dead
child left of its own process group is ended before it is started again; a child that keeps failing is tried at most
once a minute. Does not: look after processes that a child starts in a session of their own. Trainers are such, on
purpose: a fine-tune survives the worker that launched it.
"""

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

FIRST_PAUSE_SECONDS = 1.0
LONGEST_PAUSE_SECONDS = 60.0
# A child that ran this long was healthy; its next failure starts with the first pause again.
HEALTHY_SECONDS = 60.0
# Source: prctl(2), linux/prctl.h
_PR_SET_PDEATHSIG = 1


@dataclass
class Child:
    """What to run, and how it is doing.

    Args:
        name: as shown to people.
        command: argument list.
        environment: the whole environment of the child.
        grace_seconds: time it has for a clean stop before it is killed.
    """

    name: str
    command: Sequence[str]
    environment: Mapping[str, str]
    grace_seconds: float
    process: subprocess.Popen[bytes] | None = None
    started_at: float = 0.0
    failures: int = 0
    next_start_at: float = field(default=0.0)

    def start(self) -> None:
        """Start the process in a session of its own, so that Ctrl-C reaches the supervisor only."""
        self.process = subprocess.Popen(
            list(self.command),
            env=dict(self.environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,  # greetings; what matters is logged to stderr
            start_new_session=True,
            preexec_fn=_die_with(os.getpid()),
        )
        self.started_at = time.monotonic()

    def watch(self) -> str | None:
        """Look once: restart what is due, and return a sentence if the process has just ended."""
        now = time.monotonic()
        if self.process is None:
            if now >= self.next_start_at:
                self.start()
            return None
        status = self.process.poll()
        if status is None:
            return None
        self._end_group()
        self.process = None
        self.failures = 1 if now - self.started_at >= HEALTHY_SECONDS else self.failures + 1
        pause = min(FIRST_PAUSE_SECONDS * 2 ** (self.failures - 1), LONGEST_PAUSE_SECONDS)
        self.next_start_at = now + pause
        return f"{self.name} ended ({_reason(status)}); it starts again in {pause:.0f} s"

    def ask_to_stop(self) -> None:
        """Send SIGTERM; `wait_until_stopped` does the rest."""
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()

    def wait_until_stopped(self) -> bool:
        """Wait for a clean end, then force it. True if it was clean."""
        if self.process is None:
            return True
        is_clean = True
        try:
            self.process.wait(self.grace_seconds)
        except subprocess.TimeoutExpired:
            is_clean = False
        self._end_group()
        self.process.wait()
        self.process = None
        return is_clean

    def _end_group(self) -> None:
        """Kill what is left of the child's process group, e.g. the web server's workers."""
        if self.process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)


def _reason(status: int) -> str:
    if status >= 0:
        return f"exit status {status}"
    return f"signal {signal.Signals(-status).name}"


def _die_with(parent_pid: int) -> object:
    """Return what a fresh child does before it becomes its program: ask the kernel to be told of our death."""
    if not sys.platform.startswith("linux"):
        return None
    # Loaded here: between fork and exec there must be as little work as possible.
    libc = ctypes.CDLL(None, use_errno=True)

    def ask() -> None:
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        # The parent may have died before we asked.
        if os.getppid() != parent_pid:
            os._exit(1)

    return ask
