"""Likely privileged passages as a redaction keeps them, and how far an officer has decided on them.

Guarantees that a passage covers, in the redacted text too, all that it covered in the raw one, and that the digest of
passages tells nobody without the dataset's key anything. Holds no text: passages are offsets, scores and names of cues,
sealed with the record under its person's key. Does not find passages (`compliance.redaction.privilege` does) and does
not decide on any (`privilege_actions` does).

Example:
    >>> found = [{"start": 0, "end": 11, "replacement_start": 0, "replacement_end": 8}]
    >>> passages_of([Passage(4, 20, 0.9, ("marking.privileged",))], found)[0]["shown_start"]
    0
"""

import hmac
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from compliance.redaction import Passage, Profile
from compliance.vault import keyed_digest
from steward.datasets.models import Dataset, PrivilegeDecision, PrivilegeKind, RedactedRecord, RedactionRun
from steward.vault.keys import open_key


def is_screened(profile: Profile) -> bool:
    """Whether a profile asks for the screen."""
    policy = profile.entities.get("PRIVILEGE")
    return policy is not None and policy.on


def passages_of(passages: Iterable[Passage], findings: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Passages as plain data, with where they stand in the redacted text.

    Args:
        findings: of the same text, in order, with both of their spans; one that a passage cuts into goes with it whole.
    """
    return [
        {
            **passage.to_json(),
            "shown_start": _shown(findings, passage.start, is_end=False),
            "shown_end": _shown(findings, passage.end, is_end=True),
        }
        for passage in passages
    ]


def _shown(findings: Sequence[dict[str, Any]], position: int, *, is_end: bool) -> int:
    shift = 0
    for found in findings:
        if not is_end and found["start"] <= position < found["end"]:
            return int(found["replacement_start"])
        if is_end and found["start"] < position <= found["end"]:
            return int(found["replacement_end"])
        if found["end"] <= position:
            shift = found["replacement_end"] - found["end"]
    return position + shift


def privilege_key(dataset: Dataset) -> bytes:
    """The key of the passages' digests, of one dataset."""
    return hmac.digest(open_key(dataset.key), b"steward/privilege", "sha256")


def digest_of(key: bytes, record_id: int, privileged: Sequence[Sequence[dict[str, Any]]]) -> str:
    """What a release is bound to: the record and where its passages stand in the raw text; empty if there are none.

    Scores are left out: a weight that changes by a hair does not make another passage of it.
    """
    if not any(privileged):
        return ""
    places = [[[each["start"], each["end"], each["reasons"]] for each in passages] for passages in privileged]
    return keyed_digest(key, json.dumps([record_id, places]).encode())


def decisions_on(rows: Iterable[RedactedRecord]) -> dict[int, PrivilegeDecision]:
    """The decision that counts for each redacted record, by its id; those that wait are left out."""
    held = {row.record_id: row for row in rows}
    decided: dict[int, PrivilegeDecision] = {}
    taken = PrivilegeDecision.objects.filter(record__in=held).select_related("decided_by")
    for decision in taken.order_by("kind"):  # "withheld" comes after "released", and counts for more
        row = held[decision.record_id]
        if decision.kind == PrivilegeKind.WITHHELD or decision.passages_digest == row.passages_digest:
            decided[row.pk] = decision
    return decided


@dataclass(frozen=True, slots=True)
class PrivilegeStanding:
    """How many records of a run look privileged, and how many of them wait, were released, or are withheld.

    `withheld` also counts records withheld under an earlier redaction. Those of erased people are in `found` only.
    """

    found: int
    undecided: int
    released: int
    withheld: int


def privilege_standing(run: RedactionRun) -> PrivilegeStanding:
    """Where the likely privileged records of a run stand."""
    rows = RedactedRecord.objects.filter(run=run)
    privileged = rows.filter(is_privileged=True)
    of_run = PrivilegeDecision.objects.filter(record__redacted__run=run, kind=PrivilegeKind.WITHHELD)
    return PrivilegeStanding(
        found=privileged.count(),
        undecided=rows.quarantined().count(),
        released=privileged.trainable().count(),
        withheld=of_run.values("record").distinct().count(),
    )
