"""A trainer on a machine where the platform is not: started by a cluster, fed and watched over an encrypted channel.

``python -m trainers remote`` makes a key, says where it listens, and answers the platform alone (`trainers.channel`).
It takes in the spec, sealed shards and a checkpoint, then the keys, which it hands to an ordinary trainer process over
stdin; it gives out that trainer's events, checkpoints and adapter. All of these are ciphertext but the spec and the
events, which hold no text of any record.

Guarantees: keys are in no argument, environment, file or log of the machine; the folder is readable for this user only
and removed at the end; the trainer goes when this process does. Does not: decide anything about the run, nor open
what it carries. Ends by itself after ``--patience`` seconds without the platform.

Example:
    ``python -m trainers remote --run r1 --platform-key 9f… --patience 86400`` says
    ``{"event":"remote.listening","run":"r1","address":"10.0.0.7","port":41234,"public_key":"5c…"}``
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from trainers.channel import ChannelError, Session, accept, public
from trainers.errors import TrainerError
from trainers.events import RemoteListening
from trainers.process import Speaker, die_with_parent

CHUNK_BYTES = 1 << 20
MOST_DOORS = 1024
MAX_FILE_BYTES = 1 << 42
SILENCE_SECONDS = 60.0
#: What the trainer may know of its surroundings.
PASSED_ON = ("PATH", "HOME", "LANG", "CUDA_VISIBLE_DEVICES", "LD_LIBRARY_PATH", "OMP_NUM_THREADS")
SIGNALS = {"stop": signal.SIGTERM}
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
EVENTS_FILE = "events.jsonl"


def serve_remote(arguments: argparse.Namespace, speak: Speaker) -> None:
    """Listens until the platform says that it has everything, or has not been heard of for too long.

    Raises:
        TrainerError: ``usage``, when the platform's key is none; ``remote.port``, when the port cannot be had.
    """
    try:
        platform = bytes.fromhex(arguments.platform_key)
    except ValueError:
        platform = b""
    if len(platform) != 32:
        raise TrainerError("usage", "--platform-key is not 64 hexadecimal digits", "see --help")
    key = X25519PrivateKey.generate()
    folder = Path(tempfile.mkdtemp(prefix="steward-"))
    with contextlib.ExitStack() as stack:
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        desk = Desk(folder, arguments.ring_port)
        stack.callback(desk.end)
        door = stack.enter_context(_door(arguments.port))
        address = arguments.address or _own_address()
        speak(RemoteListening(arguments.run, address, door.getsockname()[1], public(key).hex(), arguments.node))
        _answer(door, desk, arguments.run, key, platform, arguments.patience)


def _door(port: int) -> socket.socket:
    try:
        return socket.create_server(("", port), backlog=4)
    except OSError as fault:
        raise TrainerError("remote.port", f"port {port}: {fault.strerror}", "set another one, or 0") from None


def _own_address() -> str:
    """The address that others reach this machine under: that of the way out. Nothing is sent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
            return str(probe.getsockname()[0])
        except OSError:
            return "127.0.0.1"


def _answer(door: socket.socket, desk: Desk, run: str, key: X25519PrivateKey, platform: bytes, patience: float) -> None:
    """One connection after the other; whoever is not the platform is dropped."""
    heard = time.monotonic()
    door.settimeout(1.0)
    while not desk.is_done and time.monotonic() - heard < patience:
        try:
            line, _ = door.accept()
        except TimeoutError:
            continue
        line.settimeout(SILENCE_SECONDS)
        # Closing the stream sends what could not be sent, and fails once more: that too is only a line that broke.
        with contextlib.suppress(ChannelError, OSError), line, line.makefile("rwb") as stream:
            session = accept(stream, run, key, platform)
            while not desk.is_done:
                desk.answer(session)
                heard = time.monotonic()


class Desk:
    """What the platform may ask for. One request, one answer.

    ``put`` takes a file in, ``doors`` opens ports for the trainers on other machines (`trainers.ring`), ``start``
    begins the training, ``look`` lists what is there, ``get`` gives a file out from an offset, ``signal`` reaches the
    trainer, ``leave`` ends everything.
    """

    def __init__(self, folder: Path, ring_port: int = 0) -> None:
        self.is_done = False
        self._folder = folder
        self._ring_port = ring_port
        self._doors: list[socket.socket] = []
        self._ports: list[int] = []
        self._trainer: subprocess.Popen[bytes] | None = None
        for name in ("given", "out", "tmp"):
            (folder / name).mkdir(mode=0o700)

    def answer(self, session: Session) -> None:
        """Serves the next request.

        Raises:
            ChannelError: the line broke.
        """
        asked = json.loads(session.receive())
        match asked:
            case {"do": "put", "to": "given" | "out" as to, "name": str(name), "bytes": int(size)} if _fits(name, size):
                self._put(session, self._folder / to / name, size)
            case {"do": "doors", "count": int(count)} if 0 < count <= MOST_DOORS:
                _say(session, {"ok": True, "ports": self._open(count)})
            case {"do": "start", "keys": str(keys)}:
                self._start(keys)
                _say(session, {"ok": True})
            case {"do": "look"}:
                _say(session, self._look())
            case {"do": "get", "name": str(name), "offset": int(offset)} if _fits(name, offset):
                self._get(session, self._folder / "out" / name, offset)
            case {"do": "signal", "which": str(which)} if which in SIGNALS:
                if self._trainer is not None and self._trainer.poll() is None:
                    self._trainer.send_signal(SIGNALS[which])
                _say(session, {"ok": True})
            case {"do": "leave"}:
                self.is_done = True
                _say(session, {"ok": True})
            case _:
                _say(session, {"ok": False})

    def _put(self, session: Session, path: Path, size: int) -> None:
        staging = path.with_name(f".{path.name}.partial")
        with staging.open("wb") as file:
            while file.tell() < size:
                file.write(session.receive())
        os.replace(staging, path)
        _say(session, {"ok": True})

    def _get(self, session: Session, path: Path, offset: int) -> None:
        """The file as it is now: one that is replaced meanwhile is given out whole."""
        try:
            file = path.open("rb")
        except OSError:
            _say(session, {"ok": False})
            return
        with file:
            size = max(0, os.fstat(file.fileno()).st_size - offset)
            _say(session, {"ok": True, "bytes": size})
            file.seek(offset)
            while size > 0:
                chunk = file.read(min(size, CHUNK_BYTES))
                session.send(chunk)
                size -= len(chunk)

    def _look(self) -> dict[str, Any]:
        # Asked first: a trainer that ends meanwhile has written all its files, and they are listed as they are then.
        trainer = self._trainer
        exit_code = None if trainer is None else trainer.poll()
        files = {}
        for path in sorted((self._folder / "out").iterdir()):
            if _NAME.fullmatch(path.name):
                about = path.stat()
                files[path.name] = [about.st_size, about.st_mtime_ns, about.st_ino]
        return {"ok": True, "files": files, "is_started": trainer is not None, "exit": exit_code}

    def _open(self, count: int) -> list[int]:
        """Opens that many ports, once; none if one of them is taken. They pass to the trainer when it starts."""
        if not self._ports:
            with contextlib.ExitStack() as stack:
                first = self._ring_port
                try:
                    ports = range(first, first + count) if first else [0] * count
                    doors = [stack.enter_context(socket.create_server(("", port))) for port in ports]
                except (OSError, OverflowError):
                    return []
                stack.pop_all()
            self._doors, self._ports = doors, [door.getsockname()[1] for door in doors]
        return self._ports

    def _start(self, keys: str) -> None:
        """Starts the trainer, once."""
        if self._trainer is not None:
            return
        command = [sys.executable, "-m", "trainers", "run", "--spec", "given/spec.json", "--out", "out"]
        doors = [door.fileno() for door in self._doors]
        if doors:
            command += ["--doors", ",".join(map(str, doors))]
        environment = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
        environment["TMPDIR"] = str(self._folder / "tmp")
        environment["PYTHONPATH"] = str(Path(__file__).resolve().parents[1])
        with (self._folder / "out" / EVENTS_FILE).open("ab") as said:
            self._trainer = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=said,
                cwd=self._folder,
                env=environment,
                pass_fds=doors,
                preexec_fn=die_with_parent(os.getpid()),
            )
        for door in self._doors:
            door.close()  # from now on the trainer's alone: it is shut when that one is gone
        assert self._trainer.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # it ended at once; its events say why
            self._trainer.stdin.write(keys.encode())
            self._trainer.stdin.close()

    def end(self) -> None:
        """Ends the trainer if it still runs."""
        if self._trainer is not None and self._trainer.poll() is None:
            self._trainer.terminate()
            try:
                self._trainer.wait(8)
            except subprocess.TimeoutExpired:
                self._trainer.kill()
                self._trainer.wait()


def _fits(name: str, size: int) -> bool:
    return bool(_NAME.fullmatch(name)) and 0 <= size <= MAX_FILE_BYTES


def _say(session: Session, answer: dict[str, Any]) -> None:
    session.send(json.dumps(answer).encode())
