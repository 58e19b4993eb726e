"""The settings form: typed text into the places of a training spec."""

import itertools

import pytest

from steward.audit.actor import Refused
from steward.runs.methods import METHODS, WAYS
from steward.runs.recipes import merged_recipe
from steward.web.command_line import fine_tune_command
from steward.web.hyperparameters import FIELDS, changes_of, further_values, shown_values

PARALLEL = {"parallel.processes", "parallel.nodes", "parallel.shard"}


def test_typed_text_becomes_values_at_their_place() -> None:
    given = {"epochs": "3", "optimiser.learning_rate": "1e-4", "max_steps": "", "too_long": "truncate", "other": "x"}
    assert changes_of(given) == {
        "epochs": 3,
        "optimiser": {"learning_rate": 1e-4},
        "max_steps": None,
        "too_long": "truncate",
    }


def test_every_wrong_field_is_named_at_once() -> None:
    with pytest.raises(Refused, match="Epochs: give a whole number; Learning rate: give a number"):
        changes_of({"epochs": "two", "optimiser.learning_rate": "fast"})


def test_every_field_has_its_place_in_a_recipe() -> None:
    shown = set()
    for method, way in itertools.product(METHODS, WAYS):
        if way not in METHODS[method].excluded_ways:
            recipe = merged_recipe("healthcare", "visit_sections", {"method": method, "way": way})
            values = dict(shown_values(recipe, PARALLEL))
            assert not [field.path for field, value in values.items() if value is None and not field.is_optional]
            assert {field.part for field in values} <= {"", "turns", "parallel", METHODS[method].part, *WAYS[way].parts}
            assert ("turns" in {field.path for field in values}) == (method == "sft")
            shown |= set(values)
    assert shown == set(FIELDS)


def test_what_the_installation_cannot_use_is_shown_only_where_a_recipe_has_it() -> None:
    alone = merged_recipe("healthcare", "visit_sections", {"parallel": {"processes": 1, "shard": "none"}})
    assert "parallel" not in alone
    assert PARALLEL.isdisjoint(field.path for field, _ in shown_values(alone))
    usual = {field.path: value for field, value in shown_values(alone, {"parallel.processes"})}
    assert usual["parallel.processes"] == 1
    assert "parallel.nodes" not in usual
    two = merged_recipe("healthcare", "visit_sections", {"parallel": {"nodes": 2, "processes": 1}})
    assert two["parallel"] == {"nodes": 2}
    assert {field.path: value for field, value in shown_values(two)}["parallel.nodes"] == 2


def test_what_the_form_has_no_field_for_is_told_all_the_same() -> None:
    changes = {"keep_checkpoints": 3, "lora": {"targets": ["q_proj", "v_proj"]}, "turns": "all"}
    recipe = merged_recipe("healthcare", "visit_sections", changes)
    further = dict(further_values(recipe))
    assert (further["keep_checkpoints"], further["lora.targets"]) == (3, "q_proj, v_proj")
    assert {field.path: value for field, value in shown_values(recipe)}["turns"] == "all"
    assert not {field.path for field in FIELDS} & further.keys()


def test_the_command_names_only_what_differs_and_is_quoted_for_a_shell() -> None:
    recipe = {"epochs": 2, "lora": {"rank": 16}, "optimiser": {"learning_rate": 1e-3}}
    changes = {"way": "dora", "epochs": 2, "lora": {"rank": 8}, "max_steps": None}
    form = {"version": "0b2c4d6e-0000", "name": "it's; rm -rf", "workflow": "visit_sections"}
    command = fine_tune_command("ana", form, "", recipe, changes)
    assert command == (
        "python manage.py fine_tune 0b2c4d6e --as ana --name 'it'\"'\"'s; rm -rf' --workflow visit_sections "
        "--way dora --set lora.rank=8"
    )
