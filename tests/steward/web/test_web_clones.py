"""A run cloned with a change, and the command and spec that are shown: truly what the worker writes."""

import html
import json
import re
from typing import Any

import pytest

from compliance.canonical import sha256_digest
from steward.audit.models import OutboxEntry
from steward.runs.actions import dispatch_fine_tune
from steward.runs.models import FineTune
from steward.runs.specs import run_folder, settings_digest
from tests.steward.house import SYSTEM, House, visits
from tests.steward.runs.paper import dispatched
from trainers.spec import read_spec


@pytest.fixture
def lenient(db: None) -> House:
    return House(policy={"missed_per_1000_max": 1000})


@pytest.fixture
def source(lenient: House, base_model: Any) -> FineTune:
    version = lenient.approved(visits(60))
    return dispatched(lenient, version, base_model, "first", epochs=2, lora={"rank": 4, "targets": ["q_proj"]})


def shown_spec(page: str) -> str:
    found = re.search(r'<pre id="trainer-spec"[^>]*>(.*?)</pre>', page, re.DOTALL)
    assert found is not None
    return html.unescape(found.group(1))


def inputs(page: str) -> dict[str, str]:
    """What a browser would send of the form as it came."""
    values = dict(re.findall(r'<input[^>]*?name="([^"]+)"[^>]*?value="([^"]*)"', page))
    for name, body in re.findall(r'<select[^>]*?name="([^"]+)">(.*?)</select>', page, re.DOTALL):
        chosen = re.search(r"<option([^>]*) selected>([^<]*)", body) or re.search(r"<option([^>]*)>([^<]*)", body)
        assert chosen is not None, name
        value = re.search(r'value="([^"]*)"', chosen.group(1))
        values[name] = value.group(1) if value else chosen.group(2)
    return {name: html.unescape(value) for name, value in values.items()}


def entries(action: str) -> list[dict[str, Any]]:
    bodies = [json.loads(bytes(row.body)) for row in OutboxEntry.objects.all()]
    return [body for body in bodies if body["action"] == action]


def test_the_form_of_a_clone_holds_the_sources_settings_and_keeps_those_it_does_not_show(
    lenient: House, browser_of: Any, source: FineTune
) -> None:
    person = browser_of(lenient.analyst)
    address = f"/w/{lenient.workspace.slug}/fine-tunes/"
    assert f"?clone={source.pk}" in person.get(f"{address}{source.pk}/").text
    form = inputs(person.get(f"{address}new/?clone={source.pk}").text)
    assert (form["epochs"], form["lora.rank"], form["clone"]) == ("2", "4", str(source.pk))
    preview = person.post(f"{address}preview/", form | {"epochs": "5"}).text
    assert re.search(r"<code>epochs</code>\s*2\s*→ <b>5</b>", preview)
    assert 'data-changed="epochs "' in preview
    person.post(f"{address}new/", form | {"epochs": "5"})
    clone = FineTune.objects.exclude(pk=source.pk).get()
    assert clone.cloned_from == source
    assert clone.recipe == source.recipe | {"epochs": 5}
    assert clone.recipe["lora"]["targets"] == ["q_proj"]
    assert [body["facts"].get("cloned_from") for body in entries("fine_tune.requested")] == [None, str(source.pk)]
    assert "Cloned from" in person.get(f"{address}{clone.pk}/").text


def test_a_run_of_another_workspace_is_not_cloned(lenient: House, browser_of: Any, source: FineTune) -> None:
    elsewhere = House()
    stranger = browser_of(elsewhere.analyst)
    address = f"/w/{elsewhere.workspace.slug}/fine-tunes/new/"
    assert stranger.get(address, {"clone": str(source.pk)}).status_code == 404
    assert browser_of(lenient.reviewer).get(f"/w/{lenient.workspace.slug}/fine-tunes/new/").status_code == 403


def test_a_program_clones_a_run(lenient: House, source: FineTune) -> None:
    from django.test import Client

    from steward.accounts import actions as accounts
    from steward.accounts.models import User

    user = User.objects.get(pk=lenient.analyst.user_id)
    scopes = ["workspace.view", "fine_tunes.start"]
    token = accounts.create_token(actor=SYSTEM, user=user, name="t", scopes=scopes)[1]
    program = Client(headers={"authorization": f"Bearer {token}"})
    address = f"/api/v1/fine-tunes/{source.pk}/clones"
    answer = program.post(address, json.dumps({"changes": {"lora": {"rank": 8}}}), content_type="application/json")
    assert answer.status_code == 201, answer.content
    made = answer.json()
    assert made["cloned_from"] == str(source.pk)
    assert made["recipe"]["lora"] == source.recipe["lora"] | {"rank": 8}
    refused = program.post(address, json.dumps({"changes": {"epochs": 0}}), content_type="application/json")
    assert refused.status_code == 409


def test_the_spec_shown_before_the_launch_asks_for_what_the_workers_spec_asks_for(
    lenient: House, browser_of: Any, source: FineTune
) -> None:
    person = browser_of(lenient.analyst)
    address = f"/w/{lenient.workspace.slug}/fine-tunes/"
    form = inputs(person.get(f"{address}new/").text) | {"optimiser.learning_rate": "3e-4", "max_steps": "7"}
    preview = person.post(f"{address}preview/", form).text
    planned = json.loads(shown_spec(preview))
    read_spec(planned)
    assert "python -m trainers run --spec spec.json --out RUN" in html.unescape(preview)
    assert settings_digest(planned) in preview

    person.post(f"{address}new/", form)
    launched = FineTune.objects.exclude(pk=source.pk).get()
    queued = person.get(f"{address}{launched.pk}/").text
    assert settings_digest(json.loads(shown_spec(queued))) == settings_digest(planned)
    dispatch_fine_tune(actor=lenient.analyst, fine_tune=launched)
    written = (run_folder(launched) / "spec.json").read_bytes()
    assert settings_digest(json.loads(written)) == settings_digest(planned)


def test_the_spec_on_the_page_of_a_run_is_the_one_in_its_folder_and_in_the_ledger(
    lenient: House, browser_of: Any, source: FineTune
) -> None:
    page = browser_of(lenient.analyst).get(f"/w/{lenient.workspace.slug}/fine-tunes/{source.pk}/").text
    written = (run_folder(source) / "spec.json").read_bytes()
    assert shown_spec(page).encode() == written
    assert sha256_digest(written) in page
    (entry,) = entries("fine_tune.dispatched")
    assert entry["facts"]["spec"] == sha256_digest(written)
    assert f"--spec {run_folder(source)}/spec.json --out {run_folder(source)}" in html.unescape(page)
    from steward.vault.keys import open_key

    assert source.run_key is not None
    assert open_key(source.run_key).hex() not in page
