"""A piece of work of unknown origin, held to time and memory.

Guarantees: Python code that runs on for longer, or asks for more memory, ends in an exception, and the process goes on;
what held before holds again afterwards.
Does not: interrupt one long call into compiled code, nor give back memory that was had before; wants the main thread,
whose alarm it is, and does nothing on others.

Example:
    >>> with bounded(seconds=20, more_bytes=1 << 30):
    ...     tokenizer.apply_chat_template(talk)
"""

from __future__ import annotations

import resource
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType


@contextmanager
def bounded(*, seconds: float, more_bytes: int) -> Iterator[None]:
    """Ends what runs in it after so many seconds, or once it wants so many bytes beyond what the process holds.

    Raises:
        TimeoutError: the time is up.
        MemoryError: there is no more.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = resource.getrlimit(resource.RLIMIT_DATA)
    handler = signal.signal(signal.SIGALRM, _ring)
    try:
        resource.setrlimit(resource.RLIMIT_DATA, (_least(_held() + more_bytes, *before), before[1]))
        signal.setitimer(signal.ITIMER_REAL, seconds)
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, handler)
        resource.setrlimit(resource.RLIMIT_DATA, before)


def _ring(number: int, frame: FrameType | None) -> None:
    raise TimeoutError


def _least(*limits: int) -> int:
    return min(each for each in limits if each != resource.RLIM_INFINITY)


def _held() -> int:
    """Bytes of data and stack of this process. Source: proc(5), statm, the sixth number."""
    return int(Path("/proc/self/statm").read_text().split()[5]) * resource.getpagesize()
