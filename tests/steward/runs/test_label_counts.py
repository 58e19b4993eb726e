"""Labels are counted once behind an approval, and what was kept never outlives the records it was counted over."""

from typing import Any

import pytest
from procrastinate.contrib.django.models import ProcrastinateJob

from steward.audit.actor import Refused
from steward.datasets.erasure_actions import shred_subject
from steward.runs import actions, labels
from steward.runs.fitting import count_labels
from steward.runs.models import LabelCount
from tests.steward.house import House, labelled, tagged


@pytest.fixture
def house(db: None) -> House:
    """One whose policy asks for a few reviews only."""
    return House(policy={"missed_per_1000_max": 1000, "sample_size_min": 6})


def request(house: House, version: Any, base: Any, method: str = "classification") -> Any:
    recipe = {"method": method}
    return actions.request_fine_tune(actor=house.analyst, version=version, base_model=base, name="try", changes=recipe)


def patients(count: int, rare: tuple[int, ...]) -> list[dict[str, Any]]:
    """Texts and labels, a patient each; a few have a label of their own."""
    rows = [row | {"patient_id": f"patient-{number}"} for number, row in enumerate(labelled(count))]
    for number in rare:
        rows[number]["label"] = "fever"
    return rows


def jobs(version: Any) -> int:
    waiting = ProcrastinateJob.objects.filter(task_name="runs.count_labels", args={"version_id": str(version.pk)})
    return int(waiting.count())


def forbid_counting(monkeypatch: pytest.MonkeyPatch) -> None:
    def opened(*_: Any) -> Any:
        raise AssertionError("the records were opened")

    monkeypatch.setattr(labels, "_records", opened)


@pytest.mark.parametrize(
    ("rows", "method", "found"),
    [
        (labelled(60), "classification", ["allergy", "wound"]),
        (tagged(60), "token-classification", ["DRUG", "PATIENT"]),
    ],
)
def test_a_request_reads_labels_that_a_job_counted_behind_the_approval(
    house: House, tiny_base: Any, monkeypatch: pytest.MonkeyPatch, rows: Any, method: str, found: list[str]
) -> None:
    version = house.approved(rows)
    assert jobs(version) == 1
    count_labels(version)
    forbid_counting(monkeypatch)
    assert request(house, version, tiny_base, method).recipe["classification"] == {"labels": found}
    count_labels(version)  # a second time finds it done
    assert LabelCount.objects.count() == 1


def test_after_an_erasure_labels_are_those_of_the_people_who_are_left(
    house: House, tiny_base: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    version = house.approved(patients(60, rare=(1, 2, 3)))
    count_labels(version)
    shred_subject(actor=house.officer, dataset=version.dataset, subject="patient-1")
    assert jobs(version) == 2
    assert "fever" in request(house, version, tiny_base).recipe["classification"]["labels"]
    shred_subject(actor=house.officer, dataset=version.dataset, subject="patient-2")
    with pytest.raises(Refused, match="belongs to one person only"):
        request(house, version, tiny_base)
    count_labels(version)
    with pytest.raises(Refused, match="belongs to one person only"):
        request(house, version, tiny_base)
    shred_subject(actor=house.officer, dataset=version.dataset, subject="patient-3")
    count_labels(version)
    forbid_counting(monkeypatch)
    assert request(house, version, tiny_base).recipe["classification"] == {"labels": ["allergy", "wound"]}


def test_labels_that_may_not_be_told_are_not_kept_and_a_changed_rule_counts_anew(
    house: House, tiny_base: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = house.approved(patients(60, rare=(1,)))
    count_labels(alone)
    assert not LabelCount.objects.exists()
    version = house.approved(labelled(60))
    count_labels(version)
    monkeypatch.setattr(labels, "MAX_LABELS", 1)
    with pytest.raises(Refused, match="more than 1 different labels"):
        request(house, version, tiny_base)
