"""The way back to an original, for whoever holds the key that it was sealed with.

Guarantees: an original leaves the redactor only as what the caller's function made of it; a function that gives the
original back, or something that shows it, is an error and the document does not count as redacted.
Does not: hold a key, choose a cipher or store anything.

Example:
    >>> found = Finding(0, 6, "PERSON", 0.9, "person.title")
    >>> sealed_original(lambda plain, finding: bytes(b ^ 0x5A for b in plain), "Ada Wu", found).hex()
    '1b3e3b7a0d2f'
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from compliance.redaction.errors import RedactionError
from compliance.redaction.finding import Finding

Seal = Callable[[bytes, Finding], bytes]
"""Encrypts the UTF-8 text of a finding; the finding (without text) may be bound as associated data."""

Unseal = Callable[[bytes, Finding], bytes]
"""The inverse of a ``Seal``."""

# Shorter texts occur in a ciphertext by chance.
_TELLING_BYTES = 6


def sealed_original(seal: Seal, value: str, finding: Finding) -> bytes:
    """What ``seal`` makes of ``value``.

    Raises:
        RedactionError: the result is no bytes, is empty, or shows the original.
    """
    plain = value.encode("utf-8", "surrogatepass")
    sealed = seal(plain, finding)
    if not isinstance(sealed, bytes) or not sealed:
        raise RedactionError("the sealing function gave nothing back")
    if sealed == plain or (len(plain) >= _TELLING_BYTES and plain in sealed):
        raise RedactionError("the sealing function gave the original back in the clear")
    return sealed


def restored(text: str, replaced: Iterable[tuple[int, int, bytes, Finding]], unseal: Unseal) -> str:
    """A redacted text with the originals that were sealed; all other replacements stay.

    Args:
        text: the redacted text.
        replaced: start and end of a replacement in ``text``, the sealed original, its finding; disjoint.
        unseal: the inverse of the function that sealed them; what it raises goes through.

    Raises:
        RedactionError: replacements overlap or reach beyond the text.
    """
    pieces: list[str] = []
    read = 0
    for start, end, sealed, finding in sorted(replaced, key=lambda each: each[0]):
        if not read <= start <= end <= len(text):
            raise RedactionError(f"a replacement at {start} does not fit the text of {len(text)} characters")
        pieces += [text[read:start], unseal(sealed, finding).decode("utf-8", "surrogatepass")]
        read = end
    return "".join([*pieces, text[read:]])
