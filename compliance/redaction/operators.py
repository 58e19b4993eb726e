"""What replaces a found span.

Guarantees: the replacement never equals the original unless the operator is ``keep``; everything that depends on the
value is keyed.
Does not: decide which operator; the profile does.

Example:
    >>> from compliance.redaction.profile import load_profile
    >>> make = Operators(load_profile("finance"), Keyed(bytes(32), "s1"))
    >>> make.replacement("CARD", "4111 1111 1111 1111")
    '4111 11** **** 1111'
"""

from __future__ import annotations

import re

from compliance.redaction import written_dates
from compliance.redaction.checksums import card
from compliance.redaction.keyed import Keyed
from compliance.redaction.profile import EntityPolicy, Profile
from compliance.redaction.quantities import spelled_number
from compliance.redaction.surrogates import make_surrogate

# PCI DSS 4.0, 3.4.1: the bank identification number and the last four digits are the most that may be displayed.
_CARD_LEFT = (6, 4)


class Operators:
    """The operators of a profile for one subject and one document; placeholders are numbered in order of first
    appearance."""

    def __init__(
        self,
        profile: Profile,
        keyed: Keyed,
        avoid: frozenset[str] = frozenset(),
        *,
        is_day_first: bool | None = None,
    ) -> None:
        """Args:
        profile: names the operator of each type.
        keyed: choices of the subject.
        avoid: lower-case names and places of the document, which no surrogate may be.
        is_day_first: how the document writes numeric dates, where they tell; the option ``day_first`` goes before it.
        """
        self._profile = profile
        self._day_first = is_day_first
        self._keyed = keyed
        self._avoid = avoid
        self._numbers: dict[str, dict[str, int]] = {}

    def replacement(self, kind: str, value: str) -> str:
        """What stands in the place of ``value``.

        Args:
            kind: entity type; one that the profile does not have gets a placeholder.
            value: the found text, not empty.
        """
        policy = self._profile.entities.get(kind)
        if policy is None:
            return self._placeholder(kind, value)
        if policy.operator == "keep":
            return value
        if kind != "CARD" and self._would_correlate(policy, value):
            return self._placeholder(kind, value)
        made = self._made(policy, kind, value)
        if made is None or made == value:
            return self._placeholder(kind, value)
        return made

    def _would_correlate(self, policy: EntityPolicy, value: str) -> bool:
        """Whether a card number under another type, as in "account 4111 ...", would be hashed here and truncated as a
        card, or the other way round. Source: PCI DSS 4.0, 3.5.1."""
        cards = self._profile.entities.get("CARD")
        both = {policy.operator, cards.operator if cards is not None and cards.on else ""}
        return both == {"hash", "mask"} and card(value)

    def _made(self, policy: EntityPolicy, kind: str, value: str) -> str | None:
        match policy.operator:
            case "surrogate":
                return make_surrogate(kind, value, self._keyed, self._avoid)
            case "mask":
                return self._mask(policy, kind, value)
            case "hash":
                normal = re.sub(r"[\W_]+", "", value).casefold()
                return f"[{kind}:{self._keyed.digest('hash/' + kind, normal).hex()[:16]}]"
            case "date_shift":
                return written_dates.shift(value, self._days(policy), is_day_first=self._is_day_first(policy))
            case "generalise":
                return self._generalise(policy, kind, value)
        return None

    def _placeholder(self, kind: str, value: str) -> str:
        numbers = self._numbers.setdefault(kind, {})
        number = numbers.setdefault(" ".join(value.casefold().split()), len(numbers) + 1)
        return f"[{kind}_{number}]"

    def _mask(self, policy: EntityPolicy, kind: str, value: str) -> str:
        first, last = int(policy.options.get("leave_first", 0)), int(policy.options.get("leave_last", 0))
        if kind == "CARD" or card(value):
            first, last = min(first, _CARD_LEFT[0]), min(last, _CARD_LEFT[1])
        places = [i for i, c in enumerate(value) if c.isalnum()]
        # A short value would otherwise stay whole.
        if first + last >= len(places):
            first = last = 0
        hidden = set(places[first : len(places) - last])
        char = str(policy.options.get("char", "*"))
        return "".join(char if i in hidden else c for i, c in enumerate(value))

    def _is_day_first(self, policy: EntityPolicy) -> bool | None:
        told = policy.options.get("day_first")
        return self._day_first if told is None else bool(told)

    def _days(self, policy: EntityPolicy) -> int:
        window = int(policy.options.get("window_days", 365))
        days = self._keyed.below("date_shift", "", 2 * window) - window
        return days if days < 0 else days + 1

    def _generalise(self, policy: EntityPolicy, kind: str, value: str) -> str | None:
        options = policy.options
        if kind == "DATE":
            year = written_dates.year_of(value)
            return str(year) if year is not None and year > int(options.get("oldest_year", 0)) else None
        if kind == "ZIP":
            digits = "".join(c for c in value if c.isdecimal())[:3]
            if len(digits) < 3 or not value[:3].isdecimal():
                return None
            return ("000" if digits in options.get("zip3_restricted", ()) else digits) + "**"
        if kind == "AGE":
            age = spelled_number(value)
            if age is None or age >= int(options.get("min_age", 90)):
                return "90+"
            return f"{age // 10 * 10}s" if options.get("to") == "decade" else None
        return None
