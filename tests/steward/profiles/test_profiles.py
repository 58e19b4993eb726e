"""Profile versions and list entries: two people each, sealed, named by the redaction that used them."""

import json
from typing import Any

import pytest
from django.db import DatabaseError, transaction

from compliance.redaction import load_profile
from steward.accounts.roles import Role
from steward.audit.actor import Denied, Refused
from steward.audit.models import OutboxEntry
from steward.datasets import actions as datasets
from steward.datasets import erasure_actions, review_actions
from steward.datasets.comparing import compare_runs
from steward.datasets.models import RedactionState, SampleItem, SpanFault, SpanLabel, Verdict
from steward.datasets.reading import RecordReader
from steward.datasets.redacting import redact_version
from steward.datasets.spans import MarkedSpan
from steward.datasets.texts import slots
from steward.profiles import actions
from steward.profiles.composing import effective_profile, shipped
from steward.profiles.models import EntryState, ListEntry, ListKind, ProfileVersion
from tests.steward.house import House, visits

PLACEHOLDERS = {"PERSON": {"operator": "placeholder"}}


@pytest.fixture
def other(house: House) -> Any:
    """A second officer."""
    return house.person(Role.COMPLIANCE_OFFICER)


def proposed(house: House, overrides: Any = PLACEHOLDERS) -> ProfileVersion:
    return actions.propose_profile(
        actor=house.officer, workspace=house.workspace, overrides=overrides, reason="names must go"
    )


def texts(version: Any, run: Any) -> list[str]:
    return [text for record in RecordReader(version).redacted(run) for text in slots(record.payload)]


def test_a_version_takes_effect_once_another_officer_approved_it(house: House, other: Any) -> None:
    version = proposed(house)
    before = house.redacted(visits(3))
    assert before.redaction.profile_digest == load_profile("healthcare").digest
    with pytest.raises(Denied, match="another officer"):
        actions.approve_profile(actor=house.officer, version=version)
    with pytest.raises(Denied):
        actions.approve_profile(actor=house.analyst, version=version)
    actions.approve_profile(actor=other, version=version)
    run = house.redact(before)
    assert (run.profile_version, run.profile_digest) == (version, version.digest)
    assert "[PERSON_1]" in texts(before, run)[0]
    comparison = compare_runs(str(before.redaction_id), str(run.pk))
    assert (comparison.changed_count, comparison.gained, comparison.lost) == (3, {"PERSON": 3}, {"PERSON": 3})
    bodies = [json.loads(bytes(row.body)) for row in OutboxEntry.objects.order_by("-sequence")[:40]]
    started = next(body for body in bodies if body["action"] == "redaction.started")
    assert started["facts"]["profile_version"] == 1
    approved = next(body for body in bodies if body["action"] == "profile.approved" and body["outcome"] == "done")
    assert (approved["before"], approved["after"]) == (load_profile("healthcare").digest, version.digest)


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        ({"PERSON": {"threshold": 1.5}}, "between 0 and 1"),
        ({"PERSON": {"operator": "burn"}}, "unknown operator"),
        ({"PERSON": {"citation": ""}}, "citation"),
        ({"PERSON": {"options": {}}}, "no such setting"),
        ({"NOBODY": {"on": False}}, "no such setting"),
        ({}, "Nothing would change"),
    ],
)
def test_what_is_no_valid_profile_is_not_proposed(house: House, overrides: Any, words: str) -> None:
    with pytest.raises(Refused, match=words):
        proposed(house, overrides)


def test_a_version_is_immutable_below_the_application(house: House, other: Any) -> None:
    version = proposed(house)
    row = ProfileVersion.objects.filter(pk=version.pk)
    with pytest.raises(DatabaseError, match="profile_decided_by_another"), transaction.atomic():
        row.update(state="approved", decided_by=house.officer.user_id, decided_at="2026-01-01T00:00Z")
    with pytest.raises(DatabaseError, match="immutable"), transaction.atomic():
        row.update(overrides={})
    actions.reject_profile(actor=other, version=version, reason="no")
    with pytest.raises(DatabaseError, match="immutable"), transaction.atomic():
        row.update(state="proposed", decided_at=None)
    proposed(house)
    with pytest.raises(Refused, match="waits"):
        proposed(house, {"AGE": {"operator": "mask"}})


def test_a_profile_that_changed_underneath_is_refused(house: House, other: Any, monkeypatch: Any) -> None:
    from steward.profiles import composing

    version = proposed(house)
    actions.approve_profile(actor=other, version=version)
    text = composing._shipped_text("healthcare").replace('reason = "Telephone numbers"', 'reason = "Phones"')
    monkeypatch.setattr(composing, "_shipped_text", lambda name: text)
    with pytest.raises(Refused, match="has changed since"):
        effective_profile(house.workspace, "healthcare")


def in_force(house: House, other: Any, kind: ListKind, phrase: str) -> ListEntry:
    entry = actions.propose_entry(
        actor=house.reviewer, workspace=house.workspace, kind=kind, entity_type="PERSON", phrase=phrase
    )
    return actions.approve_entry(actor=other, entry=entry)


def test_phrases_are_sealed_and_decide_what_the_next_redaction_does(house: House, other: Any) -> None:
    denied = in_force(house, other, ListKind.DENY, "Dressing")
    in_force(house, other, ListKind.ALLOW, "Imelda  Quackenbush")
    assert b"Dressing" not in bytes(denied.ciphertext)
    version = house.redacted(visits(3))
    shown = texts(version, version.redaction)
    assert "Imelda Quackenbush" in shown[0]
    assert "Dressing" not in shown[1]
    plain = effective_profile(house.workspace, "healthcare")
    assert version.redaction.profile_digest == plain.digest
    # The profile's own digest would let anybody try names against it; what is recorded is keyed.
    assert plain.profile.digest != plain.digest
    assert version.redaction.policy_digest == load_profile("healthcare").digest
    assert not [row for row in OutboxEntry.objects.all() if b"Quackenbush" in bytes(row.body)]
    actions.retire_entry(actor=other, entry=denied)
    assert "Dressing" in texts(version, house.redact(version))[1]


def test_a_phrase_needs_two_people_and_stands_once(house: House, other: Any) -> None:
    entry = actions.propose_entry(
        actor=house.officer, workspace=house.workspace, kind=ListKind.DENY, entity_type="PERSON", phrase="the smith"
    )
    with pytest.raises(Denied, match="another officer"):
        actions.approve_entry(actor=house.officer, entry=entry)
    with pytest.raises(Refused, match="in the lists already"):
        in_force(house, other, ListKind.ALLOW, "The  Smith")
    with pytest.raises(DatabaseError, match="list_entry_decided_by_another"), transaction.atomic():
        ListEntry.objects.filter(pk=entry.pk).update(
            state="approved", decided_by=house.officer.user_id, decided_at="2026-01-01T00:00Z"
        )
    with pytest.raises(DatabaseError, match="immutable"), transaction.atomic():
        ListEntry.objects.filter(pk=entry.pk).update(kind="allow")
    with pytest.raises(Denied):
        actions.show_entry(actor=house.analyst, entry=entry)
    assert actions.show_entry(actor=other, entry=entry) == "the smith"
    for phrase in ("", "x", "--", "y" * 201):
        with pytest.raises(Refused, match="characters"):
            in_force(house, other, ListKind.DENY, phrase)


def test_a_phrase_from_a_record_dies_with_the_record_s_person(house: House, other: Any) -> None:
    version = house.redacted(visits(3))
    datasets.draw_sample(actor=house.reviewer, run=version.redaction)
    item = SampleItem.objects.filter(run=version.redaction).select_related("redacted").first()
    answer = texts(version, version.redaction)[2 * item.redacted.ordinal - 1]
    span = MarkedSpan(SpanFault.MISSED, 1, answer.index("changed"), answer.index("changed") + 7, "PERSON")
    datasets.review_item(actor=house.reviewer, item=item, verdict=Verdict.MISSED, spans=[span])
    label = SpanLabel.objects.get()
    entry = review_actions.promote_span(actor=house.reviewer, label=label)
    assert (entry.kind, actions.show_entry(actor=other, entry=entry)) == (ListKind.DENY, "changed")
    with pytest.raises(Refused, match="proposed before"):
        review_actions.promote_span(actor=house.analyst, label=label)
    actions.approve_entry(actor=other, entry=entry)
    run = datasets.start_redaction(actor=house.analyst, version=version)
    erasure_actions.shred_subject(actor=house.officer, dataset=version.dataset, subject="patient-0")
    entry.refresh_from_db()
    assert (entry.state, entry.ciphertext) == (EntryState.ERASED, None)
    # The run was asked for with a phrase that is gone: it fails closed rather than redact by something else.
    assert redact_version(str(run.pk)).state == RedactionState.FAILED


def test_the_output_gate_looks_with_the_profile_in_force_and_its_lists(
    house: House, other: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from types import SimpleNamespace

    from steward.assurance import gates
    from steward.runs.methods import METHODS

    answers = [SimpleNamespace(tuned="The Quillstone protocol was followed."), SimpleNamespace(tuned="Nothing else.")]
    monkeypatch.setattr(gates, "predictions", lambda evaluation: answers)
    made_by: Any = SimpleNamespace(fine_tune=SimpleNamespace(method=METHODS["sft"]))
    judged: Any = SimpleNamespace(workspace=house.workspace, model_version=made_by)

    def rate() -> float:
        return gates.MEASURES["output_identifier_rate"].take(judged)

    entry = actions.propose_entry(
        actor=house.officer,
        workspace=house.workspace,
        kind=ListKind.DENY,
        entity_type="OTHER_ID",
        phrase="protocol was followed",
    )
    before = rate()
    actions.approve_entry(actor=other, entry=entry)
    assert (before, rate()) == (0.0, 0.5)
    everything_off = {"OTHER_ID": {"on": False}}
    version = proposed(house, everything_off)
    actions.approve_profile(actor=other, version=version)
    # In force now; then the shipped file changes underneath
    monkeypatch.setattr("steward.profiles.composing.composed", lambda name, overrides: shipped(name))
    with pytest.raises(ValueError, match="has changed since"):
        rate()
