"""Public sets: the recipes fit the real files, byte for byte and row by row."""

import hashlib
import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from domains.datasets import DatasetRecipe, ShapeError, shape_record, split_of
from domains.packs import load_pack
from domains.workflows import map_record

DATA = Path(__file__).parents[3] / "shared" / "data"
FILES = [
    (pack, dataset.name, file.name)
    for pack in ("finance", "healthcare", "legal")
    for dataset in load_pack(pack).datasets
    for file in dataset.files
    if file.sha256
]


def path_of(pack: str, name: str) -> Path:
    path = DATA / pack / name
    if not path.is_file():
        pytest.skip(f"the public file {pack}/{name} is not beside this checkout")
    return path


def rows(pack: str, name: str) -> Iterator[dict[str, Any]]:
    with path_of(pack, name).open(encoding="utf-8") as stream:
        for line in stream:
            yield json.loads(line)


def records(pack: str, recipe: DatasetRecipe, name: str) -> list[dict[str, str]]:
    joined: dict[str, dict[str, Any]] = {}
    if recipe.shape.join is not None:
        joined = {row["document"]: row for row in rows(pack, name.replace(".jsonl", ".documents.jsonl"))}
    return [record for row in rows(pack, name) for record in shape_record(recipe, row, joined)]


@pytest.mark.parametrize(("pack", "dataset", "file"), FILES)
def test_checksum_and_rows_are_those_of_the_file(pack: str, dataset: str, file: str) -> None:
    expected = next(entry for entry in load_pack(pack).dataset(dataset).files if entry.name == file)
    content = path_of(pack, file).read_bytes()
    assert hashlib.sha256(content).hexdigest() == expected.sha256
    assert content.count(b"\n") == expected.rows


@pytest.mark.parametrize(
    ("pack", "dataset", "file", "count"),
    [
        ("healthcare", "mts_dialog", "mts_dialog.train.jsonl", 1201),
        ("healthcare", "pubmedqa", "pubmedqa.train.jsonl", 500),
        ("finance", "tat_qa", "tat_qa.dev.jsonl", 750),
        ("finance", "tat_qa_spans", "tat_qa.dev.jsonl", 918),
        ("legal", "contract_nli", "contract_nli.train.jsonl", 850),
        ("legal", "contract_nli_evidence", "contract_nli.train.jsonl", 503),
        ("legal", "cuad_clauses", "cuad_clauses.jsonl", 10983),
    ],
)
def test_every_row_becomes_records_and_messages(pack: str, dataset: str, file: str, count: int) -> None:
    loaded = load_pack(pack)
    recipe = loaded.dataset(dataset)
    made = records(pack, recipe, file)
    assert len(made) == count
    workflows = [workflow for workflow in loaded.workflows if workflow.dataset == dataset]
    for record in made:
        assert set(record) == {*recipe.fields, "subject"}
        for workflow in workflows:
            assert map_record(workflow, record)[-1]["content"].strip()
    labelled = [workflow for workflow in workflows if workflow.label_schema]
    for workflow in labelled:
        answers = {map_record(workflow, record)[-1]["content"] for record in made}
        assert answers <= set(loaded.label_schema(workflow.label_schema or "").names)


def test_subjects_of_real_sets_never_cross_parts() -> None:
    recipe = load_pack("legal").dataset("cuad_clauses")
    made = records("legal", recipe, "cuad_clauses.jsonl")
    parts: dict[str, set[str]] = {}
    for record in made:
        parts.setdefault(record["subject"], set()).add(split_of(recipe, record, seed=1))
    assert all(len(found) == 1 for found in parts.values())
    shares = Counter(next(iter(found)) for found in parts.values())
    assert 0.6 < shares["train"] / len(parts) < 0.8


ROW = {
    "id": "c1",
    "table": [["", "2019"], ["Sales", "$ 1,452.4"]],
    "paragraphs": ["One.", "Two."],
    "questions": [
        {"question": "Sum?", "answer": 12.5, "answer_type": "arithmetic", "scale": "million"},
        {"question": "Which?", "answer": ["a", "b"], "answer_type": "multi-span"},
    ],
}


def test_questions_are_taken_apart_and_tables_laid_out() -> None:
    made = list(shape_record(load_pack("finance").dataset("tat_qa"), ROW))
    assert made == [
        {
            "table": " | 2019\nSales | $ 1,452.4",
            "paragraphs": "One.\nTwo.",
            "question": "Sum?",
            "answer": "12.5",
            "scale": "million",
            "derivation": "",
            "subject": "c1",
        }
    ]
    spans = list(shape_record(load_pack("finance").dataset("tat_qa_spans"), ROW))
    assert spans[0]["answer"] == "a, b"


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"table": "text"}, "table"),
        ({"table": None}, "table"),
        ({"paragraphs": [{"text": "secret"}]}, "paragraphs"),
        ({"questions": None}, "questions"),
        ({"questions": ["secret"]}, "questions"),
        ({"questions": [{"question": "secret", "answer_type": "count", "answer": True}]}, "answer"),
        ({"questions": [{"answer_type": "count", "answer": "1"}]}, "question"),
        ({"id": None}, "id"),
    ],
)
def test_a_row_of_another_shape_is_refused_without_quoting_it(change: dict[str, Any], field: str) -> None:
    with pytest.raises(ShapeError) as caught:
        list(shape_record(load_pack("finance").dataset("tat_qa"), {**ROW, **change}))
    assert caught.value.field == field
    assert "secret" not in str(caught.value)


def test_a_row_without_its_document_is_refused() -> None:
    recipe = load_pack("legal").dataset("contract_nli")
    row = {"document": "a.pdf", "hypothesis": "h", "label": "Entailment"}
    with pytest.raises(ShapeError, match="no partner"):
        next(shape_record(recipe, row, {}))
    assert next(shape_record(recipe, row, {"a.pdf": {"document": "a.pdf", "text": "t"}}))["text"] == "t"


def test_a_split_field_must_name_a_part() -> None:
    recipe = load_pack("healthcare").dataset("visit_sections")
    assert split_of(recipe, {"group": "validation", "subject": "s"}) == "validation"
    with pytest.raises(ShapeError, match="one of train, validation, test"):
        split_of(recipe, {"group": "dev", "subject": "s"})
