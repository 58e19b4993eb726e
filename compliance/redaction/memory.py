"""Document memory: what was found once is found everywhere in the same document.

Guarantees: after a full name was found, its surname, given name (if it is no ordinary word), initials form,
possessive, all-caps
form and the local part of an e-mail address are found too; other values are found again exactly as they were written.
Does not: look beyond the texts it is given; a caller that knows a subject's other documents passes them together.

Example:
    >>> text = "Mr John Kowalski came. KOWALSKI left."
    >>> [text[f.start:f.end] for f in recall([Finding(3, 16, "PERSON", 0.9, "person.title")], text)]
    ['KOWALSKI']
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence

from compliance.redaction.finding import Finding
from compliance.redaction.gazetteers import word_set
from compliance.redaction.vocabulary import is_word

_WORD = re.compile(r"\w[\w’'‑-]*")
_TOKEN = re.compile(r"\w+")
_POSSESSIVE = re.compile(r"['’]s(?!\w)")
_COMMON = frozenset(
    [
        "the", "and", "of", "in", "to", "for", "with", "on", "at", "by", "from", "an", "or", "is", "was", "no",
        "yes", "will", "may", "june", "april", "august", "mark", "grace", "hope", "faith", "joy", "art", "bill",
        "rich", "young", "long", "short", "white", "black", "brown", "green", "gray", "day", "may", "rose", "ray",
        "dean", "page", "price", "small", "strong", "best", "case", "law", "cook", "major", "general", "court",
        "judge", "mr", "mrs", "ms", "miss", "dr", "prof", "sir", "lady", "lord", "doctor", "patient", "applicant",
        "government", "state", "national", "north", "south", "east", "west", "new", "old", "great", "saint", "van",
        "von", "de", "der", "den", "la", "le", "del", "da", "do", "al", "el", "bin", "ben",
    ]
)  # fmt: skip
# From these scores on a finding is looked for elsewhere; a doubtful one of the tagger would be wrong many times over.
_SURE = 0.6
_SURE_TAGGED = 0.75
_TERMS = {"ORGANIZATION", "LOCATION", "CASE_NUMBER", "ADDRESS", "PHONE", "EMAIL", "MRN", "ACCOUNT", "OTHER_ID"}


def recall(findings: Sequence[Finding], text: str) -> Iterator[Finding]:
    """Yield further occurrences.

    Args:
        findings: disjoint, offsets in ``text``.
        text: a folded view.
    """
    terms: dict[str, tuple[str, float]] = {}
    for finding in findings:
        value = text[finding.start : finding.end]
        if (
            finding.type in ("PERSON", "LOCATION")
            and " " not in value
            and is_word(value)
            and finding.rule.startswith(("tagger.", "memory"))
        ):
            continue
        if finding.type == "PERSON" and finding.score >= 0.5:
            for term in _name_terms(value):
                terms.setdefault(term, ("PERSON", min(finding.score, 0.85)))
        elif (
            finding.type in _TERMS
            and finding.score >= (_SURE_TAGGED if finding.rule.startswith("tagger.") else _SURE)
            and len(value) >= 4
            and "\n" not in value
            and _is_telling(finding.type, value)
        ):
            terms.setdefault(value, (finding.type, min(finding.score, 0.85)))
    if not terms:
        return
    covered = [(f.start, f.end) for f in findings]
    position = end = 0
    for start, term in _places(terms, text):
        if start < end:
            continue
        end = start + len(term)
        reach = end + (2 if _POSSESSIVE.match(text, end) else 0)
        while position < len(covered) and covered[position][1] <= start:
            position += 1
        if position < len(covered) and covered[position][0] <= start and reach <= covered[position][1]:
            continue
        kind, score = terms[term]
        yield Finding(start, end, kind, score, "memory")


def _places(terms: Iterable[str], text: str) -> list[tuple[int, str]]:
    """Where each term stands as whole words, sorted; at one place the longest comes first."""
    by_word: dict[str, list[str]] = {}
    places: list[tuple[int, str]] = []
    for term in sorted(terms, key=len, reverse=True):
        if word := _TOKEN.match(term):
            by_word.setdefault(word[0], []).append(term)
        else:
            start = text.find(term)
            while start >= 0:
                places.append((start, term))
                start = text.find(term, start + 1)
    for token in _TOKEN.finditer(text):
        for term in by_word.get(token[0], ()):
            if text.startswith(term, token.start()):
                places.append((token.start(), term))
    return sorted(
        ((start, term) for start, term in places if not _is_inside_word(text, start, start + len(term))),
        key=lambda place: (place[0], -len(place[1])),
    )


def _is_inside_word(text: str, start: int, end: int) -> bool:
    return (start > 0 and _is_word_char(text[start - 1])) or (end < len(text) and _is_word_char(text[end]))


def _is_word_char(char: str) -> bool:
    return char.isalnum() or char == "_"


def _is_telling(kind: str, value: str) -> bool:
    """Whether the value would be recognised elsewhere: a number in it, or a capital at its head."""
    return any(map(str.isdecimal, value)) if kind == "ADDRESS" else value[0].isupper() or any(map(str.isdecimal, value))


def _name_terms(value: str) -> Iterator[str]:
    """Forms under which a person may come back: whole, surname, given name; each also in capitals."""
    names = [
        w for w in _WORD.findall(value) if w.lower() not in word_set("titles") | word_set("institutions") | _COMMON
    ]
    names = [w.removesuffix("'s").removesuffix("’s") for w in names if len(w) >= 3 and w[0].isupper()]
    if not names:
        return
    yield from {value, value.upper()}
    for name in names:
        yield from {name, name.upper(), name.capitalize() if name.isupper() else name}
    if len(names) >= 2:
        yield f"{names[0]} {names[-1]}"
        first, last = names[0].lower(), names[-1].lower()
        yield from (f"{first}.{last}", f"{first}_{last}", f"{first[0]}{last}", f"{first}{last[0]}")
