"""Serving processes: one for each base model, shared by everyone who talks to one of its adapters.

Guarantees that torch is never loaded here; that keys and the access token go over stdin only; that a serving process
ends with this one and when it idles, and is started again when it is next wanted, also after it was killed. At most
`MAX_BASES` run at a time: one that answers nobody makes room, otherwise the asker is told to come back.
Does not share a process with another web process: each has its own. Does not record anything.

Example:
    for part in ask(model_version, use_adapter=True, request={"messages": [...], "max_tokens": 64}): ...
"""

import atexit
import contextlib
import json
import secrets
import shutil
import socket
import subprocess
import tempfile
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from django.conf import settings

from compliance.vault import KeyDestroyed
from steward.audit.actor import UserError
from steward.catalog.models import BaseModel
from steward.runs.models import FineTune, ModelVersion
from steward.runs.specs import output_context, run_folder
from steward.trainer_process import trainer_command, trainer_environment
from steward.vault.keys import open_key
from trainers import events

MAX_BASES = 2
READY_SECONDS = 300.0
# The server itself refuses what has waited for 120 s; between two pieces of an answer much less passes.
ANSWER_SECONDS = 150.0


class ChatUnavailable(UserError):
    """The model cannot answer now, or not this; says why. `code` is the server's where it came from there."""

    status = 503


class _Gone(Exception):
    """The serving process went away before it said anything."""


class _Serving:
    """One `python -m trainers serve` and its socket."""

    def __init__(self, base_model: BaseModel, quantise: str) -> None:
        self.users = 0
        self.used_at = time.monotonic()
        self._access = secrets.token_urlsafe(32)
        self._folder = Path(tempfile.mkdtemp(prefix="steward-serve-"))
        self._socket = self._folder / "s"
        self._adapters: dict[str, events.ServeAdapter | None] = {}
        self._said = threading.Condition()
        self._first: events.Event | None = None
        arguments = ("--model", base_model.path, "--digest", base_model.digest, "--socket", str(self._socket))
        more = ("--quantise", quantise) if quantise else ()
        command = trainer_command(
            "serve", *arguments, *more, "--idle-seconds", str(settings.STEWARD_SERVING_IDLE_SECONDS)
        )
        # What libraries print might quote a prompt; what the server has to say comes by event.
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=trainer_environment(),
        )
        self._tell({"access": self._access})
        threading.Thread(target=self._listen, daemon=True).start()
        with self._said:
            self._said.wait_for(lambda: self._first is not None or not self.is_alive, READY_SECONDS)
        if not isinstance(self._first, events.ServeReady):
            self.stop()
            if isinstance(self._first, events.RunFailed):
                raise ChatUnavailable(f"{self._first.message}; {self._first.hint}", code=self._first.code)
            raise ChatUnavailable(
                "The serving process ended before it was ready. See `manage.py doctor`.", code="serve_failed"
            )

    @property
    def is_alive(self) -> bool:
        return self._process.poll() is None

    @property
    def process_id(self) -> int:
        return self._process.pid

    def put(self, model_version: ModelVersion) -> str:
        """Makes sure that an adapter is served; returns its name there."""
        name = str(model_version.pk)
        try:
            order = _order(model_version, name)
        except KeyDestroyed:
            self._drop(name)
            raise ChatUnavailable("The key of this model was destroyed; it answers no more.", code="shredded") from None
        with self._said:
            known = self._adapters.get(name)
            if known is not None and known.state == "ready":
                return name
            if name not in self._adapters:
                self._adapters[name] = None
                self._tell({"add": order})
            self._said.wait_for(lambda: self._adapters.get(name) is not None or not self.is_alive, READY_SECONDS)
            answered = self._adapters.get(name)
            if answered is None:
                self._adapters.pop(name, None)
                raise _Gone
            if answered.state == "ready":
                return name
            self._adapters.pop(name, None)
        raise ChatUnavailable(f"The model cannot be served: {answered.message}", code=answered.code)

    def _drop(self, name: str) -> None:
        with self._said:
            if self._adapters.pop(name, None) is not None:
                self._tell({"drop": name})

    def ask(self, request: dict[str, Any]) -> Iterator[dict[str, Any]]:
        """What the server replies, one object after the other; the last one has `done`.

        Raises:
            ChatUnavailable: it refused, or broke off.
            _Gone: it went away before the first reply.
        """
        said_something = False
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(ANSWER_SECONDS)
            try:
                connection.connect(str(self._socket))
                connection.sendall(json.dumps({"access": self._access, **request}).encode() + b"\n")
                with connection.makefile("rb") as replies:
                    for line in replies:
                        reply = json.loads(line)
                        if "error" in reply:
                            raise ChatUnavailable(
                                str(reply["error"])[:300], code=str(reply.get("code", "serve_failed"))
                            )
                        said_something = True
                        yield reply
                        if reply.get("done"):
                            return
            except (OSError, ValueError) as fault:
                if isinstance(fault, TimeoutError) or said_something:
                    raise _broken_off() from None
        if said_something or self.is_alive:
            raise _broken_off()
        raise _Gone

    def stop(self) -> None:
        """Ends the process and removes its socket."""
        with contextlib.suppress(OSError):
            if self._process.stdin is not None:
                self._process.stdin.close()
        self._process.terminate()
        try:
            self._process.wait(timeout=6)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _tell(self, order: dict[str, Any]) -> None:
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):  # it ended; whoever waits for its word notices
            self._process.stdin.write(json.dumps(order).encode() + b"\n")
            self._process.stdin.flush()

    def _listen(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as said:
            for line in said:
                event = events.decode(line.decode())
                with self._said:
                    if isinstance(event, events.ServeAdapter) and event.state != "dropped":
                        self._adapters[event.adapter] = event
                    elif self._first is None and not isinstance(event, events.ServeAdapter):
                        self._first = event
                    self._said.notify_all()
        self._process.wait()
        with self._said:
            self._said.notify_all()


def _broken_off() -> ChatUnavailable:
    return ChatUnavailable("The model stopped answering. Ask again.", code="broken_off")


def _order(model_version: ModelVersion, name: str) -> dict[str, Any]:
    """How the server opens an adapter."""
    rows = FineTune.objects.select_related("output_key")
    fine_tune = rows.get(pk=model_version.fine_tune_id)
    assert fine_tune.output_key is not None
    return {
        "name": name,
        "path": str(run_folder(fine_tune) / "adapter.sealed"),
        "context": output_context(fine_tune),
        "key": open_key(fine_tune.output_key).hex(),
    }


#: A base model, and how it was held while the adapters were trained on it.
Key = tuple[uuid.UUID, str]

_lock = threading.Lock()
_starting: dict[Key, threading.Lock] = {}
_servings: dict[Key, _Serving] = {}


@contextlib.contextmanager
def _held(base_model: BaseModel, quantise: str) -> Iterator[_Serving]:
    """The serving process of a base, started if need be, which nobody stops for room meanwhile."""
    key = (base_model.pk, quantise)
    with _lock:
        starting = _starting.setdefault(key, threading.Lock())
    with starting:
        with _lock:
            serving = _servings.get(key)
            if serving is not None and not serving.is_alive:
                del _servings[key]
                serving.stop()
                serving = None
            if serving is None:
                _make_room()
        if serving is None:
            serving = _Serving(base_model, quantise)
        with _lock:
            _servings[key] = serving
            serving.users += 1
    try:
        yield serving
    finally:
        with _lock:
            serving.users -= 1
            serving.used_at = time.monotonic()


def _make_room() -> None:
    """Stops the serving process that nobody has used for longest, where there are too many."""
    if len(_servings) < MAX_BASES:
        return
    idle = sorted((each.used_at, key) for key, each in _servings.items() if not each.users)
    if not idle:
        raise ChatUnavailable(f"{MAX_BASES} other base models are answering. Ask again in a moment.", code="serve.busy")
    _servings.pop(idle[0][1]).stop()


def ask(model_version: ModelVersion, *, use_adapter: bool, request: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Replies of the model version, or of its base, as `trainers.serving` describes them.

    Args:
        request: messages, max_tokens, temperature, top_p, seed, stop.

    Raises:
        ChatUnavailable: the model cannot answer, refuses the request, or broke off.
    """
    fine_tune = FineTune.objects.select_related("base_model").get(pk=model_version.fine_tune_id)
    quantise = _form(fine_tune.recipe.get("quantise"))
    for _ in range(2):  # the process may have ended, idle, at this very moment
        with contextlib.suppress(_Gone), _held(fine_tune.base_model, quantise) as serving:
            adapter = serving.put(model_version) if use_adapter else None
            yield from serving.ask({"adapter": adapter, **request})
            return
    raise _broken_off()


def _form(quantise: dict[str, Any] | None) -> str:
    """How the trainer's command line names the way a base was held."""
    if quantise is None:
        return ""
    form = str(quantise.get("form", "nf4"))
    return "nf4-double" if form == "nf4" and quantise.get("is_double", True) else form


def serving_processes() -> dict[Key, int]:
    """Base models that are served at this moment, and the process ids."""
    with _lock:
        return {key: each.process_id for key, each in _servings.items() if each.is_alive}


def stop_serving() -> None:
    """Ends all serving processes."""
    with _lock:
        for serving in _servings.values():
            serving.stop()
        _servings.clear()


atexit.register(stop_serving)
