"""A process that is killed and started again is heard as one that was asked once. Real processes that say little."""

import sys
import uuid
from pathlib import Path
from typing import Any

import pytest

from steward.assurance import compressing
from steward.assurance.compression_actions import request_compression
from steward.assurance.models import EvaluationState
from steward.audit.actor import Actor
from steward.releases import exports
from steward.releases.export_actions import request_export
from steward.releases.models import ExportState
from steward.runs import asking
from tests.steward.releases.test_exports import measured
from trainers import events

# Says the lines of a file of its first, second, … start; the first one ends as the kernel kills, in mid-line.
SCRIPT = """
import os, signal, sys
folder = sys.argv[1]
sys.stdin.read()
start = len([name for name in os.listdir(folder) if name.startswith("start")])
open(f"{folder}/start{start}", "w").close()
sys.stdout.write(open(f"{folder}/said{start}").read())
sys.stdout.flush()
if start == 0:
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture
def release(db: None) -> Any:
    from tests.steward.releases.conftest import approved_release

    return approved_release()


@pytest.fixture
def says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Has the first process say some events and half a line more before it is killed, and the second one others."""
    monkeypatch.setattr(asking, "PAUSE_SECONDS", 0.05)
    monkeypatch.setattr(asking, "trainer_command", lambda *_: [sys.executable, "-c", SCRIPT, str(tmp_path)])

    def tell(first: list[events.Event], second: list[events.Event]) -> None:
        lines = ["".join(events.encode(event) + "\n" for event in said) for said in (first, second)]
        (tmp_path / "said0").write_text(lines[0] + '{"event": "train.st')
        (tmp_path / "said1").write_text(lines[1])

    return tell


def row(way: str, score: float) -> events.CompressionMeasured:
    return events.CompressionMeasured(
        run="r", way=way, precision="fp32", bytes=10, parameters=1000, zero_share=0.0, read_tokens_per_second=800.0,
        answer_tokens_per_second=30.5, positions=400, agreement=0.98, divergence=0.01, loss=0.5, metric="label_match",
        scored=64, score=score, score_low=score, score_high=score,
    )  # fmt: skip


def test_who_listens_hears_that_a_process_begins_anew_and_gets_what_the_last_one_said(
    release: Any, says: Any, tmp_path: Path
) -> None:
    says([row("tuned", 0.1)], [row("tuned", 0.7), row("int8", 0.6)])
    model, heard = release.model_version, []
    key = model.adapter.key
    said = asking.ask_trainer(
        model, "x", tmp_path, key, [], uuid.uuid4(), lambda so_far: heard.append([each.score for each in so_far])
    )
    assert heard == [[], [0.1], [], [0.7], [0.7, 0.6]]
    assert [each.score for each in said] == [0.7, 0.6]


def test_a_comparison_has_no_row_twice_after_a_restart(release: Any, says: Any) -> None:
    model = release.model_version
    ended = events.CompressionFinished(
        run="r", ways=1, file="compression.json", digest=f"sha256:{'c' * 64}", kept="", kept_file="", sealed_digest="",
        commitment="", kept_bytes=0, seconds=1.0,
    )  # fmt: skip
    says([row("tuned", 0.1)], [row("tuned", 0.7), row("int8", 0.6), ended])
    asked = request_compression(actor=Actor.of(model.fine_tune.requested_by), model_version=model, ways=["int8"])
    done = compressing.compress(str(asked.pk))
    assert done.state == EvaluationState.DONE, done.failure
    assert [(each["way"], each["score"]) for each in done.rows] == [("tuned", 0.7), ("int8", 0.6)]


def test_an_export_is_judged_by_the_proof_of_the_process_that_ended(release: Any, says: Any) -> None:
    failed = events.RunFailed("r", "export.parity", "the exported model agrees at 0.5", "ship the adapter")
    says([measured(agreement=0.99)], [measured(agreement=0.5, offered=False), failed])
    asked = request_export(actor=Actor.of(release.decided_by), release=release, form="gguf-q8_0")
    export = exports.make_export(str(asked.pk))
    assert (export.state, export.figures["agreement"]) == (ExportState.WITHDRAWN, 0.5)
