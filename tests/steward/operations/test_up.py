"""`manage.py up` as people use it: start, look, break, stop."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

ROOT = Path(__file__).resolve().parents[3]

pytestmark = pytest.mark.slow


class Up:
    """A running supervisor, what it has said so far, and its parts."""

    def __init__(self, home: Path) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = int(probe.getsockname()[1])
        self.home = home
        self.said = ""
        self.process = subprocess.Popen(
            [sys.executable, str(ROOT / "manage.py"), "up", "--port", str(self.port)],
            env={**os.environ, "STEWARD_HOME": str(home)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.listener = threading.Thread(target=self._listen)
        self.listener.start()

    def _listen(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.said += line

    def wait_for(self, condition: Callable[[], object], seconds: float = 90.0) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, self.said
            time.sleep(0.1)

    def wait_until_said(self, words: str) -> None:
        self.wait_for(lambda: words in self.said)

    def note(self) -> dict[str, object]:
        """What the supervisor says of itself; empty for the moment in which it is being rewritten."""
        try:
            return dict(json.loads((self.home / "supervisor.lock").read_text() or "{}"))
        except json.JSONDecodeError:
            return {}

    def pid(self, part: str) -> int:
        return int(self.note()["children"][part])  # type: ignore[index]

    def answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/sign-in/", timeout=10) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(60)
            except subprocess.TimeoutExpired:
                self.process.kill()
        self.listener.join(30)
        if self.process.stdout is not None:
            self.process.stdout.close()


@pytest.fixture
def up(other_home: Path) -> Iterator[Up]:
    up = Up(other_home)
    yield up
    up.close()
    for process in _processes_of(other_home):
        process.kill()


def _processes_of(home: Path) -> list[psutil.Process]:
    """Every process that works for this home, the database's included."""
    found = []
    for process in psutil.process_iter():
        try:
            is_of = process.environ().get("STEWARD_HOME") == str(home) or str(home / "postgres") in process.cmdline()
        except psutil.Error:
            continue
        if is_of and process.status() != psutil.STATUS_ZOMBIE and process.pid != os.getpid():
            found.append(process)
    return found


def test_it_starts_mends_itself_refuses_a_second_one_and_stops(up: Up) -> None:
    up.wait_until_said("sign-in/link/")
    assert up.answers()
    assert re.search(r"Steward runs at http://127\.0\.0\.1:\d+", up.said)

    second = subprocess.run(
        [sys.executable, str(ROOT / "manage.py"), "up"],
        env={**os.environ, "STEWARD_HOME": str(up.home)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert second.returncode == 1
    assert f"already runs in {up.home} (process {up.process.pid}" in second.stderr

    for part in ("web", "sealer"):
        old = up.pid(part)
        os.kill(old, signal.SIGKILL)
        up.wait_until_said(f"{part} ended (signal SIGKILL); it starts again in 1 s")
        up.wait_for(lambda part=part, old=old: up.note().get("children", {}).get(part, old) != old)  # type: ignore[attr-defined]
    up.wait_for(up.answers)

    os.kill(int((up.home / "postgres" / "data" / "postmaster.pid").read_text().split()[0]), signal.SIGKILL)
    up.wait_until_said("the database ended; starting it again")
    up.wait_for(up.answers)

    link = _link(up.home, "administrator")
    assert link.startswith(f"http://127.0.0.1:{up.port}/sign-in/link/")
    with urllib.request.urlopen(link, timeout=10) as answer:
        assert answer.status == 200

    up.process.send_signal(signal.SIGINT)
    assert up.process.wait(60) == 0
    assert _processes_of(up.home) == []


def _link(home: Path, username: str) -> str:
    """What `manage.py sign_in_link` prints beside a running server, which it is told nothing of."""
    command = [sys.executable, str(ROOT / "manage.py"), "sign_in_link", username]
    done = subprocess.run(
        command, env={**os.environ, "STEWARD_HOME": str(home)}, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def test_nothing_outlives_a_killed_supervisor(up: Up) -> None:
    up.wait_until_said("Steward runs at")
    up.process.kill()
    up.wait_for(lambda: not _processes_of(up.home))


def test_a_taken_port_is_named_with_the_way_out(run_manage: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        refused = run_manage("up", "--port", str(port))
    assert refused.returncode == 1
    assert f"Port {port} on 127.0.0.1 is in use" in refused.stderr
    assert f"up --port {port + 1}" in refused.stderr


def test_a_wrong_passphrase_keeps_it_from_starting(
    run_manage: Callable[..., subprocess.CompletedProcess[str]], other_home: Path
) -> None:
    assert run_manage("ledger", "key").returncode == 0  # makes the keyring
    (other_home / "secrets" / "passphrase").write_text("another one")
    refused = run_manage("up")
    assert refused.returncode == 1
    assert "The vault does not open" in refused.stderr
    assert f"Put the right passphrase into {other_home / 'secrets' / 'passphrase'}" in refused.stderr
    assert "Traceback" not in refused.stderr


def test_an_unsafe_setting_keeps_it_from_starting(run_manage: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    refused = run_manage("up", STEWARD_BIND="0.0.0.0")
    assert refused.returncode == 1
    assert "without TLS" in refused.stderr
    assert "STEWARD_TLS=1" in refused.stderr
