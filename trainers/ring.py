"""Processes on several machines learn one batch together: a ring over TCP, each link of it encrypted.

Each member sends to the next and hears the one before, over sessions of `trainers.channel`. A sum goes round twice:
once while each member adds its own to what passes, so that it ends with one slice of the whole, and once more to bring
the finished slices to all. What each one sends is twice the vector, however many they are.

Guarantees: all members end with the same bits; nobody without the ring's secret reads, changes, repeats or leaves out
anything, or takes a place in the ring; the secret came with the keys and is in no argument, environment or file; a
member that is lost, before the ring closed as well, or a machine that loses its power, ends all of them with
``parallel.lost``.
Does not: hide how much is said and when. Does not defend the members against one another. The secret is derived from
the run's data key (`trainers.channel.ring_secret`): whoever recorded the network and gets hold of that key before it is
destroyed can read the recording.

Source: reduce-scatter and all-gather on a ring (Patarasuk and Yuan 2009, J. Parallel Distrib. Comput. 69).

Example:
    >>> with ringed(spec, keys, out, spec_path, number=0, doors=[door], stop=stop) as group:
    ...     group.add(adapter.grads)
"""

from __future__ import annotations

import contextlib
import math
import queue
import select
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from torch import Tensor

from trainers.channel import ChannelError, Session, accept, connect, key_from, public
from trainers.errors import EXIT_FAULT, TrainerError
from trainers.keys import Keys, RingPlace
from trainers.parallel import (
    PATIENCE,
    Fate,
    Group,
    check_devices,
    loss_among,
    release,
    settle,
    slice_length,
    watcher,
)
from trainers.process import Stop
from trainers.spec import Spec

FRAME_BYTES = 1 << 20
#: Frames that wait to be sent, so that the next one is sealed while the last is on its way.
IN_FLIGHT = 4
#: How long a member tries to connect to the next one.
REACH_SECONDS = 60.0
#: How long it waits for the other end to prove itself: that one may still be loading its libraries.
MEETING_SECONDS = 300.0
STRANGER_SECONDS = 30.0
#: How often those who wait for the ring to close look whether it still can.
ASK_SECONDS = 0.5
FAREWELL_SECONDS = 30.0
PARTING_SECONDS = 2.0
# A machine without power says nothing; its peers notice after 15 + 3 × 5 seconds. Source: tcp(7).
_WATCHED = {"TCP_KEEPIDLE": 15, "TCP_KEEPINTVL": 5, "TCP_KEEPCNT": 3, "TCP_USER_TIMEOUT": 30_000}


class Link:
    """One direction between two members: the session, and the connection below it."""

    def __init__(self, line: socket.socket, session: Session) -> None:
        self.line, self.session = line, session

    @property
    def is_shut(self) -> bool:
        """Whether the other end is gone, as long as nothing that it said waits to be heard."""
        try:
            is_told = bool(select.select([self.line], [], [], 0)[0])
            return is_told and not self.line.recv(1, socket.MSG_PEEK)
        except (OSError, ValueError):  # it broke, or was closed on this side
            return True

    def close(self) -> None:
        """Whoever is at the other end hears that it is over; also if another thread waits for the line."""
        with contextlib.suppress(OSError):
            self.line.shutdown(socket.SHUT_RDWR)
        self.line.close()


class Outlet:
    """Sends in a thread of its own: members that only send, or only hear, would wait for one another for ever."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._waiting: queue.Queue[bytes | None] = queue.Queue(IN_FLIGHT)
        self._is_broken = False
        self._thread = threading.Thread(target=self._send, daemon=True)
        self._thread.start()

    def _send(self) -> None:
        while (content := self._waiting.get()) is not None:
            try:
                self._link.session.send(content)
            except ChannelError:
                self._is_broken = True
                return

    def put(self, content: bytes | None, patience_seconds: float = math.inf) -> None:
        """Queues one frame; waits while too many are under way.

        Raises:
            ChannelError: the line broke, or patience did.
        """
        deadline = time.monotonic() + patience_seconds
        while not self._is_broken and time.monotonic() < deadline:
            with contextlib.suppress(queue.Full):
                self._waiting.put(content, timeout=min(1.0, patience_seconds))
                return
        raise ChannelError("the connection broke")

    def close(self, *, is_done: bool) -> None:
        """Ends the line after everything was sent: those who stop together still wait for one another's last slices.

        Where the work is not done, the other end may not be listening any more, and little time is given to it.
        """
        patience = FAREWELL_SECONDS if is_done else PARTING_SECONDS
        with contextlib.suppress(ChannelError):
            self.put(None, patience)
            self._thread.join(patience)
        self._link.close()


class Ring(Group):
    """One member; `share`, `add`, `total`, `scatter` and `gather` as of every group.

    Args:
        before: the link that the member before sends on.
        after: the link to the next one.
        fates: of the members that are this process's children; asked when one is lost.
    """

    def __init__(self, rank: int, size: int, before: Link, after: Link, fates: Sequence[Fate] = ()) -> None:
        self.rank, self.size = rank, size
        self._before, self._after, self._outlet = before, after, Outlet(after)
        self._fates = fates
        self._is_silent = True

    def add(self, *tensors: Tensor) -> None:
        """All members wait here for one another.

        Raises:
            TrainerError: ``parallel.lost``, or what a process said before it ended.
        """
        for tensor in filter(Tensor.numel, tensors):
            parts = self._slices(tensor)
            self._reduce(parts)
            self._spread(parts)
            tensor.copy_(parts.view(-1)[: tensor.numel()].view_as(tensor))

    def total(self, value: float) -> float:
        """The sum in fp64."""
        number = torch.tensor([value], dtype=torch.float64)
        self.add(number)
        return float(number)

    def scatter(self, tensor: Tensor) -> Tensor:
        """All members wait here for one another.

        Raises:
            TrainerError: as ``add``.
        """
        parts = self._slices(tensor)
        self._reduce(parts)
        return parts[self.rank].to(tensor.device, copy=True)

    def gather(self, part: Tensor) -> Tensor:
        """All members wait here for one another.

        Raises:
            TrainerError: as ``add``.
        """
        parts = part.new_empty(self.size, part.numel(), device="cpu")
        parts[self.rank] = part
        self._spread(parts)
        return parts.view(-1).to(part.device)

    def watch(self, lost: Callable[[], None]) -> None:
        """Has `lost` called when a neighbour goes before anything was summed; later each sum notices by itself."""

        def look() -> None:
            while self._is_silent and not (self._before.is_shut or self._after.is_shut):
                time.sleep(ASK_SECONDS)
            if self._is_silent:
                lost()

        threading.Thread(target=look, daemon=True).start()

    def release(self) -> None:
        """See ``Group``."""
        release(self._fates)

    def close(self, *, is_done: bool) -> None:
        """Leaves the ring; one that leaves before the work is done takes all others along."""
        self._is_silent = False
        self._outlet.close(is_done=is_done)
        self._before.close()

    def _slices(self, tensor: Tensor) -> Tensor:
        """(size, N) a copy of the values on the CPU, cut into one slice for each member, with zeros at the end."""
        flat = tensor.detach().to("cpu").reshape(-1)
        parts = flat.new_zeros(self.size, slice_length(flat.numel(), self.size))
        parts.view(-1)[: flat.numel()] = flat
        return parts

    def _reduce(self, parts: Tensor) -> None:
        """Makes the own slice the sum over all; each slice is added up in the order of the ring, by one member each."""
        self._go_round(parts, self.rank - 1, Tensor.add_)

    def _spread(self, parts: Tensor) -> None:
        """Brings each member's slice to all."""
        self._go_round(parts, self.rank, Tensor.copy_)

    def _go_round(self, parts: Tensor, begin: int, take: Callable[[Tensor, Tensor], Tensor]) -> None:
        """Each hands on what it took in the round before, in the first round its slice `begin`."""
        self._is_silent = False
        most = FRAME_BYTES // parts.element_size()
        try:
            for turn in range(begin, begin - self.size + 1, -1):
                given, taken = (torch.split(parts[each % self.size], most) for each in (turn, turn - 1))
                for mine, theirs in zip(given, taken, strict=True):
                    self._outlet.put(mine.view(torch.uint8).numpy().tobytes())
                    take(theirs, self._heard(theirs))
        except ChannelError:
            raise loss_among(self._fates) from None

    def _heard(self, like: Tensor) -> Tensor:
        content = bytearray(self._before.session.receive())
        if len(content) != like.numel() * like.element_size():
            raise ChannelError("a frame is not as long as it should be")
        return torch.frombuffer(content, dtype=like.dtype)


@contextlib.contextmanager
def ringed(
    spec: Spec, keys: Keys, out: Path, spec_path: Path, number: int, doors: Sequence[socket.socket], stop: Stop
) -> Iterator[Group]:
    """The processes of several machines, ready to work together.

    Args:
        number: of this process on its machine; the first one starts the others.
        doors: sockets that listen, one for each process of this machine; of a process that was started, its own.
        stop: told when another process of this machine is lost, whatever this one does at the time.

    Raises:
        TrainerError: ``parallel.nodes``, when spec, ring and doors do not belong together; ``parallel.devices``;
            ``parallel.unreachable``, when the next one cannot be reached by TCP; ``parallel.lost``.
        Cancelled: a signal came before they had met.
    """
    place, here = keys.ring, spec.parallel.processes
    if place is None or len(place.members) != here * spec.parallel.nodes or len(doors) != (1 if number else here):
        raise TrainerError("parallel.nodes", "the spec asks for other machines than there are", "report this")
    fates: list[Fate] = []
    lost = watcher(spec.run, fates, stop)
    is_done = False
    try:
        with doors[0]:
            if number == 0:
                check_devices(here)
                fates += (_start(each, door, keys, out, spec_path, lost) for each, door in enumerate(doors[1:], 1))
            settle(number, here)
            ring = meet(spec.run, replace(place, rank=place.rank + number), doors[0], fates, stop.check)
        try:
            ring.watch(lost)
            yield ring
            is_done = True
        finally:
            ring.close(is_done=is_done)
    finally:
        for fate in fates:
            fate.end(is_done=is_done)


def _start(number: int, door: socket.socket, keys: Keys, out: Path, spec_path: Path, lost: Callable[[], None]) -> Fate:
    command = [sys.executable, "-m", "trainers", "run", "--spec", str(spec_path), "--out", str(out)]
    command += ["--rank", str(number), "--doors", str(door.fileno())]
    with door:
        return Fate(number, command, keys, lost, handles=[door.fileno()])


def meet(
    run: str,
    place: RingPlace,
    door: socket.socket,
    fates: Sequence[Fate] = (),
    check: Callable[[], None] = lambda: None,
) -> Ring:
    """Connects to the next member and lets the one before in; strangers are dropped.

    Args:
        place: with the rank of this very process.
        check: called again and again until the ring is closed; ends the wait with what it raises.

    Raises:
        TrainerError: ``parallel.unreachable``; ``parallel.lost``, when a neighbour is gone or does not come.
    """
    size, name = len(place.members), f"{run}/ring"
    own = [key_from(place.secret, name, rank) for rank in range(size)]
    before, after = (place.rank - 1) % size, (place.rank + 1) % size
    found: queue.Queue[Link | TrainerError] = queue.Queue()

    def reach() -> None:
        try:
            found.put(_reach(name, place.members[after], own[place.rank], public(own[after]), after))
        except TrainerError as error:
            found.put(error)
        except (ChannelError, OSError):
            found.put(loss_among(fates))

    threading.Thread(target=reach, daemon=True).start()
    door.settimeout(ASK_SECONDS)
    deadline = time.monotonic() + MEETING_SECONDS
    behind = ahead = None
    try:
        while behind is None or ahead is None:
            check()
            behind = behind or _let_in(name, door, own[place.rank], public(own[before]))
            ahead = ahead or _link_in(found)
            links = [link for link in (behind, ahead) if link is not None]
            if time.monotonic() > deadline or any(link.is_shut for link in links):
                raise loss_among(fates)
        return Ring(place.rank, size, behind, ahead, fates)
    except BaseException:
        for link in (behind, ahead):
            if link is not None:
                link.close()
        raise


def _reach(run: str, address: tuple[str, int], own: X25519PrivateKey, peer: bytes, rank: int) -> Link:
    """The link to the next member, which may be slow to answer, or drop a line and be asked again.

    Its door is open before anybody comes to it, and for as long as it lives: one that is shut is not opened again.
    """
    begun, was_there = time.monotonic(), False
    while True:
        waited = time.monotonic() - begun
        try:
            line = socket.create_connection(address, max(1.0, REACH_SECONDS - waited))
            was_there = True
            return _shake_hands(line, MEETING_SECONDS, lambda stream: connect(stream, run, own, peer))
        except (ChannelError, OSError) as fault:
            if was_there and (isinstance(fault, ConnectionRefusedError) or waited > MEETING_SECONDS):
                raise
            if not was_there and waited > REACH_SECONDS:
                raise TrainerError(
                    "parallel.unreachable",
                    f"rank {rank} at {address[0]}, port {address[1]}, cannot be reached from the machine before it",
                    "let the machines reach one another on that port; is that machine up?",
                    EXIT_FAULT,
                ) from None
            time.sleep(0.5)


def _let_in(run: str, door: socket.socket, own: X25519PrivateKey, peer: bytes) -> Link | None:
    """The member before; None if nobody came for a moment, or a stranger did."""
    with contextlib.suppress(ChannelError, OSError):
        line, _ = door.accept()
        return _shake_hands(line, STRANGER_SECONDS, lambda stream: accept(stream, run, own, peer))
    return None


def _link_in(found: queue.Queue[Link | TrainerError]) -> Link | None:
    """What came of the way to the next member; None if it is still being tried."""
    try:
        link = found.get(timeout=ASK_SECONDS)
    except queue.Empty:
        return None
    if isinstance(link, TrainerError):
        raise link
    return link


def _shake_hands(line: socket.socket, seconds: float, greet: Callable[[socket.SocketIO], Session]) -> Link:
    try:
        line.settimeout(seconds)
        line.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for option, value in _WATCHED.items():
            if hasattr(socket, option):  # not on every system
                line.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)
        session = greet(line.makefile("rwb"))  # type: ignore[arg-type]
        line.settimeout(PATIENCE.total_seconds())
    except BaseException:
        line.close()
        raise
    return Link(line, session)
