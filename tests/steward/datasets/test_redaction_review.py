"""From redaction to approval: fails closed, measured on a sample, decided by another person."""

from typing import Any

import pytest
from django.db import DatabaseError, transaction

from compliance.redaction import Detector, RedactionError
from steward.audit.actor import Denied, Refused
from steward.datasets import actions
from steward.datasets.models import DatasetVersion, RedactionState, SampleItem, Verdict, VersionState
from steward.datasets.residual import residual_risk
from tests.steward.house import House, visits


def test_a_record_that_cannot_be_redacted_fails_the_run(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    version = house.imported(visits(5))

    def fail(self: Detector, text: str) -> Any:
        raise RedactionError("the tagger gave no answer")

    monkeypatch.setattr(Detector, "detect", fail)
    run = house.redact(version)
    version.refresh_from_db()
    assert (run.state, version.state, version.redaction) == (RedactionState.FAILED, VersionState.IMPORTED, None)
    monkeypatch.undo()
    assert house.redact(version).state == RedactionState.DONE


def test_an_approval_needs_a_sample_that_bears_it(house: House) -> None:
    version = house.redacted(visits(80))
    with pytest.raises(Refused, match="0 of at least 60"):
        actions.approve_version(actor=house.officer, version=version)
    actions.draw_sample(actor=house.reviewer, run=version.redaction)
    items = list(SampleItem.objects.filter(run=version.redaction))
    assert len({item.redacted_id for item in items}) == 60
    actions.review_item(actor=house.reviewer, item=items[0], verdict=Verdict.MISSED, missed_count=2)
    for item in items[1:]:
        actions.review_item(actor=house.reviewer, item=item, verdict=Verdict.CLEAN)
    risk = residual_risk(version.redaction)
    # Source: Clopper-Pearson, one miss in 60 at 95 % one-sided.
    assert (risk.missed, round(risk.bound_per_1000)) == (1, 77)
    with pytest.raises(Refused, match="77 in 1,000"):
        actions.approve_version(actor=house.officer, version=version)


def test_the_importer_cannot_approve_even_as_an_officer(house: House) -> None:
    from steward.accounts import actions as accounts
    from steward.accounts.models import User
    from steward.accounts.roles import Role
    from tests.steward.house import SYSTEM

    version = house.reviewed(visits(70))
    user = User.objects.get(pk=house.analyst.user_id)
    accounts.grant_role(actor=SYSTEM, workspace=house.workspace, user=user, role=Role.COMPLIANCE_OFFICER)
    with pytest.raises(Denied, match="imported"):
        actions.approve_version(actor=house.analyst, version=version)
    with pytest.raises(DatabaseError, match="version_decided_by_another"), transaction.atomic():
        DatasetVersion.objects.filter(pk=version.pk).update(state="approved", decided_by=version.imported_by)
    assert actions.approve_version(actor=house.officer, version=version).state == VersionState.APPROVED


def test_a_decided_version_is_closed(house: House) -> None:
    version = house.approved(visits(70))
    for step in (
        lambda: actions.start_redaction(actor=house.analyst, version=version),
        lambda: actions.reject_version(actor=house.officer, version=version, reason="second thoughts"),
    ):
        with pytest.raises(Refused):
            step()
    with pytest.raises(DatabaseError), transaction.atomic():
        DatasetVersion.objects.filter(pk=version.pk).update(state="redacted")


def test_a_verdict_stands_once_given(house: House) -> None:
    version = house.reviewed(visits(5))
    item = SampleItem.objects.filter(run=version.redaction).first()
    assert item is not None
    with pytest.raises(Refused, match="already"):
        actions.review_item(actor=house.reviewer, item=item, verdict=Verdict.CLEAN)
    with pytest.raises(DatabaseError, match="stands"), transaction.atomic():
        SampleItem.objects.filter(pk=item.pk).update(verdict=Verdict.MISSED)


def test_a_person_keeps_one_surrogate_over_all_records(house: House) -> None:
    from steward.datasets.reading import RecordReader

    version = house.redacted(visits(6))
    assert version.redaction is not None
    named = {
        record.payload["messages"][0]["content"].split(",")[0]
        for record in RecordReader(version).redacted(version.redaction)
    }
    assert len(named) == 2  # two patients, one name each


def test_only_known_profiles_are_taken_and_paths_are_not(house: House) -> None:
    version = house.imported(visits(3))
    with pytest.raises(Refused, match="no redaction profile"):
        actions.start_redaction(actor=house.analyst, version=version, profile="/etc/passwd")
