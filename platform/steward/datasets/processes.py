"""Processes that compute for a job: in order, a few tasks ahead, and one that is killed is replaced.

Guarantees that results come in the order of the tasks, that no more than a few tasks are in memory, that the task of a
process which died (out of memory, `kill -9`) is done again by a fresh one, at most `ATTEMPTS` times, and that none
outlives the one it computes for. Does not repeat a task that raised: the error is its result.

Each process has a pipe of its own and shares no lock with another, so that none can take one with it when it is killed;
the pool of `concurrent.futures` does, and was seen to wait for ever.

Example:
    with Processes(2) as processes:
        for number, square in processes.in_order(pow, [(3, (3, 2)), (4, (4, 2))]):
            ...
"""

import contextlib
import os
import signal
import threading
import traceback
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from multiprocessing import get_context, parent_process
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from types import TracebackType
from typing import Any, Protocol, TypeVar

from compliance.redaction import RedactionError

T = TypeVar("T")
R = TypeVar("R")
ATTEMPTS = 4
END_SECONDS = 5


class ProcessLost(RedactionError):
    """Processes were killed over the same task again and again."""


class InOrder(Protocol):
    """Something that does tasks, given as (what it is for, arguments), and yields (what it is for, result)."""

    def in_order(
        self, function: Callable[..., R], tasks: Iterable[tuple[T, tuple[Any, ...]]]
    ) -> Iterator[tuple[T, R]]: ...


class Inline:
    """Does the tasks one after the other in this process: starting others would take longer than the work."""

    def in_order(self, function: Callable[..., R], tasks: Iterable[tuple[T, tuple[Any, ...]]]) -> Iterator[tuple[T, R]]:
        for tag, arguments in tasks:
            yield tag, function(*arguments)


@dataclass(slots=True, eq=False)
class _Task:
    function: Callable[..., Any]
    arguments: tuple[Any, ...]
    begun: int = 0
    is_done: bool = False
    result: Any = None
    error: Exception | None = None


@dataclass(slots=True, eq=False)
class _Child:
    process: SpawnProcess
    pipe: "Connection[Any, Any]"


class Processes:
    """Spawned processes, not forked ones: a fork would carry this process's keys and connections along."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._context = get_context("spawn")
        self._queue: deque[_Task] = deque()
        self._idle: list[_Child] = []
        self._busy: dict[Any, tuple[_Child, _Task]] = {}

    def __enter__(self) -> "Processes":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for child, _ in self._busy.values():
            child.process.kill()
        for child in [*self._idle, *(child for child, _ in self._busy.values())]:
            child.pipe.close()  # an idle one ends by itself now
            child.process.join(END_SECONDS)
            child.process.kill()

    def in_order(self, function: Callable[..., R], tasks: Iterable[tuple[T, tuple[Any, ...]]]) -> Iterator[tuple[T, R]]:
        """Results of `function(*arguments)` in order. Tasks are taken a few at a time, and may come from `in_order`.

        Raises:
            ProcessLost: a task was begun `ATTEMPTS` times and each time the process was killed.
        """
        waiting: deque[tuple[T, _Task]] = deque()
        for tag, arguments in tasks:
            task = _Task(function, arguments)
            self._queue.append(task)
            waiting.append((tag, task))
            self._begin()
            if len(waiting) > 2 * self._count:
                tag, task = waiting.popleft()
                yield tag, self._result(task)
        for tag, task in waiting:
            yield tag, self._result(task)

    def _result(self, task: _Task) -> Any:
        while not task.is_done:
            self._begin()
            for pipe in wait(list(self._busy)):
                self._receive(pipe)
        self._begin()
        if task.error is not None:
            raise task.error
        return task.result

    def _begin(self) -> None:
        """Gives every process that has nothing to do a task, as long as there are some."""
        while self._queue and (self._idle or len(self._busy) < self._count):
            task = self._queue.popleft()
            task.begun += 1
            child = self._idle.pop() if self._idle else self._started()
            try:
                child.pipe.send((task.function, task.arguments))
            except OSError:
                self._lose(child, task)
            else:
                self._busy[child.pipe] = child, task

    def _started(self) -> _Child:
        ours, theirs = self._context.Pipe()
        process = self._context.Process(target=_serve, args=(theirs,), daemon=True)
        with contextlib.suppress(BrokenPipeError):  # killed at once: sending it a task will say so
            process.start()
        theirs.close()
        return _Child(process, ours)

    def _receive(self, pipe: Any) -> None:
        child, task = self._busy.pop(pipe)
        try:
            task.result, task.error = pipe.recv()
        except (EOFError, OSError):
            self._lose(child, task)
        else:
            task.is_done = True
            self._idle.append(child)

    def _lose(self, child: _Child, task: _Task) -> None:
        child.pipe.close()
        if child.process.pid is not None:
            child.process.kill()
            child.process.join()
        if task.begun < ATTEMPTS:
            self._queue.appendleft(task)
            return
        task.is_done = True
        task.error = ProcessLost(
            f"Processes were killed {ATTEMPTS} times over the same records, most likely because memory ran out. "
            "Nothing was kept. Start it again when the machine has more memory to spare."
        )


def _serve(pipe: Any) -> None:
    """What a child does: one task after the other, until its parent closes the pipe or is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the parent as well, which ends the children
    threading.Thread(target=_end_with_parent, name="parent", daemon=True).start()
    while True:
        try:
            function, arguments = pipe.recv()
        except EOFError:
            return
        result, failure = None, None
        try:
            result = function(*arguments)
        except Exception as error:  # noqa: BLE001 - it is raised again where the result is asked for
            failure = error
            failure.add_note("".join(traceback.format_tb(error.__traceback__)))  # lines of code only
        pipe.send((result, failure))


def _end_with_parent() -> None:
    """Ends this process as soon as its parent is gone; a person's text is in its memory."""
    parent = parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
