# ruff: noqa: E501 - a pattern or a word list is read in one piece
"""Rules for names of people that a title, a label or a turn of phrase gives away.

Guarantees: initials, particles (van, de la, bin), hyphens, apostrophes and all-caps names are followed to their end.
Does not: find a bare name in running text; that is the tagger's part, and the document memory's once it was found anywhere.

Example:
    >>> from compliance.redaction.rules import apply_rules
    >>> text = "She saw Dr. Ana M. de la Cruz today."
    >>> [text[f.start:f.end] for f in apply_rules(people_rules(include_title=False), text, float("inf"))]
    ['Ana M. de la Cruz']
"""

from __future__ import annotations

import re

from compliance.redaction.gazetteers import word_set
from compliance.redaction.rules import Rule
from compliance.redaction.vocabulary import is_function_word, is_word

_UPPER = "A-ZÀ-ÖØ-ÞĀĂĄĆĈĊČĎĐĒĔĖĘĚĜĞĠĢĤĦĨĪĬĮİĴĶĹĻĽĿŁŃŅŇŊŌŎŐŒŔŖŘŚŜŞŠŢŤŦŨŪŬŮŰŲŴŶŸŹŻŽȘȚ"
_NAME = rf"(?:[{_UPPER}][\w’'‑-]{{1,24}}|[{_UPPER}]\.(?:[ -]?[{_UPPER}]\.){{0,3}})"
_PARTICLE = (
    r"(?:(?:van|von|de|del|della|der|den|di|da|do|dos|das|la|le|el|al|bin|ibn|ben|bint|af|av|ten|ter|zu|y|e|d['’])[ ])"
)
NAME_RUN = rf"(?:{_PARTICLE}{{0,2}}{_NAME}(?:[ ]{_PARTICLE}{{0,2}}{_NAME}){{0,4}})"
_TITLES = "|".join(
    sorted(
        {t.capitalize() for t in word_set("titles")} | {"Mr", "Mrs", "Ms", "Dr", "Messrs"},
        key=len,
        reverse=True,
    )
)
_ROLE = r"(?:[Pp]atient|[Nn]ame|[Ff]ull [Nn]ame|[Pp]t|[Cc]lient|[Cc]ustomer|[Bb]orrower|[Ee]mployee|[Gg]uarantor|[Bb]eneficiary|[Aa]ttending|[Pp]hysician|[Pp]rovider|[Ss]urgeon|[Ss]igned(?: by)?|[Dd]ictated by|[Cc]c|[Aa]ttn|[Aa]ttention|[Cc]ontact|[Ff]rom|[Tt]o|[Rr]eferred by|[Rr]ef(?:erring)? (?:[Mm][Dd]|[Pp]hysician)|[Ss]pouse|[Mm]other|[Ff]ather|[Nn]ext of [Kk]in|[Gg]uardian|[Ee]mergency [Cc]ontact|[Ww]itness|[Aa]ccount [Hh]older|[Cc]ardholder|[Ii]nsured|[Ss]ubscriber|NAME|PATIENT|ATTENDING|PHYSICIAN|By|/s/)"
_NOT_NAME = re.compile(
    r"^(?:Monday|Tuesday|Wednesday|Thursday|Friday|Saturday|Sunday|Patient|Doctor|Name|Date|The|This|No|Yes|N/A|None|History|Not|Unknown|All|Whom|Sir|Madam|Team|Customer|Guest|I|It|We|You|He|She|They|Company|Party|Parties|Agreement|Buyer|Seller)\b"
)


_POSTNOMINAL = r"M\.?D|D\.?O|Ph\.?D|R\.?N|N\.?P|P\.?A(?:-C)?|LCSW|DDS|DPM|PharmD|Esq|J\.?D|CPA|CFP|FACP|FACS|APRN|CRNA|BSN|MSN|MPH|DVM|OD|PT|OT|RPh|Jr|Sr|I{2,3}|IV"
_INITIALLED = re.compile(rf"[{_UPPER}]\.[ ](?:[{_UPPER}]\.[ ])?[{_UPPER}]\w[\w’'-]{{1,24}}$")
_CREDENTIAL = re.compile(r" (?:M\.?D|D\.?O|Ph\.?D|R\.?N|N\.?P|P\.?A|LCSW|DDS|DPM|PharmD|Esq|J\.?D|CPA|CFP)\b")


def _is_name(value: str) -> bool:
    """Whether at least one word is a known name or no dictionary word; "Okay" behind "Patient:" is none."""
    if _NOT_NAME.match(value):
        return False
    words = [w.strip(".,'’").lower() for w in value.split()]
    if _INITIALLED.match(value) and not is_function_word(value.split()[-1]):
        return True
    return any(
        len(w) > 1 and (w in word_set("given_names") or w in word_set("surnames") or not is_word(w))
        for w in words
        if w not in _FILLERS
    )


def _is_titled(value: str) -> bool:
    """Whether a name follows "MR" or "MS": a known one, or a long word that no dictionary knows."""
    first = value.split()[0].strip(".,'’").lower()
    is_known = first in word_set("given_names") or first in word_set("surnames")
    return is_known or (len(first) > 3 and not is_word(first))


def _is_kin(value: str) -> bool:
    """Whether a name follows "her daughter": one word must be a name by itself, of two one is enough."""
    return _is_name(value) if " " in value else _is_only_names(value)


def _is_addressed(value: str) -> bool:
    """Whether a name follows the title: in "Thank you, Doctor. I'll wait" none does."""
    first, *more = value.split()
    if first.lower().rstrip(".") in word_set("titles"):
        return bool(more) and not is_function_word(more[0])
    return bool(more) or not is_function_word(first)


def _is_only_names(value: str) -> bool:
    """Whether each word is a known name or no dictionary word."""
    words = [w.strip(".,'’").lower().removesuffix("'s").removesuffix("’s") for w in value.split()]
    return any(len(w) > 2 for w in words) and all(
        len(w) == 1 or w in word_set("given_names") or w in word_set("surnames") or not (is_word(w) or w in _FILLERS)
        for w in words
    )


_FILLERS = frozenset(
    [
        "yeah", "yep", "yup", "uh", "um", "oh", "hmm", "mm", "mhm", "nope", "okay", "ok", "hi", "hey", "wow", "ah",
        "aw", "gonna", "i'm", "i've", "i'd", "it's", "that's", "don't", "let's", "eh", "huh", "unless", "gosh", "geez", "whoa", "nah", "uhm", "hah", "ugh", "lemme", "gotcha", "yessir", "yup", "ouch", "dang", "sheesh", "phew", "hmmm",
        "mmm", "ummm", "uhh", "umm", "wanna", "dunno", "kinda", "sorta", "alright", "y'know", "cuz", "nope", "aha", "ahh", "ooh", "haha", "yikes", "jeez",
    ]
)  # fmt: skip


def people_rules(*, include_title: bool) -> tuple[Rule, ...]:
    """The rules.

    Args:
        include_title: whether "Mr" or "Dr." belongs to the span.
    """
    titled = rf"\b(?:{_TITLES})\b\.?[ \n](?:(?:{_TITLES})\b\.?[ ])?"
    whole = rf"(?P<v>{titled}{NAME_RUN})" if include_title else rf"{titled}(?P<v>{NAME_RUN})"
    loud = r"\b(?:MR|MRS|MS|DR)\b\.?[ \n]"
    capitals = rf"(?P<v>{loud}{NAME_RUN})" if include_title else rf"{loud}(?P<v>{NAME_RUN})"
    return (
        Rule("person.title", "PERSON", re.compile(whole), 0.9, check=_is_addressed),
        # "MR" and "MS" are also mitral regurgitation and multiple sclerosis: the next word must be a name.
        Rule("person.title_capitals", "PERSON", re.compile(capitals), 0.9, check=_is_titled),
        Rule("person.role", "PERSON", re.compile(rf"\b(?:[Cc]ustomer|[Pp]atient|[Cc]lient|[Bb]orrower|[Mm]ember|[Tt]enant|[Ee]mployee|[Cc]laimant|[Ii]nsured|[Cc]ardholder|[Pp]olicyholder|[Pp]laintiff|[Dd]efendant|[Ww]itness|[Cc]ounsel|[Aa]ttorney|[Aa]gent|[Oo]fficer)[ ](?P<v>{NAME_RUN})"), 0.65, check=_is_only_names),
        Rule("person.kin", "PERSON", re.compile(rf"\b(?i:my|his|her|their|our|your)[ ](?:kid|son|daughter|wife|husband|mother|father|brother|sister|aunt|uncle|cousin|niece|nephew|friend|boss|neighbou?r|colleague|roommate|fianc[ée]e?|partner|girlfriend|boyfriend|grandson|granddaughter)s?,?[ ](?P<v>{NAME_RUN})"), 0.7, check=_is_kin),
        Rule("person.owner", "PERSON", re.compile(rf"\b[Tt]he (?P<v>[{_UPPER}][\w’'-]{{2,20}}) (?:novel|book|film|song|concert|album|family|household|estate|residence|wedding|funeral|children|brothers|sisters|twins|account|file|matter|divorce|trust)\b"), 0.6, check=lambda v: v.lower() in word_set("surnames")),
        Rule("person.called_upon", "PERSON", re.compile(rf"(?m)^(?P<v>[{_UPPER}][\w’'-]{{2,20}}),[ ](?=(?:can|could|please|would|will|do|are|how|what|where|when|is|thank|I)\b)"), 0.6, check=lambda v: v.lower() in word_set("given_names"), needs=",", near=re.compile(r",[ ](?:can|could|please|would|will|do|are|how|what|where|when|is|thank|I)\b"), reach=22),
        Rule("person.acts", "PERSON", re.compile(rf"(?m)(?:^|(?<=[.!?]\s))(?P<v>[{_UPPER}][\w’'-]{{1,20}})(?=[ ](?:said|says|shouted|began|was born|wrote|writes|replied|asked|told|lives|lived|grew up|married|studied|graduated|whispered|laughed|shrugged)\b)"), 0.6, check=_is_only_names, near=("said", "says", "shouted", "began", "was born", "wrote", "writes", "replied", "asked", "told", "lives", "lived", "grew up", "married", "studied", "graduated", "whispered", "laughed", "shrugged"), reach=24),
        Rule("person.label", "PERSON", re.compile(rf"(?<![\w]){_ROLE}[ ]?(?:[Nn]ame)?[:=][ \t]{{0,4}}(?P<v>{NAME_RUN}(?:,[ ](?!(?:{_POSTNOMINAL})\b){_NAME}(?:[ ]{_NAME}){{0,1}}){{0,1}})"), 0.75, check=_is_name, needs=":"),
        Rule("person.regarding", "PERSON", re.compile(rf"(?<![\w])(?:R[Ee]|Regarding|Subject|REGARDING|Attn|In re)[:.]?[ ]{{1,3}}(?P<v>{NAME_RUN}(?:,[ ](?!(?:{_POSTNOMINAL})\b){_NAME}){{0,1}})"), 0.65, check=_is_only_names),
        Rule("person.label_lower", "PERSON", re.compile(r"\b(?:patient name|full name|name|cardholder|account holder)[ ]?[:=][ ]{0,3}(?P<v>[a-z'-]{2,20}(?:,?[ ][a-z'-]{2,20}){1,2})(?=[ ]{0,8}(?:$|\n|,|;))", re.M), 0.6, needs=":"),
        Rule("person.introduced", "PERSON", re.compile(rf"\b(?i:my name is|my name's|i am called|name is|names? are|named|this is|née|nee|born as|alias|regards,|sincerely,|yours,|thanks,|dear|hi|hello|hey)[ \n](?P<v>{NAME_RUN})"), 0.6, check=_is_name),
        Rule("person.called", "PERSON", re.compile(rf"\b(?:called|known as)[ ](?P<v>{NAME_RUN})"), 0.6, check=lambda value: value.split()[0].lower() in word_set("given_names")),
        Rule("person.my_name", "PERSON", re.compile(r"\b(?:my name is|my name's|call me) (?P<v>[a-z]{2,20}(?: [a-z]{3,20})?)(?=[.,;!?\n]|$)", re.I), 0.7, check=_is_name),
        Rule("person.speaker", "PERSON", re.compile(rf"(?m)^(?P<v>[{_UPPER}][a-zà-ž]{{2,15}}(?: [{_UPPER}][a-zà-ž]{{2,15}})?):(?=[ \"“])"), 0.6, check=lambda v: v.split()[0].lower() in word_set("given_names"), needs=":", near=re.compile(":[ \"“]"), reach=36),
        Rule("person.credential", "PERSON", re.compile(rf"(?<!\w)(?P<v>{NAME_RUN}),?[ ](?:M\.?D|D\.?O|Ph\.?D|R\.?N|N\.?P|P\.?A(?:-C)?|LCSW|DDS|DPM|PharmD|Esq|J\.?D|CPA|CFP)\b\.?"), 0.85, check=_is_name, gate=_CREDENTIAL, near=("MD", "M.D", "DO", "D.O", "PhD", "Ph.D", "RN", "R.N", "NP", "N.P", "PA", "P.A", "LCSW", "DDS", "DPM", "PharmD", "Esq", "JD", "J.D", "CPA", "CFP"), reach=260),
        Rule("person.last_first", "PERSON", re.compile(rf"(?:^|(?<=\n))(?P<v>[{_UPPER}]{{2,20}},[ ][{_UPPER}][{_UPPER}a-z]{{1,20}}(?:[ ][{_UPPER}]\.?)?)(?=[ \t]{{0,8}}(?:$|\n|\d|\())"), 0.6, near=re.compile(rf",[ ][{_UPPER}]"), reach=24),
    )  # fmt: skip
