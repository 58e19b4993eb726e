"""Talking to a model version: base and tuned, through a trainer process that serves one adapter on a Unix socket.

Guarantees that prompts and answers pass through memory only, that torch is never loaded here, and that the serving
process ends with this one, when it idles, or when another model is wanted. One model at a time: this is for trying a
model out, not for production traffic.
"""

import atexit
import contextlib
import json
import shutil
import socket
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from steward.accounts.permissions import require
from steward.accounts.roles import Permission
from steward.audit.actor import Actor, UserError
from steward.runs.models import FineTune, ModelVersion
from steward.runs.processes import key_line
from steward.runs.specs import run_folder
from steward.trainer_process import trainer_command, trainer_environment
from steward.vault.keys import open_key
from trainers import events

ANSWER_SECONDS = 120.0
MAX_PROMPT_CHARS = 20_000


class ChatUnavailable(UserError):
    """The model cannot answer now; says why."""

    status = 503


class _Server:
    """One `trainers serve` process and its socket."""

    def __init__(self, model_version: ModelVersion) -> None:
        fine_tune = FineTune.objects.select_related("output_key", "base_model").get(pk=model_version.fine_tune_id)
        assert fine_tune.output_key is not None
        self.model_id = model_version.pk
        self._folder = Path(tempfile.mkdtemp(prefix="steward-chat-"))
        self.socket = self._folder / "s"
        folder = run_folder(fine_tune)
        command = trainer_command(
            "serve", "--spec", str(folder / "spec.json"), "--out", str(folder), "--socket", str(self.socket)
        )
        with open(folder / "trainer.log", "ab") as log:
            self._process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, env=trainer_environment()
            )
        secret = open_key(fine_tune.output_key)
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        # Serving reads no shard; the output key stands in for the run's, which is destroyed.
        self._process.stdin.write(key_line(secret, secret))
        self._process.stdin.flush()  # and stays open: its end tells the server that this process is gone
        for line in self._process.stdout:
            event = events.decode(line.decode())
            if isinstance(event, events.ServeReady):
                return
            if isinstance(event, events.RunFailed):
                self.stop()
                raise ChatUnavailable(f"{event.message}; {event.hint}", code=event.code)
        self.stop()
        raise ChatUnavailable(
            "The serving process ended before it was ready. See `manage.py doctor`.", code="serve_failed"
        )

    @property
    def is_alive(self) -> bool:
        return self._process.poll() is None

    def stop(self) -> None:
        """Ends the process and removes its socket."""
        with contextlib.suppress(OSError):
            if self._process.stdin is not None:
                self._process.stdin.close()
        self._process.terminate()
        try:
            self._process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()
        shutil.rmtree(self._folder, ignore_errors=True)


_lock = threading.Lock()
_server: _Server | None = None


def _serving(model_version: ModelVersion) -> _Server:
    global _server
    with _lock:
        if _server is not None and (_server.model_id != model_version.pk or not _server.is_alive):
            _server.stop()
            _server = None
        if _server is None:
            _server = _Server(model_version)
        return _server


def stop_serving() -> None:
    """Ends the serving process, if there is one."""
    global _server
    with _lock:
        if _server is not None:
            _server.stop()
            _server = None


atexit.register(stop_serving)


def stream_answer(
    *,
    actor: Actor,
    model_version: ModelVersion,
    messages: list[dict[str, str]],
    use_adapter: bool,
    max_new_tokens: int = 128,
) -> Iterator[str]:
    """Pieces of the answer, as they are generated (greedy, so that base and tuned compare).

    Args:
        use_adapter: True answers as the tuned model, False as the base model.

    Raises:
        Denied: the actor may not chat here.
        ChatUnavailable: the prompt is too long, or the serving process failed.
    """
    require(actor, Permission.CHAT, model_version.workspace, model_version)
    if sum(len(message["content"]) for message in messages) > MAX_PROMPT_CHARS:
        raise ChatUnavailable(f"The conversation is longer than {MAX_PROMPT_CHARS:,} characters.", code="too_long")
    request = {
        "messages": messages,
        "adapter": use_adapter,
        "max_new_tokens": max_new_tokens,
        "temperature": 0.0,
        "seed": 0,
    }
    return _ask(_serving(model_version), request)


def _ask(server: _Server, request: dict[str, Any]) -> Iterator[str]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(ANSWER_SECONDS)
        connection.connect(str(server.socket))
        connection.sendall(json.dumps(request).encode() + b"\n")
        with connection.makefile("rb") as answers:
            for line in answers:
                answer = json.loads(line)
                if "error" in answer:
                    raise ChatUnavailable(str(answer["error"])[:300], code="generation_failed")
                if answer.get("done"):
                    return
                yield answer["token"]
