"""How far an officer has decided on likely privileged records, and what a decision is bound to.

Guarantees that the digest of passages tells nobody without the dataset's key anything. Holds no text: passages are
offsets, scores and names of cues, sealed with the record under its person's key. Does not find passages
(`compliance.redaction.privilege` does) and does not decide on any (`privilege_actions` does).

What is held back, until an officer has released it, is read by officers only: not in the list of records, not in a
sample, not by its importer. The sample is drawn from what may be trained on, and therefore after the decisions.

Example:
    >>> privilege_standing(version.redaction).undecided
    2
"""

import hmac
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from django.db.models import Count, QuerySet

from compliance.redaction import Profile
from compliance.vault import keyed_digest
from steward.accounts.permissions import can
from steward.accounts.roles import Permission
from steward.audit.actor import Actor, Denied, Refused
from steward.datasets.models import Dataset, PrivilegeDecision, PrivilegeKind, RedactedRecord, RedactionRun
from steward.vault.keys import open_key


def is_screened(profile: Profile) -> bool:
    """Whether a profile asks for the screen."""
    policy = profile.entities.get("PRIVILEGE")
    return policy is not None and policy.on


def held_back(run: RedactionRun, ordinals: Iterable[int]) -> set[int]:
    """Those of the records named whose text only an officer may read: they wait for a decision, or are withheld."""
    rows = RedactedRecord.objects.filter(run=run, ordinal__in=list(ordinals)).held_back()
    return set(rows.values_list("ordinal", flat=True))


def shown_to(actor: Actor, run: RedactionRun, ordinal: int) -> None:
    """Lets whoever may decide on privilege read any record, and others those that are not held back.

    Raises:
        Denied: the record is held back.
    """
    if held_back(run, [ordinal]) and not can(actor, Permission.APPROVE_DATASET, run.workspace):
        raise Denied(
            "This record looks privileged. Until a compliance officer has released it, only officers may read it.",
            code="privileged",
            subject=run.version,
        )


def withheld_by_doubt(run: RedactionRun) -> dict[bool, int]:
    """How many records of the run are withheld for good, among the doubtful ones (True) and the others (False)."""
    rows = RedactedRecord.objects.filter(run=run, record__in=_withheld(run).values("record"))
    return {row["is_doubtful"]: row["n"] for row in rows.values("is_doubtful").annotate(n=Count("id")).order_by()}


def _withheld(run: RedactionRun) -> "QuerySet[PrivilegeDecision]":
    return PrivilegeDecision.objects.filter(record__redacted__run=run, kind=PrivilegeKind.WITHHELD)


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


def refuse_undecided(run: RedactionRun, why: str = "") -> PrivilegeStanding:
    """The standing of a run on whose privileged records everything is decided.

    Raises:
        Refused: some wait; `why` says what they stand in the way of.
    """
    standing = privilege_standing(run)
    if standing.undecided:
        what = "1 record looks" if standing.undecided == 1 else f"{standing.undecided} records look"
        raise Refused(
            f"{what} privileged. An officer has to release or withhold each first. {why}".rstrip(),
            code="privileged",
            subject=run.version,
        )
    return standing


def privilege_standing(run: RedactionRun) -> PrivilegeStanding:
    """Where the likely privileged records of a run stand."""
    rows = RedactedRecord.objects.filter(run=run)
    privileged = rows.filter(is_privileged=True)
    return PrivilegeStanding(
        found=privileged.count(),
        undecided=rows.quarantined().count(),
        released=privileged.trainable().count(),
        withheld=_withheld(run).values("record").distinct().count(),
    )
