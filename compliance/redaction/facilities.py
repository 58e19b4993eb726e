# ruff: noqa: E501 - a pattern is read in one piece
"""Rules for employers, hospitals and counties in clinical text.

Guarantees: a hospital or clinic is reported with its own name, an employer where the text says that somebody works there.
Does not: report a department or a kind of place ("the Emergency Department", "Urgent Care").

Example:
    >>> from compliance.redaction.rules import apply_rules
    >>> text = "He works at Acme Plumbing and was seen at Mercy General Hospital."
    >>> sorted(text[f.start:f.end] for f in apply_rules(FACILITIES, text, float("inf")))
    ['Acme Plumbing', 'Mercy General Hospital']
"""

from __future__ import annotations

import re

from compliance.redaction.gazetteers import word_set
from compliance.redaction.rules import Rule
from compliance.redaction.vocabulary import is_function_word

_W = r"[A-ZÀ-Þ][\w'’&-]{1,30}"

_JOBS = "|".join(
    sorted(
        map(re.escape, word_set("professions") | {"cashier", "welder", "machinist", "clerk", "custodian"}),
        key=len,
        reverse=True,
    )
)


def _has_own_name(value: str) -> bool:
    """Whether a word of it is more than a speciality or a kind of ward."""
    first = value.split()[0].lower().rstrip(",")
    return first not in word_set("wards") and not is_function_word(first)


def _is_employer(value: str) -> bool:
    """Whether it has a name of its own and is more than a kind of body ("the Criminal Court") or an abbreviation of a disease."""
    kinds = word_set("institutions") | word_set("wards") | word_set("clinical_terms")
    return _has_own_name(value) and any(w.lower().strip(".,") not in kinds for w in value.split())


FACILITIES: tuple[Rule, ...] = (
    Rule(
        "facility.named",
        "ORGANIZATION",
        re.compile(
            rf"\b(?:St\.? )?{_W}(?: (?:of |and )?{_W}){{0,3}} (?:Hospital|Medical Cent(?:er|re)|Clinic|Health Cent(?:er|re)|Healthcare|Nursing Home|Care Cent(?:er|re)|Hospice|Infirmary|Sanatorium|Rehab(?:ilitation Cent(?:er|re))?|Pharmacy|Laborator(?:y|ies))\b"
        ),
        0.65,
        check=_has_own_name,
        near=(
            "hospital",
            "medical",
            "clinic",
            "health",
            "nursing",
            "care",
            "hospice",
            "infirmary",
            "sanatorium",
            "rehab",
            "pharmacy",
            "laborator",
        ),
        reach=175,
    ),
    Rule(
        "facility.employer",
        "ORGANIZATION",
        re.compile(
            rf"\b(?:[Ww]ork(?:s|ed|ing)? (?:as an? (?:[a-z-]{{2,20}} ){{1,4}})?(?:at|for|with)|[Rr]etired from|(?:{_JOBS})s? (?:at|for)|[Ee]mployed (?:at|by|with)|[Ee]mployer(?: is|:)?|[Jj]ob (?:at|with)|[Hh]ired by|[Ff]ired (?:by|from)|[Ll]aid off (?:by|from)|[Ii]nterned (?:at|with)|[Ii]nterview(?:ed)? (?:at|with)|CEO (?:of|at)|[Ff]ounder of|[Rr]ecorded for|[Ll]ooking to support) (?:the )?(?P<v>{_W}(?: (?:& )?{_W}){{0,3}})"
        ),
        0.65,
        check=_is_employer,
    ),
    Rule(
        "facility.described",
        "ORGANIZATION",
        re.compile(
            rf"(?:^|(?<=[.!?\n] ))(?P<v>{_W}(?: (?:and |And |of |& )?{_W}){{0,3}}) is an? (?:[\w-]{{1,30}} ){{0,3}}?(?:company|agency|firm|startup|multinational|bank|manufacturer|retailer|corporation|charity|consultancy|brokerage|brewery|publisher)\b",
            re.M,
        ),
        0.65,
        check=_has_own_name,
    ),
    Rule(
        "facility.visited",
        "ORGANIZATION",
        re.compile(
            rf"\b(?:[Gg]o(?:ing|es)?|[Ww]ent|[Ss]een|[Tt]reated|[Aa]dmitted|[Tt]ransferred|[Rr]eferred|[Dd]ischarged|[Tt]herapy|[Rr]ehab) (?:to|at|from) (?P<v>{_W}(?: {_W}){{0,2}})(?= in [A-Z])"
        ),
        0.65,
        check=_has_own_name,
    ),
    Rule(
        "facility.county",
        "LOCATION",
        re.compile(rf"\b{_W}(?: {_W})? (?:County|Parish|Township|Borough)\b"),
        0.65,
        check=_has_own_name,
        near=("county", "parish", "township", "borough"),
        reach=70,
    ),
)
