"""What the tagger tells apart: eleven kinds of identifier, each either to be masked or to be kept in its context.

Guarantees: the order of ``LABELS`` is the order of the network's outputs; ``EITHER`` marks what is of a kind although
nobody judged whether it is to be masked, and is taught as that. Does not: say what a profile does with a kind;
``compliance.redaction`` maps kinds to entity types.

Example:
    >>> LABELS[:3], LABEL_INDEX["PERSON_MASK"]
    (('O', 'PERSON_KEEP', 'PERSON_MASK'), 2)
"""

from __future__ import annotations

from compliance.redaction.kinds import KINDS

LABELS: tuple[str, ...] = ("O", *(f"{kind}_{verdict}" for kind in KINDS for verdict in ("KEEP", "MASK")))
EITHER = {f"{kind}_EITHER": len(LABELS) + number for number, kind in enumerate(KINDS)}
LABEL_INDEX = {**{label: index for index, label in enumerate(LABELS)}, **EITHER}
