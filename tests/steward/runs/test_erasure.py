"""A person is erased by an officer only, announced before and recorded after, with the models that learnt of them."""

import json
from typing import Any

import pytest

from steward.accounts.roles import PERMISSIONS, Permission, Role
from steward.audit.actor import Denied, Refused
from steward.audit.models import LedgerEntry, OutboxEntry
from steward.audit.sealer import seal_once
from steward.datasets.models import Split, Subject
from steward.datasets.sealing import DatasetDigests
from steward.runs.erasure import erase_subject
from steward.runs.models import FineTune, RunState
from tests.steward.house import House, visits
from tests.steward.releases.conftest import _trained


@pytest.fixture
def house(db: None) -> House:
    """One whose policy asks for a few reviews only."""
    return House(policy={"missed_per_1000_max": 1000, "sample_size_min": 6})


def entries(action: str = "subject.shredded") -> list[dict[str, Any]]:
    while seal_once():
        pass
    assert not OutboxEntry.objects.exists()
    return [json.loads(bytes(each.body)) for each in LedgerEntry.objects.filter(action=action).order_by("index")]


def in_split(dataset: Any, split: Split) -> str:
    """A patient of that part."""
    digests = DatasetDigests(dataset)
    names = {digests.subject(f"patient-{number}"): f"patient-{number}" for number in range(10)}
    return next(names[bytes(each.digest)] for each in Subject.objects.filter(dataset=dataset, split=split))


def test_an_erasure_is_announced_and_recorded_and_names_what_learnt_of_the_person(house: House) -> None:
    version = house.approved(visits(30))
    model = _trained(house, version)
    FineTune.objects.filter(pk=model.fine_tune.pk).update(state=RunState.RUNNING)
    person = in_split(version.dataset, Split.TRAIN)
    erased = erase_subject(actor=house.officer, dataset=version.dataset, subject=person, ground="consent_withdrawn")
    assert (erased.records, erased.models, erased.running) == (3, [model], [model.fine_tune])
    before, after = entries()
    assert (before["outcome"], after["outcome"]) == ("intent", "done")
    assert before["facts"]["subject"] == after["facts"]["subject"]
    assert before["facts"]["ground"] == after["facts"]["ground"] == "consent_withdrawn"
    assert person not in json.dumps([before, after])
    with pytest.raises(Refused, match="No readable records"):
        erase_subject(actor=house.officer, dataset=version.dataset, subject=person, ground="objection")


def test_no_model_learnt_of_a_person_of_the_test_part_or_of_another_dataset(house: House) -> None:
    version, other = house.approved(visits(30)), house.approved(visits(15))
    _trained(house, version)
    tested = in_split(version.dataset, Split.TEST)
    for dataset, person in ((version.dataset, tested), (other.dataset, in_split(other.dataset, Split.TRAIN))):
        erased = erase_subject(actor=house.officer, dataset=dataset, subject=person, ground="objection")
        assert (erased.models, erased.running) == ([], [])


@pytest.mark.parametrize("role", [each for each in Role if Permission.SHRED_SUBJECT not in PERMISSIONS[each]])
def test_nobody_but_an_officer_erases_and_the_attempt_is_recorded_but_not_announced(house: House, role: Role) -> None:
    version = house.imported(visits(6))
    with pytest.raises(Denied):
        erase_subject(actor=house.person(role), dataset=version.dataset, subject="patient-0", ground="objection")
    assert [each["outcome"] for each in entries()] == ["denied"]
    assert Subject.objects.filter(dataset=version.dataset, wrapped__isnull=True).count() == 0


def test_without_a_ground_of_the_law_nothing_is_announced_or_erased(house: House) -> None:
    version = house.imported(visits(6))
    with pytest.raises(Refused, match="Give a ground"):
        erase_subject(actor=house.officer, dataset=version.dataset, subject="patient-0", ground="because")
    assert [each["outcome"] for each in entries()] == ["refused"]
