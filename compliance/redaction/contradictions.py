"""What a profile must not ask of one entity type.

Guarantees: what would make truncated and hashed forms of one card number meet, keep what must not be kept, or promise a
way back that there cannot be, is refused when the profile is read.
Does not: judge whether a profile protects enough; an officer does.

Source: PCI DSS 4.0, 3.3.1 (sensitive authentication data), 3.5.1 (truncated and hashed forms of one number).

Example:
    >>> found_in("CARD", "hash", {"leave_last": 4}, is_reversible=False)
    'a hash must not leave digits beside it: the two forms of one number could be correlated'
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_VISIBLE = ("leave_first", "leave_last")


def found_in(name: str, operator: str, options: Mapping[str, Any], *, is_reversible: bool) -> str | None:
    """Why the settings contradict a rule or each other, or None.

    Args:
        name: entity type.
        operator: a known operator.
        options: of the entity.
        is_reversible: whether the original shall be sealed beside the replacement.
    """
    window = options.get("window_days", 1)
    if not isinstance(window, int) or isinstance(window, bool) or window < 1:
        return "window_days must be a whole number of days, at least 1"
    if not isinstance(options.get("day_first", True), bool):
        return "day_first must be true or false"
    if operator == "hash" and any(options.get(key) for key in _VISIBLE):
        return "a hash must not leave digits beside it: the two forms of one number could be correlated"
    if is_reversible and operator == "keep":
        return "there is nothing to reverse where the original is kept"
    if is_reversible and name == "CARD_SECRET":
        return "sensitive authentication data must not be kept, sealed or not"
    return None
