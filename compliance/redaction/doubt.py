# ruff: noqa: E501 - a pattern or a word list is read in one piece
"""Which passages the tagger has to read: those with a word that no rule and no dictionary has explained.

Guarantees: a passage is skipped only if each of its capitalised words (or, where it has no small letters or no capitals, each of its
words) is found already, an ordinary word, or the name of a country, nationality, institution or month.
Does not: look at numbers; the rules have judged them.

Example:
    >>> is_doubtful("The court adjourned.", 0, 20, bytearray(20)), is_doubtful("The judge saw Pušaver.", 0, 22, bytearray(22))
    (False, True)
"""

from __future__ import annotations

import re
from functools import lru_cache

from compliance.redaction.gazetteers import phrases, word_set
from compliance.redaction.vocabulary import is_word

_WORD = re.compile(r"[^\W\d_](?:[^\W\d_]|['’‑-](?=[^\W\d_]))*")
_CALENDAR = frozenset(
    [
        "january", "february", "march", "april", "may", "june", "july", "august", "september", "october", "november",
        "december", "monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday",
    ]
)  # fmt: skip
# Of words that are also names ("Mark", "Rose"), these begin so many sentences that they prove nothing.
_PLAIN = frozenset(
    ["will", "may", "can", "art", "bill", "mark", "hope", "grace", "long", "may", "young", "miss", "general", "major"]
)


def is_doubtful(text: str, start: int, end: int, covered: bytearray) -> bool:
    """Whether the passage holds an unexplained word.

    Args:
        text: a folded view.
        start: begin of the passage.
        end: its end.
        covered: one byte for each character of ``text``, non-zero where a finding stands.
    """
    passage = text[start:end]
    has_both_cases = not passage.isupper() and not passage.islower()
    for match in _WORD.finditer(passage):
        word = match[0]
        if covered[start + match.start()] or len(word) < 2:
            continue
        if has_both_cases and word[0].islower():
            continue
        if not _is_explained(word, _begins(passage, match.start())):
            return True
    return False


def _begins(passage: str, position: int) -> bool:
    before = passage[:position].rstrip(" \t(\"'“”‘’-*•>")
    return not before or before[-1] in ".!?:;\n"


@lru_cache(maxsize=65_536)
def _is_explained(word: str, begins_sentence: bool) -> bool:
    low = word.lower().removesuffix("'s").removesuffix("’s")
    if (
        low in word_set("institutions")
        or low in word_set("nationalities")
        or low in _CALENDAR
        or low in word_set("clinical_terms")
    ):
        return True
    if low in phrases("countries"):
        return True
    if low in word_set("given_names") or low in word_set("surnames"):
        return begins_sentence and low in _PLAIN
    if low in phrases("cities") or low in phrases("places"):
        return False
    return begins_sentence and is_word(low)
