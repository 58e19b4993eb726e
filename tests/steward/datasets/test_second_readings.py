"""Two readers, blind; what counts while they differ; taking a verdict back; and none of it twice."""

from typing import Any

import pytest
from django.db import DatabaseError, transaction

from steward.accounts.roles import Role
from steward.audit.actor import Actor, Denied, Refused
from steward.datasets import actions, review_actions
from steward.datasets.models import Reading, ReadingKind, SampleItem, Verdict
from steward.datasets.residual import residual_risk
from steward.datasets.verdicts import disagreements, waiting_for
from tests.steward.house import House, visits


@pytest.fixture
def twice(db: None) -> Any:
    """A house whose policy has half of the sample read twice, and a version with a sample of six."""
    house = House(policy={"second_review_percent": 50, "sample_size_min": 6, "missed_per_1000_max": 1000})
    version = house.redacted(visits(12))
    actions.draw_sample(actor=house.reviewer, run=version.redaction, size=6)
    return house, version.redaction, house.person(Role.REVIEWER)


def read(actor: Actor, item: SampleItem, verdict: Verdict, **types: int) -> SampleItem:
    return actions.review_item(actor=actor, item=item, verdict=verdict, missed_types=types)


def test_half_of_the_sample_goes_to_a_second_reader_who_is_somebody_else(twice: Any) -> None:
    house, run, second = twice
    assert SampleItem.objects.filter(run=run, is_read_twice=True).count() == 3
    for item in waiting_for(run, house.reviewer.user_id):
        read(house.reviewer, item, Verdict.CLEAN)
    assert not waiting_for(run, house.reviewer.user_id).exists()
    left = list(waiting_for(run, second.user_id))
    assert [item.is_read_twice for item in left] == [True, True, True]
    with pytest.raises(Refused, match="reviewed already"):
        read(house.reviewer, left[0], Verdict.CLEAN)
    risk = residual_risk(run)
    assert (risk.reviewed, risk.second.wanted, risk.second.given, risk.is_enough) == (6, 3, 0, False)
    with pytest.raises(Refused, match="0 of 3 second readings"):
        actions.approve_version(actor=house.officer, version=run.version)
    for item in left:
        read(second, item, Verdict.CLEAN)
    risk = residual_risk(run)
    assert (risk.second.given, risk.second.agreed, risk.second.kappa, risk.is_enough) == (3, 3, None, True)


def test_a_miss_of_either_reader_counts_until_a_third_person_says_otherwise(twice: Any) -> None:
    house, run, second = twice
    item = SampleItem.objects.filter(run=run, is_read_twice=True).first()
    read(house.reviewer, item, Verdict.CLEAN)
    read(second, item, Verdict.MISSED, PERSON=2, DATE=1)
    item.refresh_from_db()
    assert (item.verdict, item.missed_count, item.missed_types) == ("missed", 3, {"PERSON": 2, "DATE": 1})
    risk = residual_risk(run)
    assert [(each.name, each.records, each.identifiers) for each in risk.by_type] == [("PERSON", 1, 2), ("DATE", 1, 1)]
    assert (risk.missed, risk.second.open_disagreements) == (1, 1)
    assert [(each.first.verdict, each.second.verdict) for each in disagreements(run)] == [("clean", "missed")]
    for reader in (house.reviewer, second):
        with pytest.raises(Denied, match="third person"):
            review_actions.adjudicate_item(actor=reader, item=item, verdict=Verdict.CLEAN)
    review_actions.adjudicate_item(actor=house.officer, item=item, verdict=Verdict.CLEAN)
    item.refresh_from_db()
    assert (item.verdict, item.missed_types, residual_risk(run).missed) == ("clean", {}, 0)
    with pytest.raises(Refused, match="adjudicated before"):
        review_actions.adjudicate_item(actor=house.analyst, item=item, verdict=Verdict.MISSED)


def test_where_readers_agree_there_is_nothing_to_adjudicate(twice: Any) -> None:
    house, run, second = twice
    item = SampleItem.objects.filter(run=run, is_read_twice=True).first()
    for reader, verdict in ((house.reviewer, Verdict.CLEAN), (second, Verdict.OVERMASKED)):
        read(reader, item, verdict)
    with pytest.raises(Refused, match="No two readers differ"):
        review_actions.adjudicate_item(actor=house.officer, item=item, verdict=Verdict.CLEAN)


def test_the_last_verdict_can_be_taken_back_and_stays_on_record(twice: Any) -> None:
    house, run, second = twice
    first, other = SampleItem.objects.filter(run=run)[:2]
    read(house.reviewer, first, Verdict.MISSED, PERSON=1)
    read(house.reviewer, other, Verdict.CLEAN)
    with pytest.raises(Refused, match="own last verdict"):
        review_actions.withdraw_reading(actor=house.reviewer, item=first)
    with pytest.raises(Refused, match="own last verdict"):
        review_actions.withdraw_reading(actor=second, item=other)
    review_actions.withdraw_reading(actor=house.reviewer, item=other)
    review_actions.withdraw_reading(actor=house.reviewer, item=first)
    first.refresh_from_db()
    assert (first.verdict, first.missed_count, Reading.objects.filter(item=first).count()) == ("", 0, 1)
    read(house.reviewer, first, Verdict.CLEAN)
    first.refresh_from_db()
    assert first.verdict == "clean"


def test_a_verdict_stands_once_somebody_read_the_record_after_it(twice: Any) -> None:
    house, run, second = twice
    item = SampleItem.objects.filter(run=run, is_read_twice=True).first()
    read(house.reviewer, item, Verdict.CLEAN)
    read(second, item, Verdict.CLEAN)
    with pytest.raises(Refused, match="read the record after you"):
        review_actions.withdraw_reading(actor=house.reviewer, item=item)
    review_actions.withdraw_reading(actor=second, item=item)


def test_the_database_keeps_the_rules_of_reading(twice: Any) -> None:
    house, run, second = twice
    item = SampleItem.objects.filter(run=run, is_read_twice=True).first()
    once = SampleItem.objects.filter(run=run, is_read_twice=False).first()
    base = {"workspace_id": run.workspace_id, "item": item, "verdict": "clean"}
    with pytest.raises(DatabaseError, match="cannot come before"), transaction.atomic():
        Reading.objects.create(**base, reviewer_id=second.user_id, kind=ReadingKind.SECOND)
    read(house.reviewer, item, Verdict.CLEAN)
    read(house.reviewer, once, Verdict.CLEAN)
    with pytest.raises(DatabaseError, match="reading_once_a_person"), transaction.atomic():
        Reading.objects.create(**base, reviewer_id=house.reviewer.user_id, kind=ReadingKind.SECOND)
    with pytest.raises(DatabaseError, match="cannot come before"), transaction.atomic():
        Reading.objects.create(**base | {"item": once}, reviewer_id=second.user_id, kind=ReadingKind.SECOND)
    with pytest.raises(DatabaseError, match="only be withdrawn"), transaction.atomic():
        Reading.objects.filter(item=item).update(verdict="missed", missed_types={"PERSON": 1})
    with pytest.raises(DatabaseError, match="only be withdrawn"), transaction.atomic():
        Reading.objects.filter(item=item).delete()
    with pytest.raises(DatabaseError, match="stands"), transaction.atomic():
        SampleItem.objects.filter(pk=item.pk).update(verdict="missed")


def test_the_sample_closes_with_the_decision(twice: Any) -> None:
    house, run, _ = twice
    item = SampleItem.objects.filter(run=run).first()
    actions.reject_version(actor=house.officer, version=run.version, reason="wrong file")
    with pytest.raises(Refused, match="sample is closed"):
        read(house.reviewer, item, Verdict.CLEAN)


def test_the_platform_gives_no_verdict(twice: Any) -> None:
    _, run, _ = twice
    with pytest.raises(Denied, match="by a person"):
        read(Actor.system("worker"), SampleItem.objects.filter(run=run).first(), Verdict.CLEAN)


def test_a_draw_brings_what_the_bound_still_needs(db: None) -> None:
    house = House(policy={"sample_size_min": 5, "missed_per_1000_max": 200})
    version = house.redacted(visits(60))
    run = version.redaction
    planned = residual_risk(run).still_needed
    assert actions.draw_sample(actor=house.reviewer, run=run) == planned
    items = list(SampleItem.objects.filter(run=run))
    read(house.reviewer, items[0], Verdict.MISSED, PERSON=1)
    for item in items[1:]:
        read(house.reviewer, item, Verdict.CLEAN)
    risk = residual_risk(run)
    assert not risk.is_enough
    assert risk.still_needed
    assert actions.draw_sample(actor=house.reviewer, run=run) == risk.still_needed
    assert set(SampleItem.objects.filter(run=run).values_list("round", flat=True)) == {1, 2}
    for item in SampleItem.objects.filter(run=run, verdict=""):
        read(house.reviewer, item, Verdict.CLEAN)
    assert residual_risk(run).is_enough
