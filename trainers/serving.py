"""One base, many adapters, many answers at a time: the server behind the chat and ``/v1/chat/completions``.

The first line on stdin is ``{"access":"<token>"}``; each later one adds or drops an adapter, at any time:
``{"add":{"name","path","context","key"}}``, ``{"drop":"name"}``. A client connects, sends one line (the keys of
``trainers.serve_requests.Request``) and reads lines ``{"text":"…"}`` until ``{"done":true,"finish":"stop"|"length",
"prompt_tokens":n,"completion_tokens":n,"seconds":s}`` or ``{"error":"…","code":"…"}``, after which the server hangs up.
A client that hangs up (its sending side alone is enough), or reads nothing for ``STALL_SECONDS``, has its answer
cancelled; one that takes as long to ask is hung up on, and where a newcomer finds no place, so is whoever has waited
longest without having asked.

Guarantees: who does not know the token gets no answer; the socket is its owner's alone (mode 0600), and a TCP address
is one of this machine unless another was allowed; no prompt and no answer is recorded anywhere; no core is dumped; the
server ends when its stdin closes, when nobody asked for ``idle_seconds``, or on SIGTERM.
Does not: encrypt TCP connections; put a proxy that does before an address that others reach.

Example:
    ``python -m trainers serve --model models/base --socket /run/steward/base.sock < access-then-adapters``
"""

from __future__ import annotations

import contextlib
import hmac
import json
import os
import queue
import secrets
import select
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from trainers.adapter_shelf import Shelf
from trainers.encoding import as_tokens, render
from trainers.engine import Ask, Done, Engine
from trainers.errors import TrainerError
from trainers.events import ServeAdapter, ServeReady, ServeStopped
from trainers.fields import SpecError
from trainers.places import Places
from trainers.process import Speaker, Stop
from trainers.sampling import Sampler
from trainers.serve_requests import MAX_REQUEST_BYTES, Request, read_order, read_request
from trainers.token_classification import read_text

NO_RUN = "-"
WAKE_SECONDS = 0.2
STALL_SECONDS = 20.0
#: Connections at once; each has a thread, and all but a few of them wait for the engine.
MAX_CONNECTIONS = 256
#: Of all requests that are being read, together.
MAX_READ_BYTES = 64 << 20


@dataclass(frozen=True)
class Doors:
    """Where the server listens: a unix socket's path, and perhaps a TCP address."""

    path: Path
    tcp: tuple[str, int] | None
    idle_seconds: float


class Server:
    """Listens until told to stop.

    Args:
        engine: answers; ``run`` gives it a thread of its own.
        shelf: of the adapters.
        tokenizer: for prompts; another than the engine's.
        access: the token that each request has to show.
    """

    def __init__(
        self, engine: Engine, shelf: Shelf, tokenizer: Any, access: str, doors: Doors, speak: Speaker, stop: Stop
    ) -> None:
        self._engine, self._shelf, self._tokenizer, self._access = engine, shelf, tokenizer, access.encode()
        self._doors, self._speak, self._stop = doors, speak, stop
        #: Characters that a token stands for at most.
        self._longest = max(map(len, tokenizer.get_vocab()))
        self._requests = 0
        self._places = Places(MAX_CONNECTIONS, MAX_READ_BYTES)
        self._reading, self._writing = threading.Lock(), threading.Lock()
        self._is_orphan = self._is_over = False
        self._heard = time.monotonic()

    def run(self, stdin: TextIO, base_digest: str, positions: int) -> None:
        """Serves; returns when stdin closed, after idling, or when a signal came.

        Raises:
            TrainerError: ``serve.socket``, when a door cannot be opened.
        """
        with self._listening() as listeners:
            # Beside the socket's own thread, so that a signal is seen while the model works.
            engine = threading.Thread(target=self._engine.run, args=(lambda: not self._is_over,), daemon=True)
            engine.start()
            threading.Thread(target=self._obey, args=(stdin,), daemon=True).start()
            tcp = [each for each in listeners if each.family != socket.AF_UNIX]
            address = ":".join(map(str, tcp[0].getsockname()[:2])) if tcp else ""
            self._speak(ServeReady(NO_RUN, str(self._doors.path), address, base_digest, positions))
            reason = self._attend(listeners, engine)
            self._is_over = True
            engine.join()
        self._speak(ServeStopped(NO_RUN, reason, self._requests))

    def _attend(self, listeners: list[socket.socket], engine: threading.Thread) -> str:
        while engine.is_alive():
            if self._stop.is_asked or not self._speak.is_heard:
                return "signal"
            if self._is_orphan:
                return "stdin"
            if self._engine.is_busy:
                self._heard = time.monotonic()
            if time.monotonic() - self._heard > self._doors.idle_seconds:
                return "idle"
            for ready in select.select(listeners, [], [], WAKE_SECONDS)[0]:
                with contextlib.suppress(OSError):  # who went away before it was met
                    self._meet(ready.accept()[0])
        raise RuntimeError("the engine's thread ended")

    def _meet(self, connection: socket.socket) -> None:
        connection.settimeout(STALL_SECONDS)
        if self._places.take(connection):
            threading.Thread(target=self._answer, args=(connection,), daemon=True).start()
        else:
            connection.close()

    def _obey(self, stdin: TextIO) -> None:
        """Follows orders until stdin ends."""
        while line := stdin.readline():
            name = ""
            try:
                order = read_order(line)
                name = order.name
                if order.add is None:
                    self._shelf.drop(name)
                    self._speak(ServeAdapter(NO_RUN, name, "dropped", 0, "", ""))
                else:
                    size = self._shelf.add(name, order.sealed)
                    self._speak(ServeAdapter(NO_RUN, name, "ready", size, "", ""))
            except SpecError as fault:
                self._speak(ServeAdapter(NO_RUN, name, "refused", 0, "serve.order", str(fault)))
            except TrainerError as fault:
                self._speak(ServeAdapter(NO_RUN, name, "refused", 0, fault.code, str(fault)))
            except Exception as fault:  # noqa: BLE001 - whatever an adapter's file does, the others are served on
                self._speak(ServeAdapter(NO_RUN, name, "refused", 0, "internal", type(fault).__name__))
        self._is_orphan = True

    @contextlib.contextmanager
    def _listening(self) -> Iterator[list[socket.socket]]:
        path, tcp = self._doors.path, self._doors.tcp
        with contextlib.ExitStack() as stack:
            listener = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
            previous = os.umask(0o177)
            try:
                if path.is_socket():
                    path.unlink()
                listener.bind(str(path))
            except OSError as fault:
                raise TrainerError(
                    "serve.socket", f"{path}: {fault.strerror or fault}", "give a short path in a writable folder"
                ) from None
            finally:
                os.umask(previous)
            stack.callback(path.unlink, missing_ok=True)
            listeners = [listener]
            if tcp is not None:
                try:
                    family = socket.AF_INET6 if ":" in tcp[0] else socket.AF_INET
                    listeners.append(
                        stack.enter_context(socket.create_server(tcp, family=family, backlog=MAX_CONNECTIONS))
                    )
                except OSError as fault:
                    raise TrainerError(
                        "serve.socket", f"{tcp[0]}:{tcp[1]}: {fault.strerror or fault}", "give another --tcp"
                    ) from None
            listener.listen(MAX_CONNECTIONS)
            for each in listeners:
                each.setblocking(False)
            yield listeners

    def _answer(self, connection: socket.socket) -> None:
        """Answers one client. One that goes away or stalls is dropped, its row with it."""
        try:
            with connection, contextlib.suppress(OSError):
                line = _first_line(connection, self._places)
                for reply in self._replies(line, connection):
                    connection.sendall(json.dumps(reply, ensure_ascii=False).encode() + b"\n")
        finally:
            self._places.give_back(connection)

    def _replies(self, line: bytes, connection: socket.socket) -> Iterator[dict[str, Any]]:
        begun = time.monotonic()
        try:
            if len(line) > MAX_REQUEST_BYTES:
                raise TrainerError("serve.large", f"the request has more than {MAX_REQUEST_BYTES} bytes", "shorten it")
            with self._reading:  # as objects a request takes many times its length, and who sent it is not known yet
                request = read_request(line)
            if not hmac.compare_digest(request.access.encode(), self._access):
                raise TrainerError("serve.access", "this token opens nothing here", "show the token given over stdin")
            self._places.has_asked(connection)
            self._requests += 1
            self._heard = time.monotonic()
            ask = self._ask(request)
            try:
                row = self._engine.submit(ask)
            except TrainerError:
                if ask.adapter is not None:
                    self._shelf.give_back(ask.adapter)
                raise
        except SpecError as fault:
            yield {"error": str(fault), "code": "serve.request"}
            return
        except TrainerError as fault:
            yield {"error": str(fault), "code": fault.code}
            return
        except Exception as fault:  # noqa: BLE001 - its text may quote the request, and the client waits for an end
            yield {"error": f"the request could not be read ({type(fault).__name__})", "code": "internal"}
            return
        try:
            while not _has_hung_up(connection):
                with contextlib.suppress(queue.Empty):
                    reply = row.replies.get(timeout=WAKE_SECONDS)
                    if isinstance(reply, str):
                        yield {"text": reply}
                        continue
                    yield _last(reply, time.monotonic() - begun)
                    return
        finally:
            row.is_cancelled = True

    def _ask(self, request: Request) -> Ask:
        """A request in tokens, its adapter taken off the shelf.

        An adapter that tags tokens reads the last thing that the user said, as it was trained to: no template is around
        it, and nothing that was said before.

        Raises:
            TrainerError: ``serve.empty``, ``serve.long``, ``serve.tools`` (of a classifier); as ``render``.
        """
        adapter = None if request.adapter is None else self._shelf.take(request.adapter)
        places: list[tuple[int, int]] = []
        try:
            if adapter is not None and adapter.labels and request.tools:
                raise TrainerError("serve.tools", "a model that answers with labels calls nothing", "ask without tools")
            with self._writing:  # a tokenizer is not made for several threads
                if adapter is not None and adapter.are_tags:
                    text = next((each.content for each in reversed(request.turns) if each.role == "user"), "")
                    self._refuse_long(text)
                    prompt, places = read_text(self._tokenizer, text, None)
                else:
                    text = render(self._tokenizer, request.turns, is_prompt=True, tools=request.tools or ())
                    self._refuse_long(text)
                    (prompt,) = as_tokens(self._tokenizer, [text])
            if not prompt:
                raise TrainerError("serve.empty", "there is nothing to read", "send a message of the user with a text")
        except BaseException:
            if adapter is not None:
                self._shelf.give_back(adapter)
            raise
        seed = secrets.randbits(63) if request.seed is None else request.seed
        return Ask(
            prompt,
            adapter,
            Sampler(request.temperature, request.top_p, seed),
            request.max_tokens,
            list(request.stop or ()),
            frozenset(request.stop_tokens or ()),
            text if places else "",
            tuple(places),
        )

    def _refuse_long(self, text: str) -> None:
        """Refuses what cannot fit however it is cut: cutting megabytes takes a minute, and everyone else would wait."""
        if len(text) > self._engine.context * self._longest:
            raise TrainerError(
                "serve.long",
                f"{len(text)} characters are more than the model's {self._engine.context} tokens can hold",
                "shorten the conversation",
            )


def _first_line(connection: socket.socket, places: Places) -> bytes:
    """What a client asks; TimeoutError where it takes longer than ``STALL_SECONDS`` in all to say it."""
    until = time.monotonic() + STALL_SECONDS
    line = bytearray()
    is_whole = False
    while not is_whole and len(line) <= MAX_REQUEST_BYTES:
        connection.settimeout(max(0.001, until - time.monotonic()))
        piece = connection.recv(1 << 16)
        head, newline, _ = piece.partition(b"\n")
        line += head
        places.read(connection, len(head))
        is_whole = bool(newline) or not piece
    connection.settimeout(STALL_SECONDS)
    return bytes(line)


def _last(reply: Done | TrainerError, seconds: float) -> dict[str, Any]:
    if isinstance(reply, TrainerError):
        return {"error": str(reply), "code": reply.code}
    return {
        "done": True,
        "finish": reply.finish,
        "prompt_tokens": reply.prompt_tokens,
        "completion_tokens": reply.completion_tokens,
        "seconds": round(seconds, 3),
    }


def _has_hung_up(connection: socket.socket) -> bool:
    """Whether the client closed its end. It sends one line only, so whatever else comes is no reason to go on."""
    if not select.select([connection], [], [], 0)[0]:
        return False
    return not connection.recv(1, socket.MSG_PEEK)
