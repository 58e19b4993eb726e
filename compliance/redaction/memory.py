# ruff: noqa: E501 - a pattern is read in one piece
"""Document memory: what was found once is found everywhere in the document, and in a subject's other documents.

Guarantees: after a full name was found, its surname, given name, initials form, possessive, all-caps form and the local
part of an e-mail address are found too; a name that is an ordinary word ("Young", "May") only where the sentence uses it
as a name; other values are found again exactly as they were written.
Does not: look beyond the texts it is given; ``subjects`` shares one ``Memory`` between the documents of a person.

Example:
    >>> text = "Mr John Kowalski came. KOWALSKI left."
    >>> [text[f.start:f.end] for f in recall([Finding(3, 16, "PERSON", 0.9, "person.title")], text)]
    ['KOWALSKI']
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence

from compliance.redaction.finding import Finding
from compliance.redaction.gazetteers import word_set
from compliance.redaction.vocabulary import is_word

_WORD = re.compile(r"\w[\w’'‑-]*")
_TOKEN = re.compile(r"\w+")
_POSSESSIVE = re.compile(r"['’]s(?!\w)")
_NEVER = frozenset(
    [
        "the", "and", "of", "in", "to", "for", "with", "on", "at", "by", "from", "an", "or", "is", "was", "no", "yes",
        "court", "judge", "mr", "mrs", "ms", "miss", "dr", "prof", "sir", "lady", "lord", "doctor", "patient",
        "applicant", "government", "state", "national", "general", "north", "south", "east", "west", "new", "old",
        "great", "saint", "van", "von", "de", "der", "den", "la", "le", "del", "da", "do", "al", "el", "bin", "ben",
    ]
)  # fmt: skip
# From these scores on a finding is looked for elsewhere; a doubtful one of the tagger would be wrong many times over.
_SURE = 0.6
_SURE_TAGGED = 0.75
# Surnames and given names that are ordinary words: after a full name they count where the sentence uses them as a name.
_AMBIGUOUS = frozenset(
    [
        "will", "may", "june", "april", "august", "mark", "grace", "hope", "faith", "joy", "art", "bill", "rich",
        "young", "long", "short", "white", "black", "brown", "green", "gray", "grey", "day", "rose", "ray", "dean",
        "page", "price", "small", "strong", "best", "case", "law", "cook", "major", "park", "parks", "bush", "rice",
        "wood", "woods", "stone", "fields", "field", "hill", "hills", "banks", "bell", "cross", "church", "bishop", "baker",
        "carpenter", "mason", "miller", "fisher", "hunter", "shepherd", "taylor", "weaver", "potter", "porter", "carter",
        "king", "knight", "noble", "power", "love", "rush", "sharp", "swift", "wise", "good", "moody", "savage", "winter",
        "summer", "frost", "snow", "rain", "storm", "brook", "brooks", "lake", "rivers", "ford", "lane", "street", "close",
        "wall", "house", "hall", "field", "moon", "star", "bird", "fox", "wolf", "lamb", "fish", "crane", "drake", "finch",
        "little", "bright", "early", "english", "french", "german", "holland", "ireland", "israel", "jordan", "chase",
        "dawn", "destiny", "iris", "ivy", "lily", "olive", "pearl", "ruby", "violet", "summer", "gene", "pat", "rob", "sue",
        "frank", "drew", "grant", "miles", "earnest", "guy", "jack", "john", "victor", "christian", "dolly",
    ]
)  # fmt: skip
_MONTHS = frozenset(["may", "june", "april", "august"])
_TITLE_BEFORE = re.compile(
    r"(?:\b(?:[Mm]rs?|[Mm]s|[Dd]r|[Mm]iss|[Mm]ister|[Dd]octor|[Pp]rof(?:essor)?|[Ss]ir|[Jj]udge|[Nn]urse|[Oo]fficer)\.?|\b[A-Z]\.)[ ]$"
)
_DATE_BEFORE = re.compile(r"(?i)\b(?:in|since|until|till|of|by|last|next|early|late|mid|during|every|this)[ -]$|\d[ ]$")
_PERSON_AFTER = re.compile(
    r"['’]s\b|[ ](?:said|says|was|has|had|is|did|does|denied|denies|testified|reported|reports|told|asked|replied|came|left|went|will|would|"
    r"wrote|signed|agreed|stated|states|underwent|presented|returned|called|argued|claimed|claims|owns|lives|lived|works|worked|and (?:his|her))\b"
)
_TERMS = {"ORGANIZATION", "LOCATION", "CASE_NUMBER", "ADDRESS", "PHONE", "EMAIL", "MRN", "ACCOUNT", "OTHER_ID"}


class Memory:
    """What is known of one subject: the forms under which its names and numbers may come back.

    Holds text of documents; keep it no longer than the documents themselves. At most ``max_terms`` forms, so that a subject with very
    many documents does not grow it without end; the first ones stay.
    """

    def __init__(self, max_terms: int = 4_000) -> None:
        self._max_terms = max_terms
        self._terms: dict[str, tuple[str, float]] = {}

    def learn(self, findings: Sequence[Finding], text: str) -> None:
        """Remember what was found.

        Args:
            findings: disjoint, offsets in ``text``.
            text: a folded view.
        """
        self.add(terms_of(findings, text))

    @property
    def terms(self) -> dict[str, tuple[str, float]]:
        """What is known, as plain data: form -> type and score. For a memory in another process; see ``add``."""
        return dict(self._terms)

    def add(self, terms: Mapping[str, tuple[str, float]]) -> None:
        """Remember what another memory of the same subject knows; what is known already stays as it is."""
        for term, known in terms.items():
            if term in self._terms or len(self._terms) < self._max_terms:
                self._terms.setdefault(term, known)

    def recall(self, findings: Sequence[Finding], text: str) -> Iterator[Finding]:
        """Yield occurrences of what is known in another text of the subject; arguments as for ``learn``."""
        yield from _find_again(self._terms, findings, text)


def recall(findings: Sequence[Finding], text: str) -> Iterator[Finding]:
    """Yield further occurrences in the same document.

    Args:
        findings: disjoint, offsets in ``text``.
        text: a folded view.
    """
    yield from _find_again(terms_of(findings, text), findings, text)


def terms_of(findings: Sequence[Finding], text: str) -> dict[str, tuple[str, float]]:
    """Form -> type and score under which it would be found again.

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
            for term in _name_terms(value, is_said=finding.rule.startswith(("person.", "hl7.", "name.given"))):
                terms.setdefault(term, ("PERSON", min(finding.score, 0.85)))
        elif (
            finding.type in _TERMS
            and finding.score >= (_SURE_TAGGED if finding.rule.startswith("tagger.") else _SURE)
            and len(value) >= 4
            and "\n" not in value
            and _is_telling(finding.type, value)
        ):
            terms.setdefault(value, (finding.type, min(finding.score, 0.85)))
    return terms


def _find_again(terms: dict[str, tuple[str, float]], findings: Sequence[Finding], text: str) -> Iterator[Finding]:
    if not terms:
        return
    covered = [(f.start, f.end) for f in findings]
    position = end = 0
    for start, term in _places(terms, text):
        if start < end:
            continue
        kind, score = terms[term]
        if kind == "PERSON" and term.lower() in _AMBIGUOUS and not _is_used_as_name(text, start, start + len(term)):
            continue
        end = start + len(term)
        reach = end + (2 if _POSSESSIVE.match(text, end) else 0)
        while position < len(covered) and covered[position][1] <= start:
            position += 1
        if position < len(covered) and covered[position][0] <= start and reach <= covered[position][1]:
            continue
        yield Finding(start, end, kind, score, "memory")


def _is_used_as_name(text: str, start: int, end: int) -> bool:
    """Whether a word that is both ("Young", "May") stands as a name here: behind a title, before a verb of persons, or inside a sentence."""
    word = text[start:end]
    before, after = text[max(0, start - 16) : start], text[end : end + 16]
    if _TITLE_BEFORE.search(before):
        return True
    if not word[0].isupper() or (
        word.lower() in _MONTHS and (_DATE_BEFORE.search(before) or re.match(r",? \d", after))
    ):
        return False
    if _PERSON_AFTER.match(after):
        return True
    bare = before.rstrip(" \t\"“'(")
    begins = not bare or bare[-1] in ".!?:;\n"
    if begins or word.isupper():
        return False
    is_in_phrase = (
        re.match(r"[ -][A-Z]", after) is not None
        or re.search(r"(?:[A-Z][\w'’-]*|\b[Tt]he|\ban?)[ -]$", before) is not None
    )
    return not is_in_phrase


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


def _name_terms(value: str, *, is_said: bool) -> Iterator[str]:
    """Forms under which a person may come back: whole, turned round, surname, given name, initials, account name; also in capitals."""
    words = [w.removesuffix("'s").removesuffix("’s") for w in _WORD.findall(value)]
    words = [w for w in words if w.lower() not in word_set("titles") | word_set("institutions") | _NEVER]
    names = [w for w in words if len(w) >= 3 and w[0].isupper()]
    # An ambiguous word alone ("Young", found behind a label) says nothing of other places.
    if not names or (all(w.lower() in _AMBIGUOUS for w in names) and len(names) < 2):
        return
    yield from {value, value.upper()}
    for name in names:
        yield from {name, name.upper(), name.capitalize() if name.isupper() else name}
        # In small letters only where the text itself said that this is a person; a guess may be a drug or a brand.
        if is_said and len(name) >= 5 and name.lower() not in _AMBIGUOUS and not is_word(name):
            yield name.lower()
    if len(names) >= 2:
        first, last = (names[-1], names[0]) if "," in value else (names[0], names[-1])
        yield from (
            f"{first} {last}",
            f"{last}, {first}",
            f"{last} {first}",
            f"{first[0]}. {last}",
            f"{first[0]} {last}",
        )
        yield from (f"{first[0]}.{last[0]}.", f"{first[0]}. {last[0]}.")
        first, last = first.lower(), last.lower()
        yield from (
            f"{first} {last}",
            f"{first}.{last}",
            f"{first}_{last}",
            f"{first}-{last}",
            f"{last}.{first}",
            f"{first[0]}.{last}",
        )
        if len(last) >= 4:
            yield from (f"{first[0]}{last}", f"{first}{last[0]}", f"{first}{last}", f"{last}{first[0]}")
