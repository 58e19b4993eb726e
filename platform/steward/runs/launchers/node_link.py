"""The platform's end of the channel to a trainer on another machine; the other end is `trainers.remote`.

Guarantees that a file that was fetched is there whole or not at all, also on a disk that fills up. Does not
reconnect; whoever holds the link does.
"""

import contextlib
import json
import os
import re
import socket
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from compliance.vault import atomic_output
from trainers.channel import ChannelError, connect
from trainers.remote import CHUNK_BYTES

ANSWER_SECONDS = 60.0
# What a trainer leaves in its folder; a node that names something else is not believed.
_NAME = re.compile(r"(?:[a-z][a-z0-9_-]{0,60}\.sealed|checkpoint[a-z0-9.-]{0,60}\.json|events\.jsonl)")


class NodeLink:
    """One connection.

    Args:
        line: connected; closed by `close`.
        peer: the trainer's public key, 32 bytes.

    Raises:
        ChannelError: the other side is somebody else.
    """

    def __init__(self, line: socket.socket, run: str, own: X25519PrivateKey, peer: bytes) -> None:
        line.settimeout(ANSWER_SECONDS)
        self._line = line
        self._stream = line.makefile("rwb")
        self._session = connect(self._stream, run, own, peer)
        self._fetched: dict[str, list[int]] = {}
        self._files: dict[str, list[int]] = {}
        self.exit_code: int | None = None
        self.is_started = False

    def close(self) -> None:
        """Ends the connection; the trainer goes on."""
        with contextlib.suppress(OSError):
            self._stream.close()
        self._line.close()

    def look(self) -> dict[str, Any]:
        """What is there: files, whether the training was started, and how it ended."""
        seen = self._ask({"do": "look"})
        self._files = {name: about for name, about in seen["files"].items() if _NAME.fullmatch(name)}
        self.exit_code, self.is_started = seen["exit"], seen["is_started"]
        return seen

    def changed(self) -> list[str]:
        """Names of the files that are not as they were when they were fetched."""
        self.look()
        return [name for name, about in self._files.items() if self._fetched.get(name) != about]

    def size_of(self, name: str) -> int:
        """Bytes of a file, when it was last looked at."""
        return self._files[name][0] if name in self._files else 0

    def put(self, folder: str, name: str, source: Path) -> None:
        """Sends a file."""
        with source.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            self._session.send(json.dumps({"do": "put", "to": folder, "name": name, "bytes": size}).encode())
            while chunk := file.read(CHUNK_BYTES):
                self._session.send(chunk)
        self._answer()

    def put_bytes(self, folder: str, name: str, content: bytes) -> None:
        """Sends a file that is not on a disk; at most 1 MiB."""
        self._session.send(json.dumps({"do": "put", "to": folder, "name": name, "bytes": len(content)}).encode())
        self._session.send(content)
        self._answer()

    def get(self, name: str, target: Path) -> None:
        """Fetches a file whole and puts it in place at once."""
        about = self._files[name]
        left = self._ask({"do": "get", "name": name, "offset": 0})["bytes"]
        with atomic_output(target) as file:
            while left > 0:
                chunk = self._session.receive()
                left -= len(chunk)
                file.write(chunk)
        self._fetched[name] = about

    def read(self, name: str, offset: int, until: int) -> bytes:
        """The bytes of a file from `offset` up to `until`; what came later is left for the next time."""
        if until <= offset or offset < 0:
            return b""
        left = self._ask({"do": "get", "name": name, "offset": offset})["bytes"]
        found = b""
        while left > 0:
            chunk = self._session.receive()
            left -= len(chunk)
            found += chunk
        return found[: until - offset]

    def open_doors(self, count: int) -> list[int]:
        """Ports on which that many trainers there are reached by those on other machines; none if they are taken."""
        ports = self._ask({"do": "doors", "count": count})["ports"]
        if not all(isinstance(port, int) and 0 < port < 1 << 16 for port in ports) or len(ports) not in (0, count):
            raise ChannelError("the trainer names ports that are none")
        return list(ports)

    def start(self, keys: str) -> None:
        """Hands the keys over; the training begins."""
        self._ask({"do": "start", "keys": keys})
        self.is_started = True

    def signal(self, which: str) -> None:
        """Reaches the trainer with one of `trainers.remote.SIGNALS`."""
        self._ask({"do": "signal", "which": which})

    def leave(self) -> None:
        """Lets the other side remove everything and end."""
        self._ask({"do": "leave"})

    def _ask(self, question: dict[str, Any]) -> dict[str, Any]:
        self._session.send(json.dumps(question).encode())
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        try:
            answer = json.loads(self._session.receive())
        except ValueError:
            answer = None
        if not isinstance(answer, dict) or answer.get("ok") is not True:
            raise ChannelError("the trainer would not do it")
        return answer
