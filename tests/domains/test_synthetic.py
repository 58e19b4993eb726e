"""Synthetic sets: repeatable, balanced, with test templates and subjects that training never sees."""

import re
from collections import Counter, defaultdict
from pathlib import Path
from random import Random

import pytest

from domains.datasets import split_of
from domains.packs import HERE, Pack, PackError, load_pack
from domains.synthetic import generate, generate_with_identifiers
from domains.synthetic.identifiers import (
    TEST_CARDS,
    has_routing_checksum,
    iban,
    is_iban,
    is_luhn,
    numbered,
    payment_card,
    postcode,
    routing,
    social_security,
    telephone,
)
from domains.synthetic.people import PERSON_SLOTS, RECORD_SLOTS, make_circumstances, make_person
from domains.synthetic.phrases import load_phrases
from domains.synthetic.planted import planted_identifiers, still_present
from domains.workflows import map_record

SETS = [
    (pack, dataset.name)
    for pack in ("finance", "healthcare", "legal")
    for dataset in load_pack(pack).datasets
    if dataset.kind == "synthetic"
]


@pytest.fixture(scope="module", params=SETS, ids="/".join)
def made(request: pytest.FixtureRequest) -> tuple[Pack, str, list[dict[str, str]]]:
    pack = load_pack(request.param[0])
    return pack, request.param[1], list(generate(pack, request.param[1], seed=20, count=600))


Made = tuple[Pack, str, list[dict[str, str]]]


def test_a_seed_makes_the_same_records_and_another_seed_others(made: Made) -> None:
    pack, name, records = made
    assert list(generate(pack, name, seed=20, count=600)) == records
    other = list(generate(pack, name, seed=21, count=50))
    assert not {tuple(record.values()) for record in other} & {tuple(record.values()) for record in records}


def test_records_have_the_recipes_fields_and_nothing_blank(made: Made) -> None:
    pack, name, records = made
    expected = {"id", "subject", "group", "template", *pack.dataset(name).fields}
    for record in records:
        assert set(record) == expected
        assert all(isinstance(value, str) and value.strip() for value in record.values())
        assert "{" not in "".join(record.values())
    assert len({record["id"] for record in records}) == len(records)


def test_a_subject_stays_in_one_part_and_parts_have_their_shares(made: Made) -> None:
    pack, name, records = made
    parts = defaultdict(set)
    for record in records:
        parts[record["subject"]].add(split_of(pack.dataset(name), record))
    assert all(len(found) == 1 for found in parts.values())
    shares = Counter(split_of(pack.dataset(name), record) for record in records)
    assert shares["train"] == pytest.approx(420, abs=5)
    assert shares["validation"] == pytest.approx(60, abs=5)
    assert shares["test"] == pytest.approx(120, abs=5)
    assert max(Counter(record["subject"] for record in records).values()) > 1


def test_test_templates_are_unseen_in_training(made: Made) -> None:
    _, _, records = made
    templates = defaultdict(set)
    for record in records:
        templates["test" if record["group"] == "test" else "seen"].add(record["template"])
    assert not templates["test"] & templates["seen"]
    assert len(templates["seen"]) >= 25
    assert len(templates["test"]) >= 9


def test_test_texts_are_unseen_in_training(made: Made) -> None:
    pack, name, records = made
    texts = defaultdict(set)
    for record in records:
        texts[record["group"]].add(tuple(record[field] for field in pack.dataset(name).fields))
    assert not texts["test"] & (texts["train"] | texts["validation"])
    assert sum(map(len, texts.values())) >= 0.97 * len(records)


def test_labels_are_those_of_the_schema_and_balanced(made: Made) -> None:
    pack, name, records = made
    schema = pack.dataset(name).label_schema
    if schema is None:
        assert len({record["answer"] for record in records}) > 100
        return
    labels = pack.label_schema(schema).names
    for group in ("train", "test"):
        counts = Counter(record["label"] for record in records if record["group"] == group)
        assert set(counts) == set(labels)
        assert max(counts.values()) - min(counts.values()) <= 8


def test_most_records_carry_identifiers_and_all_of_them_are_listed(made: Made) -> None:
    pack, name, records = made
    planted = list(generate_with_identifiers(pack, name, seed=20, count=600))
    assert [record for record, _ in planted] == records
    looks = re.compile(r"\d{3}.{0,2}555.01\d\d|\S+@example\.\w+|\b(?:Mr|Ms|Mrs|Dr)\. \w+|\bGB\d\d TEST")
    for record, identifiers in planted:
        text = "\n".join(record[field] for field in pack.dataset(name).fields)
        assert still_present(identifiers, text) == identifiers
        listed = " ".join(identifiers)
        assert all(found.strip("().+ ") in listed for found in looks.findall(text))
    assert sum(bool(identifiers) for _, identifiers in planted) >= 0.6 * len(planted)


def test_an_identifier_is_a_whole_word_and_its_longest_reading() -> None:
    slots = {"first": "Ali", "last": "Kim", "name": "Ali Kim", "city": "Erie, PA"}
    assert planted_identifiers(["Ali Kim of California", "Ali, Kimberley"], slots) == ["Ali Kim", "Ali"]
    assert still_present(["Ali Kim", "Ali"], "Ali-Kim in California") == ["Ali"]


def test_every_workflow_maps_its_records_to_short_messages(made: Made) -> None:
    pack, name, records = made
    for workflow in (workflow for workflow in pack.workflows if workflow.dataset == name):
        for record in records:
            messages = map_record(workflow, record)
            assert [message["role"] for message in messages] == ["system", "user", "assistant"]
            assert sum(len(message["content"]) for message in messages) < 600


def test_a_statement_answer_stands_once_in_its_table() -> None:
    for record in generate(load_pack("finance"), "statement_lookup", seed=5, count=200):
        assert record["text"].count(record["answer"]) == 1


def test_a_medication_answer_is_copied_from_its_order() -> None:
    for record in generate(load_pack("healthcare"), "medication_orders", seed=5, count=200):
        drug, dose, code = record["answer"].split("; ")
        assert drug in record["text"].lower()
        assert dose in record["text"].lower()
        assert code in {"QD", "BID", "TID", "QHS", "PRN"}


def test_a_hypothesis_alone_does_not_tell_the_label() -> None:
    labels = defaultdict(Counter)
    for record in generate(load_pack("legal"), "nda_entailment", seed=5, count=1200):
        labels[record["hypothesis"]][record["label"]] += 1
    for counts in labels.values():
        assert set(counts) == {"Entailment", "Contradiction", "Neutral"}
        assert max(counts.values()) < 0.7 * counts.total()


def test_a_generator_streams() -> None:
    stream = generate(load_pack("healthcare"), "visit_sections", seed=1, count=10**9)
    assert len([next(stream) for _ in range(5)]) == 5


def test_public_sets_and_empty_counts_are_refused() -> None:
    pack = load_pack("healthcare")
    with pytest.raises(ValueError, match="public set"):
        next(generate(pack, "mts_dialog", seed=1, count=1))
    with pytest.raises(ValueError, match="at least 1"):
        next(generate(pack, "visit_sections", seed=1, count=0))
    with pytest.raises(KeyError):
        next(generate(pack, "nothing", seed=1, count=1))


def test_people_keep_their_identifiers_and_fill_every_slot() -> None:
    person = make_person(Random(3))
    assert person == make_person(Random(3))
    assert set(person) == set(PERSON_SLOTS)
    assert set(make_circumstances(Random(3), person)) == set(RECORD_SLOTS)
    assert person["name"].startswith(person["first"])
    assert person["titled"].endswith(person["last"])


def test_identifiers_have_right_check_digits_and_reserved_ranges() -> None:
    source = Random(8)
    for _ in range(300):
        assert has_routing_checksum(routing(source))
        assert routing(source)[0] == "5"
        assert is_iban(iban(source))
        assert iban(source)[5:9] == "TEST"
        assert is_luhn(numbered(source, "", 8))
        assert re.search(r"555.?.01\d\d$", telephone(source))
        area, group, _ = social_security(source).split("-")
        assert 900 <= int(area) <= 999
        assert 10 <= int(group) <= 49
        card = re.sub(r"\D", "", payment_card(source))
        assert card in TEST_CARDS
        assert is_luhn(card)
        assert len(postcode(source)) == 5


def test_wrong_check_digits_are_told() -> None:
    assert not is_luhn("4111111111111112")
    assert not has_routing_checksum("111000026")
    assert not has_routing_checksum("1110")
    assert not is_iban("GB83WEST12345698765432")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("{titled}, go on", "{tilted}, go on", r"frames\.train\[0\]: there is no slot 'tilted'"),
        ('"{drug} makes me {reaction}"', '"I break out whenever I touch {allergen}"', "test templates must be unseen"),
        ("typo = 0.15", "typo = 1.5", r"noise\.typo: must be at most 1"),
        ("typo = 0.15", "typos = 0.15", r"noise\.typos: unknown key"),
        ('drug_two = ["metoprolol"', 'drug_two = ["{drug_two}"', "nested more than"),
        ('drug_two = ["metoprolol"', 'name = ["x"]\ndrug_two = ["metoprolol"', "slot that every record has"),
    ],
)
def test_a_mistake_in_a_phrase_file_is_named(tmp_path: Path, old: str, new: str, message: str) -> None:
    text = (HERE / "healthcare" / "phrases" / "visit_sections.toml").read_text()
    assert old in text
    path = tmp_path / "visit_sections.toml"
    path.write_text(text.replace(old, new, 1))
    with pytest.raises(PackError, match=message):
        load_phrases(path)
