"""What was found once is found again, also in the subject's other documents; names that are words are told apart."""

from __future__ import annotations

import dataclasses
import random

import pytest

from compliance.redaction import Detector, Redactor, detect_subject, load_profile

FINANCE = dataclasses.replace(load_profile("finance"), tagger=False)
DETECTOR = Detector(FINANCE)


def found(text: str) -> list[str]:
    return [text[f.start : f.end] for f in DETECTOR.detect(text)]


@pytest.mark.parametrize(
    "again",
    [
        "Kowalski",
        "KOWALSKI",
        "J. Kowalski",
        "Kowalski, John",
        "john kowalski",
        "kowalski",
        "j.kowalski",
        "jkowalski",
        "J.K.",
    ],
)
def test_each_form_of_a_full_name_is_found_again(again: str) -> None:
    assert again in " ".join(found(f"Mr John Kowalski came. Then {again} was asked about it."))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Ms Anna Young came. Young said no.", "Young"),
        ("Ms Anna Young came. We believed Young entirely.", "Young"),
        ("Ms Anna Young came. I gave it to Young's mother.", "Young"),
        ("Mr Theodor Price came. It was signed by Dr. Price.", "Price"),
    ],
)
def test_a_surname_that_is_a_word_is_found_where_it_is_used_as_a_name(text: str, expected: str) -> None:
    assert expected in found(text)[1:]


@pytest.mark.parametrize(
    "text",
    [
        "Ms Anna Young came. Young people like it, and the young ones too.",
        "Mr Theodor Price came. The Price List was sent; the price rose.",
        "Ms Anna May came. It was done in May and on 3 May.",
        "Mr Peter Park came. They met at Central Park Avenue.",
        "Mr Peter Long came. Long waits are common.",
    ],
)
def test_a_surname_that_is_a_word_is_left_where_it_is_one(text: str) -> None:
    surname = text.split()[2]
    assert surname not in [value.removesuffix(".") for value in found(text)[1:]]


def test_one_document_of_a_subject_gives_away_the_others_in_any_order() -> None:
    texts = ["Kowalski rang twice.", "Mr John Kowalski opened it.", "mail from john.kowalski", "nothing here"]
    for seed in range(4):
        order = random.Random(seed).sample(texts, len(texts))
        values = {
            t[f.start : f.end] for t, own in zip(order, detect_subject(DETECTOR, order), strict=True) for f in own
        }
        assert {"Kowalski", "John Kowalski", "john.kowalski"} <= values


def test_offsets_are_those_of_the_original_when_another_document_is_disguised() -> None:
    texts = ["Mr John Kowalski came.", "K\u200bowalski rang, then \uff2bowalski left."]
    values = [texts[1][f.start : f.end] for f in detect_subject(DETECTOR, texts)[1]]
    assert values == ["K\u200bowalski", "\uff2bowalski"]


def test_a_subject_keeps_one_surrogate_in_all_documents() -> None:
    first, second = Redactor(FINANCE, bytes(32)).redact_subject(["Mr John Kowalski came.", "KOWALSKI left."], "s1")
    surname = first.text.split()[2]
    assert second.text == f"{surname.upper()} left."
    assert Redactor(FINANCE, bytes([1]) * 32).redact_subject(["Mr John Kowalski came."], "s1")[0].text != first.text
