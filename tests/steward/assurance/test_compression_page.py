"""Ways to make a model smaller are asked for by whoever may judge it, measured by a job, shown as table and plot."""

from pathlib import Path
from typing import Any

import pytest
from django.test import Client

from steward.assurance import compressing
from steward.assurance.compression_actions import WAYS, request_compression
from steward.assurance.models import Compression, EvaluationState
from steward.audit.actor import Actor, Denied, Refused
from steward.web.compressions import CompressionChart
from trainers.events import CompressionFinished, CompressionMeasured, RunFailed


@pytest.fixture
def model(db: None) -> Any:
    from tests.steward.releases.conftest import approved_release

    return approved_release().model_version


def analyst(model: Any) -> Actor:
    return Actor.of(model.fine_tune.requested_by)


def row(way: str, size: int, score: float) -> CompressionMeasured:
    return CompressionMeasured(
        run="r", way=way, precision="fp32", bytes=size, parameters=1000, zero_share=0.0, read_tokens_per_second=800.0,
        answer_tokens_per_second=30.5, positions=400, agreement=0.98, divergence=0.01, loss=0.5, metric="label_match",
        scored=64, score=score, score_low=score - 0.1, score_high=score + 0.1,
    )  # fmt: skip


@pytest.fixture
def trainer(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """A trainer that measures what it is told to; the real one is tested with the trainers."""
    asked: list[list[str]] = []

    def ask(
        model_version: Any, command: str, spec: Path, key: Any, arguments: list[str], holder: Any, heard: Any
    ) -> Any:
        asked.append([command, *arguments])
        if "blocks-99" in arguments[1]:
            return [RunFailed("r", "compress.shape", "99 of 2 blocks cannot go", "drop fewer blocks")]
        said = [row("tuned", 270_000_000, 0.7), *(row(way, 140_000_000, 0.6) for way in arguments[1].split(","))]
        heard(said)
        ended = CompressionFinished(
            run="r", ways=1, file="compression.json", digest=f"sha256:{'c' * 64}", kept="", kept_file="",
            sealed_digest="", commitment="", kept_bytes=0, seconds=1.0,
        )  # fmt: skip
        return [*said, ended]

    monkeypatch.setattr(compressing, "ask_trainer", ask)
    return asked


def test_figures_are_kept_and_shown_as_table_and_plot(model: Any, trainer: list[list[str]]) -> None:
    from steward.accounts.models import User

    asked = request_compression(actor=analyst(model), model_version=model, ways=["int8", "wanda-2:4"])
    with pytest.raises(Refused, match="already"):
        request_compression(actor=analyst(model), model_version=model, ways=["int8"])
    done = compressing.compress(str(asked.pk))
    assert done.state == EvaluationState.DONE, done.failure
    assert trainer[0][:3] == ["compress", "--ways", "int8,wanda-2:4"]
    assert [each["way"] for each in done.rows] == ["tuned", "int8", "wanda-2:4"]
    assert done.shard_key is not None
    done.shard_key.refresh_from_db()
    assert done.shard_key.wrapped is None
    client = Client()
    client.force_login(User.objects.get(pk=analyst(model).user_id), backend="django.contrib.auth.backends.ModelBackend")
    page = client.get(f"/w/{model.workspace.slug}/models/{model.pk}/").text
    assert "Score over size in MiB" in page
    drawing = page.partition("over size in MiB")[2].partition("</svg>")[0]
    assert drawing.count("<circle") == 3
    assert page.count("wanda-2:4") >= 3
    assert "loses too much to leave" not in page
    change_policy(model, 10)
    assert client.get(f"/w/{model.workspace.slug}/models/{model.pk}/").text.count("the policy allows 10 %") == 2


def change_policy(model: Any, most_percent: int) -> None:
    from steward.accounts.actions import change_policy
    from steward.accounts.models import Workspace

    officer = Actor.of(model.releases.get().decided_by)
    workspace = Workspace.objects.get(pk=model.workspace_id)
    change_policy(
        actor=officer, workspace=workspace, policy={**workspace.policy, "compressed_loss_percent_max": most_percent}
    )


@pytest.mark.parametrize(
    ("before", "after", "most", "word"),
    [
        (0.7, 0.6, 15, ""),
        (0.7, 0.6, 14, "14 % are lost"),
        (0.7, 0.75, 0, ""),
        (0.0, 0.0, 0, ""),
        (0.7, 0.0, 100, ""),
        (0.7, None, 100, "could not be measured"),
        (None, 0.7, 100, "could not be measured"),
    ],
)
def test_a_way_leaves_only_with_a_measured_score_that_keeps_what_the_policy_wants(
    before: float | None, after: float | None, most: int, word: str
) -> None:
    reason = compressing.too_lossy({"score": before}, {"score": after}, most)
    assert bool(reason) == bool(word)
    assert word in reason


def test_what_cannot_be_done_fails_with_its_reason(model: Any, trainer: list[list[str]]) -> None:
    asked = request_compression(actor=analyst(model), model_version=model, ways=["blocks-99"])
    done = compressing.compress(str(asked.pk))
    assert (done.state, "cannot go" in done.failure) == (EvaluationState.FAILED, True)


@pytest.mark.parametrize("ways", [[], ["int3"], ["int8; rm"], [f"blocks-{number}" for number in range(1, 20)]])
def test_unknown_ways_are_refused(model: Any, ways: list[str]) -> None:
    with pytest.raises(Refused) as caught:
        request_compression(actor=analyst(model), model_version=model, ways=ways)
    assert caught.value.code == "ways_invalid"
    assert not Compression.objects.exists()


def test_an_officer_alone_may_not_ask(model: Any) -> None:
    decided = model.releases.get().decided_by
    with pytest.raises(Denied):
        request_compression(actor=Actor.of(decided), model_version=model, ways=["int8"])


def test_the_platform_and_the_trainer_know_the_same_ways() -> None:
    from trainers.compression import _WAY, DEFAULT_WAYS

    assert WAYS == DEFAULT_WAYS
    assert all(_WAY.fullmatch(way) for way in WAYS)


def test_the_plot_holds_every_point_with_its_whisker() -> None:
    rows: list[dict[str, Any]] = [
        {"way": "tuned", "bytes": 100, "score": 0.9, "score_low": 0.8, "score_high": 1.0, "loss": 1.0},
        {"way": "int4", "bytes": 30, "score": 0.0, "score_low": 0.0, "score_high": 0.1, "loss": 2.0},
    ]
    chart = CompressionChart.of(rows)
    assert chart is not None
    assert all(chart.left <= point.x <= chart.right for point in chart.points)
    assert all(chart.top <= point.y_high <= point.y <= point.y_low <= chart.bottom for point in chart.points)
    assert CompressionChart.of(rows[:1]) is None
    of_loss = CompressionChart.of([{**each, "score": None} for each in rows])
    assert of_loss is not None
    assert of_loss.label == "held-out loss"
