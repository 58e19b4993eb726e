"""Errors of redaction.

Guarantees: no message holds any part of the text under redaction; a message names a position, a length, a rule or a
key of a profile.
Does not: recover. A caller that catches ``RedactionError`` must treat the document as not redacted.

Example:
    >>> raise RedactionError("document of 9000000 characters is longer than the limit of 2000000")
    Traceback (most recent call last):
    compliance.redaction.errors.RedactionError: document of 9000000 characters is longer than the limit of 2000000
"""


class RedactionError(Exception):
    """The document could not be examined completely (too long, too slow, refused characters, a recogniser that
    failed)."""


class ProfileError(RedactionError):
    """A profile is malformed; the message names the file and the key."""
