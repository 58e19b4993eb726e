# ruff: noqa: E501 - a pattern is read in one piece
"""Mask or keep: thresholds, keep-lists and the profile's options.

Guarantees: nothing below its threshold, of a type that is off, or on the allow list is returned; each option of a
profile that
concerns detection is applied here and nowhere else.
Does not: look at more than the span and its near neighbourhood.

Example:
    >>> from compliance.redaction.profile import load_profile
    >>> judge = Judge(load_profile("healthcare"))
    >>> judge.finish([Finding(0, 2, "AGE", 0.9, "age.old")], "45 years old")
    []
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from functools import cache

from compliance.redaction.finding import Finding
from compliance.redaction.gazetteers import phrases, word_set
from compliance.redaction.institutions import find_institutions
from compliance.redaction.names import find_names
from compliance.redaction.places import find_countries, find_towns, is_about_proceedings
from compliance.redaction.profile import Profile
from compliance.redaction.public_codes import is_public_code
from compliance.redaction.quantities import spelled_number
from compliance.redaction.rules import words
from compliance.redaction.vocabulary import is_word
from compliance.redaction.written_dates import year_of

_YEARS = re.compile(r"(?:1[89]|20)\d\d(?:\s?(?:-|/|to|and)\s?(?:(?:1[89]|20)\d\d|\d\d))?")
_PERIOD = re.compile(
    r"(?i)(?:years?|quarter|months?|period|weeks?)\s+(?:then\s+)?(?:ended|ending)|as (?:of|at)|fiscal|december 31|june 30|september 30|march 31"
)
_DISEASE = re.compile(
    r"(?i)['’]?s?[ ](?:disease|syndrome|sign|test|score|scale|palsy|maneuver|thyroiditis|lymphoma|sarcoma|esophagus|chorea|phenomenon|contracture|fracture"
    r"|cyst|tendon|catheter|criteria|index|procedure|stain|ulcer|tumou?r|cells?|virus|classification|staging|\d{1,4}[ ]?(?:mg|mcg|ml|units))\b"
)
# Stems by which an international drug name tells its class, so that no list has to be complete.
# Source: WHO, The use of stems in the selection of International Nonproprietary Names.
_DRUG_STEM = re.compile(
    r"[a-z]{2,14}(?:pentin|gabalin|sartan|opram|oxetine|pril|olol|vastatin|azole|cillin|mycin|micin|floxacin|azepam|zolam|tidine|prazole"
    r"|dipine|thiazide|gliptin|gliflozin|glutide|zumab|ximab|tinib|ciclib|clovir|vudine|triptan|setron|cycline|caine|profen|coxib|parin|xaban"
    r"|gatran|barbital|codone|morphone|triptyline|zodone|lukast|terol|olone|asone|onide|formin|glitazone|semide|dronate|fibrate|conazole|idipine"
    r"|oprazole|azosin|lafaxine|apine|idone|piprazole|trigine|racetam|zepine|oxaban|statin|cainide|darone|nidazole|quine|cef[a-z]{2,8})|cef[a-z]{3,10}"
)
# By these a contract calls its parties and its own parts, whatever their real names are.
_CONTRACT_ROLES = frozenset(
    [
        "the", "a", "of", "and", "or", "data", "each", "either", "neither", "other", "no", "any", "such", "non", "mutual",
        "owner", "recipient", "recipients", "discloser", "disclosing", "receiving", "originating", "company", "vendor",
        "buyer", "seller", "purchaser", "party", "parties", "licensor", "licensee", "contractor", "supplier", "client",
        "customer", "consultant", "participant", "provider", "bidder", "employee", "employer", "landlord", "tenant",
        "lender", "borrower", "purpose", "agreement", "assignment", "confidentiality", "information", "nondisclosure",
        "non-disclosure", "software", "project", "services", "proprietary", "confidential", "dealer", "distributor",
        "franchisor", "franchisee", "manufacturer", "developer", "sponsor", "guarantor", "lessor", "lessee", "assignor",
        "assignee", "transferor", "transferee", "insurer", "investor", "affiliate", "affiliates", "subsidiary",
        "subsidiaries", "product", "products", "pages", "co-branded", "spinco", "remainco", "newco", "holdco",
    ]
)  # fmt: skip
# Types whose rules see their own surroundings; a code is never taken for one of them.
_NEVER_CODES = frozenset({"PERSON", "MONEY", "TIME", "AGE", "DATE", "NATIONALITY", "PROFESSION", "EMAIL", "URL"})
# "6/10" is a score as often as a day.
_FRACTION = re.compile(r"\d{1,2}(?:/\d{0,2})?")
_ADDRESS_LIKE = re.compile(r"@|//|\w\.\w")
_NAMES = frozenset(["PERSON", "LOCATION", "ADDRESS", "ORGANIZATION"])
# From here on the tagger is believed even of a dictionary word.
_SURE = 0.9
_ACRONYM_CHARS = 6


class Judge:
    """Decides for one profile."""

    def __init__(self, profile: Profile) -> None:
        self._profile = profile
        self._allow = words(*map(re.escape, sorted(profile.allow, key=len, reverse=True))) if profile.allow else None

    def keep(self, findings: Iterable[Finding], text: str, *, reads_context: bool = False) -> Iterator[Finding]:
        """Drop what is off, too doubtful or kept by the profile, before overlaps are resolved.

        Args:
            findings: in any order, offsets in ``text``.
            text: a folded view.
            reads_context: whether the tagger, rather than a list, decides which countries are kept.
        """
        allowed = [match.span() for match in self._allow.finditer(text)] if self._allow else []
        masks_countries = self._is_outside_proceedings(text)
        has_capitals = any(map(str.isupper, text))
        for finding in findings:
            if finding.rule.startswith("tagger."):
                shorter = _without_small_words(finding, text, has_capitals)
                if shorter is None or _is_groundless(shorter, text):
                    continue
                finding = shorter
            kind = finding.type
            policy = self._profile.entities.get(kind)
            if policy is None or not policy.on or finding.score < policy.threshold:
                continue
            value = text[finding.start : finding.end].strip()
            if any(start <= finding.start and finding.end <= end for start, end in allowed) or (
                not masks_countries
                and not (reads_context and finding.rule.startswith("tagger."))
                and self._is_kept(kind, value, policy.options)
            ):
                continue
            if kind in ("PERSON", "ORGANIZATION") and _is_contract_role(value):
                continue
            if kind not in _NEVER_CODES and is_public_code(text, finding.start, finding.end):
                continue
            if kind in ("PERSON", "LOCATION", "ORGANIZATION") and _is_medical(
                value, text[finding.end : finding.end + 24]
            ):
                continue
            yield finding

    def proper_nouns(self, text: str) -> Iterator[Finding]:
        """Further names by their capital letters, for profiles that ask for it."""
        yield from find_names(text)
        yield from find_towns(text)
        if self._profile.keep_public_bodies:
            yield from find_institutions(text)
            if self._is_outside_proceedings(text):
                yield from find_countries(text)

    def finish(self, findings: Iterable[Finding], text: str) -> list[Finding]:
        """Drop what the options keep, after overlaps are resolved."""
        return [f for f in findings if not self._is_exempt(f, text) and not _is_remnant(f, text)]

    def _is_outside_proceedings(self, text: str) -> bool:
        """Whether the profile keeps countries in the papers of a case or a contract only, and this text is neither."""
        policy = self._profile.entities.get("LOCATION")
        keeps_in_proceedings = policy is not None and "country_in_proceedings" in policy.options.get("keep", ())
        return keeps_in_proceedings and not is_about_proceedings(text)

    def _is_kept(self, kind: str, value: str, options: object) -> bool:
        keep = options.get("keep", ()) if hasattr(options, "get") else ()
        if kind in ("LOCATION", "ORGANIZATION") and (
            "country" in keep or "state" in keep or "country_in_proceedings" in keep
        ):
            return value.lower().removeprefix("the ") in phrases("countries")
        return False

    def _is_exempt(self, finding: Finding, text: str) -> bool:
        options = self._profile.entities[finding.type].options
        value = text[finding.start : finding.end]
        if finding.type == "AGE" and "min_age" in options:
            age = spelled_number(value)
            return age is not None and age < int(options["min_age"])
        if finding.type == "DATE":
            year_only = _YEARS.fullmatch(value) is not None
            if options.get("to") == "year" and (year_only or finding.rule == "date.spoken_year"):
                return (year_of(value) or 0) > int(options.get("oldest_year", 0))
            if (year_only or finding.rule == "date.spoken_year") and "year" in options.get("keep", ()):
                return True
            if "period" in options.get("keep", ()):
                return (
                    finding.rule in ("date.month_year", "date.month")
                    or _PERIOD.search(text[max(0, finding.start - 40) : finding.end]) is not None
                )
        return False


def _without_small_words(finding: Finding, text: str, has_capitals: bool) -> Finding | None:
    """A person's or a place's name without the ordinary small words at its edges; None if it has no others.

    Only in a text that knows capitals; "early Yefremova" is one name there, "harburg" stays one.
    """
    if finding.type not in ("PERSON", "LOCATION") or not has_capitals:
        return finding
    parts = list(re.finditer(r"\S+", text[finding.start : finding.end]))
    while parts and _is_small(parts[0][0]):
        parts.pop(0)
    while parts and _is_small(parts[-1][0]):
        parts.pop()
    if not parts:
        return None
    return replace(finding, start=finding.start + parts[0].start(), end=finding.start + parts[-1].end())


def _is_small(word: str) -> bool:
    low = word.strip(".,'’")
    return word.islower() and is_word(low) and not any(low in known for known in _known_names())


def _is_groundless(finding: Finding, text: str) -> bool:
    """Whether a form speaks against what the tagger says: a code without a digit, a date that is a bare number, a bare word.

    Days in digits and codes have forms that the rules know; a dictionary word, and an acronym among small letters
    ("ISIN"), is a name only if it is known as one as well.
    """
    value = text[finding.start : finding.end]
    if finding.type == "OTHER_ID":
        return not any(map(str.isdecimal, value)) and _ADDRESS_LIKE.search(value) is None
    if finding.type == "DATE":
        return _FRACTION.fullmatch(value) is not None
    if finding.type not in _NAMES:
        return False
    low = value.lower().removesuffix("'s").removesuffix("’s").strip(".,'’")
    is_acronym = finding.type == "PERSON" and value.isupper() and 1 < len(low) <= _ACRONYM_CHARS and not text.isupper()
    is_plain = is_acronym or (finding.score < _SURE and is_word(low))
    return is_plain and not any(low in known for known in _known_names())


def _is_remnant(finding: Finding, text: str) -> bool:
    """Whether nothing but a label is left of what the tagger found, because a surer rule took the number behind it."""
    is_number = finding.type in ("OTHER_ID", "DATE") and finding.rule.startswith("tagger.")
    return is_number and _is_groundless(finding, text)


@cache
def _known_names() -> tuple[frozenset[str], ...]:
    lists = (phrases("cities"), phrases("places"), phrases("towns"), phrases("countries"))
    return (word_set("given_names"), word_set("surnames"), *lists)


def _is_contract_role(value: str) -> bool:
    """Whether a name is nothing but a role or a part of a contract: "Receiving Party", "RECIPIENT"."""
    words = re.findall(r"[\w-]+", value.lower().replace("’s", "").replace("'s", ""))
    return bool(words) and all(word in _CONTRACT_ROLES for word in words)


def _is_medical(value: str, after: str) -> bool:
    """Whether a name names a disease, a sign, a scale or a drug: "Graves' disease", "Lamisil 250 mg"."""
    parts = [w.removesuffix("'s").removesuffix("’s").strip("'’.,") for w in value.lower().split()]
    if _DISEASE.match(after):
        return True
    return all(
        (w in word_set("clinical_terms") and w not in word_set("surnames") and w not in word_set("given_names"))
        or _DRUG_STEM.fullmatch(w) is not None
        for w in parts
    )


# Rules that know a form but not whether it singles anybody out; there the tagger, which reads the context, decides.
_BY_FORM = frozenset(
    [
        "institution.named", "institution.acronym", "institution.partners", "place.said", "place.listed", "place.town",
        "person.nationality", "person.profession", "person.people", "place.country",
    ]
)  # fmt: skip


def without_public(findings: Sequence[Finding], public: Sequence[tuple[int, int]]) -> list[Finding]:
    """Drop what was found by its form alone where the tagger holds most of its words to be public.

    Args:
        findings: of the rules.
        public: start and end of each word that the tagger holds to be public, sorted.
    """
    kept = []
    for finding in findings:
        if public and finding.rule in _BY_FORM:
            first = bisect_left(public, (finding.start, 0))
            inside = public[first : bisect_left(public, (finding.end, 0))]
            if 2 * sum(end - start for start, end in inside) > finding.end - finding.start:
                continue
        kept.append(finding)
    return kept
