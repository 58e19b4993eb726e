"""All of a person's records are redacted together, however far apart they stand, and however many there are."""

from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from compliance.redaction import Detector
from steward.datasets import actions, redacting
from steward.datasets.models import DatasetVersion, RedactedRecord, RedactionRun, RedactionState
from steward.datasets.people import PeopleReader
from steward.datasets.reading import OpenRedacted, RecordReader
from steward.datasets.redacting import redact_version
from tests.steward.house import House


def note(person: int, text: str) -> dict[str, Any]:
    return {"prompt": text, "completion": "Noted.", "patient_id": f"patient-{person}"}


def notes(person: int, count: int) -> list[dict[str, Any]]:
    return [note(person, f"Person {person}, note {number}: the dressing was changed.") for number in range(count)]


def shuffled() -> list[dict[str, Any]]:
    """Records of people with 1 to 9 records each, dealt like cards."""
    piles = [notes(person, 1 + person * 5 % 9) for person in range(12)]
    return [pile[turn] for turn in range(9) for pile in piles if turn < len(pile)]


def told(house: House, gap: int) -> DatasetVersion:
    """A version in which only the last of a person's records says that Quillfeather is a name."""
    said = note(0, "Mr Bartholomew Quillfeather came in.")
    hinted = [note(0, f"Plan {number} went to bquillfeather today.") for number in range(gap)]
    others = [row for person in range(1, 9) for row in notes(person, 2)]
    return house.imported([*hinted, *others, said])


def redacted(version: DatasetVersion) -> list[OpenRedacted]:
    version.refresh_from_db()
    assert version.redaction is not None
    return list(RecordReader(version).redacted(version.redaction))


def prompts(version: DatasetVersion) -> list[str]:
    return [record.payload["messages"][0]["content"] for record in redacted(version)]


@pytest.fixture
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redacting, "BATCH_RECORDS", 4)


@pytest.mark.parametrize("size", [1, 2, 4, 7, 100])
def test_every_record_comes_once_and_people_stay_together(house: House, size: int) -> None:
    version = house.imported(shuffled())
    batches = list(PeopleReader(version, size).batches(after=(0, 0)))
    assert all(len(batch.records) <= size for batch in batches)
    ordinals = [record.ordinal for batch in batches for record in batch.records]
    assert sorted(ordinals) == list(range(1, version.record_count + 1))
    for batch in batches:
        of_whom = {record.person_id for record in batch.records}
        if batch.crowded is not None:
            assert of_whom == {batch.crowded}
        others = {record.person_id for each in batches if each is not batch for record in each.records}
        assert batch.crowded is not None or not of_whom & others


@pytest.mark.parametrize("size", [2, 4, 100])
def test_reading_goes_on_behind_any_batch(house: House, size: int) -> None:
    reader = PeopleReader(house.imported(shuffled()), size)
    batches = [[record.ordinal for record in batch.records] for batch in reader.batches(after=(0, 0))]
    for number, batch in enumerate(list(reader.batches(after=(0, 0))), 1):
        last = batch.records[-1]
        rest = list(reader.batches(after=(last.person_id, last.ordinal)))
        assert [[record.ordinal for record in each.records] for each in rest] == batches[number:]
        assert all(each.crowded is not None for each in rest if each.records[0].person_id == last.person_id)


@pytest.mark.parametrize("gap", [2, 3, 11], ids=["one batch", "exactly one batch", "crowded"])
@pytest.mark.usefixtures("small_batches")
def test_what_the_last_record_says_is_found_in_the_first(house: House, gap: int) -> None:
    version = told(house, gap)
    house.redact(version)
    assert not [text for text in prompts(version) if "quillfeather" in text.lower()]


@pytest.mark.usefixtures("small_batches")
def test_a_person_has_one_surrogate_in_all_of_many_records(house: House) -> None:
    version = house.imported([note(0, f"Mr Bartholomew Quillfeather came for visit {number}.") for number in range(11)])
    house.redact(version)
    assert len({text.split(" came")[0] for text in prompts(version)}) == 1


@pytest.mark.parametrize("batches_before", [1, 2, 4])
@pytest.mark.usefixtures("small_batches")
def test_a_killed_redaction_goes_on_as_if_it_had_not_been(
    house: House, monkeypatch: pytest.MonkeyPatch, batches_before: int
) -> None:
    version = told(house, 11)
    whole = house.redact(version)
    expected = redacted(version)
    run = actions.start_redaction(actor=house.analyst, version=version)
    store, left = redacting._store, [batches_before]

    def store_some(*args: Any) -> None:
        if not left[0]:
            raise KeyboardInterrupt
        left[0] -= 1
        store(*args)

    monkeypatch.setattr(redacting, "_store", store_some)
    with pytest.raises(KeyboardInterrupt):
        redact_version(str(run.pk))
    assert 0 < RedactedRecord.objects.filter(run=run).count() <= 4 * batches_before
    monkeypatch.setattr(redacting, "_store", store)
    run = redact_version(str(run.pk))
    assert (run.state, run.done_count) == (RedactionState.DONE, version.record_count)
    assert (run.counts_by_type, run.finding_count) == (whole.counts_by_type, whole.finding_count)
    assert redacted(version) == expected


@pytest.mark.usefixtures("small_batches")
def test_a_run_that_an_older_steward_began_is_not_continued(house: House) -> None:
    version = told(house, 3)
    run = actions.start_redaction(actor=house.analyst, version=version)
    RedactionRun.objects.filter(pk=run.pk).update(last_ordinal=4)
    failed = redact_version(str(run.pk))
    assert (failed.state, failed.failure[:16]) == (RedactionState.FAILED, "An older Steward")


def test_no_more_is_read_than_a_batch_needs(house: House) -> None:
    reader = PeopleReader(house.imported(shuffled()), 4)
    with CaptureQueriesContext(connection) as queries:
        next(reader.batches(after=(0, 0)))
    opened = [query["sql"] for query in queries if "ciphertext" in query["sql"]]
    assert len(opened) == 1


def test_with_the_memory_off_records_are_examined_alone(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    from steward.datasets import redaction_work

    version = told(house, 3)
    seen: list[Any] = []
    real = redaction_work.parse_profile

    def without_memory(data: Any) -> Any:
        from dataclasses import replace

        return replace(real(data), memory=False)

    monkeypatch.setattr(redaction_work, "parse_profile", without_memory)
    monkeypatch.setattr(redaction_work, "_detector", None)
    detect = Detector.detect

    def watched(self: Detector, text: str) -> Any:
        seen.append(self.profile.memory)
        return detect(self, text)

    monkeypatch.setattr(Detector, "detect", watched)
    house.redact(version)
    assert set(seen) == {False}
    assert [text for text in prompts(version) if "quillfeather" in text]
