"""Finding and replacing identifiers in text, by profiles that name the rule and the reason for each type.

Guarantees: fail closed (an error, never a half-examined text), exact code-point offsets, no text of a document in any
error.
Does not: reach the network, or claim that nothing is left; ``residual`` bounds what a review has to expect.

Example:
    >>> profile = load_profile("finance")
    >>> text = "Card 4111 1111 1111 1111"
    >>> redact(text, Detector(profile).detect(text), profile=profile, key=bytes(32), subject=None).text
    'Card 4111 11** **** 1111'
"""

from compliance.redaction.detector import Detector
from compliance.redaction.errors import ProfileError, RedactionError
from compliance.redaction.finding import Finding
from compliance.redaction.privilege import Passage, screen
from compliance.redaction.profile import EntityPolicy, Profile, available_profiles, load_profile
from compliance.redaction.redactor import Applied, Redacted, Redactor, privileged_passages, real_names, redact
from compliance.redaction.reversal import Seal, Unseal
from compliance.redaction.subjects import detect_subject

__all__ = [
    "Applied",
    "Detector",
    "EntityPolicy",
    "Finding",
    "Passage",
    "Profile",
    "ProfileError",
    "Redacted",
    "RedactionError",
    "Redactor",
    "Seal",
    "Unseal",
    "available_profiles",
    "detect_subject",
    "load_profile",
    "privileged_passages",
    "real_names",
    "redact",
    "screen",
]
