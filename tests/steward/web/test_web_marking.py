"""Pieces of a marked text."""

from typing import Any

import pytest

from steward.web.marking import kind_of, marked, pieces

RAW = "Mrs. Quackenbush came on 3 May."
REDACTED = "Mrs. Ng came on 2024."


def found(**changes: Any) -> dict[str, Any]:
    person = {
        "start": 5, "end": 16, "replacement_start": 5, "replacement_end": 7, "type": "PERSON", "score": 0.9,
        "rule": "person.title", "operator": "surrogate",
    }  # fmt: skip
    return person | changes


DATE = found(start=25, end=30, replacement_start=16, replacement_end=20, type="DATE", operator="generalise")


def test_pieces_put_together_are_the_text() -> None:
    for text, side in ((RAW, "raw"), (REDACTED, "redacted")):
        cut = pieces(text, [DATE, found()], side)  # type: ignore[arg-type]
        assert "".join(piece.text for piece in cut) == text


def test_a_mark_says_what_why_and_what_stands_on_the_other_side() -> None:
    cut = pieces(RAW, [found(), DATE], "raw", REDACTED)
    shown = [(piece.text, piece.mark.type, piece.mark.operator, piece.other) for piece in cut if piece.mark]
    assert shown == [("Quackenbush", "PERSON", "surrogate", "Ng"), ("3 May", "DATE", "generalise", "2024")]


@pytest.mark.parametrize("bounds", [(5, 99), (9, 4), (-1, 3)])
def test_a_finding_that_does_not_fit_is_left_out_and_the_text_stays_whole(bounds: tuple[int, int]) -> None:
    cut = pieces(RAW, [found(start=bounds[0], end=bounds[1])], "raw")
    assert "".join(piece.text for piece in cut) == RAW
    assert not any(piece.mark for piece in cut)


def test_each_text_of_a_record_keeps_its_name() -> None:
    payload = {"messages": [{"role": "user", "content": REDACTED}, {"role": "assistant", "content": "Yes."}]}
    names = [slot.name for slot in marked(payload, [[found()], []], "redacted")]
    assert names == ["user", "assistant"]


def test_unknown_types_count_as_numbers() -> None:
    assert kind_of("PERSON") == "person"
    assert kind_of("SOMETHING_NEW") == "number"
