"""Chat with base and tuned over a unix socket, one request at a time.

A client connects, sends one line ``{"messages":[{"role","content"}…],"adapter":true|false,"max_new_tokens":n,
"temperature":t,"seed":s}`` (all but ``messages`` optional) and reads lines ``{"token":"…"}`` until
``{"done":true,"tokens":n,"seconds":s}`` or ``{"error":"…"}``, after which the server hangs up.

Guarantees: the socket is its owner's alone (mode 0600); no prompt and no answer is recorded anywhere; the server ends
when its stdin closes, when nobody asked for ``idle_seconds``, or on SIGTERM. Does not: answer two at once.

Example:
    ``python -m trainers serve --spec spec.json --out run/ --socket /run/steward/m1.sock < keys-and-open-pipe``
"""

from __future__ import annotations

import json
import os
import select
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, TextIO

from trainers.encoding import render
from trainers.errors import Cancelled, TrainerError
from trainers.evaluation import Bench
from trainers.events import ServeReady, ServeStopped
from trainers.fields import Choice, Flag, Kind, Number, SpecError, Whole, take
from trainers.generation import answer_stream
from trainers.process import Speaker, Stop
from trainers.shards import MAX_LINE_BYTES, ROLES, Message
from trainers.spec import Spec

MAX_NEW_TOKENS = 4096
WAKE_SECONDS = 0.2
STALL_SECONDS = 10.0


class Server:
    """Listens until told to stop."""

    def __init__(self, spec: Spec, bench: Bench, path: Path, idle_seconds: float, speak: Speaker, stop: Stop) -> None:
        self._spec, self._bench, self._path = spec, bench, path
        self._idle_seconds, self._speak, self._stop = idle_seconds, speak, stop
        self._requests = 0
        self._is_orphan = False
        self._heard = time.monotonic()

    def run(self, stdin: TextIO) -> None:
        """Serves; returns when stdin closed, after idling, or when a signal came.

        Raises:
            TrainerError: ``serve.socket``, when the socket cannot be made.
        """
        threading.Thread(target=self._watch, args=(stdin,), daemon=True).start()
        reason = "signal"
        if self._bench.adapter.are_tags:
            raise TrainerError(
                "serve.method", "a model that labels tokens has nothing to say in a chat", "use evaluate"
            )
        with self._listening() as listener:
            self._speak(ServeReady(self._spec.run, str(self._path)))
            try:
                while True:
                    self._stop.check()
                    if self._is_orphan or time.monotonic() - self._heard > self._idle_seconds:
                        reason = "stdin" if self._is_orphan else "idle"
                        break
                    if select.select([listener], [], [], WAKE_SECONDS)[0]:
                        self._attend(listener.accept()[0])
            except Cancelled:
                reason = "signal"
            finally:
                self._path.unlink(missing_ok=True)
        self._speak(ServeStopped(self._spec.run, reason, self._requests))

    def _watch(self, stdin: TextIO) -> None:
        while stdin.readline():
            pass
        self._is_orphan = True

    def _listening(self) -> socket.socket:
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        previous = os.umask(0o177)
        try:
            if self._path.is_socket():
                self._path.unlink()
            listener.bind(str(self._path))
        except OSError as fault:
            listener.close()
            raise TrainerError(
                "serve.socket", f"{self._path}: {fault.strerror or fault}", "give a short path in a writable folder"
            ) from None
        finally:
            os.umask(previous)
        listener.listen(4)
        return listener

    def _attend(self, connection: socket.socket) -> None:
        """Answers one client. One that goes away or stalls is dropped, and the next one is served."""
        with connection, connection.makefile("rb") as source, suppress(OSError):
            connection.settimeout(STALL_SECONDS)
            line = source.readline(MAX_LINE_BYTES)
            self._requests += 1
            for reply in self._replies(line):
                connection.sendall(json.dumps(reply, ensure_ascii=False).encode() + b"\n")
        self._heard = time.monotonic()

    def _replies(self, line: bytes) -> Iterator[dict[str, Any]]:
        begun = time.monotonic()
        try:
            request = read_request(line)
            prompt = self._prompt(request["messages"])
        except (SpecError, TrainerError) as fault:
            yield {"error": str(fault)}
            return
        tokenizer, tokens, shown = self._bench.tokenizer, [], ""
        name = "tuned" if request["adapter"] else "base"
        with self._bench.as_model(name) as model:
            if self._bench.adapter.labels and name == "tuned":
                for _, labels in self._bench.classify([prompt]):
                    yield {"token": labels[0]}
                yield {"done": True, "tokens": 1, "seconds": round(time.monotonic() - begun, 3)}
                return
            for token in answer_stream(
                model,
                [*self._bench.prefix(name), *prompt],
                self._bench.stops,
                request["max_new_tokens"],
                request["temperature"],
                request["seed"],
                lambda: not (self._stop.is_asked or self._is_orphan),
            ):
                tokens.append(token)
                text = tokenizer.decode(tokens, skip_special_tokens=True)
                # A character of several tokens shows as a replacement until its last one is there.
                if not text.endswith("\ufffd") and len(text) > len(shown):
                    yield {"token": text[len(shown) :]}
                    shown = text
        yield {"done": True, "tokens": len(tokens), "seconds": round(time.monotonic() - begun, 3)}

    def _prompt(self, messages: list[Message]) -> list[int]:
        tokenizer = self._bench.tokenizer
        text = render(tokenizer, messages, is_prompt=True)
        tokens = list(tokenizer(text, add_special_tokens=False)["input_ids"])
        room = getattr(self._bench.adapter.base.config, "max_position_embeddings", None) or len(tokens)
        if len(tokens) > room:
            raise TrainerError(
                "serve.long", f"{len(tokens)} tokens, the model takes {room}", "shorten the conversation"
            )
        return tokens


_SETTINGS: dict[str, tuple[Kind, Any]] = {
    "adapter": (Flag(), True),
    "max_new_tokens": (Whole(1, MAX_NEW_TOKENS), 256),
    "temperature": (Number(minimum=0.0, maximum=5.0), 0.0),
    "seed": (Whole(0, 2**63 - 1), 0),
}


def read_request(line: bytes) -> dict[str, Any]:
    """A request with its defaults filled in.

    Raises:
        SpecError: with every problem; no text of the request is quoted.
    """
    try:
        document = json.loads(line)
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError):
        raise SpecError(["request: not JSON"]) from None
    if not isinstance(document, dict):
        raise SpecError(["request: must be an object"])
    problems: list[str] = []
    if set(document) - set(_SETTINGS) - {"messages"}:
        problems.append("request: unknown key")
    request: dict[str, Any] = {}
    for name, (kind, default) in _SETTINGS.items():
        request[name] = take(kind, document[name], name, problems) if name in document else default
    turns: Any = document.get("messages")
    is_sound = (
        isinstance(turns, list)
        and turns
        and all(
            isinstance(turn, dict) and set(turn) == {"role", "content"} and isinstance(turn["content"], str)
            for turn in turns
        )
    )
    if not is_sound:
        problems.append("messages: must be a list of objects with role and content")
    else:
        for index, turn in enumerate(turns):
            take(Choice(ROLES), turn["role"], f"messages[{index}].role", problems)
    if problems:
        raise SpecError(problems)
    request["messages"] = [Message(turn["role"], turn["content"]) for turn in turns]
    return request
