"""Packs: the shipped ones are whole, and what is wrong with a pack is named."""

import shutil
import tomllib
from pathlib import Path

import pytest

from domains.catalog import BUNDLED_MODEL
from domains.datasets import GENERATORS
from domains.memory import count_parameters
from domains.packs import HERE, Pack, PackError, available_packs, load_pack
from domains.synthetic import REGISTRY
from domains.toml_table import TomlTable

SHIPPED = ("finance", "healthcare", "legal")
PROFILES = HERE.parent / "compliance" / "redaction" / "profiles"


@pytest.fixture(params=SHIPPED)
def pack(request: pytest.FixtureRequest) -> Pack:
    return load_pack(request.param)


@pytest.fixture
def fourth(tmp_path: Path) -> Path:
    """A further pack as somebody else would add it: a copied folder under another name, no code."""
    folder = tmp_path / "dentistry"
    shutil.copytree(HERE / "healthcare", folder)
    head = (folder / "pack.toml").read_text().replace('name = "healthcare"', 'name = "dentistry"')
    (folder / "pack.toml").write_text(head)
    return folder


def edit(folder: Path, name: str, old: str, new: str) -> None:
    text = (folder / name).read_text()
    assert old in text
    (folder / name).write_text(text.replace(old, new, 1))


def test_the_three_domains_are_shipped() -> None:
    assert tuple(available_packs()) == SHIPPED


def test_a_pack_has_what_the_product_promises(pack: Pack) -> None:
    assert len(pack.catalog) >= 9
    assert pack.catalog[0].name == BUNDLED_MODEL
    assert pack.catalog[0].is_bundled
    assert sum(dataset.kind == "synthetic" for dataset in pack.datasets) >= 2
    assert any(dataset.kind == "public" for dataset in pack.datasets)
    assert len(pack.workflows) >= 3
    assert {schema.kind for schema in pack.label_schemas} == {"class", "span"}
    assert len(pack.probes) >= 24
    assert {gate.measure for gate in pack.gates} >= {
        "tuned_minus_base_low",
        "output_identifier_rate",
        "ledger_faults",
    }


def test_the_demo_runs_on_shipped_data_and_the_bundled_model(pack: Pack) -> None:
    demo = pack.workflow(pack.demo_workflow)
    assert pack.dataset(demo.dataset).kind == "synthetic"
    assert demo.base_model == BUNDLED_MODEL
    assert {gate.name for gate in demo.gates} >= {"quality", "identifiers_in_answers", "ledger"}


def test_every_pack_takes_conversations_that_are_none_of_its_tasks(pack: Pack) -> None:
    flow = pack.workflow("conversations")
    assert flow == pack.conversations
    assert flow not in pack.workflows
    assert not flow.reads_fields
    assert flow.base_model == BUNDLED_MODEL
    assert flow.recipe.turns == "all"
    assert flow.recipe.max_length > 100 * max(each.max_new_tokens for each in pack.workflows)
    assert {gate.measure for gate in flow.gates} >= {"likelihood_gain_low", "tuned_minus_base_low", "ledger_faults"}


def test_every_redaction_profile_exists(pack: Pack) -> None:
    assert (PROFILES / f"{pack.redaction_profile}.toml").is_file()


def test_every_model_states_licence_source_and_why_it_may_be_uncertain(pack: Pack) -> None:
    for entry in pack.catalog:
        assert entry.licence
        assert entry.sources
        assert entry.revision or entry.revision_note
        assert entry.is_verified or entry.unverified
        assert entry.architecture is not None or not entry.is_verified


def test_some_models_of_each_pack_have_seen_the_field_before(pack: Pack) -> None:
    assert sum(entry.domain_training != "none" for entry in pack.catalog) >= 3


def test_published_parameter_counts_equal_the_sum_of_the_sizes(pack: Pack) -> None:
    for entry in pack.catalog:
        if entry.architecture is not None:
            assert count_parameters(entry.architecture) == pytest.approx(entry.parameters, rel=1e-3)


def test_every_dataset_states_licence_and_citation(pack: Pack) -> None:
    for dataset in pack.datasets:
        assert dataset.licence
        assert dataset.citation
        assert dataset.is_verified or dataset.unverified
        for file in dataset.files:
            assert file.sha256 or file.note


def test_closed_answers_stand_in_the_prompt(pack: Pack) -> None:
    for workflow in pack.workflows:
        if workflow.label_schema and pack.dataset(workflow.dataset).kind == "synthetic":
            for label in pack.label_schema(workflow.label_schema).names:
                assert label in workflow.mapping.system


def test_names_in_files_are_the_files_names(pack: Pack) -> None:
    for kind, names in (
        ("datasets", {dataset.name for dataset in pack.datasets}),
        ("workflows", {workflow.name for workflow in pack.workflows}),
    ):
        assert {path.stem for path in (pack.folder / kind).glob("*.toml")} == names


def test_generator_names_and_code_agree() -> None:
    assert set(REGISTRY) == set(GENERATORS)


def test_a_fourth_domain_is_a_folder(fourth: Path) -> None:
    assert tuple(available_packs(fourth.parent)) == ("dentistry", *SHIPPED)
    assert load_pack("dentistry", fourth.parent).demo_workflow == "visit_sections"


def test_an_extra_pack_cannot_replace_a_shipped_one(fourth: Path) -> None:
    fourth.rename(fourth.parent / "finance")
    with pytest.raises(PackError, match="a pack of this name is shipped"):
        available_packs(fourth.parent)


def test_an_unknown_pack_is_a_key_error() -> None:
    with pytest.raises(KeyError):
        load_pack("astrology")


@pytest.mark.parametrize(
    ("name", "old", "new", "message"),
    [
        ("pack.toml", "title =", "titel =", r"dentistry/pack\.toml: title: is missing"),
        ("pack.toml", "redaction_profile", 'x = "y"\nredaction_profile', r"dentistry/pack\.toml: x: unknown key"),
        ("pack.toml", 'name = "dentistry"', 'name = "dental"', "must be the folder's name"),
        (
            "workflows/visit_sections.toml",
            "epochs = 2",
            "epoch = 2",
            r"visit_sections\.toml: recipe\.epochs: is missing",
        ),
        ("workflows/visit_sections.toml", "epochs = 2", "epochs = true", r"recipe\.epochs: must be a whole number"),
        ("workflows/visit_sections.toml", "epochs = 2", "epochs = 0", r"recipe\.epochs: must be at least 1"),
        ("workflows/visit_sections.toml", '"{text}"', '"{txt}"', "'txt' is not defined"),
        ("workflows/visit_sections.toml", '"{text}"', '"{text.upper}"', r"messages\.user: stray"),
        ("workflows/visit_sections.toml", '"label_match"', '"os.system"', r"metric: 'os\.system' is not known"),
        ("workflows/visit_sections.toml", '"quality"', '"qualities"', r"gates\[0\]\.name: 'qualities' is not known"),
        ("workflows/visit_sections.toml", '"smollm2-135m-instruct"', '"gpt-9"', "base_model: 'gpt-9' is not defined"),
        ("workflows/visit_sections.toml", 'dataset = "visit', 'dataset = "visits', "dataset: .* is not defined"),
        ("datasets/visit_sections.toml", '"phrases"', '"domains.packs:load_pack"', "generator: .* is not known"),
        ("datasets/visit_sections.toml", 'phrases = "phrases/', 'phrases = "../', "phrases: must lie inside"),
        ("datasets/visit_sections.toml", 'phrases = "phrases/', 'phrases = "phases/', "phrases: there is no file"),
        (
            "datasets/visit_sections.toml",
            'label_schema = "visit',
            'label_schema = "visits',
            "label_schema: .* not defined",
        ),
        ("datasets/mts_dialog.toml", "379f2388", "379F2388", r"files\[0\]\.sha256: must be 64 lower-case"),
        ("datasets/mts_dialog.toml", "[fields.dialogue]", "[fields.subject]", r"fields\.subject: is reserved"),
        ("gates.toml", '"tuned_minus_base_low"', '"vibes"', r"gates\[0\]\.measure: 'vibes' is not known"),
        ("gates.toml", "threshold = 0.0", "threshold = nan", r"threshold: must be a finite number"),
        ("labels.toml", 'key = "a"', 'key = "m"', "two labels have the same key"),
        ("catalog.toml", "parameters = 7241732096", "parameters = 7300000000", "but the architecture adds up to"),
        ("catalog.toml", 'licence = "Apache-2.0"', 'licence = ""', "licence: must not be empty"),
        ("catalog.toml", 'model = "smollm2-360m-instruct"', 'model = "smollm9"', "'smollm9' is not known"),
        ("probes.jsonl", '"attribute": "gender"', '"attribute": "shoe size"', "line 9: attribute must be one of"),
        ("probes.jsonl", '"label": "Allergy"', '"label": "Allergies"', "label: 'Allergies' is not defined"),
        ("probes.jsonl", '{"who": "Mrs. Carter"}', '{"whom": "Mrs. Carter"}', "fill exactly who"),
        ("probes.jsonl", '{"id"', '{"id', "line 1: is not JSON"),
    ],
)
def test_a_mistake_in_a_pack_is_named_with_file_and_key(
    fourth: Path, name: str, old: str, new: str, message: str
) -> None:
    edit(fourth, name, old, new)
    with pytest.raises(PackError, match=message):
        load_pack("dentistry", fourth.parent)


def test_a_pack_may_bring_its_own_redaction_profile(fourth: Path) -> None:
    edit(fourth, "pack.toml", '"healthcare"', '"redaction.toml"')
    with pytest.raises(PackError, match=r"redaction_profile: there is no file 'redaction\.toml'"):
        load_pack("dentistry", fourth.parent)
    shutil.copy(PROFILES / "healthcare.toml", fourth / "redaction.toml")
    assert load_pack("dentistry", fourth.parent).redaction_profile == str((fourth / "redaction.toml").resolve())


def test_a_missing_file_is_named(fourth: Path) -> None:
    (fourth / "gates.toml").unlink()
    with pytest.raises(PackError, match=r"dentistry/gates\.toml: the file is missing"):
        load_pack("dentistry", fourth.parent)


def test_a_file_that_is_not_toml_is_named(fourth: Path) -> None:
    (fourth / "labels.toml").write_bytes(b"\xff\xfe = [")
    with pytest.raises(PackError, match=r"dentistry/labels\.toml: is not valid TOML"):
        load_pack("dentistry", fourth.parent)


def test_packs_hold_no_code() -> None:
    for folder in available_packs().values():
        assert {path.suffix for path in folder.rglob("*") if path.is_file()} <= {".toml", ".jsonl"}


def test_a_table_reports_the_first_key_nobody_read() -> None:
    table = TomlTable(tomllib.loads("a = 1\nb = 2\n"), source="some.toml", path="part")
    table.integer("a")
    with pytest.raises(PackError, match=r"some\.toml: part\.b: unknown key; known here: a"):
        table.finish()


def test_closed_labels_are_those_of_the_answer_field_only() -> None:
    pack = load_pack("legal")
    assert pack.closed_labels("nda_entailment", "label") == ("Entailment", "Contradiction", "Neutral")
    assert pack.closed_labels("nda_entailment", "clause") == ()
    assert load_pack("finance").closed_labels("statement_lookup", "answer") == ()
