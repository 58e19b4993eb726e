"""The adapters a server knows, and those of them that are open.

Guarantees: open ones never take more than ``max_bytes`` together; the one unused for longest is closed first, and never
one that a row under way needs; a closed one is opened again from its sealed file when it is asked for, with the key
that is kept in memory; a dropped one is forgotten, key and all.
Does not: wait for room; it says that there is none.

Example:
    >>> shelf.add("m1", Sealed(path, key, context))
    >>> with shelf.using("m1") as opened: ...
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from compliance.vault import ObjectContext
from trainers.adapter_file import OpenedAdapter
from trainers.errors import TrainerError
from trainers.sealed import read_sealed


@dataclass(frozen=True)
class Sealed:
    """Where an adapter lies and what opens it."""

    path: Path
    key: bytes = field(repr=False)
    context: ObjectContext


@dataclass
class _Place:
    sealed: Sealed
    opened: OpenedAdapter | None = None
    users: int = 0


class Shelf:
    """Adapters by name. Every method may be called from any thread.

    Args:
        max_bytes: of open adapters together.
        open_bytes: makes an adapter of an archive's bytes.
        closed: told of each adapter that is closed, before its memory is given back.
    """

    def __init__(
        self, max_bytes: int, open_bytes: Callable[[bytes], OpenedAdapter], closed: Callable[[OpenedAdapter], None]
    ) -> None:
        self._max_bytes, self._open_bytes, self._closed = max_bytes, open_bytes, closed
        self._places: OrderedDict[str, _Place] = OrderedDict()
        self._lock = threading.Lock()

    @property
    def held_bytes(self) -> int:
        """Of open adapters."""
        return sum(each.opened.bytes for each in self._places.values() if each.opened is not None)

    @property
    def open_names(self) -> list[str]:
        """Names of open adapters, the one unused for longest first."""
        return [name for name, each in self._places.items() if each.opened is not None]

    def add(self, name: str, sealed: Sealed) -> int:
        """Takes an adapter in, or another one under a name that is known, and opens it once; returns its bytes.

        Raises:
            TrainerError: it does not open, is not of this base, or does not fit.
        """
        with self._lock:
            place = _Place(sealed)
            self._open(place)
            self._close(self._places.pop(name, None))
            self._places[name] = place
            assert place.opened is not None
            return place.opened.bytes

    def drop(self, name: str) -> None:
        """Forgets an adapter. A row that uses it goes on to its end."""
        with self._lock:
            self._close(self._places.pop(name, None))

    def take(self, name: str) -> OpenedAdapter:
        """The adapter, open, and kept open until it is given back.

        Raises:
            TrainerError: ``adapter.unknown``, ``adapter.room`` and as ``add``.
        """
        with self._lock:
            place = self._places.get(name)
            if place is None:
                raise TrainerError("adapter.unknown", "no such adapter is served here", "add it over stdin first")
            self._places.move_to_end(name)
            if place.opened is None:
                self._open(place)
            assert place.opened is not None
            place.users += 1
            return place.opened

    def give_back(self, opened: OpenedAdapter) -> None:
        """Says that a row no longer needs what it took."""
        with self._lock:
            for place in self._places.values():
                if place.opened is opened:
                    place.users -= 1
                    return

    def _open(self, place: _Place) -> None:
        content = read_sealed(place.sealed.path, place.sealed.key, place.sealed.context)
        opened = self._open_bytes(content)
        idle = [each for each in self._places.values() if each.opened is not None and each.users == 0]
        while idle and self.held_bytes + opened.bytes > self._max_bytes:
            self._close(idle.pop(0))
        if self.held_bytes + opened.bytes > self._max_bytes:
            raise TrainerError(
                "adapter.room",
                f"the adapter takes {opened.bytes} bytes; {self.held_bytes} of {self._max_bytes} are in use",
                "wait for other answers to end, or start the server with more --adapter-mib",
            )
        place.opened = opened

    def _close(self, place: _Place | None) -> None:
        if place is not None and place.opened is not None:
            opened, place.opened = place.opened, None
            self._closed(opened)
