"""A released model leaves the house in a form that was proven, with card and signature, recorded before and after."""

import hashlib
import io
import json
import tarfile
from pathlib import Path
from typing import Any

import pytest
from django.test import Client

from steward.assurance.compressing import row_of
from steward.audit.actor import Actor, Denied, Refused
from steward.audit.models import LedgerEntry, OutboxEntry
from steward.audit.sealer import seal_once
from steward.releases import exports
from steward.releases.export_actions import request_export
from steward.releases.models import Export, ExportState, Release
from tests.steward.assurance.test_compression_page import row as compressed_row
from tests.steward.runs.paper import seal
from trainers.events import CompressionFinished, CompressionMeasured, ExportFinished, ExportMeasured, RunFailed


def officer(release: Any) -> Actor:
    return Actor.of(release.decided_by)


def measured(**changes: Any) -> ExportMeasured:
    facts: dict[str, Any] = {
        "run": "r", "format": "gguf-q8_0", "precision": "", "reader": "llama.cpp", "positions": 400, "agreement": 0.99,
        "divergence": 0.001, "loss_difference": 0.002, "metric": "label_match", "scored": 32, "trained_score": 0.5,
        "exported_score": 0.5, "least_agreement": 0.97, "most_divergence": 0.02, "most_loss_difference": 0.05,
        "most_score_loss": 0.05, "offered": True,
    }  # fmt: skip
    return ExportMeasured(**facts | changes)


def row(way: str, score: float = 0.6) -> CompressionMeasured:
    return compressed_row(way, 140_000_000, score)


CONTENT = b"GGUF" + bytes(5000)


@pytest.fixture
def trainer(release: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A trainer that seals a made-up file, or says that it does not answer alike; the real one is tested elsewhere."""
    from compliance.vault import ObjectContext, seal_writer
    from steward.runs.specs import output_context, run_folder
    from steward.vault.keys import open_key

    asked: list[list[str]] = []
    state = {"is_alike": True}

    def ask(model_version: Any, command: str, spec: Path, key: Any, arguments: list[str], holder: Any) -> Any:
        asked.append([command, *arguments])
        assert json.loads(spec.read_text())["data"]["validation"]["commitment"]
        if not state["is_alike"]:
            failed = RunFailed("r", "export.parity", "the exported model agrees at 0.5", "ship the adapter")
            return [measured(agreement=0.5, offered=False), failed]
        fine_tune = model_version.fine_tune
        context = ObjectContext(**{**output_context(fine_tune), "kind": "gguf-q8_0"})
        path = run_folder(fine_tune) / "model-q8_0.gguf.sealed"
        with path.open("wb") as sink, seal_writer(sink, open_key(model_version.adapter.key), context) as writer:
            writer.write(CONTENT)
        finished = ExportFinished(
            run="r", file=path.name, digest=f"sha256:{hashlib.sha256(CONTENT).hexdigest()}",
            sealed_digest=f"sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}",
            commitment=writer.commitment.hex(), bytes=path.stat().st_size, positions=400, agreement=0.99,
            divergence=0.001,
        )  # fmt: skip
        return [measured(), finished]

    monkeypatch.setattr(exports, "ask_trainer", ask)
    state["asked"] = asked  # type: ignore[assignment]
    return state


def made(release: Any, form: str) -> Export:
    asked = request_export(actor=officer(release), release=release, form=form)
    return exports.make_export(str(asked.pk))


def files_of(export: Export, actor: Actor) -> dict[str, bytes]:
    whole = b"".join(exports.hand_out(actor=actor, export=exports.EXPORTS.get(pk=export.pk)))
    with tarfile.open(fileobj=io.BytesIO(whole)) as tar:
        return {info.name: tar.extractfile(info).read() for info in tar}  # type: ignore[union-attr]


def actions_of(export: Export) -> list[tuple[str, str]]:
    bodies = [json.loads(bytes(each.body)) for each in OutboxEntry.objects.all()]
    bodies += [json.loads(bytes(each.body)) for each in LedgerEntry.objects.all()]
    ours = [body for body in bodies if body["object_id"] == str(export.pk)]
    return sorted((body["action"], body["outcome"]) for body in ours)


def test_a_proven_export_is_offered_with_its_figures_and_limits(release: Any, trainer: Any) -> None:
    export = made(release, "gguf-q8_0")
    assert export.state == ExportState.READY, export.failure
    assert trainer["asked"][0][:3] == ["export", "--format", "gguf-q8_0"]
    assert "--metric" in trainer["asked"][0]
    assert (export.figures["agreement"], export.figures["least_agreement"]) == (0.99, 0.97)
    assert export.size_bytes == len(CONTENT)
    assert export.shard_key is not None
    export.shard_key.refresh_from_db()
    assert export.shard_key.wrapped is None  # what the trainer read is gone
    with pytest.raises(Refused, match="there already"):
        request_export(actor=officer(release), release=release, form="gguf-q8_0")


def test_an_export_that_answers_otherwise_is_withdrawn_and_not_handed_out(release: Any, trainer: Any) -> None:
    trainer["is_alike"] = False
    export = made(release, "gguf-q8_0")
    assert export.state == ExportState.WITHDRAWN
    assert export.figures["agreement"] == 0.5
    assert export.sealed is None
    with pytest.raises(Refused, match="not ready"):
        exports.hand_out(actor=officer(release), export=export)
    assert ("export.withdrawn", "done") in actions_of(export)
    trainer["is_alike"] = True
    assert made(release, "gguf-q8_0").state == ExportState.READY  # may be tried again


def test_what_is_handed_out_is_signed_and_recorded_before_and_after(release: Any, trainer: Any, tmp_path: Path) -> None:
    from model_signing import verifying

    export = made(release, "gguf-q8_0")
    files = files_of(export, officer(release))
    assert files["model.gguf"] == CONTENT
    assert json.loads(files["parity.json"])["agreement"] == 0.99
    while seal_once():
        pass
    assert [each for each in actions_of(export) if each[0] == "export.handed_out"] == [
        ("export.handed_out", "done"),
        ("export.handed_out", "intent"),
    ]
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "model.gguf").write_bytes(CONTENT)
    (tmp_path / "model.sig").write_bytes(files["model.sig"])
    (tmp_path / "key.pub").write_bytes(files["model-signing.pub"])
    config = verifying.Config().use_elliptic_key_verifier(public_key=tmp_path / "key.pub")
    config.verify(folder, tmp_path / "model.sig")
    (folder / "model.gguf").write_bytes(CONTENT + b"x")
    with pytest.raises(ValueError, match=r"[Mm]ismatch"):
        config.verify(folder, tmp_path / "model.sig")


def test_a_compressed_form_of_the_comparison_leaves_with_its_figures_and_its_card(
    release: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(Refused, match="newest finished comparison"):
        request_export(actor=officer(release), release=release, form="compressed", way="wanda-2:4")
    compared(release, row("tuned"), row("int4"), row("wanda-2:4"))
    for way in ("int4", "tuned", "blocks-1", ""):
        with pytest.raises(Refused) as caught:
            request_export(actor=officer(release), release=release, form="compressed", way=way)
        assert caught.value.code == "way_unknown"
    with pytest.raises(Denied):
        request_export(actor=Actor.of(release.requested_by), release=release, form="compressed", way="wanda-2:4")
    asked_for = compressor(monkeypatch)
    person, address = signed_in(officer(release)), f"/w/{release.workspace.slug}/"
    page = person.get(f"{address}models/{release.model_version_id}/").text
    assert "Compressed: wanda-2:4 (score 0.60)" in page
    assert "Compressed: int4" not in page
    sent = person.post(f"{address}releases/{release.pk}/export/", {"form": "compressed wanda-2:4"})
    assert sent.status_code == 302
    export = exports.make_export(str(Export.objects.get().pk))
    assert (export.state, export.way, export.figures["score"]) == (ExportState.READY, "wanda-2:4", 0.55)
    assert (export.figures["tuned_score"], export.figures["most_loss_percent"]) == (0.6, 30)
    assert export.figures["written"]["exported_score"] == 0.55
    assert asked_for[0][:3] == ["compress", "--ways", "wanda-2:4"]
    assert asked_for[0][-2:] == ["--keep", "wanda-2:4"]
    files = files_of(export, officer(release))
    assert files["README.md"] == b"compressed as wanda-2:4"
    assert json.loads(files["parity.json"])["way"] == "wanda-2:4"
    while seal_once():
        pass
    facts = [json.loads(bytes(each.body)) for each in LedgerEntry.objects.filter(action="export.finished")]
    assert [(each["facts"]["way"], each["after"]) for each in facts] == [("wanda-2:4", export.digest)]
    assert [(each["facts"]["score_ppm"], each["facts"]["tuned_score_ppm"]) for each in facts] == [(550_000, 600_000)]
    page = person.get(f"{address}models/{release.model_version_id}/").text
    assert "Compressed: wanda-2:4 (score" not in page  # it is there
    assert "Compressed: wanda-2:4</b>" in page
    assert "0.600 → 0.550" in page


def test_a_way_that_loses_more_of_the_score_than_the_policy_allows_is_not_made(
    release: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    compared(release, row("tuned"), row("int8"), row("wanda-2:4", 0.1))
    with pytest.raises(Refused, match="83 % are lost, and the policy allows 30 %") as caught:
        request_export(actor=officer(release), release=release, form="compressed", way="wanda-2:4")
    assert caught.value.code == "loses_too_much"
    page = signed_in(officer(release)).get(f"/w/{release.workspace.slug}/models/{release.model_version_id}/").text
    assert "Compressed: int8 (score 0.60)" in page
    assert "Compressed: wanda-2:4" not in page


@pytest.mark.parametrize(("score", "word"), [(0.25, "58 % are lost"), (float("nan"), "could not be measured")])
def test_a_compressed_form_that_turned_out_to_lose_too_much_is_withdrawn_and_its_file_removed(
    release: Any, monkeypatch: pytest.MonkeyPatch, score: float, word: str
) -> None:
    from steward.runs.specs import run_folder

    compared(release, row("tuned"), row("wanda-2:4"))
    compressor(monkeypatch, score)
    asked = request_export(actor=officer(release), release=release, form="compressed", way="wanda-2:4")
    export = exports.make_export(str(asked.pk))
    assert (export.state, export.sealed) == (ExportState.WITHDRAWN, None)
    assert word in export.failure
    assert export.figures["tuned_score"] == 0.6
    assert not list(run_folder(release.model_version.fine_tune).glob("compressed-*"))
    with pytest.raises(Refused, match="not ready"):
        exports.hand_out(actor=officer(release), export=export)
    page = signed_in(officer(release)).get(f"/w/{release.workspace.slug}/models/{release.model_version_id}/").text
    assert word in page


def test_a_compressed_file_that_does_not_give_what_was_measured_is_withdrawn(
    release: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    compared(release, row("tuned"), row("int8"))
    failed = RunFailed("r", "export.parity", "the exported model agrees at 0.5", "ship the adapter")
    said = [row("tuned"), row("int8"), measured(format="compressed", agreement=0.5, offered=False), failed]
    monkeypatch.setattr(exports, "ask_trainer", lambda *_: said)
    asked = request_export(actor=officer(release), release=release, form="compressed", way="int8")
    export = exports.make_export(str(asked.pk))
    assert (export.state, export.figures["written"]["agreement"]) == (ExportState.WITHDRAWN, 0.5)
    assert "agrees at 0.5" in export.failure


def test_what_a_stricter_policy_refuses_is_not_handed_out_until_it_is_loosened_or_made_anew(
    release: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    compared(release, row("tuned"), row("wanda-2:4"))
    compressor(monkeypatch, 0.55)
    asked = request_export(actor=officer(release), release=release, form="compressed", way="wanda-2:4")
    export = exports.make_export(str(asked.pk))
    assert files_of(export, officer(release))
    lost = "8 % are lost, and the policy allows 5 %"
    allow(release, 5)
    with pytest.raises(Refused, match=f"“Loss of a compressed form” refuses it today. .*{lost}") as caught:
        exports.hand_out(actor=officer(release), export=export)
    assert caught.value.code == "refused_today"
    assert ("export.handed_out", "refused") in actions_of(export)
    person = signed_in(officer(release))
    address = f"/w/{release.workspace.slug}/"
    page = person.get(f"{address}models/{release.model_version_id}/").text
    assert lost in page
    assert "Download, signed" not in page
    assert person.post(f"{address}exports/{export.pk}/content/").status_code != 200
    allow(release, 30)
    assert files_of(export, officer(release))

    allow(release, 5)
    compared(release, row("tuned"), row("wanda-2:4"))  # by a newer comparison it loses less
    compressor(monkeypatch, 0.59)
    asked = request_export(actor=officer(release), release=release, form="compressed", way="wanda-2:4")
    export.refresh_from_db()
    assert (export.state, export.sealed.destroyed_at is None) == (ExportState.WITHDRAWN, False)
    assert ("export.withdrawn", "done") in actions_of(export)
    assert files_of(exports.make_export(str(asked.pk)), officer(release))


@pytest.mark.parametrize("figures", [{"agreement": 0.9}, {"divergence": None}, {"scored": 32, "exported_score": 0.1}])
def test_a_form_whose_figures_are_beyond_the_limits_of_today_is_not_handed_out(
    release: Any, trainer: Any, figures: dict[str, Any]
) -> None:
    export = made(release, "gguf-q8_0")
    Export.objects.filter(pk=export.pk).update(figures=export.figures | figures)
    with pytest.raises(Refused, match="The limits of the form “GGUF Q8_0” refuse it today") as caught:
        exports.hand_out(actor=officer(release), export=Export.objects.get(pk=export.pk))
    assert caught.value.code == "refused_today"
    assert made(release, "gguf-q8_0").state == ExportState.READY


def allow(release: Any, percent: int) -> None:
    """Sets what a compressed form may lose, as an officer does."""
    from steward.accounts.actions import change_policy
    from steward.accounts.models import Workspace

    workspace = Workspace.objects.get(pk=release.workspace_id)
    change_policy(
        actor=officer(release), workspace=workspace, policy=workspace.policy | {"compressed_loss_percent_max": percent}
    )


def compared(release: Any, *rows: CompressionMeasured) -> None:
    """A finished comparison of a released model."""
    from steward.assurance.models import Compression, EvaluationState

    Compression.objects.create(
        workspace=release.workspace, model_version=release.model_version, metric="label_match",
        ways=[each.way for each in rows[1:]], state=EvaluationState.DONE, rows=[row_of(each) for each in rows],
    )  # fmt: skip


def compressor(monkeypatch: pytest.MonkeyPatch, score: float = 0.55) -> list[list[str]]:
    """A trainer that keeps a made-up file of ``wanda-2:4``; what it was asked."""
    from trainers.model_tar import tar_of

    asked_for: list[list[str]] = []

    def ask(model_version: Any, command: str, spec: Path, key: Any, arguments: list[str], holder: Any) -> Any:
        asked_for.append([command, *arguments])
        content = b"".join(
            bytes(each) for each in tar_of({"README.md": b"compressed as wanda-2:4"}, {}, {}.__getitem__)
        )
        written = seal(model_version.fine_tune, "compressed-wanda-2_4.sealed", "compressed-wanda-2_4", content)
        ended = CompressionFinished(
            run="r", ways=1, file="compression.json", digest=f"sha256:{'c' * 64}", kept="wanda-2:4",
            kept_file="compressed-wanda-2_4.sealed", sealed_digest=written.sealed_digest,
            commitment=written.commitment, kept_bytes=1, seconds=1.0,
        )  # fmt: skip
        proof = measured(format="compressed", trained_score=score, exported_score=score)
        return [row("tuned"), row("wanda-2:4", score), proof, ended]

    monkeypatch.setattr(exports, "ask_trainer", ask)
    return asked_for


def test_the_adapter_is_there_at_once_and_carries_its_card(release: Any) -> None:
    export = request_export(actor=officer(release), release=release, form="adapter")
    assert export.state == ExportState.READY
    files = files_of(export, officer(release))
    assert {"README.md", "adapter_model.safetensors", "model.sig", "parity.json"} <= set(files)


def test_a_file_that_changed_is_not_handed_out(release: Any, trainer: Any) -> None:
    export = made(release, "gguf-q8_0")
    Export.objects.filter(pk=export.pk).update(digest=f"sha256:{'0' * 64}")
    with pytest.raises(Refused, match="not the one that was proven"):
        files_of(export, officer(release))


def test_only_officers_export_and_only_what_is_released(release: Any) -> None:
    with pytest.raises(Denied):
        request_export(actor=Actor.of(release.requested_by), release=release, form="merged")
    with pytest.raises(Refused) as caught:
        request_export(actor=officer(release), release=release, form="pickle")
    assert caught.value.code == "form_unknown"
    Release.objects.filter(pk=release.pk).update(state="requested", decided_by=None)
    with pytest.raises(Refused, match="released"):
        request_export(actor=officer(release), release=release, form="merged")


@pytest.mark.parametrize(
    ("recipe", "refused"),
    [
        ({"method": "token-classification"}, ["gguf-f16", "gguf-q4_k_m"]),
        ({"method": "classification"}, ["gguf-q8_0"]),
        ({"way": "prompt"}, ["merged", "gguf-f16"]),
    ],
)
def test_a_form_that_a_model_cannot_have_is_refused_and_not_offered(
    release: Any, trainer: Any, recipe: dict[str, str], refused: list[str]
) -> None:
    fine_tune = release.model_version.fine_tune
    fine_tune.recipe |= recipe
    fine_tune.save(update_fields=["recipe"])
    page = signed_in(officer(release)).get(f"/w/{release.workspace.slug}/models/{release.model_version_id}/").text
    assert 'value="adapter"' in page
    for form in refused:
        assert f'value="{form}"' not in page
        with pytest.raises(Refused, match="can leave as adapter") as caught:
            request_export(actor=officer(release), release=release, form=form)
        assert caught.value.code == "form_impossible"
    assert not Export.objects.exists()
    assert "Smaller and faster" not in page


def test_the_page_offers_forms_shows_figures_and_hands_out(release: Any, trainer: Any) -> None:
    person, address = signed_in(officer(release)), f"/w/{release.workspace.slug}/"
    assert person.post(f"{address}releases/{release.pk}/export/", {"form": "gguf-q8_0"}).status_code == 302
    export = Export.objects.get()
    assert "Being made" in person.get(f"{address}models/{release.model_version_id}/").text
    exports.make_export(str(export.pk))
    page = person.get(f"{address}models/{release.model_version_id}/").text
    assert "99.0 % of 400" in page
    assert "at least 97.0 %" in page
    answer = person.post(f"{address}exports/{export.pk}/content/")
    assert answer["Content-Type"] == "application/x-tar"
    assert CONTENT in b"".join(answer.streaming_content)  # type: ignore[attr-defined]
    other = signed_in(Actor.of(release.requested_by))
    assert other.post(f"{address}exports/{export.pk}/content/").status_code == 403
    assert "Download, signed" not in other.get(f"{address}models/{release.model_version_id}/").text


def signed_in(actor: Actor) -> Client:
    """A client that is signed in as the person behind an actor."""
    from steward.accounts.models import User

    client = Client()
    client.force_login(User.objects.get(pk=actor.user_id), backend="django.contrib.auth.backends.ModelBackend")
    return client
