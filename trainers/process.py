"""The trainer's process: quiet, offline, without core dumps, and gone within seconds when asked.

Guarantees: no network by transformers or the hub library; a core dump cannot spill plaintext; after SIGTERM or SIGINT
the process is gone within ``GRACE_SECONDS``, cleanly if the work in hand lets it; so it is after SIGUSR1, which pauses
what can be paused and is ignored by the rest, and when something is lost that the work cannot do without. The time
begins with the signal, however long the main thread stays in one call of torch.
Does not: watch its parent; who starts a trainer reads its stdout, and a closed stdout counts as a cancellation.

Example:
    >>> prepare_process()
    >>> stop = Stop(say)
    >>> stop.check()  # raises Cancelled once a signal came
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import resource
import signal
import socket
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TextIO

import psutil

from trainers.errors import EXIT_CANCELLED, EXIT_PAUSED, Cancelled, Paused, TrainerError
from trainers.events import Event, RunFailed, encode

GRACE_SECONDS = 3.0
_GROUPS, _OWN_GROUP = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")
#: How often a thread looks for its next part before it sleeps: a fraction of a millisecond.
_LOOKS = "5000"
_LOOK_SECONDS = 0.1
# Source: mallopt(3), malloc.h; a threshold of 32 MiB is the largest that glibc takes.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_KEPT_BYTES, _APART_BYTES = (1 << 31) - 1, 32 << 20
# Source: prctl(2), linux/prctl.h
_PR_SET_PDEATHSIG = 1
_PR_SET_DUMPABLE = 4
QUIET = {
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "TRANSFORMERS_VERBOSITY": "error",
    "TQDM_DISABLE": "1",
    # See ``keep_threads_awake``.
    "OMP_WAIT_POLICY": "passive",
    # Packed steps are of ever new lengths, and a product of each is compiled and kept. The last 200 are as fast as the
    # usual 1,024 and leave a third of a gigabyte (measured over 30 steps of the bundled model).
    "ONEDNN_PRIMITIVE_CACHE_CAPACITY": "200",
}


def prepare_process() -> None:
    """Settings that must stand before torch and transformers are imported."""
    os.environ.update(QUIET)
    os.environ.setdefault("OMP_NUM_THREADS", str(default_threads()))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    # A request to pause that comes before anybody listens waits; it would end the process otherwise.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
    # Libraries warn about their own deprecations; nobody reads a trainer's stderr line by line.
    warnings.simplefilter("ignore")


def available_cores() -> int:
    """How many cores this process may keep busy: those it may run on, or its control group's share where that is less.

    Source: cgroups(7); "cpu.max" in the kernel's cgroup-v2.rst.
    """
    cores = len(os.sched_getaffinity(0))
    try:
        group = next(line[3:] for line in _OWN_GROUP.read_text().splitlines() if line.startswith("0::"))
        most, period = (_GROUPS / group.strip("/") / "cpu.max").read_text().split()
    except (OSError, StopIteration):  # no control groups, those of the first version, or the one that has no limits
        return cores
    return cores if most == "max" else max(1, min(cores, int(most) // int(period)))


def default_threads() -> int:
    """OMP_NUM_THREADS where it is set, else one for each core."""
    named = os.environ.get("OMP_NUM_THREADS", "")
    return int(named) if named.isdecimal() and int(named) > 0 else available_cores()


def keep_threads_awake() -> None:
    """Lets threads that wait for one another look on for a while before they sleep, where there are cores for all.

    Between two products there is less than a sleeper needs to wake, above all on a virtual machine: awake a step is
    done in three quarters of the time. On a machine that others use at the same time a thread that looks on keeps
    them, and the thread it waits for, from their core, and a step takes twice as long. So it is decided by what is idle
    when the work begins; afterwards the library of the threads takes no other answer, and where it is loaded already
    none at all.
    """
    threads = default_threads()
    if threads == 1 or "torch" in sys.modules or "GOMP_SPINCOUNT" in os.environ:
        return
    busy = psutil.cpu_percent(_LOOK_SECONDS, percpu=True)
    idle = sum(1 - busy[core] / 100 for core in os.sched_getaffinity(0) if core < len(busy))
    if idle > threads - 0.5:
        os.environ["GOMP_SPINCOUNT"] = _LOOKS


def keep_freed_memory() -> None:
    """What one pass frees is kept for the next instead of being given back to the system.

    A step takes and frees thousands of tensors of a few megabytes, and each page that comes from the system anew has to
    be cleared first: 28,000 pages a step of the bundled model, a twenty-fifth of its time. Only glibc can be told;
    others keep or give back as they do.
    """
    tell = getattr(ctypes.CDLL(None), "mallopt", None)
    if tell is not None:
        tell(_M_MMAP_THRESHOLD, _APART_BYTES)
        tell(_M_TRIM_THRESHOLD, _KEPT_BYTES)


def die_with_parent(parent: int) -> Callable[[], None] | None:
    """What a fresh child does before it becomes its program: ask the kernel to be killed when `parent` is.

    Only Linux can do that; elsewhere there is nothing to do.
    """
    if not sys.platform.startswith("linux"):
        return None
    # Loaded here: between fork and exec there must be as little work as possible.
    libc = ctypes.CDLL(None, use_errno=True)

    def ask() -> None:
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)

    return ask


def forbid_dumps() -> None:
    """No core dump, not even one that the system pipes to a program, and no debugger of the same user.

    Source: prctl(2), PR_SET_DUMPABLE; core(5): a pipe is not held to RLIMIT_CORE.
    """
    if sys.platform.startswith("linux"):
        ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)


class Speaker:
    """Writes events, one line each. A reader that went away, or a disk that is full, counts as a cancellation."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._lock = threading.Lock()
        self.is_heard = True

    def __call__(self, event: Event) -> None:
        """Writes and flushes; never raises."""
        with self._lock:
            try:
                self._stream.write(encode(event) + "\n")
                self._stream.flush()
            except (OSError, ValueError):
                self.is_heard = False


class Stop:
    """Turns SIGTERM and SIGINT into ``Cancelled`` at the next ``check``, and into an exit if that comes too late.

    Where there are ``words_of_pause``, SIGUSR1 likewise becomes ``Paused``; a cancellation outdoes it.
    """

    def __init__(
        self, speak: Speaker, last_words: Callable[[], Event], words_of_pause: Callable[[], Event] | None = None
    ) -> None:
        self._speak = speak
        self._last_words = last_words
        self._words_of_pause = words_of_pause
        self._is_over = False
        self._loss: tuple[str, TrainerError] | None = None
        # Two threads hear of one signal, so what it says is only ever added.
        self._is_cancelled = False
        self._is_paused = False

    @property
    def is_asked(self) -> bool:
        """Whether a signal came."""
        return self._is_cancelled or self._is_paused

    @property
    def is_pause(self) -> bool:
        """Whether nothing but a pause was asked for."""
        return self._is_paused and not self._is_cancelled

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Takes the signals over for a while; only possible in the main thread, elsewhere nothing is taken over.

        No signal is blocked for it, so none is in a process that is started meanwhile.
        """
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        heard, told = socket.socketpair()
        told.setblocking(False)
        # A handler waits until the main thread is back from the call it is in; the number is told here at once.
        teller = signal.set_wakeup_fd(told.fileno(), warn_on_full_buffer=False)
        ear = threading.Thread(target=self._listen, args=(heard,), daemon=True)
        ear.start()
        previous = {number: signal.signal(number, self._ask) for number in (signal.SIGTERM, signal.SIGINT)}
        pause = self._ask if self._words_of_pause is not None else signal.SIG_IGN
        previous[signal.SIGUSR1] = signal.signal(signal.SIGUSR1, pause)
        mask = signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGUSR1})
        try:
            yield
        finally:
            self._is_over = True
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
            for number, handler in previous.items():
                signal.signal(number, handler)
            signal.set_wakeup_fd(teller)
            told.close()
            ear.join()

    def _listen(self, heard: socket.socket) -> None:
        """Starts the clock with the first signal; ends when nobody can tell of one any more."""
        with heard:
            clock_runs = False
            while number := heard.recv(1):
                if number[0] == signal.SIGALRM:
                    continue  # a bound's (trainers.bounds), which says nothing about stopping
                self._ask(number[0], None)
                if not clock_runs:
                    clock_runs = True
                    self._leave_soon()

    def _ask(self, number: int, _frame: FrameType | None) -> None:
        if number == signal.SIGUSR1:
            self._is_paused = True
        else:
            self._is_cancelled = True

    def lose(self, run: str, fault: TrainerError) -> None:
        """Ends the work with a fault, from any thread, unless it was asked to stop anyway."""
        if not self.is_asked and self._loss is None:
            self._loss = (run, fault)
            self._leave_soon()

    def _leave_soon(self) -> None:
        timer = threading.Timer(GRACE_SECONDS, self._leave)
        timer.daemon = True
        timer.start()

    def _leave(self) -> None:
        if self._is_over:
            return
        words, code = self._last()
        self._speak(words)
        sys.stdout.flush()
        os._exit(code)

    def _last(self) -> tuple[Event, int]:
        if self.is_pause and self._words_of_pause is not None:
            return self._words_of_pause(), EXIT_PAUSED
        if self._loss is not None and not self.is_asked:
            run, fault = self._loss
            return RunFailed(run, fault.code, str(fault), fault.hint), fault.exit_code
        return self._last_words(), EXIT_CANCELLED

    @property
    def is_due(self) -> bool:
        """Whether a signal came or nobody listens."""
        return self.is_asked or not self._speak.is_heard

    def check(self) -> None:
        """To be called between two pieces of work.

        Raises:
            Cancelled: a signal came or nobody listens.
            Paused: SIGUSR1 came.
            TrainerError: what was lost.
        """
        if self.is_pause:
            raise Paused
        if self.is_due:
            raise Cancelled
        if self._loss is not None:
            raise self._loss[1]


@contextmanager
def only_one(folder: Path) -> Iterator[None]:
    """Holds the output folder for this process.

    Raises:
        TrainerError: ``output.busy`` when another trainer works there, ``output.unusable`` when it cannot be made.
    """
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        handle = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as fault:
        raise TrainerError(
            "output.unusable", f"{folder}: {fault.strerror}", "give a folder that can be written"
        ) from None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        raise TrainerError(
            "output.busy", f"another trainer works in {folder}", "wait for it, or stop it with SIGTERM"
        ) from None
    try:
        yield
    finally:
        os.close(handle)
