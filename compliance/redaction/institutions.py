# ruff: noqa: E501 - a pattern or a word list is read in one piece
"""Names of institutions and places in legal text, and whether they single anybody out.

Guarantees: a body named only by its rank and subject ("the Supreme Administrative Court", "Ministry of Defence") is not reported;
one with a place or a name of its own ("Lublin District Court", "Clinique du Parc") is, whole, with a bracketed translation behind it.
Does not: know which body is unique in its country.

Example:
    >>> text = "The Supreme Court upheld the Lublin District Court."
    >>> [text[f.start:f.end] for f in find_institutions(text)]
    ['Lublin District Court']
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from compliance.redaction.finding import Finding
from compliance.redaction.gazetteers import phrases, word_set
from compliance.redaction.vocabulary import is_word

_C = "A-ZÀ-ÖØ-ÞĀĂĄĆĈČĎĐĒĔĖĘĚĞĠĢĤĪĬĮİĴĶĹĻĽŁŃŅŇŌŎŐŒŔŘŚŜŞŠŢŤŪŬŮŰŲŴŶŹŻŽȘȚ"
_CAP = rf"(?:[{_C}]\.|[{_C}][\w&’'‑-]{{0,40}})"
_LINK = r"(?:of|for|and|the|in|on|at|du|de|des|der|die|und|für|della|di|do|da|v|i|w|z|ve|&|against|to)"
_HEADS = (
    "Court|Tribunal|Prosecutor|Prosecutor['’]s|Police|Gendarmerie|Prison|Ministry|Government|Parliament|Council|Commission|Committee|Board|Bureau|Office|Department|"
    "Directorate|Direction|Agency|Authority|Administration|Institute|Fund|University|College|Academy|School|Gymnasium|Faculty|Hospital|Clinic|Clinique|Bank|Bar|Association|"
    "Union|Society|Federation|Foundation|Party|Company|Corporation|Group|Ltd|Limited|LLC|LLP|Inc|Corp|Co|GmbH|AG|SA|S\\.A|S\\.p\\.A|BV|B\\.V|NV|Plc|PLC|plc|AS|ASA|Oy|AB|A/S|SpA|Sp|"
    "Railways|Airlines|Newspaper|Church|Parish|Mosque|Synagogue|Monastery|Centre|Center|Museum|Hotel|Restaurant|Factory|Cooperative|Enterprise|Chamber|Embassy|Consulate|Station|Service|"
    "Services|Trust|Club|League|Movement|Army|Regiment|Brigade|Battalion|Command|Airport|Port|Cemetery|Square|Mountain|River|Lake|Village|Island|Valley|Forest|Park|"
    "Solutions|Systems|Technologies|Consulting|Partners|Associates|Holdings|Industries|Media|Records|Studios|Press|Times|News|Magazine|Radio|TV|Television|Bankası|Orchestra|Novel|Treasury|Analytics|Incorporated|Labs|Logistics|Pharmaceuticals|Motors|Software|Research"
)
_RUN = re.compile(
    rf"(?<![\w@./’'-]){_CAP}(?:[ ](?:{_LINK}[ ]){{0,2}}{_CAP}|[ ]&[ ]{_CAP}){{0,9}}(?:[ ]\((?=[^()]{{0,80}}[{_C}])[^()\n“”\"]{{4,90}}\))?"
)
_HEAD = re.compile(rf"(?<![\w])(?:{_HEADS})(?:['’]s)?(?![\w])")
_PREPOSED = re.compile(
    rf"\b(?:in|at|near|from|to|of|between|via|towards|outside|around|visited|left|reached)[ ]((?:the (?:town|city|village|district|province|region|municipality|county) of )?{_CAP}(?:[ -]{_CAP}){{0,2}})"
)
_BEFORE_PLACE = re.compile(
    rf"\b(?:(?:town|city|village|district|province|municipality|county|commune|hamlet|suburb|parish|island|prison|airport)s? (?:of|in|called|named)|(?:lives?|lived|living|born|resid(?:es?|ed|ing)|practi[sc]ing|detained|imprisoned|based|located|situated|registered|arrested|stationed) (?:in|at|near)) ({_CAP}(?:[ -]{_CAP}){{0,2}}(?:, {_CAP})?)"
)
_WORD = re.compile(r"[\w’'&‑-]+")
_FIRM = re.compile(
    rf"(?<![\w]){_CAP}(?:, {_CAP}){{1,3}},? (?:and|&) {_CAP}(?!\w)|(?<!\w){_CAP}-{_CAP}(?!\w)|(?<!\w){_CAP} and Sons\b"
)
_NAMED_BODY = re.compile(
    rf"(?:(?<=the )|(?<=of )|(?<=by )|(?<=against )|(?<=with )|(?<=for )|(?<=from ))([{_C}]{{3,7}}(?:-[{_C}]{{1,4}})?)(?![\w-])"
)
_KNOWN_ACRONYMS = frozenset(
    [
        "USA", "EUR", "USD", "GBP", "TRL", "PLN", "CHF", "NATO", "DNA", "VAT", "ECHR", "HIV", "AIDS", "OSCE", "OECD",
        "UNHCR", "NDA", "CEO", "CFO", "GDPR", "HIPAA", "SEC", "IRS", "FBI", "GAAP", "ISO", "IFRS", "PDF", "USB",
    ]
)  # fmt: skip
_NATIONAL = re.compile(
    rf"\b(?:an?|two|three|four|five|six|seven|eight|nine|ten|\d{{1,3}}|and|are|is|of)[ ]((?:{_CAP}[ -]){{0,2}}{_CAP})[ ](?:nationals?|citizens?|origin|descent|nationality|ethnic origin|subjects?)\b"
)
_WORKS_AS = re.compile(
    r"\b(?:(?:applicants?|claimant|plaintiff|defendant|complainant|witness|he|she|who|father|mother|husband|wife|son|daughter|brother|sister)(?:,)?[ ](?:is|was|has been|had been|were)|(?:work(?:ed|s|ing)?|employed|practi[sc]ed?|practi[sc]ing|served|serving|serves|appointed|position|post|job|duties|career|trained|qualified|licensed|profession) (?:as|of|is))[ ](?:currently |then |formerly )?(?:an? |the )?([a-z][a-z-]*(?: [a-z][a-z-]*){0,4})"
)
_MONTHS = [
    "january", "february", "march", "april", "may", "june", "july", "august", "september", "october", "november",
    "december", "monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday",
]  # fmt: skip


def find_institutions(text: str) -> Iterator[Finding]:
    """Yield organisations (score 0.6 to 0.8) and places (0.55 to 0.8).

    Args:
        text: a folded view in sentence case; a text mostly in capitals yields nothing.
    """
    letters = sum(map(str.isalpha, text))
    if letters == 0 or sum(map(str.isupper, text)) > letters / 3:
        return
    lower_case = set(re.findall(r"(?<![\w’'])[a-zà-ÿ]{3,}", text))
    for match in _RUN.finditer(text):
        run = match[0]
        head = _HEAD.search(run)
        if head is None or (run.isupper() and run.count(" ") > 2):
            continue
        lead = _leading_generic(run)
        start = match.start() + lead
        bracket = run.find("(")
        if own_words(text[start : match.start() + bracket if bracket > 0 else match.end()], lower_case):
            yield Finding(start, match.end(), "ORGANIZATION", 0.65, "institution.named")
    for match in _NAMED_BODY.finditer(text):
        if match[1] not in _KNOWN_ACRONYMS:
            yield Finding(*match.span(1), "ORGANIZATION", 0.6, "institution.acronym")
    for match in _NATIONAL.finditer(text):
        if match[1].lower() in word_set("nationalities") or match[1].lower() in phrases("countries"):
            yield Finding(*match.span(1), "NATIONALITY", 0.7, "person.nationality")
    for match in _WORKS_AS.finditer(text):
        words = match[1].split()
        # The occupation ends with its noun: "primary school teacher in Izmir" stops at the teacher.
        for last in range(len(words), 0, -1):
            if words[last - 1].rstrip("s") in word_set("professions") and "to" not in words[:last]:
                end = match.start(1) + len(" ".join(words[:last]))
                yield Finding(match.start(1), end, "PROFESSION", 0.7, "person.profession")
                break
    for match in _FIRM.finditer(text):
        if all(
            not is_word(w) or w.lower() in word_set("surnames")
            for w in _WORD.findall(match[0])
            if w not in ("and", "Sons")
        ):
            yield Finding(*match.span(), "ORGANIZATION", 0.65, "institution.partners")
    for match in _BEFORE_PLACE.finditer(text):
        if own_words(match[1], frozenset()):
            yield Finding(*match.span(1), "LOCATION", 0.8, "place.said")
    for match in _PREPOSED.finditer(text):
        words = own_words(match[1], lower_case)
        if words and any(w in phrases("cities") or w in phrases("places") for w in (*words, match[1].lower())):
            yield Finding(*match.span(1), "LOCATION", 0.7, "place.listed")


def own_words(run: str, lower_case: set[str] | frozenset[str]) -> list[str]:
    """Words of ``run`` that belong to no kind of body, country, nationality or month, and stand nowhere in lower case."""
    kinds = word_set("institutions")
    words = [w.lower().removesuffix("'s").removesuffix("’s").rstrip("’'") for w in _WORD.findall(run)]
    text = run.lower()
    for country in phrases("countries"):
        if country in text and " " in country:
            words = [w for w in words if w not in country.split()]
    return [
        w
        for w in words
        if len(w) > 1
        and not w.isdecimal()
        and w not in kinds
        and w.rstrip("s") not in kinds
        and w not in phrases("countries")
        and w not in word_set("nationalities")
        and w not in _MONTHS
        and w not in lower_case
    ]


def _leading_generic(run: str) -> int:
    """Length of a leading article or sentence opener."""
    opener = re.match(
        r"(?:The|A|An|In|On|At|By|From|Before|After|When|Since|Under|As|According to the|Furthermore|However)[ ,](?:the )?",
        run,
    )
    return opener.end() if opener else 0
