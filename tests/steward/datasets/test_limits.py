"""The profile's limits on re-identification block an approval; the measurements that count are this redaction's."""

from typing import Any

import pytest

from steward.accounts.roles import Role
from steward.audit.actor import Refused
from steward.datasets import actions, review_actions
from steward.datasets.limits import limits_of
from steward.datasets.models import DatasetVersion, RiskMeasurement, SampleItem, Verdict, VersionState
from steward.datasets.singling_out import measure_risk
from steward.profiles import actions as profiles
from steward.profiles.composing import composed, policy_digest
from tests.steward.house import House, lines

ORDERS = "medication_orders"


def limited(house: House, **limits: Any) -> None:
    """Puts limits in force."""
    proposal = profiles.propose_profile(
        actor=house.officer, workspace=house.workspace, overrides={"reidentification": limits}, reason="small cohort"
    )
    profiles.approve_profile(actor=house.person(Role.COMPLIANCE_OFFICER), version=proposal)


def reviewed(house: House, drugs: list[str]) -> DatasetVersion:
    """Orders in columns, reviewed, nothing missed."""
    from steward.datasets.importing import import_version

    rows = [{"text": f"{drug} {number} mg daily", "answer": drug} for number, drug in enumerate(drugs, 10)]
    dataset = house.dataset("orders", ORDERS)
    version = import_version(str(house.upload(dataset, lines(rows)).pk))
    assert version.state == VersionState.IMPORTED, version.problems
    house.redact(version)
    version.refresh_from_db()
    return _reviewed(house, version)


def _reviewed(house: House, version: DatasetVersion) -> DatasetVersion:
    assert version.redaction is not None
    actions.draw_sample(actor=house.reviewer, run=version.redaction)
    for item in SampleItem.objects.filter(run=version.redaction, verdict=""):
        actions.review_item(actor=house.reviewer, item=item, verdict=Verdict.CLEAN)
    return version


def measure(house: House, version: DatasetVersion, *columns: str, sensitive: str = "") -> RiskMeasurement:
    asked = review_actions.measure_risk(
        actor=house.reviewer, version=version, quasi_identifiers=columns, sensitive=sensitive
    )
    return measure_risk(str(asked.pk))


@pytest.fixture
def ward(db: None) -> House:
    return House(policy={"missed_per_1000_max": 1000, "sample_size_min": 1})


def test_an_approval_waits_for_the_measurement_and_for_its_limits(ward: House) -> None:
    limited(ward, k_min=3, small_cells=5)
    version = reviewed(ward, ["warfarin"] * 6)
    with pytest.raises(Refused, match="was not measured"):
        actions.approve_version(actor=ward.officer, version=version)
    measure(ward, version, "answer")
    assert limits_of(version.redaction).problems == []
    measure(ward, version, "text")
    with pytest.raises(Refused, match="smallest class has 1 records, and 3 are asked for"):
        actions.approve_version(actor=ward.officer, version=version)
    # Another choice of columns does not outweigh it; another redaction begins anew.
    measure(ward, version, "answer")
    with pytest.raises(Refused, match="6 classes have fewer than 11 records, and 5 are allowed"):
        actions.approve_version(actor=ward.officer, version=version)
    ward.redact(version)
    version.refresh_from_db()
    _reviewed(ward, version)
    measure(ward, version, "answer")
    assert actions.approve_version(actor=ward.officer, version=version).state == VersionState.APPROVED


@pytest.mark.parametrize(
    ("limits", "words"),
    [
        ({"max_risk": 0.09}, "highest risk is 0.167, and 0.09 is allowed"),
        ({"average_risk": 0.1}, "average risk is 0.167, and 0.1 is allowed"),
        ({"l_min": 2}, "no sensitive column was measured"),
    ],
)
def test_each_limit_blocks(ward: House, limits: dict[str, Any], words: str) -> None:
    limited(ward, **limits)
    version = reviewed(ward, ["warfarin"] * 6)
    measure(ward, version, "answer")
    with pytest.raises(Refused, match=words):
        actions.approve_version(actor=ward.officer, version=version)


def test_a_sensitive_column_is_held_to_its_limit(ward: House) -> None:
    limited(ward, l_min=2)
    version = reviewed(ward, ["warfarin"] * 6)
    measure(ward, version, "answer", sensitive="text")
    assert limits_of(version.redaction).problems == []
    measure(ward, version, "text", sensitive="answer")
    assert "1 distinct sensitive values" in limits_of(version.redaction).problems[0]


def test_without_limits_or_columns_nothing_is_asked(ward: House) -> None:
    from tests.steward.house import visits

    assert actions.approve_version(actor=ward.officer, version=reviewed(ward, ["warfarin"] * 3)).state == "approved"
    limited(ward, k_min=11)
    assert ward.approved(visits(6)).state == VersionState.APPROVED


@pytest.mark.parametrize(
    "limits", [{"k_min": -1}, {"max_risk": 0.0}, {"max_risk": 1.5}, {"k_min": "three"}, {"mood": 3}, {"k_min": 2.5}]
)
def test_what_is_no_limit_is_not_proposed(ward: House, limits: dict[str, Any]) -> None:
    with pytest.raises(Refused, match="would not be valid"):
        limited(ward, **limits)


def test_a_profile_without_limits_keeps_its_digest() -> None:
    from compliance.redaction import load_profile

    assert policy_digest("healthcare", {}) == load_profile("healthcare").digest
    assert policy_digest("healthcare", {"reidentification": {"k_min": None}}) == load_profile("healthcare").digest
    assert composed("healthcare", {"reidentification": {"k_min": 3}})["reidentification"] == {"k_min": 3}
