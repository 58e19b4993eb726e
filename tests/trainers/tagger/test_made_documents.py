"""Documents made for the tagger: every span says exactly where its value stands, whatever was done to the text."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainers.tagger.casting import SLOTS, Cast
from trainers.tagger.documents import Document, split_groups
from trainers.tagger.labels import LABEL_INDEX
from trainers.tagger.noise import disturbed, lowered
from trainers.tagger.renaming import renamed
from trainers.tagger.templates import fill, make_documents, read_templates


def test_every_shipped_template_names_known_slots_only_and_there_are_many() -> None:
    templates = read_templates()
    assert len(templates) > 800
    assert sum("{" not in text for text in templates.values()) > 150


def test_an_unknown_slot_is_an_error_that_names_file_and_template(tmp_path) -> None:  # type: ignore[no-untyped-def]
    (tmp_path / "letters.txt").write_text("Dear {person},\n%%\nYours, {nobody}\n")
    with pytest.raises(ValueError, match=r"letters\.txt, template 2: unknown slot nobody"):
        read_templates(tmp_path)


@pytest.mark.parametrize("slot", sorted(SLOTS))
def test_every_slot_has_a_value_and_the_same_seed_gives_the_same(slot: str) -> None:
    values = [Cast(Random(seed)).value(slot) for seed in range(20)]
    assert all(value.strip() for value in values)
    assert values == [Cast(Random(seed)).value(slot) for seed in range(20)]


def test_only_the_kind_is_taught_of_what_may_be_public() -> None:
    document = fill("The {nationality:k} Government and {person}", Random(2), "t")
    assert [label for _, _, label in document.spans] == ["DEMOGRAPHIC_EITHER", "PERSON_MASK"]
    (span,) = fill("The applicant is a {profession}.", Random(2), "court_judgments/1").spans
    assert span[2] == "DEMOGRAPHIC_EITHER"


def test_documents_of_one_seed_are_the_same_and_of_another_are_not() -> None:
    templates = {"a/1": "{person} lives in {city}.", "a/2": "Nothing here."}
    one, same, other = (list(make_documents(templates, 20, seed)) for seed in (1, 1, 2))
    assert one == same != other


@given(seed=st.integers(0, 2**32 - 1))
def test_spans_stay_inside_the_text_and_apart_under_any_noise(seed: int) -> None:
    random = Random(seed)
    document = disturbed(fill("{person}, {address}; {date} {code} of {company}", random, "t"), random)
    last = 0
    for start, end, label in document.spans:
        assert last <= start < end <= len(document.text)
        assert label in LABEL_INDEX
        last = end


@given(name=st.text("ÄÖİßa bc-", min_size=1, max_size=12).filter(str.strip))
def test_a_letter_that_becomes_two_in_lower_case_moves_the_spans_behind_it(name: str) -> None:
    document = lowered(Document(f"{name} met Zoe", ((len(name) + 5, len(name) + 8, "PERSON_MASK"),), "t"))
    ((start, end, _),) = document.spans
    assert document.text[start:end] == "zoe"


def test_a_split_keeps_groups_whole() -> None:
    documents = [Document(str(n), (), f"group {n % 10}") for n in range(100)]
    train, held = split_groups(documents, 0.2, seed=1)
    assert len(held) == 20
    assert not {d.group for d in train} & {d.group for d in held}


def test_a_renamed_document_keeps_its_form_and_what_is_public() -> None:
    text = "Mr Pušaver (no. 12345/98) met PUŠAVER in Strasbourg on 3 May 1999; the teacher paid."
    found = [
        ("Pušaver", "PERSON_MASK"),
        ("12345/98", "CODE_MASK"),
        ("PUŠAVER", "PERSON_MASK"),
        ("Strasbourg", "LOCATION_KEEP"),
        ("3 May 1999", "DATE_MASK"),
        ("teacher", "DEMOGRAPHIC_MASK"),
    ]
    document = Document(text, tuple((text.index(v), text.index(v) + len(v), label) for v, label in found), "t")
    new = renamed(document, Random(5))
    values = [new.text[start:end] for start, end, _ in new.spans]
    assert [label for _, _, label in new.spans] == [label for _, label in found]
    assert values[0] != "Pušaver"
    assert values[2] == values[0].upper()
    assert values[1] != "12345/98"
    assert [len(part) for part in values[1].split("/")] == [5, 2]
    assert (values[3], values[5]) == ("Strasbourg", "teacher")
    assert values[4].split()[1] == "May"
    assert new == renamed(document, Random(5)) != document
