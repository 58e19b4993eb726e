"""Data parallel training: several processes learn one batch together, each a part of its records.

With ``parallel.shard`` each holds only its part of what is trained, or of the model (``trainers.holding``).

Rank 0 is the process that was started; it starts the others, hands them the keys over their stdin, and alone speaks,
checkpoints and ships. Weights and gradients are one vector each (`trainers.adapter`), so one sum over the processes
makes a step: each divides its loss by the supervised tokens of the whole batch before the gradients are added, so
the result is that of one process up to the order of additions, and every process makes the same update.

Guarantees: keys are in no argument, environment or file; a process that is killed, before they met as well, ends the
others within seconds, and the run can be resumed, with another number of processes too; no process outlives rank 0.
Does not: encrypt what the processes say to one another. They use the machine's loopback device, or the GPUs' own links;
between machines, where gradients must not be read on the way, they form a ring (`trainers.ring`). Does not split the
data either: each process reads and tokenises all of it.

Example:
    >>> with joined(spec, keys, out, spec_path, place=None, stop=stop) as group:
    ...     mine = group.share(batch, lengths)
    ...     group.add(adapter.grads)
"""

from __future__ import annotations

import contextlib
import os
import secrets
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import torch
from torch import Tensor

from trainers import batches
from trainers.errors import EXIT_DONE, EXIT_FAULT, TrainerError
from trainers.events import EventError, RunFailed, decode
from trainers.keys import Keys
from trainers.process import Stop, die_with_parent
from trainers.spec import Spec

#: A process that waits longer than this for another gives the run up.
PATIENCE = timedelta(minutes=15)
#: How often the first one says that it goes on where the others wait for work that only it does.
BEAT_SECONDS = 5.0
FAREWELL_SECONDS = 5.0
#: How long those that a killed process left behind have to say that it was not they.
WORDS_SECONDS = 2.0
LOST = "parallel.lost"


@dataclass(frozen=True)
class Place:
    """Which of the processes this is, and the file by which they find one another."""

    rank: int
    size: int
    meeting: str


class Group:
    """This process among those that learn together; alone, it adds nothing to anything."""

    rank = 0
    size = 1

    def share(self, batch: list[int], lengths: Mapping[int, int] | Sequence[int]) -> list[int]:
        """The records of a batch that are this process's; see ``batches.shared_out``."""
        return batch if self.size == 1 else batches.shared_out(batch, lengths, self.size)[self.rank]

    def add(self, *tensors: Tensor) -> None:
        """Replaces each tensor by its sum over the processes."""

    def total(self, value: float) -> float:
        """The sum of a number over the processes."""
        return value

    def scatter(self, tensor: Tensor) -> Tensor:
        """This process's slice of the sum of all processes' vectors.

        Args:
            tensor: (N,), of one length in all processes.

        Returns:
            (ceil(N / size),); slices follow one another in the order of ranks, behind the last number come zeros.
        """
        return tensor

    def gather(self, part: Tensor) -> Tensor:
        """The slices of all processes one after the other, (size * n,) of (n,) each; padding is left in."""
        return part

    def release(self) -> None:
        """Says that this process needs the others no more, whatever becomes of them."""


#: One process by itself.
ALONE = Group()


@contextlib.contextmanager
def awaited(group: Group, check: Callable[[], None] = lambda: None) -> Iterator[Callable[[], None]]:
    """For the first process: work that it does alone, while the others ``await_first``, however long it takes.

    Yields what it has to call again and again meanwhile, which calls `check`; the work itself must not be shared. What
    ends the work early ends the run of all, so nobody is waited for then.

    Raises:
        TrainerError: as ``Ranks.add``, when one of the others is lost.
    """
    said = time.monotonic()

    def go_on() -> None:
        nonlocal said
        check()
        if time.monotonic() - said > BEAT_SECONDS:
            group.total(1.0)
            said = time.monotonic()

    yield go_on
    group.total(0.0)


def await_first(group: Group) -> None:
    """For the others: waits until the first process has done its work, or is lost.

    Raises:
        TrainerError: as ``Ranks.add``.
    """
    while group.total(0.0):
        pass


def slice_length(count: int, size: int) -> int:
    """Numbers of a vector that each of so many processes holds; the slices together may be longer than the vector."""
    return -(-count // size)


def pad(vector: Tensor, length: int) -> Tensor:
    """The vector with zeros behind it, or itself where it has that length."""
    return vector if vector.numel() == length else torch.nn.functional.pad(vector, (0, length - vector.numel()))


class Ranks(Group):
    """Several processes, joined by torch.distributed.

    Args:
        place: of this process.
        fates: of the others, as far as they are this process's children; asked when one is lost.
    """

    def __init__(self, place: Place, device_type: str, fates: list[Fate]) -> None:
        self.rank, self.size = place.rank, place.size
        self._device = device_type
        self._fates = fates

    def add(self, *tensors: Tensor) -> None:
        """All processes wait here for one another.

        Raises:
            TrainerError: ``parallel.lost``, or what a process said before it ended.
        """
        try:
            for tensor in tensors:
                there = tensor.to(self._device)
                torch.distributed.all_reduce(there)
                if there is not tensor:
                    tensor.copy_(there)
        except RuntimeError:
            raise loss_among(self._fates) from None

    def total(self, value: float) -> float:
        """The sum in fp64."""
        number = torch.tensor([value], dtype=torch.float64, device=self._device)
        self.add(number)
        return float(number)

    def scatter(self, tensor: Tensor) -> Tensor:
        """All processes wait here for one another.

        Raises:
            TrainerError: as ``add``.
        """
        there = pad(tensor.to(self._device), slice_length(tensor.numel(), self.size) * self.size)
        part = there.new_empty(there.numel() // self.size)
        try:
            torch.distributed.reduce_scatter_tensor(part, there)
        except RuntimeError:
            raise loss_among(self._fates) from None
        return part.to(tensor.device)

    def gather(self, part: Tensor) -> Tensor:
        """All processes wait here for one another.

        Raises:
            TrainerError: as ``add``.
        """
        there = part.to(self._device).contiguous()
        whole = there.new_empty(there.numel() * self.size)
        try:
            torch.distributed.all_gather_into_tensor(whole, there)
        except RuntimeError:
            raise loss_among(self._fates) from None
        return whole.to(part.device)

    def release(self) -> None:
        """See ``Group``."""
        release(self._fates)


def own_slice(vector: Tensor, group: Group) -> Tensor:
    """What ``Group.scatter`` would give of a vector that only one process holds."""
    share = slice_length(vector.numel(), group.size)
    return pad(vector, share * group.size)[group.rank * share : (group.rank + 1) * share]


class Fate:
    """One process that rank 0 started: fed with the keys, listened to, and not left behind.

    Args:
        lost: called, in a thread of its own, when the process ended badly and was still needed.
        handles: what it inherits.

    Attributes:
        said: why it ended, if it said so.
        is_over: whether it ended and all that it said was heard.
    """

    def __init__(
        self, rank: int, command: list[str], keys: Keys, lost: Callable[[], None], handles: Sequence[int] = ()
    ) -> None:
        self.rank = rank
        self.said: RunFailed | None = None
        self.is_over = False
        self._lost, self._is_needed = lost, True
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            pass_fds=handles,
            preexec_fn=die_with_parent(os.getpid()),
        )
        threading.Thread(target=self._listen, daemon=True).start()
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # it ended at once, and said why
            self._process.stdin.write(keys.line())
            self._process.stdin.close()

    def _listen(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            with contextlib.suppress(EventError):
                event = decode(line)
                # Losing another process is what everybody says once one has ended; it is not why.
                if isinstance(event, RunFailed) and event.code != LOST:
                    self.said = event
        ended = self._process.wait()
        self.is_over = True
        if ended != EXIT_DONE and self._is_needed:
            self._lost()

    def release(self) -> None:
        """From now on it may end as it likes."""
        self._is_needed = False

    def end(self, *, is_done: bool) -> None:
        """Waits for its end where the work is done; kills it where it is not."""
        self.release()
        try:
            self._process.wait(FAREWELL_SECONDS if is_done else 0)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def release(fates: Sequence[Fate]) -> None:
    """Lets them all end as they like."""
    for fate in fates:
        fate.release()


def loss_among(fates: Sequence[Fate]) -> TrainerError:
    """What to say when a process is lost: its own last words, where it is a child of this one and had any."""
    deadline = time.monotonic() + WORDS_SECONDS
    while True:
        for fate in fates:
            if (said := fate.said) is not None:
                return TrainerError(said.code, f"rank {fate.rank}: {said.message}", said.hint, EXIT_FAULT)
        if all(fate.is_over for fate in fates) or time.monotonic() > deadline:
            return TrainerError(
                LOST,
                "one of the processes that train together was killed",
                "run again, it goes on from its checkpoint; is memory short?",
                EXIT_FAULT,
            )
        time.sleep(0.05)


@contextlib.contextmanager
def joined(spec: Spec, keys: Keys, out: Path, spec_path: Path, place: Place | None, stop: Stop) -> Iterator[Group]:
    """The processes that the spec asks for on one machine, ready to work together.

    Args:
        out: the output folder, where processes of one machine find one another.
        spec_path: the spec's file, which the other processes read as well.
        place: of this process; None for the one that is to start the others.
        stop: told when one of the others is lost, whatever this process does at the time.

    Raises:
        TrainerError: ``parallel.devices``, when there are fewer GPUs than processes; ``parallel.nodes``, when the spec
            asks for several machines; ``parallel.lost``, or what a process said before it ended.
        Cancelled: a signal came before they had met.
    """
    size = spec.parallel.processes
    if spec.parallel.nodes > 1:
        raise TrainerError(
            "parallel.nodes",
            f"the spec asks for {spec.parallel.nodes} machines, and nobody said where the others are",
            "start it from the platform on a Ray cluster, or set parallel.nodes to 1",
        )
    if size == 1:
        yield ALONE
        return
    if place is None:
        check_devices(size)
    device_type = "cuda" if torch.cuda.is_available() else "cpu"
    fates: list[Fate] = []
    meeting = None
    if place is None:
        meeting = out / f".meeting-{secrets.token_hex(8)}"
        place = Place(0, size, str(meeting))
    is_done = False
    try:
        if meeting is not None:
            lost = watcher(spec.run, fates, stop)
            fates += (_start(rank, place, keys, out, spec_path, lost) for rank in range(1, size))
        settle(place.rank, size)
        _join(place, device_type, stop)
        yield Ranks(place, device_type, fates)
        is_done = True
    finally:
        for fate in fates:
            fate.end(is_done=is_done)
        if torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()
        if meeting is not None:
            meeting.unlink(missing_ok=True)


def check_devices(processes: int) -> None:
    """Refuses more processes than this machine has GPUs, where it has any.

    Raises:
        TrainerError: ``parallel.devices``.
    """
    if torch.cuda.is_available() and torch.cuda.device_count() < processes:
        raise TrainerError(
            "parallel.devices",
            f"{processes} processes need as many GPUs; this one sees {torch.cuda.device_count()}",
            "lower parallel.processes, or let it see more (CUDA_VISIBLE_DEVICES)",
        )


def settle(number: int, processes: int) -> None:
    """Gives the process of that number its part of the machine: they share the cores, and each has a GPU of its own."""
    if torch.cuda.is_available():
        torch.cuda.set_device(number % torch.cuda.device_count())
    else:
        torch.set_num_threads(max(1, torch.get_num_threads() // processes))


def watcher(run: str, fates: list[Fate], stop: Stop) -> Callable[[], None]:
    """What each of the fates is to call when it is lost."""
    return lambda: stop.lose(run, loss_among(fates))


def _start(rank: int, place: Place, keys: Keys, out: Path, spec_path: Path, lost: Callable[[], None]) -> Fate:
    command = [sys.executable, "-m", "trainers", "run", "--spec", str(spec_path), "--out", str(out)]
    command += ["--rank", str(rank), "--meeting", place.meeting]
    return Fate(rank, command, keys, lost)


def _join(place: Place, device_type: str, stop: Stop) -> None:
    """Meets the others. The first process waits for them where it can be stopped, before all connect to one another."""
    # One machine: nobody else has to be able to connect.
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    try:
        store = torch.distributed.FileStore(place.meeting, place.size)  # type: ignore[attr-defined]
        store.set(f"here {place.rank}", "")
        while not place.rank and not store.check([f"here {rank}" for rank in range(place.size)]):
            stop.check()
            time.sleep(0.05)
        torch.distributed.init_process_group(
            "nccl" if device_type == "cuda" else "gloo",
            store=store,
            rank=place.rank,
            world_size=place.size,
            timeout=PATIENCE,
        )
    except (RuntimeError, ValueError, TimeoutError):
        raise TrainerError(
            LOST, "the processes that are to train together did not meet", "run again; is memory short?", EXIT_FAULT
        ) from None
