"""A trainer on another machine, here another process: fed, started and watched over the channel."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from steward.runs.launchers.node_link import NodeLink
from tests.steward.runs.test_disk import file_size_limit
from trainers import events
from trainers.channel import ChannelError, public

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]


@pytest.fixture
def remote(bench, tmp_path):
    """A trainer that waits, and the platform's key."""
    platform = X25519PrivateKey.generate()
    scratch = tmp_path / "node"
    scratch.mkdir()
    argv = [sys.executable, "-m", "trainers", "remote", "--run", "run-1", "--address", "127.0.0.1"]
    argv += ["--platform-key", public(platform).hex(), "--patience", "60"]
    environment = {**os.environ, "TMPDIR": str(scratch)}
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, env=environment) as process:
        heard = events.decode(process.stdout.readline())
        assert isinstance(heard, events.RemoteListening)
        yield process, heard, platform, scratch
        process.kill()


def link_to(heard, platform):
    line = socket.create_connection((heard.address, heard.port), 10)
    try:
        return NodeLink(line, "run-1", platform, bytes.fromhex(heard.public_key))
    except BaseException:
        line.close()
        raise


def hand_over(bench, link, **changes):
    spec = json.loads(Path(bench.spec(**changes)).read_text())
    for name in ("train", "validation"):
        link.put("given", f"{name}.sealed", Path(spec["data"][name]["path"]))
        spec["data"][name]["path"] = f"given/{name}.sealed"
    spec["data"].pop("test", None)
    link.put_bytes("given", "spec.json", json.dumps(spec).encode())
    link.start(bench.key_line)


def wait_for_its_end(link, seconds):
    deadline = time.monotonic() + seconds
    while link.look()["exit"] is None:
        assert time.monotonic() < deadline, "it goes on"
        time.sleep(0.1)


def wait(link, until, seconds=120):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        link.look()
        said = link.read("events.jsonl", 0, link.size_of("events.jsonl"))
        found = [events.decode(line.decode()) for line in said.splitlines() if said.endswith(b"\n")]
        if until(found):
            return found
        time.sleep(0.2)
    raise AssertionError("it did not come")


def test_a_platform_that_is_killed_while_it_is_being_answered_finds_the_trainer_again(remote):
    process, heard, platform, _ = remote
    link = link_to(heard, platform)
    process.send_signal(signal.SIGSTOP)
    for _ in range(3):  # the first answer still finds a way, the next one finds the line broken
        link._session.send(b'{"do":"look"}')
    link.close()
    process.send_signal(signal.SIGCONT)
    again = link_to(heard, platform)
    assert again.look()["is_started"] is False
    again.leave()
    again.close()
    assert process.wait(20) == 0


def test_a_remote_trainer_makes_the_adapter_that_one_at_hand_would(bench, kit, remote, tmp_path):
    process, heard, platform, scratch = remote
    link = link_to(heard, platform)
    assert link.look()["is_started"] is False
    hand_over(bench, link, epochs=120)  # long enough to be looked at while it trains
    wait(link, lambda said: any(isinstance(each, events.TrainStep) for each in said))
    (trainer,) = psutil.Process(process.pid).children()
    told = " ".join([*process.args, *trainer.cmdline(), *trainer.environ().values()])
    for key in (bench.data_key, bench.output_key):
        assert key.hex() not in told
        assert kit.files_holding(scratch, key.hex().encode()) == []
    assert kit.files_holding(scratch, kit.secret.encode()) == []

    link.close()  # the worker is killed; another one takes over
    link = link_to(heard, platform)
    wait_for_its_end(link, 120)
    said = wait(link, bool)
    assert said[-1].name == "run.finished", said[-1]
    assert {"adapter.sealed", "checkpoint.sealed", "events.jsonl"} <= {*link.changed()}
    (tmp_path / "here").mkdir()
    with file_size_limit(1000), pytest.raises(OSError, match="File too large"):
        link.get("adapter.sealed", tmp_path / "here" / "adapter.sealed")
    assert [*(tmp_path / "here").iterdir()] == []  # a disk that is full is not left with half a file
    link.close()
    link = link_to(heard, platform)
    link.look()
    link.get("adapter.sealed", tmp_path / "adapter.sealed")
    link.leave()
    link.close()
    assert process.wait(20) == 0
    assert [*scratch.iterdir()] == []

    bench.spec(epochs=120)
    code, here = bench.command("run")
    assert code == 0
    assert said[-1].adapter_digest == here[-1].adapter_digest
    (tmp_path / "adapter.sealed").replace(bench.out / "adapter.sealed")
    assert bench.opened("adapter.sealed", "adapter")


def test_a_cancelled_remote_trainer_ends_within_seconds_and_strangers_get_no_answer(bench, remote):
    _, heard, platform, _ = remote
    with pytest.raises(ChannelError):
        link_to(heard, X25519PrivateKey.generate())
    link = link_to(heard, platform)
    with pytest.raises(ChannelError, match="would not"):
        link.signal("kill")
    hand_over(bench, link, epochs=200)
    wait(link, lambda said: any(isinstance(each, events.TrainStep) for each in said))
    begun = time.monotonic()
    link.signal("stop")
    wait_for_its_end(link, 20)
    assert time.monotonic() - begun < 6
    said = wait(link, bool)
    assert isinstance(said[-1], events.RunCancelled)
    link.close()


def test_a_remote_trainer_dies_with_its_keeper(bench, remote):
    process, heard, platform, _ = remote
    link = link_to(heard, platform)
    hand_over(bench, link, epochs=200)
    wait(link, lambda said: any(isinstance(each, events.TrainStep) for each in said))
    trainers = psutil.Process(process.pid).children()
    assert len(trainers) == 1
    process.kill()
    assert not psutil.wait_procs(trainers, timeout=10)[1]
    link.close()
