"""Trainers on several machines, here other processes: fed all at once, and each heard when it says why it ended."""

import contextlib
import errno
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from steward.audit.actor import Actor
from steward.runs import actions
from steward.runs.launchers import nodes as nodes_module
from steward.runs.launchers.node_link import NodeLink
from steward.runs.launchers.nodes import Nodes
from steward.runs.models import FineTune
from steward.runs.specs import run_folder
from tests.steward.house import House, visits
from trainers.channel import public
from trainers.events import DataLoaded, RemoteListening, RemoteWaiting, RunFailed, decode, encode

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
TWO = {
    "lora": {"rank": 4, "alpha": 8},
    "precision": "fp32",
    "batch_tokens": 400,
    "max_length": 512,
    "epochs": 1,
    "parallel": {"nodes": 2},
}


@pytest.fixture
def fine_tune(house: House, tiny_base: Any, settings: Any) -> FineTune:
    """One on two nodes that is ready to be launched."""
    settings.STEWARD_LAUNCHER, settings.STEWARD_RAY_DEVICES = "ray", 2
    asked = actions.request_fine_tune(
        actor=house.analyst, version=house.approved(visits(70)), base_model=tiny_base, name="two", changes=TWO
    )
    return actions.dispatch_fine_tune(actor=Actor.system("worker"), fine_tune=asked)


@pytest.fixture
def nodes(fine_tune: FineTune) -> Iterator[Nodes]:
    made = Nodes(fine_tune)
    made.begin_notes()
    yield made
    made.close()


@contextlib.contextmanager
def listening(fine_tune: FineTune, nodes: Nodes, folder: Path, *more: str) -> Iterator[dict[int, RemoteListening]]:
    """Both trainers, as Ray would have started them, each with a folder of its own."""
    with contextlib.ExitStack() as stack:
        heard = {}
        for node in range(2):
            (folder / str(node)).mkdir()
            argv = [sys.executable, "-m", "trainers", "remote", "--run", str(fine_tune.pk), "--address", "127.0.0.1"]
            argv += ["--platform-key", public(nodes.platform_key).hex(), "--node", str(node), *more]
            environment = {**os.environ, "TMPDIR": str(folder / str(node))}
            process = stack.enter_context(subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, env=environment))
            stack.callback(process.kill)
            assert process.stdout is not None
            said = decode(process.stdout.readline())
            assert isinstance(said, RemoteListening)
            heard[said.node] = said
        yield heard


def told(fine_tune: FineTune) -> list[Any]:
    return [decode(line) for line in (run_folder(fine_tune) / "events.jsonl").read_text().splitlines()]


def test_of_two_nodes_the_one_that_failed_says_why_the_run_ended(
    fine_tune: FineTune, nodes: Nodes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = NodeLink.start
    lines: list[dict[str, Any]] = []

    def spoil_and_start(link: NodeLink, keys: str) -> None:
        lines.append(json.loads(keys))
        if len(lines) == 2:
            (shard,) = (tmp_path / "1").glob("*/given/data.train.sealed")
            shard.write_bytes(shard.read_bytes()[:-1])
        start(link, keys)

    monkeypatch.setattr(NodeLink, "start", spoil_and_start)
    with listening(fine_tune, nodes, tmp_path) as heard:
        waiting = RemoteWaiting(str(fine_tune.pk), 2, 1)
        for said in (waiting, waiting, heard[0]):
            nodes.note(said)
        nodes.meet({0: heard[0]})
        assert not nodes.is_handed  # nobody begins before all are there
        nodes.meet(heard)
        assert nodes.is_handed
        deadline = time.monotonic() + 200
        while not nodes.is_over:
            assert time.monotonic() < deadline
            time.sleep(0.1)
            nodes.fetch()
        nodes.fetch()
        nodes.leave()
    assert [line["ring"]["rank"] for line in lines] == [0, 1]
    assert lines[0]["ring"]["secret"] == lines[1]["ring"]["secret"] != lines[0]["data_key"]
    assert told(fine_tune)[:2] == [waiting, heard[0]]
    said = told(fine_tune)[2:]
    ends = [event.code for event in said if isinstance(event, RunFailed)]
    if len(said) > 1:  # else the second failed before the first said a word
        assert isinstance(said[0], DataLoaded)  # nothing is lost behind what was noted
        assert ends[:-1] == ["parallel.lost"]
    assert ends[-1] == "data.unreadable"


class Link:
    """What is known of a trainer that wrote a file of so many bytes, and of how it ended."""

    def __init__(self, exit_code: int | None, said: bytes) -> None:
        self.exit_code, self._said = exit_code, said

    def look(self) -> None: ...

    def changed(self) -> list[str]:
        return []

    def size_of(self, _name: str) -> int:
        return len(self._said)

    def read(self, _name: str, offset: int, until: int) -> bytes:
        return self._said[offset:until]

    def close(self) -> None: ...


def test_a_node_that_failed_before_the_first_said_a_word_says_why_the_run_ended(
    fine_tune: FineTune, nodes: Nodes
) -> None:
    why = RunFailed(str(fine_tune.pk), "data.unreadable", "the shard does not open", "look at it")
    nodes._links = {0: Link(None, b""), 1: Link(2, encode(why).encode() + b"\n")}  # type: ignore[dict-item]
    nodes.fetch()
    assert nodes.is_over
    assert told(fine_tune) == [why]


def test_a_disk_here_that_is_full_is_told_and_a_line_that_breaks_is_not(nodes: Nodes) -> None:
    class Adapter(Link):
        def changed(self) -> list[str]:
            return ["adapter.sealed"]

        def get(self, _name: str, target: Path) -> None:
            raise fault

    for fault in (ConnectionResetError(errno.ECONNRESET, "reset"), OSError(errno.ENOSPC, "No space left on device")):
        nodes._links = {0: Adapter(0, b"")}  # type: ignore[dict-item]
        is_full = fault.errno == errno.ENOSPC
        with pytest.raises(OSError, match="No space left") if is_full else contextlib.nullcontext():
            nodes.fetch()
        assert nodes._links == {}  # taken up again, if the run goes on


def test_a_port_for_the_other_nodes_that_is_taken_ends_the_run_in_words(
    fine_tune: FineTune, nodes: Nodes, tmp_path: Path
) -> None:
    with socket.create_server(("", 0)) as taken:
        port = str(taken.getsockname()[1])
        with listening(fine_tune, nodes, tmp_path, "--ring-port", port) as heard:
            nodes.meet(heard)
            nodes.fetch()
    (end,) = told(fine_tune)
    assert end.code == "remote.port"
    assert "STEWARD_RAY_RING_PORT" in end.hint
    assert not nodes.is_handed


def test_nodes_that_the_platform_cannot_reach_are_named_once_it_was_patient(
    fine_tune: FineTune, nodes: Nodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as shut:
        port = shut.getsockname()[1]
    gone = RemoteListening(str(fine_tune.pk), "127.0.0.1", port, "ab" * 32)
    heard = {0: gone, 1: replace(gone, node=1)}
    nodes.meet(heard)
    assert not (run_folder(fine_tune) / "events.jsonl").exists()
    monkeypatch.setattr(nodes_module, "REACH_SECONDS", 0.0)
    nodes.meet(heard)
    nodes.meet(heard)
    (end,) = told(fine_tune)
    assert end.code == "remote.unreachable"
    assert f"127.0.0.1, port {port}" in end.message
