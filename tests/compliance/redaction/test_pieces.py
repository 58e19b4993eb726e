"""Words that are remembered: the pieces and places are those of the tokenizer, whatever the text."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from compliance.redaction.kinds import SHAPES, word_shape
from compliance.redaction.pieces import Cutter
from compliance.redaction.tagger import SHIPPED

# Letters, marks and blanks of Latin texts, and what the quick way must leave to the tokenizer.
_CHARS = st.one_of(
    st.sampled_from(" .,-'\"’“”–—§„_\t\n\r[]()/0123456789abcXYZÄßéİıŁǅ£€"),
    st.characters(min_codepoint=1, max_codepoint=0x24F),
    st.sampled_from("漢́​‮ﬁ０×ªµ☎𝐀"),
)


def _tokenizer() -> Any:
    made = Tokenizer.from_file(str(SHIPPED / "tokenizer.json"))
    made.no_padding()
    made.no_truncation()
    return made


TOKENIZER = _tokenizer()
CUTTER = Cutter(TOKENIZER)


@settings(max_examples=150)
@given(text=st.text(_CHARS, max_size=60))
@example(text="")
@example(text=" \n ")
@example(text="the [SEP] and [CLS] of [MASK]")
@example(text="x" * 101 + " y")
@example(text="Mr O’Neill-Yıldırım’s £5,000 (§ 4 a)")
def test_pieces_and_places_are_those_of_the_tokenizer(text: str) -> None:
    encoding = TOKENIZER.encode(text)
    cut = CUTTER.cut(text)
    assert cut.ids == encoding.ids
    words: dict[int, list[int]] = {}
    for place, word in enumerate(encoding.word_ids):
        if word is not None:
            words.setdefault(word, []).append(place)
    assert cut.firsts == [places[0] for places in words.values()]
    assert cut.starts == [encoding.offsets[places[0]][0] for places in words.values()]
    assert cut.ends == [encoding.offsets[places[-1]][1] for places in words.values()]
    expected = [SHAPES - 1] * len(encoding.ids)
    for places, start, end in zip(words.values(), cut.starts, cut.ends, strict=True):
        for place in places:
            expected[place] = word_shape(text[start:end])
    assert cut.shapes == expected


def test_a_word_seen_before_is_cut_the_same_again() -> None:
    cutter = Cutter(TOKENIZER)
    first = cutter.cut("Kowalczyk met Kowalczyk.")
    assert cutter.cut("Kowalczyk met Kowalczyk.") == first
    assert len(first.starts) == 4


def test_no_more_words_are_kept_than_the_bound_allows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("compliance.redaction.pieces._MOST_WORDS", 3)
    cutter = Cutter(TOKENIZER)
    text = "alpha beta gamma delta"
    assert cutter.cut(text) == cutter.cut(text) == CUTTER.cut(text)
    assert len(cutter._known) == 3
