"""Which method and way may be started on which records, and with which settings."""

import json
from typing import Any

import pytest
from procrastinate.contrib.django.models import ProcrastinateJob

from domains import workflows
from domains.packs import load_pack
from steward.audit.actor import Refused
from steward.datasets.models import Split
from steward.runs import actions, labels
from steward.runs.fitting import usual_method
from steward.runs.methods import METHODS, WAYS, method_of, way_of
from steward.runs.recipes import merged_recipe
from steward.runs.shards import example_lines, workflow_for
from tests.steward.house import House, judgements, labelled, pairs, tagged, visits
from trainers.spec import json_schema

DOMAIN, FLOW = "healthcare", "visit_sections"


def request(house: House, version: Any, base: Any, **changes: Any) -> Any:
    return actions.request_fine_tune(actor=house.analyst, version=version, base_model=base, name="try", changes=changes)


def test_the_tables_name_what_packs_may_name_and_the_trainer_takes() -> None:
    assert set(workflows.METHODS) < set(METHODS)
    assert tuple(WAYS) == workflows.WAYS
    properties = json_schema()["properties"]
    assert set(METHODS) == set(properties["method"]["enum"])
    for method in METHODS.values():
        way_is_refused = [way for way in WAYS if way in method.excluded_ways]
        assert way_is_refused == (["prompt"] if method.is_classifier else [])
    assert set(WAYS) - {"rslora", "qlora"} <= set(properties["way"]["enum"])


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("method", METHODS)
def test_a_recipe_has_the_settings_of_its_method_and_way_and_no_others(method: str, way: str) -> None:
    if way in METHODS[method].excluded_ways:
        with pytest.raises(Refused, match="cannot carry"):
            merged_recipe(DOMAIN, FLOW, {"method": method, "way": way})
        return
    recipe = merged_recipe(DOMAIN, FLOW, {"method": method, "way": way})
    assert (method_of(recipe).name, way_of(recipe).name) == (method, way)
    parts = {METHODS[method].part, *WAYS[way].parts} - {""}
    assert {"lora", "quantise", "prompt", "preference", "classification"} & set(recipe) == parts
    assert merged_recipe(DOMAIN, FLOW, recipe) == recipe


def test_another_method_or_way_comes_with_its_usual_learning_rate_unless_one_is_given() -> None:
    own = load_pack(DOMAIN).workflow(FLOW).recipe.learning_rate
    assert merged_recipe(DOMAIN, FLOW, {})["optimiser"]["learning_rate"] == own
    dpo = merged_recipe(DOMAIN, FLOW, {"method": "dpo", "way": "full"})
    assert dpo["optimiser"]["learning_rate"] == pytest.approx(own * METHODS["dpo"].rate * WAYS["full"].rate)
    given = merged_recipe(DOMAIN, FLOW, {"method": "dpo", "optimiser": {"learning_rate": 3e-6}})
    assert given["optimiser"]["learning_rate"] == 3e-6


def test_pairs_are_trained_on_with_both_answers_and_as_plain_answers_without(house: House, tiny_base: Any) -> None:
    version = house.approved(pairs(70))
    fine_tune = request(house, version, tiny_base, method="dpo")
    assert fine_tune.method.name == "dpo"
    flow = workflow_for(DOMAIN, fine_tune.workflow)
    line = json.loads(next(example_lines(version, flow, METHODS["dpo"], Split.TRAIN)))
    assert set(line) == {"id", "messages", "rejected"}
    assert "was sent home" in line["rejected"]
    assert "Quackenbush" not in json.dumps(line)
    plain = json.loads(next(example_lines(version, flow, METHODS["sft"], Split.TRAIN)))
    assert plain == {"id": line["id"], "messages": line["messages"]}


@pytest.mark.parametrize(
    ("rows", "method", "told"),
    [
        (visits(70), "dpo", "needs a chosen and a rejected answer"),
        (visits(70), "classification", "needs a text and its label"),
        (pairs(70), "classification", "imported as preference"),
        (labelled(70), "orpo", "imported as text label"),
        (labelled(70, ("wound",)), "classification", "has one label"),
        (
            labelled(69, ("wound", "wound", "Mrs. Imelda Quackenbush")),
            "classification",
            "found an identifier in the label",
        ),
        ([*labelled(69), {"text": "Rare.", "label": "unheard of"}], "classification", "belongs to one person only"),
        ([*labelled(69), {"text": "Long.", "label": "x" * 201}], "classification", "longer than 200"),
        (judgements(70), "sft", "would learn bad answers too"),
        (judgements(70), "dpo", "imported as judged"),
        (visits(70), "kto", "whether it is a good one"),
        (tagged(70), "sft", "imported as text spans"),
        (tagged(70), "classification", "needs a text and its label"),
        (visits(70), "token-classification", "needs texts with labelled stretches"),
        ([{"text": f"Visit {n}.", "spans": []} for n in range(70)], "token-classification", "nothing to find"),
        (
            [*tagged(69), {"text": "Rare.", "spans": [{"start": 0, "end": 4, "label": "UNHEARD_OF"}]}],
            "token-classification",
            "belongs to one person only",
        ),
        (
            [{**row, "spans": [{**row["spans"][0], "label": "Quackenbush"}, *row["spans"][1:]]} for row in tagged(70)],
            "token-classification",
            "found an identifier in the label",
        ),
    ],
)
def test_records_that_a_method_cannot_learn_from_are_refused_before_anything_is_queued(
    house: House, tiny_base: Any, rows: list[dict[str, Any]], method: str, told: str
) -> None:
    version = house.approved(rows)
    with pytest.raises(Refused, match=told) as refused:
        request(house, version, tiny_base, method=method)
    assert "Quackenbush" not in str(refused.value)
    assert "unheard" not in str(refused.value).lower()
    assert not ProcrastinateJob.objects.filter(task_name="runs.drive_fine_tune").exists()


def test_a_line_of_a_shard_is_what_the_trainer_reads_of_judged_answers_and_of_spans(
    house: House, tiny_base: Any
) -> None:
    version = house.approved(judgements(70))
    fine_tune = request(house, version, tiny_base, method="kto", preference={"desirable_weight": 0.5})
    assert fine_tune.recipe["preference"] == {"beta": 0.1, "desirable_weight": 0.5, "undesirable_weight": 1.0}
    flow = workflow_for(DOMAIN, fine_tune.workflow)
    said = [json.loads(line) for line in example_lines(version, flow, METHODS["kto"], Split.TRAIN)]
    assert {each["label"] for each in said} == {True, False}
    assert all(("sent home" in each["messages"][-1]["content"]) != each["label"] for each in said)

    rows = tagged(70)
    place = rows[0]["text"].index("Quackenbush")
    rows[0]["spans"][0] |= {"end": place - 1}
    rows[0]["spans"].append({"start": place, "end": place + 11, "label": "DRUG"})
    version = house.approved(rows)
    fine_tune = request(house, version, tiny_base, method="token-classification", way="dora")
    assert fine_tune.recipe["classification"] == {"labels": ["DRUG", "PATIENT"]}
    splits = [example_lines(version, flow, METHODS["token-classification"], split) for split in Split]
    said = [json.loads(line) for lines in splits for line in lines]
    assert len(said) == 69  # two labels met in one replacement; that text is set aside
    assert set(said[0]) == {"id", "text", "spans"}
    found = {(span["label"], each["text"][span["start"] : span["end"]]) for each in said for span in each["spans"]}
    assert {text for label, text in found if label == "DRUG"} == {"aspirin", "warfarin"}
    assert not any("Quackenbush" in text for _, text in found)


def test_a_form_begins_with_the_method_that_the_records_are_made_for(house: House) -> None:
    flow = workflow_for(DOMAIN, FLOW)
    # Pairs and labelled texts hold an answer to learn as well, which is what the workflow does by itself.
    rows = [visits(3), pairs(3), labelled(3), judgements(3), tagged(3)]
    usual = [usual_method(house.imported(each), flow).name for each in rows]
    assert usual == ["sft", "sft", "sft", "kto", "token-classification"]


def test_more_labels_than_a_classifier_chooses_from_are_refused(
    house: House, tiny_base: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    version = house.approved(labelled(60, ("wound", "allergy", "fever", "cough")))
    monkeypatch.setattr(labels, "MAX_LABELS", 3)
    with pytest.raises(Refused, match="more than 3 different labels"):
        request(house, version, tiny_base, method="classification")


def test_the_labels_of_a_recipe_are_those_of_the_data(house: House, tiny_base: Any) -> None:
    version = house.approved(labelled(70))
    given = {"labels": ["something", "else"]}
    fine_tune = request(house, version, tiny_base, method="classification", classification=given)
    assert fine_tune.recipe["classification"] == {"labels": ["allergy", "wound"]}


def test_a_closed_list_is_the_labels_of_its_workflow(house: House, tiny_base: Any) -> None:
    names = load_pack(DOMAIN).label_schema("visit_sections").names
    rows = [{"text": f"Visit {n}.", "label": names[n % 2]} for n in range(70)]
    dataset = house.dataset("sections", workflow=FLOW)
    version = house.approve(house.imported(rows, dataset))
    fine_tune = request(house, version, tiny_base, method="classification")
    assert tuple(fine_tune.recipe["classification"]["labels"]) == names
    with pytest.raises(Refused, match="needs the fields"):
        actions.request_fine_tune(
            actor=house.analyst, version=version, base_model=tiny_base, name="x", workflow="medication_orders"
        )
