"""Templates, message mapping, gates, probes and memory estimates."""

import dataclasses
import json
from pathlib import Path

import pytest

from domains.gates import Gate
from domains.memory import WAYS, Architecture, count_lora_parameters, count_parameters, estimate_memory_bytes
from domains.packs import load_pack
from domains.probes import read_probes
from domains.templates import MissingField, fill, placeholders
from domains.toml_table import PackError, read_toml
from domains.workflows import MessageMapping, map_record, read_workflow

PACKS = ("finance", "healthcare", "legal")


def test_filling_copies_values_and_evaluates_nothing() -> None:
    assert fill("{a}{{b}} {a}", {"a": "{b} {a.__class__}"}) == "{b} {a.__class__}{b} {b} {a.__class__}"
    assert placeholders("{b} {a} {b}") == ("b", "a")


@pytest.mark.parametrize("template", ["{", "}", "{a.b}", "{a[0]}", "{a!r}", "{a:>9}", "{}", "{0}", "{A}", "{ a }"])
def test_anything_but_a_plain_name_in_braces_is_refused(template: str) -> None:
    with pytest.raises(ValueError, match="stray"):
        placeholders(template)
    with pytest.raises(ValueError, match="stray"):
        fill(template, {"a": "x"})


@pytest.mark.parametrize("record", [{}, {"text": ""}, {"text": "  "}, {"text": 7}, {"text": None}])
def test_a_missing_field_is_named_and_nothing_of_the_record_is_quoted(record: dict[str, object]) -> None:
    with pytest.raises(MissingField, match="'text'") as caught:
        map_record(MessageMapping("", "{text}", "{label}"), {"label": "secret", **record})
    assert caught.value.field == "text"
    assert "secret" not in str(caught.value)


def test_a_mapping_without_system_gives_two_messages_and_ignores_other_fields() -> None:
    messages = map_record(MessageMapping("", "Q: {q}", "{a}"), {"q": "one?", "a": "two", "note": "x"})
    assert messages == [{"role": "user", "content": "Q: one?"}, {"role": "assistant", "content": "two"}]


@pytest.mark.parametrize("name", PACKS)
def test_recipes_make_specs_that_the_trainer_accepts(name: str) -> None:
    spec = pytest.importorskip("trainers.spec", reason="the trainers package is not there yet")
    schema = spec.json_schema()
    for workflow in load_pack(name).workflows:
        fields = workflow.recipe.spec_fields()
        json.dumps(fields)
        assert set(fields) <= set(schema["properties"])
        shard = {
            "path": "x",
            "context": dict.fromkeys(("workspace", "dataset", "object", "kind", "version"), "a"),
            "commitment": "0" * 64,
        }
        document = {
            "schema": "steward.train/1",
            "run": "r",
            "model": {"path": "m"},
            "data": {"train": shard, "validation": shard},
            "output": {"context": shard["context"]},
            **fields,
        }
        assert spec.read_spec(document).lora.rank == workflow.recipe.rank


def test_a_workflow_may_move_a_gates_threshold(tmp_path: Path) -> None:
    pack = load_pack("healthcare")
    gates = {gate.name: gate for gate in pack.gates}
    text = (pack.folder / "workflows" / "visit_sections.toml").read_text()
    path = tmp_path / "w.toml"
    path.write_text(text.replace('name = "usefulness"', 'name = "usefulness"\nthreshold = 0.9'))
    workflow = read_workflow(read_toml(path), gates)
    assert next(gate for gate in workflow.gates if gate.name == "usefulness").threshold == 0.9
    assert gates["usefulness"].threshold == 0.5


@pytest.mark.parametrize("comparison", ["above", "at_least", "at_most"])
def test_a_gate_that_could_not_be_measured_has_failed(comparison: str) -> None:
    gate = Gate("g", "G", "ledger_faults", comparison, 0.0, "why")
    assert not gate.passes(None)
    assert not gate.passes(float("nan"))
    assert gate.passes(0.0) is (comparison != "above")
    assert gate.passes(1.0) is (comparison != "at_most")
    assert gate.passes(-1.0) is (comparison == "at_most")


@pytest.mark.parametrize("name", PACKS)
def test_probes_differ_only_in_whom_they_are_about(name: str) -> None:
    pack = load_pack(name)
    assert len({probe.attribute for probe in pack.probes}) >= 5
    for probe in pack.probes:
        workflow = pack.workflow(probe.workflow)
        prompts = set()
        for fields in probe.renderings().values():
            prompts.add(map_record(workflow, {"label": probe.label, **fields})[-2]["content"])
        assert len(prompts) == len(probe.variants)


def test_memory_grows_with_the_way_and_the_model() -> None:
    entries = [entry for entry in load_pack("healthcare").catalog if entry.architecture]
    for entry in entries:
        lora, qlora, full = (entry.memory_bytes(way) or 0 for way in ("lora", "qlora", "full"))
        assert qlora < lora < full
        assert lora > 2 * entry.parameters
    bundled = load_pack("healthcare").entry("smollm2-135m-instruct")
    assert (bundled.memory_bytes("lora", tokens=768) or 0) < 1 << 30


def test_memory_of_a_known_model_is_the_documented_sum() -> None:
    entry = load_pack("legal").entry("saul-7b-instruct")
    shape = entry.architecture
    assert shape is not None
    # Rank 16 on all linear maps of a 7B Mistral: 41,943,040 parameters, as PEFT counts them.
    assert count_lora_parameters(shape) == 41_943_040
    activations = (2 * 32 + 34) * 4096 * 4096
    logits = 8 * 32000 * 1024
    assert estimate_memory_bytes(shape, entry.parameters, "full") == 16 * entry.parameters + activations + logits


def test_an_unknown_way_or_unverified_sizes_give_no_estimate() -> None:
    entry = load_pack("healthcare").entry("medgemma-4b-it")
    assert entry.memory_bytes("lora") is None
    with pytest.raises(ValueError, match="'lisa' is not one of"):
        entry.memory_bytes("lisa")


def test_lora_is_counted_as_peft_counts_it() -> None:
    shape = Architecture(3, 12, 20, 3, 1, 4, 50, True)
    per_layer = (12 + 12) + 2 * (12 + 4) + (12 + 12) + 3 * (12 + 20)
    assert count_lora_parameters(shape, rank=2) == 3 * 2 * per_layer
    assert count_parameters(dataclasses.replace(shape, is_tied=False)) - count_parameters(shape) == 600
    assert WAYS == ("lora", "qlora", "full")


def test_an_unreadable_probe_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(PackError, match=r"p\.jsonl: the file is missing"):
        read_probes(tmp_path / "p.jsonl", source="p.jsonl")
