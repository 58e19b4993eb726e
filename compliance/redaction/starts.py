# ruff: noqa: E501 - a guarantee is read in one piece
"""Where a pattern can begin, read from the pattern itself, so that one look at each word decides which rules have to be tried there.

Guarantees: ``Heads`` names a superset of the places at which the pattern matches; where that cannot be shown the answer is None and the
pattern has to be tried everywhere.
Does not: understand every construct; what it does not understand ends a prefix early, which only makes it try more places.

Example:
    >>> sorted(heads_of(re.compile(r"(?i)\\\\b(?:aged|turn(?:s|ed)) \\\\d\\\\d")).prefixes)
    ['age', 'tur']
    >>> heads_of(re.compile(r"aged")) is None  # may begin inside a word
    True
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from re import _constants as ops  # type: ignore[attr-defined]
from re import _parser as parser  # type: ignore[attr-defined]
from typing import Any

PREFIX_CHARS = 3
_MAX_BRANCH = 12
_MAX_STATES = 600
_REPEATS = (ops.MAX_REPEAT, ops.MIN_REPEAT, ops.POSSESSIVE_REPEAT)
_DIGIT, _OTHER = "\0digit", "\0other"

# (whether no word character can stand before, what the match begins with, whether it is complete)
_State = tuple[bool, tuple[str, ...], bool]


@dataclass(frozen=True, slots=True)
class Heads:
    """What a match begins with.

    Attributes:
        is_digit: it may begin with a decimal digit that begins a word.
        prefixes: first one to three characters, in small letters, of the words it may begin with.
        symbols: characters that belong to no word with which it may begin.
    """

    is_digit: bool
    prefixes: frozenset[str]
    symbols: frozenset[str]


def heads_of(pattern: re.Pattern[str]) -> Heads | None:
    """The heads of a pattern, or None if it may begin with any letter or inside a word.

    Args:
        pattern: compiled from text.
    """
    parsed = parser.parse(pattern.pattern, pattern.flags)
    states = _walk(parsed, {(False, (), False)})
    if not states:
        return None
    is_digit, prefixes, symbols = False, set(), set()
    for is_guarded, chars, _ in states:
        if not chars or chars[0] == _OTHER:
            return None
        first = chars[0]
        is_word = first == _DIGIT or first.isalnum() or first == "_"
        if is_word and not is_guarded:
            return None
        if first == _DIGIT or first.isdecimal():
            is_digit = True
        elif is_word:
            prefixes.add("".join(chars))
        else:
            symbols.add(first)
    return Heads(is_digit, frozenset(prefixes), frozenset(symbols))


def _walk(items: Any, states: set[_State]) -> set[_State]:
    for op, value in items:
        ended = {s for s in states if s[2]}
        going = states - ended
        if not going:
            return states
        states = ended | _step(op, value, going)
        if len(states) > _MAX_STATES:
            return {(False, (_OTHER,), True)}
    return states


def _step(op: Any, value: Any, states: set[_State]) -> set[_State]:
    if op is ops.LITERAL:
        return {_added(state, chr(value)) for state in states}
    if op is ops.IN:
        return _one_of(value, states)
    if op is ops.SUBPATTERN:
        return _walk(value[3], states)
    if op is ops.ATOMIC_GROUP:
        return _walk(value, states)
    if op is ops.BRANCH:
        return set().union(*(_walk(branch, states) for branch in value[1]))
    if op in _REPEATS:
        least, most, inner = value
        once = _walk(inner, states)
        if (least, most) != (1, 1) and most != 1:
            once = {_closed(state) for state in once}
        return once | states if least == 0 else once
    if op is ops.AT:
        if value in (ops.AT_BOUNDARY, ops.AT_BEGINNING, ops.AT_BEGINNING_STRING):
            return {(g or not chars, chars, d) for g, chars, d in states}
        return states
    if op in (ops.ASSERT, ops.ASSERT_NOT):
        direction, inner = value
        if direction < 0 and _guards(op, inner):
            return {(g or not chars, chars, d) for g, chars, d in states}
        return states
    return {_closed(state, _OTHER) for state in states}


def _added(state: _State, char: str) -> _State:
    is_guarded, chars, _ = state
    low = char.lower() if len(char.lower()) == 1 else char
    chars = (*chars, low)
    return is_guarded, chars, len(chars) >= PREFIX_CHARS


def _closed(state: _State, marker: str = "") -> _State:
    """The state with its prefix as it is; ``marker`` says what comes first where nothing has come yet."""
    is_guarded, chars, _ = state
    if chars or not marker:
        return is_guarded, chars, bool(chars)
    return is_guarded, (marker,), True


def _one_of(members: Any, states: set[_State]) -> set[_State]:
    literals = [chr(value) for op, value in members if op is ops.LITERAL]
    if len(literals) == len(members) <= _MAX_BRANCH:
        return {_added(state, char) for state in states for char in literals}
    ranges = [value for op, value in members if op is ops.RANGE]
    is_digits = all(
        (op is ops.CATEGORY and value is ops.CATEGORY_DIGIT)
        or (op is ops.RANGE and 48 <= value[0] <= value[1] <= 57)
        or (op is ops.LITERAL and 48 <= value <= 57)
        for op, value in members
    )
    if not is_digits and len(ranges) + len(literals) == len(members):
        spread = literals + [chr(c) for low, high in ranges for c in range(low, high + 1) if high - low < _MAX_BRANCH]
        if len(spread) <= _MAX_BRANCH and all(high - low < _MAX_BRANCH for low, high in ranges):
            return {_added(state, char) for state in states for char in spread}
    return {_closed(state, _DIGIT if is_digits else _OTHER) for state in states}


def _guards(op: Any, inner: Any) -> bool:
    """Whether a look-behind makes sure that no word character stands before."""
    if not len(inner):
        return False
    last_op, last = inner[len(inner) - 1]
    if op is ops.ASSERT_NOT:
        # Only a look-behind of one character says something about every character before.
        return (
            len(inner) == 1
            and last_op is ops.IN
            and (ops.CATEGORY, ops.CATEGORY_WORD) in last
            and last[0][0] is not ops.NEGATE
        )
    if last_op is ops.LITERAL:
        return not (chr(last).isalnum() or chr(last) == "_")
    return last_op is ops.IN and all(o is ops.CATEGORY and v is ops.CATEGORY_SPACE for o, v in last)
