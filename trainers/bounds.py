"""A piece of work of unknown origin, held to time and memory.

Guarantees: of ``bounded``, that Python code which runs on for longer, or asks for more memory, ends in an exception,
and the process goes on; what held before holds again afterwards, an alarm that was set already too. Of ``apart``, that
whatever the work does, compiled code included, this process goes on.
Does not: of ``bounded``, interrupt one long call into compiled code, nor give back memory that was had before; it wants
the main thread, whose alarm it is, and does nothing on others. Of ``apart``, keep what the work changed.

Example:
    >>> with bounded(seconds=20, more_bytes=1 << 30):
    ...     tokenizer.apply_chat_template(talk)
"""

from __future__ import annotations

import faulthandler
import json
import os
import resource
import select
import signal
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

from trainers.errors import TrainerError

#: By how much a copy of the process may outlive the alarm within it, before it is killed from outside.
GRACE_SECONDS = 2.0
#: An earlier alarm whose time is up rings after so many seconds: when what it told of has left this bound, if it does.
_SOON = 0.05


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
    begun, (left, _) = time.monotonic(), signal.getitimer(signal.ITIMER_REAL)
    handler = signal.signal(signal.SIGALRM, _ring)
    try:
        resource.setrlimit(resource.RLIMIT_DATA, (_least(_held() + more_bytes, *before), before[1]))
        signal.setitimer(signal.ITIMER_REAL, min(seconds, left or seconds))
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, handler)
        resource.setrlimit(resource.RLIMIT_DATA, before)
        if left:
            signal.setitimer(signal.ITIMER_REAL, max(_SOON, left - (time.monotonic() - begun)))


def apart(work: Callable[[], Any], *, seconds: float, more_bytes: int) -> Any:
    """What ``work`` returns, made of JSON's kinds, out of a copy of this process that ends with it.

    Args:
        work: touches neither accelerator nor threads, of which a copy has none.
        seconds: for all of it; a copy that goes on is killed.
        more_bytes: beyond what this process holds.

    Raises:
        TimeoutError: the copy was killed for its time, or ended without a word, as compiled code does without memory.
        TrainerError: as ``work``; ``model.broken`` for any other fault of it, a panic of compiled code included.
    """
    reader, writer = os.pipe()
    with warnings.catch_warnings():
        # Python 3.12 warns of threads that a copy lacks; the work starts and waits for none.
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child == 0:
        try:
            os.close(reader)
            _tell(writer, work, seconds, more_bytes)
        finally:
            os._exit(0)
    os.close(writer)
    try:
        raw = _heard(reader, time.monotonic() + seconds + GRACE_SECONDS)
    finally:
        os.close(reader)
        os.kill(child, signal.SIGKILL)  # which does nothing to one that has ended
        os.waitpid(child, 0)
    if not raw:
        raise TimeoutError
    told = json.loads(raw)
    if "code" in told:
        raise TrainerError(told["code"], told["message"], told["hint"])
    return told["said"]


def _tell(writer: int, work: Callable[[], Any], seconds: float, more_bytes: int) -> None:
    faulthandler.disable()  # an abort here is what a copy is for
    signal.set_wakeup_fd(-1)  # its signals are none of the process it is a copy of, which would hear of them there
    try:
        with bounded(seconds=seconds, more_bytes=more_bytes):
            told = {"said": work()}
    except TrainerError as fault:
        told = {"code": fault.code, "message": str(fault), "hint": fault.hint}
    except (MemoryError, TimeoutError):
        return
    except BaseException as fault:  # noqa: BLE001 - a panic of compiled code is no Exception
        told = {
            "code": "model.broken",
            "message": f"a file of the model makes a library fail ({type(fault).__name__})",
            "hint": "use the files that the model was released with",
        }
    with os.fdopen(writer, "w") as sink:
        json.dump(told, sink)


def _heard(reader: int, until: float) -> bytes:
    """What came until the other end was closed; nothing, where that took too long."""
    heard = b""
    while select.select([reader], [], [], max(0.0, until - time.monotonic()))[0]:
        piece = os.read(reader, 1 << 16)
        if not piece:
            return heard
        heard += piece
    return b""


def _ring(number: int, frame: FrameType | None) -> None:
    raise TimeoutError


def _least(*limits: int) -> int:
    return min(each for each in limits if each != resource.RLIM_INFINITY)


def _held() -> int:
    """Bytes of data and stack of this process. Source: proc(5), statm, the sixth number."""
    return int(Path("/proc/self/statm").read_text().split()[5]) * resource.getpagesize()
