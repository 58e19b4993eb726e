"""Fine-tunes in the browser: asked for, watched, taken away as a file."""

import html
import json
import re
from typing import Any

import pytest

from steward.runs.actions import put_aside
from steward.runs.dispatch import WAITING
from steward.runs.downloads import neutral_cell
from steward.runs.following import WORKER, _apply_new_events
from steward.runs.models import FineTune, Measurement, RunState
from steward.runs.specs import run_folder
from tests.steward.house import House, visits
from trainers.events import RunAdvised, encode


@pytest.fixture
def lenient(db: None) -> House:
    return House(policy={"missed_per_1000_max": 1000})


def form(version: Any, model: Any, **changes: str) -> dict[str, str]:
    return {
        "name": "first", "version": str(version.pk), "base_model": str(model.pk), "workflow": "visit_sections",
        "epochs": "1", "optimiser.learning_rate": "1e-4", **changes,
    }  # fmt: skip


def test_the_form_asks_for_a_fine_tune(lenient: House, browser_of: Any, base_model: Any) -> None:
    version = lenient.approved(visits(9))
    person = browser_of(lenient.analyst)
    address = f"/w/{lenient.workspace.slug}/fine-tunes/"
    assert "Tiny-1M" in person.get(f"{address}new/").text
    person.post(f"{address}new/", form(version, base_model))
    fine_tune = FineTune.objects.get(workspace=lenient.workspace)
    assert fine_tune.recipe["optimiser"]["learning_rate"] == 1e-4
    assert person.get(f"{address}{fine_tune.pk}/").status_code == 200
    person.post(f"{address}{fine_tune.pk}/cancel/")
    fine_tune.refresh_from_db()
    assert fine_tune.state == RunState.CANCELLED


def test_the_page_says_why_a_fine_tune_waits_and_who_may_raise_it(
    lenient: House, browser_of: Any, base_model: Any
) -> None:
    version = lenient.approved(visits(9))
    person, officer = browser_of(lenient.analyst), browser_of(lenient.officer)
    address = f"/w/{lenient.workspace.slug}/fine-tunes/"
    assert '<option value="2">High' not in person.get(f"{address}new/").text
    for _ in range(2):
        person.post(f"{address}new/", form(version, base_model))
    waits = FineTune.objects.filter(workspace=lenient.workspace).latest("created_at")
    page = person.get(f"{address}{waits.pk}/").text
    assert "Queued: 1 of 1" in page
    assert "only device on this machine" in page
    assert person.post(f"{address}{waits.pk}/priority/", {"priority": "2"}).status_code == 403
    assert officer.post(f"{address}{waits.pk}/priority/", {"priority": "2"}).status_code == 302
    waits.refresh_from_db()
    assert waits.get_priority_display() == "High"


def test_a_wrong_setting_is_explained_on_the_form(lenient: House, browser_of: Any, base_model: Any) -> None:
    version = lenient.approved(visits(9))
    person = browser_of(lenient.analyst)
    for changes in ({"epochs": "0"}, {"epochs": "many"}, {"version": "none"}, {"name": " "}):
        given = form(version, base_model) | changes
        answer = person.post(f"/w/{lenient.workspace.slug}/fine-tunes/new/", given)
        assert answer.status_code in {400, 409}, changes
        assert 'role="alert"' in answer.text, changes
    assert not FineTune.objects.exists()


def test_the_preview_shows_the_spec_and_a_new_workflow_brings_its_settings(
    lenient: House, browser_of: Any, base_model: Any
) -> None:
    person = browser_of(lenient.analyst)
    address = f"/w/{lenient.workspace.slug}/fine-tunes/preview/"
    given = form(lenient.approved(visits(9)), base_model) | {"took": "visit_sections sft lora", "epochs": "7"}
    assert "&quot;epochs&quot;: 7" in person.post(address, given).text
    other = person.post(address, given | {"took": "medication_orders sft lora"}).text
    assert "hx-swap-oob" in other
    assert "The recipe is not valid" in person.post(address, given | {"epochs": "0"}).text


def test_another_method_or_way_brings_its_fields_and_says_when_the_records_do_not_fit(
    lenient: House, browser_of: Any, base_model: Any
) -> None:
    version = lenient.approved(visits(9))
    person = browser_of(lenient.analyst)
    address = f"/w/{lenient.workspace.slug}/fine-tunes/"
    given = form(version, base_model, took="visit_sections sft lora")
    page = person.post(f"{address}preview/", given | {"method": "dpo", "way": "prompt"}).text
    for field in ("preference.beta", "preference.label_smoothing", "prompt.tokens"):
        assert f'name="{field}"' in page
    assert 'name="lora.rank"' not in page
    assert "These records do not fit" in page
    assert "--method dpo --way prompt" in page
    # What somebody typed stays, also beside fields that have gone; what the recipe said gives way to the new recipe's.
    learning_rate = re.compile('name="optimiser.learning_rate"[^>]*value="([^"]*)"')
    usual = learning_rate.search(person.get(f"{address}new/", {"workflow": "visit_sections"}).text)
    assert usual
    untouched = given | {"way": "full", "epochs": "7", "lora.rank": "4", "optimiser.learning_rate": usual[1]}
    page = person.post(f"{address}preview/", untouched).text
    assert re.search('name="epochs"[^>]*value="7"', page)
    assert "--set epochs=7" in page
    assert "lora.rank" not in page
    own = learning_rate.search(page)
    assert own
    assert float(own[1]) < float(usual[1])
    assert "give a whole number" in person.post(f"{address}preview/", untouched | {"epochs": "many"}).text
    # A click that was faster than the fields is not taken for a choice of them.
    quick = form(version, base_model, method="sft", way="full", took="visit_sections sft lora", **{"lora.rank": "4"})
    answer = person.post(f"{address}new/", quick)
    assert answer.status_code == 409
    assert "Look at them, then start" in answer.text
    assert 'name="lora.rank"' not in answer.text
    assert not FineTune.objects.exists()


def test_the_form_offers_several_devices_and_machines_only_where_there_are_some(
    lenient: House, browser_of: Any, base_model: Any, settings: Any, tmp_path: Any
) -> None:
    on_disk(base_model, tmp_path)
    person, address = browser_of(lenient.analyst), f"/w/{lenient.workspace.slug}/fine-tunes/"
    version = lenient.approved(visits(9))
    assert 'name="parallel' not in person.get(f"{address}new/").text
    settings.STEWARD_LAUNCHER, settings.STEWARD_RAY_DEVICES = "ray", 4
    page = person.get(f"{address}new/").text
    for field in ("processes", "nodes", "shard"):
        assert f'name="parallel.{field}"' in page
    usual = {"parallel.processes": "1", "parallel.nodes": "1", "parallel.shard": "none"}
    given = form(version, base_model, took="visit_sections sft lora", **usual)
    said = person.post(f"{address}preview/", given).text
    assert "--set parallel" not in said
    assert "processes</span>" not in said
    said = person.post(f"{address}preview/", given | {"parallel.nodes": "3", "parallel.processes": "2"}).text
    assert "--set parallel.processes=2 --set parallel.nodes=3" in said
    assert "for each of 6 processes" in said
    assert "It could not be started" in said
    assert "wants 6 devices at once; this installation has 4" in said
    refused = person.post(f"{address}new/", given | {"parallel.nodes": "0"})
    assert "parallel.nodes" in refused.text
    person.post(f"{address}new/", given | {"parallel.nodes": "2", "parallel.shard": "weights"})
    fine_tune = FineTune.objects.get(workspace=lenient.workspace)
    assert fine_tune.recipe["parallel"] == {"nodes": 2, "shard": "weights"}
    assert "<dt>Machines</dt><dd>2</dd>" in person.get(f"{address}{fine_tune.pk}/").text


def test_the_page_says_for_how_many_nodes_a_run_waits(lenient: House, browser_of: Any, base_model: Any) -> None:
    person, address = browser_of(lenient.analyst), f"/w/{lenient.workspace.slug}/fine-tunes/"
    person.post(f"{address}new/", form(lenient.approved(visits(9)), base_model))
    fine_tune = FineTune.objects.get(workspace=lenient.workspace)
    fine_tune.state, fine_tune.facts = RunState.RUNNING, {WAITING: {"wanted": 3, "large": 1}}
    fine_tune.save()
    page = person.get(f"{address}{fine_tune.pk}/").text
    assert "Waits for 3 nodes" in page
    assert "1 is large enough for it. If that stays so for 120 seconds, it fails." in page
    told = person.get(f"/api/v1/fine-tunes/{fine_tune.pk}").json()["gathering"]
    assert (told["wanted"], told["large"]) == (3, 1)
    fine_tune.facts = {WAITING: {"wanted": 1, "large": None}}
    fine_tune.save()
    page = person.get(f"{address}{fine_tune.pk}/").text
    assert "Waits for 1 node<" in page
    assert "It begins once a node has 1 CPU and 1 GPU free" in page
    assert person.get(f"/api/v1/fine-tunes/{fine_tune.pk}").json()["gathering"]["large"] is None
    fine_tune.state = RunState.FAILED
    fine_tune.save()
    assert "Waits for" not in person.get(f"{address}{fine_tune.pk}/").text
    assert person.get(f"/api/v1/fine-tunes/{fine_tune.pk}").json()["gathering"] is None


def test_what_will_teach_less_than_was_meant_is_on_the_page_and_in_rest(
    lenient: House, browser_of: Any, base_model: Any
) -> None:
    person, address = browser_of(lenient.analyst), f"/w/{lenient.workspace.slug}/fine-tunes/"
    person.post(f"{address}new/", form(lenient.approved(visits(9)), base_model))
    fine_tune = FineTune.objects.get(workspace=lenient.workspace)
    fine_tune.state = RunState.RUNNING
    fine_tune.save()
    said = RunAdvised(str(fine_tune.pk), "warmup.long", "all 4 steps are warm-up", "set optimiser.warmup_steps below 4")
    folder = run_folder(fine_tune)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "events.jsonl").write_text(f"{encode(said)}\n{encode(said)}\n")
    assert _apply_new_events(fine_tune) is None
    page = person.get(f"{address}{fine_tune.pk}/").text
    assert page.count("All 4 steps are warm-up") == 1
    # The page asks for its upper part again and again, and gets what stands beside it where that has changed.
    asked = html.unescape(re.findall('hx-get="([^"]*)"', page)[0])
    assert "run-facts" not in person.get(asked, headers={"HX-Target": "run"}).text
    fine_tune.refresh_from_db()
    fine_tune.facts |= {"data_train": {"records": 7, "tokens": 700, "truncated": 0, "refused": 0}}
    fine_tune.save()
    news = person.get(asked, headers={"HX-Target": "run"}).text
    assert re.search('id="run-facts" hx-swap-oob="true".*Data as the trainer read it', news, re.DOTALL)
    assert "Set optimiser.warmup_steps below 4." in page
    told = person.get(f"/api/v1/fine-tunes/{fine_tune.pk}").json()["facts"]["advice"]
    assert told == {"warmup.long": {"message": said.message, "hint": said.hint}}


def test_a_run_is_paused_resumed_and_continued_by_buttons(lenient: House, browser_of: Any, base_model: Any) -> None:
    version = lenient.approved(visits(9))
    person = browser_of(lenient.analyst)
    person.post(f"/w/{lenient.workspace.slug}/fine-tunes/new/", form(version, base_model, way="dora"))
    fine_tune = FineTune.objects.get(workspace=lenient.workspace)
    assert fine_tune.way.name == "dora"
    address = f"/w/{lenient.workspace.slug}/fine-tunes/{fine_tune.pk}/"
    for step, state, next_button in (
        ("pause", RunState.PAUSED, f"{address}resume/"),
        ("resume", RunState.QUEUED, f"{address}pause/"),
    ):
        person.post(f"{address}{step}/")
        fine_tune.refresh_from_db()
        assert fine_tune.state == state
        assert next_button in person.get(address).text
    assert person.post(f"{address}continue/", {"epochs": "2"}).status_code == 409
    reviewer = browser_of(lenient.reviewer)
    assert [reviewer.post(f"{address}{step}/").status_code for step in ("pause", "resume", "continue")] == [403] * 3

    why = {"code": "output.unusable", "message": "The disk is full; free space."}
    put_aside(actor=WORKER, fine_tune=fine_tune, has_checkpoint=True, event_offset=0, **why)
    told = person.get(f"/api/v1/fine-tunes/{fine_tune.pk}").json()
    assert (told["state"], told["failure_code"], told["failure"]) == ("paused", *why.values())
    for text in ("Put aside: output.unusable", why["message"], f"{address}resume/"):
        assert text in person.get(address).text
    person.post(f"{address}resume/")
    assert "Put aside" not in person.get(address).text


@pytest.fixture
def watched(lenient: House, base_model: Any) -> FineTune:
    from steward.runs.actions import request_fine_tune

    fine_tune = request_fine_tune(
        actor=lenient.analyst, version=lenient.approved(visits(9)), base_model=base_model, name="=cmd()"
    )
    Measurement.objects.bulk_create(
        Measurement(
            fine_tune=fine_tune,
            attempt=1,
            split=split,
            step=step,
            loss=3 / step,
            learning_rate=-1e-3,
            event_offset=step,
        )
        for step in range(1, 11)
        for split in (("train", "validation") if step % 5 == 0 else ("train",))
    )
    return fine_tune


def test_the_curves_come_in_pieces(lenient: House, browser_of: Any, watched: FineTune) -> None:
    person = browser_of(lenient.analyst)
    address = f"/w/{lenient.workspace.slug}/fine-tunes/{watched.pk}/measurements/"
    first = person.get(address).json()
    assert [point[0] for point in first["curves"]["train"]["loss"]] == list(range(1, 11))
    assert [point[0] for point in first["curves"]["validation"]["loss"]] == [5, 10]
    assert first["after"] == 0
    later = person.get(address, {"after": 8}).json()
    assert [point[0] for point in later["curves"]["train"]["loss"]] == [9, 10]


def test_measurements_are_downloaded_without_formulas(lenient: House, browser_of: Any, watched: FineTune) -> None:
    person = browser_of(lenient.analyst)
    address = f"/w/{lenient.workspace.slug}/fine-tunes/{watched.pk}/measurements"
    table = person.get(f"{address}/csv/").getvalue().decode()
    assert len(table.splitlines()) == 13
    rows = json.loads(person.get(f"{address}/json/").getvalue())
    assert [row["step"] for row in rows if row["split"] == "validation"] == [5, 10]
    assert person.get(f"{address}/tensorboard/").getvalue().count(b"held_out/loss") == 2
    assert person.get(f"{address}/pickle/").status_code == 404


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@x", "\tx", "\rx"])
def test_a_text_that_a_spreadsheet_would_run_is_neutralised(text: str) -> None:
    assert neutral_cell(text) == f"'{text}"
    assert neutral_cell("train") == "train"
    assert neutral_cell(-0.5) == -0.5


def on_disk(base_model: Any, folder: Any) -> None:
    """Gives a registered model the sizes that a forecast reads."""
    sizes = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "vocab_size": 1000}
    (folder / "config.json").write_text(json.dumps(sizes))
    base_model.path = str(folder)
    base_model.save()


def test_the_form_says_what_the_settings_will_need(
    lenient: House, base_model: Any, browser_of: Any, tmp_path: Any
) -> None:
    on_disk(base_model, tmp_path)
    given = form(lenient.approved(visits(9)), base_model, took="visit_sections sft lora")
    person = browser_of(lenient.analyst)
    said = person.post(f"/w/{lenient.workspace.slug}/fine-tunes/preview/", given).text
    assert "What it will need" in said
    assert "MiB" in said
    assert "known after the first run" in said
    assert "left out" not in said
    short = person.post(f"/w/{lenient.workspace.slug}/fine-tunes/preview/", given | {"max_length": "16"}).text
    assert "training records will be left out" in short
    asked = {"dataset_version": given["version"], "base_model": given["base_model"], "name": "first"}
    # A browser's session may ask REST as well, with the token that its forms carry.
    needs = [
        person.post("/api/v1/fine-tunes/forecast", asked | way, content_type="application/json").json()["memory_bytes"]
        for way in ({}, {"way": "full"}, {"changes": {"way": "full"}})
    ]
    assert needs[0] != needs[1] == needs[2]


def test_a_run_shows_what_was_foretold_beside_what_it_took(lenient: House, base_model: Any, browser_of: Any) -> None:
    person, address = browser_of(lenient.analyst), f"/w/{lenient.workspace.slug}/fine-tunes/"
    person.post(f"{address}new/", form(lenient.approved(visits(9)), base_model))
    fine_tune = FineTune.objects.get(workspace=lenient.workspace)
    fine_tune.state, fine_tune.train_seconds = RunState.SUCCEEDED, 20.0
    fine_tune.facts = {
        "fit": {
            "fits": False, "memory_bytes": 3 << 30, "free_bytes": 2 << 30, "micro_tokens": 64, "is_recomputed": True,
            "seconds": 100.0, "advice": "max_length 256 would fit",
        },
        "peak_memory_bytes": 4 << 30,
    }  # fmt: skip
    fine_tune.save()
    page = person.get(f"{address}{fine_tune.pk}/").text
    for words in ("3 GiB", "4 GiB", "1 min 40 s", "20 s", "Max_length 256 would fit", "layers keep their inputs only"):
        assert words in page
