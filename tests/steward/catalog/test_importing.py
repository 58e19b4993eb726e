"""A base model comes in by an officer's word, from intake folder or allowed hub, or is refused with its reason."""

import json
import pickle
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

from steward.accounts.roles import Role
from steward.audit.actor import Actor, Denied, Refused
from steward.audit.models import OutboxEntry
from steward.catalog import importing
from steward.catalog.import_actions import import_base_model
from steward.catalog.models import BaseModel, ImportState, ModelImport
from tests.trainers.conftest import make_model


@pytest.fixture(scope="session")
def tiny_model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model(tmp_path_factory.mktemp("tiny-intake"))


@pytest.fixture
def intake(settings: Any, tmp_path: Path, tiny_model_folder: Path) -> Path:
    """An intake folder with one good model in it."""
    settings.STEWARD_INTAKE = tmp_path / "intake"
    settings.STEWARD_MODELS = tmp_path / "models"
    settings.STEWARD_INTAKE.mkdir()
    shutil.copytree(tiny_model_folder, settings.STEWARD_INTAKE / "tiny")
    return Path(settings.STEWARD_INTAKE)


def said(event: str) -> list[dict[str, Any]]:
    bodies = [json.loads(bytes(each.body)) for each in OutboxEntry.objects.all()]
    return [body for body in bodies if body["action"] == event]


def ask(house: Any, **changes: str) -> ModelImport:
    asked = {"name": "Tiny", "licence": "Apache-2.0", "location": "tiny"} | changes
    return import_base_model(actor=house.officer, workspace=house.workspace, **asked)


@pytest.mark.slow
def test_a_model_of_the_intake_folder_is_judged_copied_and_registered(house: Any, intake: Path) -> None:
    done = importing.import_model(str(ask(house).pk))
    assert done.state == ImportState.DONE, done.failure
    model = BaseModel.objects.get(name="Tiny")
    assert model == done.base_model
    assert Path(model.path).parent == intake.parent / "models"
    assert (model.licence, done.facts["architecture"]) == ("Apache-2.0", "LlamaForCausalLM")
    assert done.facts["source_digest"] in model.source
    (entry,) = said("base_model.imported")
    assert entry["after"] == model.digest
    assert entry["facts"]["licence"] == "Apache-2.0"
    assert importing.import_model(str(done.pk)).finished_at == done.finished_at  # a second run changes nothing
    with pytest.raises(Refused, match="on its way"):
        ask(house)


@pytest.mark.slow
def test_a_pickle_in_a_model_is_refused_and_leaves_nothing(house: Any, intake: Path) -> None:
    (intake / "tiny" / "pytorch_model.bin").write_bytes(pickle.dumps({}))
    done = importing.import_model(str(ask(house).pk))
    assert done.state == ImportState.FAILED
    assert "run code" in done.failure
    assert list((intake.parent / "models").iterdir()) == []
    assert said("base_model.import_failed")[0]["facts"]["code"] == "model.refused"
    assert not BaseModel.objects.filter(name="Tiny").exists()
    ask(house)  # and may be asked for again


def test_a_trainer_that_is_killed_leaves_no_copy_of_a_model(house: Any, intake: Path, monkeypatch: Any) -> None:
    # As the kernel does where memory is short: with a part of the model in the folder that the trainer works in.
    script = """
import os, pathlib, signal, sys
place = pathlib.Path(sys.argv[sys.argv.index("--to") + 1])
(place.parent / f".{place.name}.x1y2").mkdir()
(place.parent / f".{place.name}.x1y2" / "model.safetensors").write_bytes(bytes(1000))
os.kill(os.getpid(), signal.SIGKILL)
"""
    monkeypatch.setattr(importing, "trainer_command", lambda *_: [sys.executable, "-c", script])
    done = importing.import_model(str(ask(house).pk))
    assert done.state == ImportState.FAILED
    assert said("base_model.import_failed")[0]["facts"]["code"] == "trainer_killed"
    assert list((intake.parent / "models").iterdir()) == []


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"licence": " "}, "licence_missing"),
        ({"name": " "}, "name_missing"),
        ({"location": "../secrets"}, "hub_forbidden"),
        ({"location": ".."}, "not_in_intake"),
        ({"location": "absent"}, "not_in_intake"),
        ({"location": "link"}, "not_in_intake"),
        ({"location": "o/m", "revision": "a" * 40}, "hub_forbidden"),
    ],
)
def test_what_may_not_be_named_is_refused(house: Any, intake: Path, changes: dict[str, str], code: str) -> None:
    (intake / "link").symlink_to("/etc")
    with pytest.raises(Refused) as caught:
        ask(house, **changes)
    assert caught.value.code == code


def test_a_hub_that_is_allowed_is_asked_by_commit_only(house: Any, intake: Path, settings: Any) -> None:
    settings.STEWARD_HUB = "http://127.0.0.1:9"
    for revision, location, code in [("main", "o/m", "revision_missing"), ("a" * 40, "../m", "repository_invalid")]:
        with pytest.raises(Refused) as caught:
            ask(house, location=location, revision=revision)
        assert caught.value.code == code
    done = importing.import_model(str(ask(house, location="o/m", revision="a" * 40).pk))
    assert (done.state, "hub did not give" in done.failure) == (ImportState.FAILED, True)  # nobody listens there


@pytest.mark.parametrize("role", [Role.ANALYST, Role.AUDITOR, Role.REVIEWER])
def test_only_officers_and_administrators_import(house: Any, intake: Path, role: Role) -> None:
    with pytest.raises(Denied):
        import_base_model(
            actor=house.person(role), workspace=house.workspace, name="Tiny", licence="MIT", location="tiny"
        )
    assert said("base_model.import_requested")[0]["outcome"] == "denied"


def test_the_page_lists_models_and_takes_a_request(house: Any, intake: Path, client: Any) -> None:
    def signed_in(actor: Actor) -> Any:
        from steward.accounts.models import User

        person = User.objects.get(pk=actor.user_id)
        client.force_login(person, backend="django.contrib.auth.backends.ModelBackend")
        return client

    address = f"/w/{house.workspace.slug}/base-models/"
    assert "<option>tiny</option>" in signed_in(house.officer).get(address).text
    asked = {"name": "Tiny", "licence": "MIT", "location": "tiny", "from": "intake"}
    assert client.post(f"{address}import/", asked).status_code == 302
    page = client.get(address).text
    assert "Tiny" in page
    assert "Running" in page
    assert "Fetch and import" not in page
    assert 'name="licence"' in page
    assert 'name="licence"' not in signed_in(house.analyst).get(address).text
