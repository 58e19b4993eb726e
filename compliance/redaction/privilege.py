# ruff: noqa: E501 - a pattern or a word list is read in one piece
"""Screening for privileged passages: attorney-client communication and work product, held back until an attorney has looked.

Guarantees: one score a passage from weighted cues that anybody can read below; every reason is named; linear in the length of the text;
a marking ("privileged and confidential") always suffices by itself.
Does not: decide privilege. It is made to ask too often rather than too seldom; a passage without any cue is missed, and an
attorney's view of the whole production is not replaced.

Source: Fed. R. Evid. 502(b), (d), (e) (inadvertent disclosure, claw-back); Fed. R. Civ. P. 26(b)(3), 26(b)(5) (work product, privilege
log); Upjohn Co. v. United States, 449 U.S. 383 (1981); ABA Model Rules 1.6, 4.4(b). The weights are ours.

Example:
    >>> text = "Lunch is at noon.\\n\\nPlease keep this attorney-client privileged: our counsel advises that we settle."
    >>> [(passage.start, passage.reasons[0]) for passage in screen(text)]
    [(19, 'marking.attorney_client')]
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

# A passage at or above this score is held back. Two ordinary cues reach it, or one marking.
THRESHOLD = 0.5
_BIAS = -2.2
_COUNSEL = r"(?:(?:in-?house |outside |general |legal |associate |deputy |litigation |our |their |company |corporate |patent |defen[cs]e )*counsel|attorneys?|lawyers?|solicitors?|barristers?|law firm|legal (?:department|team|division|group|affairs))"
_ADVICE = r"(?:legal (?:advice|opinion|analysis|assessment|strategy|position|exposure|risk|theory|theories|issues?|review)|advice of counsel|litigation (?:strategy|risk|exposure|posture|plan)|settlement (?:strategy|authority|position|range))"

# Cue -> (weight, pattern). A weight is added once a passage, however often the cue stands there.
CUES: dict[str, tuple[float, re.Pattern[str]]] = {
    "marking.attorney_client": (5.0, re.compile(r"(?i)\b(?:attorney|lawyer|solicitor)[\s/&-]{0,3}(?:and[ ])?client\b(?:['’]s)?[\s-]{0,2}(?:privileged?|communications?|confidential|material)")),
    "marking.privileged": (5.0, re.compile(r"(?i)\bprivileged\s?(?:and|&|/|,|\||-)\s?confidential\b|\bconfidential\s?(?:and|&|/|,|\||-)\s?(?:legally )?privileged\b|\blegal(?:ly)?[ ]?(?:professional )?privileged?\b|\bsubject to (?:legal )?(?:professional )?privilege\b|\bwithout waiver of (?:any )?privilege")),
    "marking.work_product": (5.0, re.compile(r"(?i)\b(?:attorney|lawyer)(?:['’]s|s['’])?[\s-]{0,2}work[\s-]{0,2}product\b|\bwork[\s-]product (?:doctrine|protection|privilege)|\bprepared (?:by|at the (?:direction|request) of) (?:legal )?(?:counsel|an attorney)\b|\bprepared in anticipation of (?:litigation|trial)|\bin anticipation of litigation\b")),
    "marking.common_interest": (4.0, re.compile(r"(?i)\b(?:joint[\s-]defen[cs]e|common[\s-]interest) (?:privileged?|agreement|communication|material)")),
    "marking.clawback": (4.0, re.compile(r"(?i)\b(?:claw[\s-]?back (?:notice|request|letter|demand|order|agreement|of (?:the |these |all )?(?:privileged|produced|inadvertent|document))|(?:F\.?R\.?E\.?|Rule|Evid\.) ?502(?:\([bde]\))?|non-?waiver (?:agreement|order)|inadvertently (?:produced|disclosed|sent|transmitted)(?: \w+){0,4} privileged?)")),
    "inadvertent": (1.7, re.compile(r"(?i)\binadvertent(?:ly)? (?:disclos|produc|sent|transmi)\w{0,10}")),
    "asks.advice": (2.6, re.compile(rf"(?i)\b(?:seek(?:ing)?|request(?:ing|ed)?|need(?:ed)?|want(?:ed)?|ask(?:ing|ed)?(?: \w+){{0,2}} for|obtain(?:ed|ing)?|provid(?:e|ed|ing)|giv(?:e|en|ing)|render(?:ed|ing)?|for (?:the )?purposes? of(?: \w+){{0,2}}|your|our|some)(?: \w+){{0,3}} {_ADVICE}")),
    "gives.advice": (2.6, re.compile(rf"(?i)\b{_COUNSEL}\b(?: \w+){{0,3}} (?:advis(?:es?|ed|ing)|recommend(?:s|ed)?|believes?|concluded?|thinks?|warned|opined?|suggest(?:s|ed)?|told (?:us|me)|cautioned|instructed|says|said)\b|\b(?:my|our) (?:legal )?(?:advice|opinion|recommendation|view|assessment) is\b|\b(?:on|upon|per|following|under) (?:the )?advice of (?:\w+ )?counsel\b|\bI (?:would )?(?:advise|recommend)(?: \w+){0,3} (?:settle|against|not to|that (?:you|we|the company))")),
    "talks.with_counsel": (1.7, re.compile(rf"(?i)\b(?:discuss(?:ed|ion|ing)?|spoke|speak|consult(?:ed|ing)?|confer(?:red|ring)?|call(?:ed)?|meeting|met|check(?:ed)?|run (?:it|this) (?:by|past)|cleared|forward(?:ed)?|cc)(?: \w+){{0,4}} (?:with |by |to |past )?(?:the |an? )?{_COUNSEL}\b")),
    "strategy": (1.7, re.compile(rf"(?i)\b(?:{_ADVICE}|mental impressions?|case theory|trial strategy|strengths? and weaknesses|likelihood of (?:success|prevailing)|chances? (?:of winning|at trial)|weak(?:ness|est)? (?:point|argument|case)|worst[\s-]case|settle for|walk[\s-]away|litigation hold|legal hold)\b")),
    "header.counsel": (1.5, re.compile(r"(?im)^[ >\t]{0,4}(?:from|to|cc|bcc)[ ]?:[^\n]{0,120}(?:\besq\b|\bJ\.?D\.?\b|attorney|counsel|legal@|@[\w.-]{0,40}(?:law|legal|llp|counsel|attorneys|solicitors)[\w.-]{0,30}\.)")),
    "signature.counsel": (1.2, re.compile(r"(?i)(?:,\s?Esq\b\.?|\bAttorneys? at Law\b|\b(?:General|Associate|Outside|Senior) Counsel\b|\bPartner,? [\w &.,]{2,40}LLP\b|\bBar (?:No|Number)\b)")),
    "address.counsel": (0.9, re.compile(r"(?i)@[\w.-]{0,40}(?:law|legal|llp|counsel|attorneys|solicitors)[\w.-]{0,30}\.(?:com|net|org|us|uk|co)\b")),
    "names.counsel": (0.7, re.compile(rf"(?i)\b{_COUNSEL}\b")),
    "keeps.confidential": (0.8, re.compile(r"(?i)\b(?:do not (?:forward|share|disclose|distribute)|keep (?:this|it) (?:strictly )?(?:confidential|between us)|for your eyes only|strictly confidential|delete (?:this|it) after)\b")),
    # What speaks against: filings, contracts and opinions are public or shared with the other side.
    "against.filed": (-1.8, re.compile(r"(?i)\b(?:filed (?:with|in) the court|the court (?:held|finds|ordered|ruled|concluded|notes)|respectfully submitted|plaintiff alleges|comes now|opinion of the court|hereby ordered|certificate of service|the applicants? (?:was|were) represented)\b")),
    "against.contract": (-1.8, re.compile(r"(?i)\b(?:this agreement|hereto|hereunder|hereby|the parties? (?:shall|agree)|receiving party|disclosing party|notices? (?:shall|must)|reasonable attorneys?['’]? fees|with a copy to|independent legal (?:advice|counsel)|opportunity to (?:consult|obtain))\b")),
    "against.public": (-1.0, re.compile(r"(?i)\b(?:press release|published|website|newsletter|job (?:posting|description)|terms of service|privacy policy|hourly rate|continuing legal education)\b")),
}  # fmt: skip
_MARKINGS = tuple(name for name in CUES if name.startswith("marking."))
_BREAK = re.compile(r"\n[ \t>]*\n|\n(?=(?:From|De|Von)[ ]?:)")
_SENTENCE = re.compile(r"(?<=[.!?])\s+(?=[A-Z\"“(])")
_MAX_PASSAGE = 1_200
# A heading that marks what follows it: a passage this short passes its marking on to the next.
_HEADING_CHARS = 160


@dataclass(frozen=True, slots=True)
class Passage:
    """A passage that is likely privileged.

    Attributes:
        start: first code point in the text.
        end: one past the last.
        score: in [0, 1]; at least the threshold that was asked for.
        reasons: names of the cues that spoke for it, strongest first.
    """

    start: int
    end: int
    score: float
    reasons: tuple[str, ...]

    def to_json(self) -> dict[str, object]:
        """As plain data, without the text; the score is rounded to four digits."""
        return {"start": self.start, "end": self.end, "score": round(self.score, 4), "reasons": list(self.reasons)}


def screen(text: str, threshold: float = THRESHOLD) -> list[Passage]:
    """Likely privileged passages of a text, in order, disjoint.

    Args:
        text: any text.
        threshold: least score in [0, 1] for a passage to be returned.
    """
    found: list[Passage] = []
    inherited = ""
    for start, end in _passages(text):
        score, reasons = _judged(text[start:end])
        if inherited and inherited not in reasons:
            reasons, score = (inherited, *reasons), max(score, 0.9)
        # A marking that stands alone as a heading marks what follows it.
        marks = [reason for reason in reasons if reason in _MARKINGS]
        inherited = marks[0] if marks and end - start <= _HEADING_CHARS and reasons[0] != inherited else ""
        if score >= threshold:
            found.append(Passage(start, end, score, reasons))
    return found


def _judged(passage: str) -> tuple[float, tuple[str, ...]]:
    """The logistic of the summed weights, and what was summed on the positive side."""
    hits = {name: weight for name, (weight, pattern) in CUES.items() if pattern.search(passage)}
    if not any(weight > 0 for weight in hits.values()):
        return 0.0, ()
    if any(name in _MARKINGS for name in hits):
        # Nothing speaks against a marking: an attorney put it there.
        hits = {name: weight for name, weight in hits.items() if weight > 0}
    score = 1.0 / (1.0 + math.exp(-(_BIAS + sum(hits.values()))))
    return score, tuple(sorted((n for n, w in hits.items() if w > 0), key=lambda n: (-hits[n], n)))


def _passages(text: str) -> list[tuple[int, int]]:
    """Paragraphs, the long ones cut at sentence ends; blank ones are left out."""
    bounds: list[tuple[int, int]] = []
    start = 0
    for cut in [*(match.span() for match in _BREAK.finditer(text)), (len(text), len(text))]:
        bounds += _cut(text, start, cut[0])
        start = cut[1]
    return [(s, e) for s, e in bounds if not text[s:e].isspace()]


def _cut(text: str, start: int, end: int) -> list[tuple[int, int]]:
    pieces: list[tuple[int, int]] = []
    while end - start > _MAX_PASSAGE:
        ends = [m.end() for m in _SENTENCE.finditer(text, start + _MAX_PASSAGE // 2, start + _MAX_PASSAGE)]
        middle = ends[-1] if ends else start + _MAX_PASSAGE
        pieces.append((start, middle))
        start = middle
    return [*pieces, (start, end)] if end > start else pieces
