# ruff: noqa: E501 - a guarantee is read in one piece
"""One pass over the text for all rules: each word is looked at once and decides which patterns are tried there.

Guarantees: the findings are those of trying every pattern everywhere (``apply_rules``), rule by rule; only places at which a pattern
cannot begin are left out. A rule's ``near`` is trusted; the tests compare both ways on real and on made-up text.
Does not: order the findings.

Example:
    >>> rule = Rule("age", "AGE", re.compile(r"\\\\baged (?P<v>\\\\d\\\\d)\\\\b"), 0.8)
    >>> [(f.start, f.end) for f in RulePass([rule]).find("A man aged 45.", float("inf"))]
    [(11, 13)]
"""

from __future__ import annotations

import re
import time
from collections.abc import Sequence

from compliance.redaction.finding import Finding
from compliance.redaction.rules import Rule, score_of, still_time
from compliance.redaction.starts import PREFIX_CHARS, heads_of

_WORD = re.compile(r"\b\w")
_DIGIT = re.compile(r"\d")
_DIGIT_RUN = re.compile(r"(?<!\d)\d")
_CODE = re.compile(r"\b[^\W\d][^\W\d]{0,40}\d")
# How far a match may reach behind the place that ``near`` names; the longest pattern ends well before.
_AHEAD = 700
# Letters that a case-blind pattern takes for another one. Source: Unicode CaseFolding.txt, simple foldings.
_SAME_LETTER = str.maketrans("İıſK", "iisk")


class RulePass:
    """A set of rules, analysed once."""

    def __init__(self, rules: Sequence[Rule]) -> None:
        self.rules = tuple(rules)
        self._named = tuple("v" in rule.pattern.groupindex for rule in rules)
        self._has_condition = tuple(bool(rule.needs.strip("0") or rule.any_of or rule.gate) for rule in rules)
        self._everywhere: list[int] = []
        self._by_prefix: dict[str, list[int]] = {}
        self._by_word: dict[str, list[tuple[str, int]]] = {}
        self._by_symbol: dict[str, list[int]] = {}
        self._at_digits: list[int] = []
        self._by_ending: list[tuple[int, tuple[str, ...]]] = []
        self._near: list[int] = []
        self._at_codes: list[int] = []
        self._at_runs: list[int] = []
        for index, rule in enumerate(rules):
            self._place(index, rule)
        self._lengths = sorted({len(prefix) for prefix in self._by_prefix})
        self._word_lengths = sorted({len(head) for head in self._by_word})
        self._by_head = {prefix: tuple(found) for prefix, found in self._by_prefix.items()}

    def _place(self, index: int, rule: Rule) -> None:
        if isinstance(rule.near, re.Pattern):
            self._near.append(index)
            return
        if rule.near:
            for literal in rule.near:
                self._by_word.setdefault(literal.lower()[:PREFIX_CHARS], []).append((literal, index))
            return
        if rule.endings:
            self._by_ending.append((index, rule.endings))
            return
        if rule.starts == "code":
            self._at_codes.append(index)
            self._at_digits.append(index)
            return
        if rule.starts == "run":
            self._at_runs.append(index)
            return
        heads = heads_of(rule.pattern)
        if heads is None:
            self._everywhere.append(index)
            return
        if heads.is_digit:
            self._at_digits.append(index)
        for prefix in heads.prefixes:
            self._by_prefix.setdefault(prefix, []).append(index)
        for symbol in heads.symbols:
            self._by_symbol.setdefault(symbol, []).append(index)

    def find(self, text: str, deadline: float) -> list[Finding]:
        """Every match of every rule, in no particular order.

        Args:
            text: a folded view.
            deadline: ``time.monotonic()`` value after which the document is given up.

        Raises:
            RedactionError: the deadline has passed.
        """
        low = _lowered(text)
        starts, windows = self._candidates(text, low)
        found: list[Finding] = []
        for index, places in starts.items():
            rule = self.rules[index]
            if self._has_condition[index] and _is_ruled_out(rule, text, low):
                continue
            if time.monotonic() > deadline:
                still_time(deadline, rule.name)
            places.sort()
            match_at = rule.pattern.match
            end = 0
            for place in places:
                if place >= end and (match := match_at(text, place)) is not None:
                    end = match.end()
                    self._take(index, text, match, found)
        for index, centres in windows.items():
            rule = self.rules[index]
            if self._has_condition[index] and _is_ruled_out(rule, text, low):
                continue
            still_time(deadline, rule.name)
            centres.sort()
            self._around(index, text, centres, found)
        for index in self._everywhere:
            rule = self.rules[index]
            if self._has_condition[index] and _is_ruled_out(rule, text, low):
                continue
            still_time(deadline, rule.name)
            for match in rule.pattern.finditer(text):
                self._take(index, text, match, found)
        return found

    def _candidates(self, text: str, low: str) -> tuple[dict[int, list[int]], dict[int, list[int]]]:
        """Rule -> places where it may begin, and rule -> places that a match of it holds."""
        starts: dict[int, list[int]] = {}
        windows: dict[int, list[int]] = {}
        digits: list[int] = []
        heads, lengths = self._by_head, self._lengths
        words, word_lengths = self._by_word, self._word_lengths
        for place in [match.start() for match in _WORD.finditer(text)]:
            if low[place].isdecimal():
                digits.append(place)
                continue
            for length in lengths:
                for index in heads.get(low[place : place + length], ()):
                    starts.setdefault(index, []).append(place)
            for length in word_lengths:
                for literal, index in words.get(low[place : place + length], ()):
                    if (low if literal.islower() else text).startswith(literal, place):
                        windows.setdefault(index, []).append(place)
        if digits or _DIGIT.search(text):
            self._with_digits(text, low, digits, starts, windows)
        for symbol, rules in self._by_symbol.items():
            place = text.find(symbol)
            while place >= 0:
                for index in rules:
                    starts.setdefault(index, []).append(place)
                place = text.find(symbol, place + 1)
        for index in self._near:
            near = self.rules[index].near
            if isinstance(near, re.Pattern) and (centres := [match.start() for match in near.finditer(text)]):
                windows[index] = centres
        return starts, windows

    def _with_digits(
        self, text: str, low: str, digits: list[int], starts: dict[int, list[int]], windows: dict[int, list[int]]
    ) -> None:
        for index in self._at_digits:
            starts.setdefault(index, []).extend(digits)
        for index, endings in self._by_ending:
            if centres := [d for d in digits if d and text[d - 1].isspace() and low.endswith(endings, 0, d - 1)]:
                windows[index] = centres
        if self._at_codes:
            codes = [match.start() for match in _CODE.finditer(text)]
            for index in self._at_codes:
                starts.setdefault(index, []).extend(codes)
        if self._at_runs:
            runs = [match.start() for match in _DIGIT_RUN.finditer(text)]
            for index in self._at_runs:
                starts.setdefault(index, []).extend(runs)

    def _around(self, index: int, text: str, centres: list[int], found: list[Finding]) -> None:
        search, reach = self.rules[index].pattern.search, self.rules[index].reach
        end = 0
        for centre in centres:
            if centre < end:
                continue
            match = search(text, max(end, centre - reach), centre + _AHEAD)
            while match is not None and match.start() <= centre:
                end = match.end()
                self._take(index, text, match, found)
                if end > centre:
                    break
                match = search(text, end, centre + _AHEAD)

    def _take(self, index: int, text: str, match: re.Match[str], found: list[Finding]) -> None:
        rule = self.rules[index]
        start, end = match.span("v") if self._named[index] else match.span()
        if start < end and (score := score_of(rule, text, start, end)) > 0:
            found.append(Finding(start, end, rule.type, score, rule.name))


def _is_ruled_out(rule: Rule, text: str, low: str) -> bool:
    """Whether something that every match holds is nowhere in the text."""
    if rule.needs not in ("", "0") and rule.needs not in text:
        return True
    if rule.any_of and not any(literal in low for literal in rule.any_of):
        return True
    return rule.gate is not None and rule.gate.search(text) is None


def _lowered(text: str) -> str:
    """Small letters, one for one, as case-blind patterns see them."""
    if text.isascii():
        return text.lower()
    folded = text.translate(_SAME_LETTER)
    low = folded.lower()
    return low if len(low) == len(text) else "".join(c.lower() if len(c.lower()) == 1 else c for c in folded)
