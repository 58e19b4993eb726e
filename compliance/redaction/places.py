# ruff: noqa: E501 - a pattern or a word list is read in one piece
"""Bare towns in running text, known from a list and read in context.

Guarantees: a listed town counts only with a capital and behind a word that leads to a place ("in Wichita", "moved to Tulsa"); one that
is a frequent name as well ("Jackson", "Madison") only behind "in" or "near"; one that is an ordinary word ("Reading") not at all.
Countries and peoples are found by name in texts that are not the papers of a case, a contract or a law.
Does not: know small towns; those are the tagger's part.

Example:
    >>> text = "Seen at Genesis in Wichita, then moved to New Orleans."
    >>> [text[f.start:f.end] for f in find_towns(text)]
    ['Wichita', 'New Orleans']
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache

from compliance.redaction.finding import Finding
from compliance.redaction.gazetteers import phrases, word_set
from compliance.redaction.vocabulary import is_function_word

_CAP = r"(?:(?:Ste?|Ft|Mt|Pt|[NSEW])\.|[^\W\d_a-zß-ÿ][^\W\d_]*(?:['’-][^\W\d_]+)*)"
_LED = re.compile(
    rf"(?<!\w)(?P<lead>[Ii]n|[Aa]t|[Nn]ear|[Ff]rom|[Tt]o|[Vv]ia|[Oo]utside|[Aa]round|[Tt]owards?|[Vv]isit(?:ed|ing|s)?|[Ll]eft|[Rr]eached|"
    rf"(?:city|town|suburbs?|downtown|area) of|[Dd]owntown|[Bb]ack [Ii]n)[ ](?P<town>{_CAP}(?:[ ]{_CAP}){{0,3}})"
)
# Listed towns that are words or names as well: only "in", "near" and their like tell them apart; of the second set not even those.
_AMBIGUOUS = frozenset(
    [
        "allen", "anderson", "beaumont", "bend", "bryan", "carmel", "concord", "corona", "davis", "elizabeth", "enterprise",
        "florence", "franklin", "hope", "independence", "irving", "jackson", "lawrence", "lima", "lincoln", "logan", "madison",
        "manhattan", "meridian", "mesa", "mobile", "moore", "nice", "norman", "ontario", "orange", "perth", "plantation",
        "reading", "regina", "sandy", "santiago", "sparks", "split", "sunrise", "surprise", "taylor", "temple", "tyler",
        "vista", "warren", "wyoming",
    ]
)  # fmt: skip
# What follows these is a place whatever its name, unless it is an abbreviation or a kind of ward.
_TRAVELLED = re.compile(
    rf"\b(?:flew|fly|flying|flight|moved|moving|travell?ed|travelling|drove|relocated|emigrated|immigrated|commutes?|commuting) (?:to|from) (?P<town>{_CAP}(?:[ -]{_CAP}){{0,2}})"
    rf"|\b(?:[Oo]riginally from|[Bb]orn (?:and raised )?in|[Gg]rew up in|[Rr]aised in|[Ll]iv(?:es|ing|ed) in|[Rr]esid(?:es|ing|ed) in|[Hh]ails from|[Nn]ative of|I'm in) (?P<home>{_CAP}(?:[ -]{_CAP}){{0,2}})"
)
# A paper of a case, a contract or a law: there a state is a party or a legislator, not a fact about a person.
_PROCEEDINGS = re.compile(
    r"\b(?:Court|Tribunal|Government|Agreement|Part(?:y|ies)|Article|Section|Contract|Regulation|Directive|Convention|Ministry|hereby|hereto|thereof|pursuant|hereunder|applicant|"
    r"[Pp]laintiffs?|[Dd]efendants?|appellant|respondent|confidential|[Ll]icens(?:or|ee)|[Ss]hareholders?|governed by)\b"
)
_CALENDAR = frozenset(
    [
        "january",
        "february",
        "march",
        "april",
        "may",
        "june",
        "july",
        "august",
        "september",
        "october",
        "november",
        "december",
        "i",
        "the",
        "a",
        "an",
        "my",
        "stage",
        "room",
    ]
)
_PLAIN_LEADS = frozenset(["in", "near", "outside", "downtown", "city of", "town of"])
_NEVER = frozenset(
    [
        "mobile",
        "reading",
        "surprise",
        "sunrise",
        "temple",
        "sandy",
        "vista",
        "wyoming",
        "corona",
        "split",
        "nice",
        "bend",
    ]
)


def find_towns(text: str) -> Iterator[Finding]:
    """Yield towns (score 0.7).

    Args:
        text: a folded view; one mostly in capitals yields nothing.
    """
    letters = sum(map(str.isalpha, text))
    if letters == 0 or sum(map(str.isupper, text)) > letters / 2:
        return
    for match in _TRAVELLED.finditer(text):
        name = "town" if match["town"] else "home"
        value = match[name].rstrip(".")
        while " " in value and is_function_word(value.rsplit(" ", 1)[1]):
            value = value.rsplit(" ", 1)[0]
        words = value.lower().split()
        is_short = value.isupper() and len(value) < 5
        if not is_short and words[0] not in word_set("wards") and words[0] not in _CALENDAR:
            yield Finding(match.start(name), match.start(name) + len(value), "LOCATION", 0.65, "place.said")
    for match in _LED.finditer(text):
        words = match["town"].split(" ")
        for count in range(len(words), 0, -1):
            town = " ".join(words[:count])
            low = town.lower().replace("’", "'")
            if low not in _listed() and low.rstrip(".") not in _listed():
                continue
            is_followed = count < len(words)
            if low in _NEVER or (low in _AMBIGUOUS and (is_followed or match["lead"].lower() not in _PLAIN_LEADS)):
                break
            start = match.start("town")
            yield Finding(start, start + len(town.rstrip(".")), "LOCATION", 0.7, "place.town")
            break


@cache
def _listed() -> frozenset[str]:
    return phrases("towns") | phrases("cities")


def is_about_proceedings(text: str) -> bool:
    """Whether a text reads like a judgment, a contract or a statute."""
    return _PROCEEDINGS.search(text) is not None


# What the papers of a case say often and a contract seldom, and the reverse.
_CASE = re.compile(
    r"\b(?:[Aa]pplicants?|[Pp]laintiffs?|[Dd]efendants?|[Aa]ppellants?|[Rr]espondents?|[Cc]omplainants?|Courts?|Tribunal|judgment|prosecutor|convicted|sentenced)\b"
)
_CONTRACT = re.compile(
    r"\b(?:Agreement|Part(?:y|ies)|Licens(?:or|ee)|Recipient|Confidential Information|Franchis(?:or|ee)|Company|WHEREAS|hereto|hereof|hereunder|herein)\b"
)


def is_about_a_case(text: str) -> bool:
    """Whether a text reads like a judgment or a pleading rather than a contract, a letter or a note."""
    head = text[:20_000]
    return len(_CASE.findall(head)) > max(1, len(_CONTRACT.findall(head)))


@cache
def _countries() -> tuple[re.Pattern[str], re.Pattern[str]]:
    names = "|".join(sorted(map(re.escape, phrases("countries")), key=len, reverse=True))
    peoples = "|".join(sorted(map(re.escape, word_set("nationalities")), key=len, reverse=True))
    return re.compile(rf"(?<![\w@.-])(?:{names})(?![\w@])", re.I), re.compile(
        rf"(?<![\w@.-])(?:{peoples})s?(?![\w@])", re.I
    )


def find_countries(text: str) -> Iterator[Finding]:
    """Yield countries (LOCATION, 0.6) and peoples (NATIONALITY, 0.6) by name, for texts that speak of persons only."""
    for pattern, kind in zip(_countries(), ("LOCATION", "NATIONALITY"), strict=True):
        for match in pattern.finditer(text):
            lead = text[max(0, match.start() - 14) : match.start()].lower().rstrip()
            is_led = lead.endswith((" from", " in", " to", " of", ",", "\n")) or not lead
            if match[0][0].isupper() or (kind == "LOCATION" and is_led):
                yield Finding(*match.span(), kind, 0.6, "place.country" if kind == "LOCATION" else "person.people")
