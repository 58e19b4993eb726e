"""Likely privileged records are held back until an officer, who did not import them, has decided on each."""

import json
import logging
from typing import Any

import pytest
from django.db import IntegrityError, connection, transaction
from hypothesis import given
from hypothesis import strategies as st

from compliance.redaction import Passage
from steward.accounts import actions as accounts
from steward.accounts.models import User
from steward.accounts.roles import Role
from steward.audit.actor import Denied, Refused
from steward.audit.models import OutboxEntry
from steward.datasets import actions, erasure_actions, privilege_actions
from steward.datasets.models import (
    DatasetVersion,
    RedactedRecord,
    SampleItem,
    Split,
    Subject,
    Verdict,
    VersionState,
)
from steward.datasets.privilege import held_back, privilege_standing
from steward.datasets.reading import RecordReader
from steward.datasets.redaction_work import passages_of
from steward.datasets.residual import residual_risk
from steward.datasets.verdicts import waiting_for
from steward.runs.methods import METHODS
from steward.runs.shards import example_lines, workflow_for
from tests.steward.house import SYSTEM, House, visits

ADVICE = "Privileged and confidential: our counsel Bartholomew Quillfeather advises that we settle the Okonjo claim."
REASON = "Sent to opposing counsel in May, so nothing is privileged any more"


@pytest.fixture
def firm(db: None) -> House:
    """A house of the legal domain, whose profile screens for privilege."""
    return House("legal", policy={"sample_size_min": 1, "missed_per_1000_max": 1000})


def letters(count: int = 8, privileged: int = 2) -> list[dict[str, Any]]:
    """Chat-shaped records, the first of which hold legal advice."""
    rows = visits(count)
    for number, row in enumerate(rows):
        row["patient_id"] = f"client-{number}"
        if number < privileged:
            row["completion"] = f"{ADVICE} Letter {number}."
    return rows


def held(version: DatasetVersion) -> list[RedactedRecord]:
    rows = RedactedRecord.objects.filter(run=version.redaction).quarantined().order_by("ordinal")
    return list(rows.select_related("run__version__workspace"))


def ledger() -> list[dict[str, Any]]:
    return [json.loads(bytes(entry.body)) for entry in OutboxEntry.objects.order_by("sequence")]


def done(action: str) -> list[dict[str, Any]]:
    """Facts of what was done."""
    return [body["facts"] for body in ledger() if (body["action"], body["outcome"]) == (action, "done")]


def trained_on(version: DatasetVersion) -> list[str]:
    workflow = workflow_for("legal", "clauses")
    return [line.decode() for split in Split for line in example_lines(version, workflow, METHODS["sft"], split)]


def review(firm: House, version: DatasetVersion) -> None:
    """Draws what is needed and finds nothing missed."""
    assert version.redaction is not None
    actions.draw_sample(actor=firm.reviewer, run=version.redaction)
    for item in SampleItem.objects.filter(run=version.redaction, verdict=""):
        actions.review_item(actor=firm.reviewer, item=item, verdict=Verdict.CLEAN)


def test_a_privileged_record_blocks_the_sample_and_the_approval_until_each_is_decided(firm: House) -> None:
    version = firm.redacted(letters())
    assert [each.ordinal for each in held(version)] == [1, 2]
    assert version.redaction is not None
    assert version.redaction.privileged_count == 2
    with pytest.raises(Refused, match="2 records look privileged"):
        actions.approve_version(actor=firm.officer, version=version)
    first, second = held(version)
    privilege_actions.release_privileged(actor=firm.officer, redacted=first, reason=REASON)
    with pytest.raises(Refused, match="1 record looks privileged"):
        actions.draw_sample(actor=firm.reviewer, run=version.redaction)
    privilege_actions.withhold_privileged(actor=firm.officer, redacted=second, reason="Advice on settlement")
    review(firm, version)
    assert actions.approve_version(actor=firm.officer, version=version).state == VersionState.APPROVED
    assert [facts["withheld"] for facts in done("dataset.approved")] == [1]


def test_what_is_held_back_or_withheld_is_in_no_shard(firm: House) -> None:
    version = firm.redacted(letters())
    assert len(trained_on(version)) == 6
    first, second = held(version)
    privilege_actions.release_privileged(actor=firm.officer, redacted=first, reason=REASON)
    privilege_actions.withhold_privileged(actor=firm.officer, redacted=second, reason="Advice on settlement")
    ids = {json.loads(line)["id"] for line in trained_on(version)}
    assert ids == {"1", "3", "4", "5", "6", "7", "8"}
    review(firm, version)
    version = actions.approve_version(actor=firm.officer, version=version)
    assert len(trained_on(version)) == 7
    # The claw-back of what was released: still possible, and no later shard has it.
    privilege_actions.withhold_privileged(actor=firm.officer, redacted=first, reason="Inadvertent, Rule 502(b)")
    assert len(trained_on(version)) == 6


def test_a_decision_lives_as_long_as_its_passages(firm: House) -> None:
    version = firm.redacted(letters())
    first, second = held(version)
    privilege_actions.release_privileged(actor=firm.officer, redacted=first, reason=REASON)
    privilege_actions.withhold_privileged(actor=firm.officer, redacted=second, reason="Advice on settlement")
    firm.redact(version)
    version.refresh_from_db()
    assert version.redaction is not None
    standing = privilege_standing(version.redaction)
    assert (standing.found, standing.undecided, standing.released, standing.withheld) == (2, 0, 1, 1)
    # As if a later redaction had found other passages: the release dies, the withholding does not.
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE datasets_redactedrecord DISABLE TRIGGER redacted_guard")
        RedactedRecord.objects.filter(run=version.redaction, is_privileged=True).update(passages_digest="hmac:other")
        cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")
        cursor.execute("ALTER TABLE datasets_redactedrecord ENABLE TRIGGER redacted_guard")
    assert [each.ordinal for each in held(version)] == [1]
    assert len(trained_on(version)) == 6


def test_the_importer_cannot_decide_even_as_an_officer(firm: House) -> None:
    version = firm.redacted(letters())
    user = User.objects.get(pk=firm.analyst.user_id)
    accounts.grant_role(actor=SYSTEM, workspace=firm.workspace, user=user, role=Role.COMPLIANCE_OFFICER)
    for act in (privilege_actions.release_privileged, privilege_actions.withhold_privileged):
        with pytest.raises(Denied, match="another compliance officer"):
            act(actor=firm.analyst, redacted=held(version)[0], reason=REASON)
    with pytest.raises(Denied):
        privilege_actions.release_privileged(actor=firm.reviewer, redacted=held(version)[0], reason=REASON)
    with pytest.raises(Denied):
        privilege_actions.release_privileged(actor=SYSTEM, redacted=held(version)[0], reason=REASON)
    with pytest.raises(Refused, match="Say why"):
        privilege_actions.release_privileged(actor=firm.officer, redacted=held(version)[0], reason="  ")
    assert not done("privilege.released")
    assert len(held(version)) == 2


def test_nothing_is_decided_twice(firm: House) -> None:
    version = firm.redacted(letters())
    first, second = held(version)
    privilege_actions.withhold_privileged(actor=firm.officer, redacted=first, reason="Advice")
    privilege_actions.release_privileged(actor=firm.officer, redacted=second, reason=REASON)
    with pytest.raises(Refused, match="withheld already"):
        privilege_actions.withhold_privileged(actor=firm.officer, redacted=first, reason="Advice")
    for each in (first, second):
        with pytest.raises(Refused, match="decided on before"):
            privilege_actions.release_privileged(actor=firm.officer, redacted=each, reason=REASON)


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE datasets_datasetversion SET state = 'approved', decided_by_id = {officer} WHERE id = '{version}'",
        "UPDATE datasets_redactedrecord SET is_privileged = false, passages_digest = '' WHERE id = {waiting}",
        "UPDATE datasets_privilegedecision SET kind = 'released'",
        "DELETE FROM datasets_privilegedecision",
        "INSERT INTO datasets_privilegedecision SELECT gen_random_uuid(), 'released', passages_digest, 'x', now(), "
        "{importer}, record_id, id, '{workspace}' FROM datasets_redactedrecord WHERE id = {waiting}",
        "INSERT INTO datasets_privilegedecision SELECT gen_random_uuid(), 'released', 'hmac:other', 'x', now(), "
        "{officer}, record_id, id, '{workspace}' FROM datasets_redactedrecord WHERE id = {waiting}",
        "INSERT INTO datasets_privilegedecision SELECT gen_random_uuid(), 'released', passages_digest, 'x', now(), "
        "{officer}, record_id, id, '{workspace}' FROM datasets_redactedrecord WHERE id = {withheld}",
    ],
)
def test_sql_around_the_actions_fails(firm: House, statement: str) -> None:
    version = firm.redacted(letters())
    withheld, waiting = held(version)
    privilege_actions.withhold_privileged(actor=firm.officer, redacted=withheld, reason="Advice")
    text = statement.format(
        officer=firm.officer.user_id,
        importer=firm.analyst.user_id,
        version=version.pk,
        workspace=firm.workspace.pk,
        waiting=waiting.pk,
        withheld=withheld.pk,
    )
    with pytest.raises(IntegrityError) as refused, transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(text)
    assert getattr(refused.value.__cause__, "sqlstate", "") == "23514"  # check_violation, which the guards raise
    assert [each.pk for each in held(version)] == [waiting.pk]


def test_an_insert_that_the_guard_has_nothing_against_is_let_through(firm: House) -> None:
    # The statements above fail for what they do, and not for how they are written.
    version = firm.redacted(letters())
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO datasets_privilegedecision (id, kind, passages_digest, reason, decided_at, decided_by_id, "
            "record_id, redacted_id, workspace_id) SELECT gen_random_uuid(), 'released', passages_digest, 'x', now(), "
            "%s, record_id, id, %s FROM datasets_redactedrecord WHERE id = %s",
            [firm.officer.user_id, firm.workspace.pk, held(version)[0].pk],
        )
    assert len(held(version)) == 1


def test_an_erased_person_blocks_nothing(firm: House) -> None:
    version = firm.redacted(letters())
    for number in (0, 1):
        erasure_actions.shred_subject(actor=firm.officer, dataset=version.dataset, subject=f"client-{number}")
    assert Subject.objects.filter(wrapped__isnull=True).count() == 2
    assert held(version) == []
    review(firm, version)
    assert actions.approve_version(actor=firm.officer, version=version).state == VersionState.APPROVED


def test_passages_are_sealed_and_in_no_ledger_entry_and_no_log(firm: House, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    version = firm.redacted(letters())
    first, second = held(version)
    opened = next(RecordReader(version).redacted(first.run, ordinals=[first.ordinal]))
    passage = opened.privileged[1][0]
    assert passage["reasons"][0] == "marking.privileged"
    shown = opened.payload["messages"][1]["content"]
    assert shown[passage["shown_start"] : passage["shown_end"]].startswith("Privileged and confidential")
    assert b"marking" not in bytes(first.ciphertext)
    privilege_actions.release_privileged(actor=firm.officer, redacted=first, reason=REASON)
    privilege_actions.withhold_privileged(actor=firm.officer, redacted=second, reason="Advice on settlement")
    entries = json.dumps(ledger())
    for word in ("counsel", "Quillfeather", "Okonjo", "marking", "opposing", "settle"):
        assert word not in entries
        assert word not in caplog.text
    (facts,) = done("privilege.released")
    assert set(facts) == {"version", "ordinal", "passages", "digest", "undecided"}
    assert (facts["ordinal"], facts["undecided"]) == (1, 1)


def test_nobody_but_an_officer_reads_what_is_held_back_or_withheld(firm: House) -> None:
    version = firm.redacted(letters())
    importer = firm.analyst
    first, second = held(version)
    for each in (first, second):
        with pytest.raises(Denied, match="only officers may read it"):
            actions.reveal_record(actor=importer, version=version, ordinal=each.ordinal, reason="redaction_preview")
    raw = actions.reveal_record(actor=firm.officer, version=version, ordinal=1, reason="redaction_preview")
    assert ADVICE in raw.payload["messages"][1]["content"]
    privilege_actions.release_privileged(actor=firm.officer, redacted=first, reason=REASON)
    privilege_actions.withhold_privileged(actor=firm.officer, redacted=second, reason="Advice on settlement")
    assert actions.reveal_record(actor=importer, version=version, ordinal=1, reason="redaction_preview")
    with pytest.raises(Denied, match="only officers may read it"):
        actions.reveal_record(actor=importer, version=version, ordinal=2, reason="redaction_preview")
    assert held_back(first.run, range(1, 9)) == {2}


def test_the_sample_and_its_bound_are_about_what_may_be_trained_on(firm: House) -> None:
    version = firm.redacted(letters())
    first, second = held(version)
    run = first.run
    privilege_actions.release_privileged(actor=firm.officer, redacted=first, reason=REASON)
    privilege_actions.withhold_privileged(actor=firm.officer, redacted=second, reason="Advice on settlement")
    actions.draw_sample(actor=firm.reviewer, run=run, size=100)
    drawn = set(SampleItem.objects.filter(run=run).values_list("redacted__ordinal", flat=True))
    assert drawn == {1, 3, 4, 5, 6, 7, 8}
    assert sum(stratum.population for stratum in residual_risk(run).strata) == 7
    items = {item.redacted.ordinal: item for item in SampleItem.objects.filter(run=run).select_related("redacted")}
    actions.review_item(actor=firm.reviewer, item=items[3], verdict=Verdict.MISSED, missed_count=1)
    actions.review_item(actor=firm.reviewer, item=items[1], verdict=Verdict.MISSED, missed_count=1)
    # The claw-back: the record leaves the sample, the bound and the desk.
    privilege_actions.withhold_privileged(actor=firm.officer, redacted=first, reason="Rule 502(b)")
    risk = residual_risk(run)
    assert (risk.drawn, risk.reviewed, risk.missed) == (6, 1, 1)
    assert sum(stratum.population for stratum in risk.strata) == 6
    for ordinal in (4, 5, 6, 7, 8):
        actions.review_item(actor=firm.reviewer, item=items[ordinal], verdict=Verdict.CLEAN)
    assert residual_risk(run).upper_bound == pytest.approx(1 / 6)
    assert not waiting_for(run, firm.person(Role.REVIEWER).user_id).exists()


def test_a_record_withheld_after_it_was_drawn_gets_no_verdict(firm: House) -> None:
    version = firm.redacted(letters())
    first, second = held(version)
    for each in (first, second):
        privilege_actions.release_privileged(actor=firm.officer, redacted=each, reason=REASON)
    actions.draw_sample(actor=firm.reviewer, run=first.run, size=8)
    privilege_actions.withhold_privileged(actor=firm.officer, redacted=first, reason="Rule 502(b)")
    item = SampleItem.objects.get(run=first.run, redacted=first)
    assert item not in waiting_for(first.run, firm.reviewer.user_id)
    with pytest.raises(Denied, match="only officers may read it"):
        actions.review_item(actor=firm.reviewer, item=item, verdict=Verdict.CLEAN)


def test_a_profile_without_the_screen_is_refused_where_the_domain_asks_for_it(firm: House, house: House) -> None:
    version = firm.imported(letters())
    with pytest.raises(Refused, match="does not screen for privilege"):
        actions.start_redaction(actor=firm.analyst, version=version, profile="healthcare")
    other = house.redacted(letters())
    assert other.redaction is not None
    assert other.redaction.privileged_count == 0


@given(st.lists(st.tuples(st.integers(1, 9), st.integers(1, 9), st.integers(0, 9)), max_size=6), st.data())
def test_a_passage_covers_redacted_what_it_covered_raw(gaps: list[tuple[int, int, int]], data: st.DataObject) -> None:
    raw, shown, findings = "", "", []
    for gap, length, replaced in gaps:
        raw, shown = raw + "." * gap, shown + "." * gap
        place = {"start": len(raw), "replacement_start": len(shown)}
        raw, shown = raw + "x" * length, shown + "X" * replaced
        findings.append({**place, "end": len(raw), "replacement_end": len(shown)})
    raw, shown = raw + "..", shown + ".."
    start = data.draw(st.integers(0, len(raw) - 1))
    end = data.draw(st.integers(start + 1, len(raw)))
    placed = passages_of([Passage(start, end, 0.9, ("x",))], findings)[0]
    piece = shown[placed["shown_start"] : placed["shown_end"]]
    touched = [each for each in findings if each["start"] < end and each["end"] > start]
    assert piece.count(".") == raw[start:end].count(".")
    assert piece.count("X") == sum(each["replacement_end"] - each["replacement_start"] for each in touched)
