"""Places for the connections of a server, of which nobody who says nothing keeps one.

Guarantees: so many connections at most; where all places are taken, who has waited longest without having asked is hung
up on, and so is whoever is read the longest once all that is being read takes too much memory; a connection that has
asked is left alone. Does not: tell clients apart by address, since behind a proxy all have the same one.

Example:
    >>> places = Places(256, 64 << 20)
    >>> if places.take(connection): ...
"""

from __future__ import annotations

import contextlib
import socket
import threading


class Places:
    """Of all connections, the oldest first.

    Args:
        most: connections at once.
        most_bytes: of all requests that are being read, together.
    """

    def __init__(self, most: int, most_bytes: int) -> None:
        self._most, self._most_bytes = most, most_bytes
        self._lock = threading.Lock()
        #: Bytes read so far of those who have not asked yet.
        self._asking: dict[socket.socket, int] = {}
        self._asked: set[socket.socket] = set()

    def take(self, connection: socket.socket) -> bool:
        """Gives a place, another's if need be; False where all have asked."""
        with self._lock:
            if len(self._asking) + len(self._asked) >= self._most:
                if not self._asking:
                    return False
                self._hang_up()
            self._asking[connection] = 0
            return True

    def read(self, connection: socket.socket, count: int) -> None:
        """Notes that so many more bytes of a request have come."""
        with self._lock:
            if connection in self._asking:
                self._asking[connection] += count
            while sum(self._asking.values()) > self._most_bytes:
                self._hang_up()

    def has_asked(self, connection: socket.socket) -> None:
        """Notes that a request is there and may be answered, so that its place is kept."""
        with self._lock:
            if self._asking.pop(connection, None) is not None:
                self._asked.add(connection)

    def give_back(self, connection: socket.socket) -> None:
        """Frees a place; of one that was hung up on there is none."""
        with self._lock:
            self._asking.pop(connection, None)
            self._asked.discard(connection)

    def _hang_up(self) -> None:
        oldest = next(iter(self._asking))
        del self._asking[oldest]
        with contextlib.suppress(OSError):
            oldest.shutdown(socket.SHUT_RDWR)  # which wakes the thread that reads it
