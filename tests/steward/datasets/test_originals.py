"""Originals of reversible types: sealed under their person, opened one at a time by an officer, gone with them."""

import json
from typing import Any

import pytest

from compliance.vault import VaultError
from steward.accounts.roles import Role
from steward.audit.actor import Denied, Refused
from steward.audit.models import LedgerEntry, OutboxEntry
from steward.datasets import erasure_actions, redacting
from steward.datasets.models import DatasetVersion, RedactedRecord
from steward.datasets.originals import hand_out_original
from steward.datasets.reading import RecordReader
from steward.profiles import actions as profiles
from steward.runs.methods import METHODS
from steward.runs.shards import example_lines, workflow_for
from tests.steward.house import House, visits

NAME = "Imelda Quackenbush"


def call_back(house: House) -> DatasetVersion:
    """A version redacted by a profile that keeps the originals of names."""
    proposal = profiles.propose_profile(
        actor=house.officer,
        workspace=house.workspace,
        overrides={"PERSON": {"reversible": True}},
        reason="patients have to be called back",
    )
    profiles.approve_profile(actor=house.person(Role.COMPLIANCE_OFFICER), version=proposal)
    return house.redacted(visits(3))


@pytest.fixture
def reversible(house: House) -> DatasetVersion:
    return call_back(house)


def row_of(version: DatasetVersion, ordinal: int = 1) -> RedactedRecord:
    rows = RedactedRecord.objects.select_related("run__version__workspace", "run__workspace", "record__subject")
    return rows.get(run=version.redaction, ordinal=ordinal)


def entries(action: str) -> list[dict[str, Any]]:
    bodies = [json.loads(bytes(row.body)) for row in LedgerEntry.objects.order_by("index")]
    bodies += [json.loads(bytes(row.body)) for row in OutboxEntry.objects.order_by("sequence")]
    return [body for body in bodies if body["action"] == action]


def test_an_officer_opens_one_original_and_the_ledger_says_so_before_and_after(
    house: House, reversible: DatasetVersion
) -> None:
    asked = {"redacted": row_of(reversible), "slot": 0, "number": 0}
    original = hand_out_original(actor=house.officer, **asked, reason="subject_request")
    assert original.endswith(NAME)
    before, after = entries("original.revealed")
    assert (before["outcome"], after["outcome"]) == ("intent", "done")
    facts = {"reason": "subject_request", "version": str(reversible.pk), "ordinal": 1}
    assert before["facts"] == facts
    assert after["facts"] == facts | {"type": "PERSON"}
    assert "Quackenbush" not in json.dumps([before, after])


@pytest.mark.parametrize(
    ("asked", "code"),
    [
        ({"reason": "curious"}, "reason_missing"),
        ({"slot": 7}, "not_reversible"),
        ({"number": 9}, "not_reversible"),
        ({"slot": -1}, "not_reversible"),
    ],
)
def test_what_is_not_there_is_not_opened(
    house: House, reversible: DatasetVersion, asked: dict[str, Any], code: str
) -> None:
    plain = {"slot": 0, "number": 0, "reason": "incident"}
    with pytest.raises(Refused) as refused:
        hand_out_original(actor=house.officer, redacted=row_of(reversible), **plain | asked)
    assert refused.value.code == code


def test_nobody_but_an_officer_opens_an_original(house: House, reversible: DatasetVersion) -> None:
    for actor in (house.analyst, house.reviewer, house.auditor):
        with pytest.raises(Denied):
            hand_out_original(actor=actor, redacted=row_of(reversible), slot=0, number=0, reason="incident")
    assert {entry["outcome"] for entry in entries("original.revealed")} == {"denied"}


def test_erasing_the_person_makes_it_irreversible(house: House, reversible: DatasetVersion) -> None:
    row = row_of(reversible)
    erasure_actions.shred_subject(actor=house.officer, dataset=reversible.dataset, subject="patient-0")
    with pytest.raises(Refused, match="erased"):
        hand_out_original(actor=house.officer, redacted=row_of(reversible), slot=0, number=0, reason="incident")
    assert bytes(row.ciphertext)  # it is still there, and nothing opens it


def test_an_original_opens_at_its_own_place_only(house: House, reversible: DatasetVersion) -> None:
    reader = RecordReader(reversible)
    first, second = row_of(reversible, 1), row_of(reversible, 2)
    assert reader.original(first, 0, 0)[0].endswith(NAME)
    first.run_id, first.ordinal = second.run_id, second.ordinal
    with pytest.raises(VaultError):
        reader.original(first, 0, 0)


def test_no_original_reaches_a_finding_a_shard_or_the_database(house: House, reversible: DatasetVersion) -> None:
    (opened, *_) = RecordReader(reversible).redacted(reversible.redaction)
    assert all("sealed" not in finding for each in opened.findings for finding in each)
    workflow = workflow_for("healthcare", "medication_orders")
    for split in ("train", "validation", "test"):
        assert "Quackenbush" not in b"".join(example_lines(reversible, workflow, METHODS["sft"], split)).decode()
    assert b"Quackenbush" not in bytes(row_of(reversible).ciphertext)


def test_processes_of_their_own_seal_originals_too(
    house: House, reversible: DatasetVersion, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redacting, "INLINE_BELOW_RECORDS", 0)
    house.redact(reversible)
    reversible.refresh_from_db()
    original = hand_out_original(actor=house.officer, redacted=row_of(reversible), slot=0, number=0, reason="incident")
    assert original.endswith(NAME)
