"""Imports are all or nothing, immutable afterwards, split by person, and leave no plaintext anywhere."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.db import DatabaseError, connection, transaction

from compliance.vault import VaultError
from steward.audit.actor import Denied, Refused
from steward.datasets import actions, erasure_actions, sealing
from steward.datasets.importing import import_version
from steward.datasets.models import DatasetVersion, Record, Split, Subject, VersionState
from steward.datasets.reading import RecordReader
from steward.vault.keys import destroy_key, open_key
from steward.vault.objects import object_path, open_object
from tests.steward.house import House, lines, visits


def test_records_come_back_as_they_were_imported(house: House) -> None:
    version = house.imported(visits(10))
    assert (version.state, version.record_count, version.subject_count) == (VersionState.IMPORTED, 10, 4)
    payloads = [record.payload for record in RecordReader(version).raw()]
    assert payloads[7]["messages"][0] == {"role": "user", "content": visits(10)[7]["prompt"]}


def test_one_bad_line_keeps_everything_out_and_all_bad_lines_are_told(house: House) -> None:
    rows = visits(6)
    rows[2]["completion"] = ""
    rows[4]["patient_id"] = None
    version = house.imported(rows)
    assert version.state == VersionState.FAILED
    assert [(p["line"], p["column"]) for p in version.problems] == [(3, "completion"), (5, "patient_id")]
    assert not Record.objects.filter(version=version).exists()
    assert not Subject.objects.filter(dataset=version.dataset).exists()
    assert not object_path(version.source).exists()


def test_an_upload_outlives_a_failure_that_was_not_committed(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = visits(2)
    rows[1]["completion"] = ""
    version = house.upload(house.dataset(), lines(rows))

    def fall(*args: object, **facts: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(actions, "record", fall)
        with pytest.raises(KeyboardInterrupt):
            import_version(str(version.pk))
    version.refresh_from_db()
    assert version.state == VersionState.IMPORTING
    assert version.source.destroyed_at is None
    assert object_path(version.source).exists()
    assert import_version(str(version.pk)).state == VersionState.FAILED
    assert not object_path(version.source).exists()


@pytest.mark.parametrize("is_bad", [False, True], ids=["good", "bad"])
def test_a_file_that_two_processes_import_at_once_is_imported_once(
    house: House, monkeypatch: pytest.MonkeyPatch, is_bad: bool
) -> None:
    rows = visits(3)
    if is_bad:
        rows[1]["completion"] = ""
    version = house.upload(house.dataset(), lines(rows))
    finish = actions.finish_import

    def overtaken(**asked: object) -> DatasetVersion:
        monkeypatch.setattr(actions, "finish_import", finish)
        import_version(str(version.pk))  # the other process, while this one was about to
        return finish(**asked)

    monkeypatch.setattr(actions, "finish_import", overtaken)
    done = import_version(str(version.pk))
    expected = (VersionState.FAILED, 0) if is_bad else (VersionState.IMPORTED, 3)
    assert (done.state, Record.objects.filter(version=version).count()) == expected


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"", "empty_file"),
        (b"  \n\n", "empty_file"),
        ('{"prompt": "ä"}'.encode("utf-16"), "wrong_encoding"),
        (b"PK\x03\x04 a spreadsheet", "unknown_format"),
        (b"prompt,completion\n", "no_record"),
        (b'{"colour": "red"}\n', "shape_unknown"),
        (b'{"prompt": "a"\n', "no_record"),
    ],
)
def test_an_unusable_file_is_refused_and_nothing_is_kept(house: House, content: bytes, code: str) -> None:
    dataset = house.dataset()
    before = set(settings.STEWARD_OBJECTS.rglob("*"))
    with pytest.raises(Refused) as refusal:
        house.upload(dataset, content, "data.csv")
    assert refusal.value.code == code
    assert not DatasetVersion.objects.filter(dataset=dataset).exists()
    assert {path for path in settings.STEWARD_OBJECTS.rglob("*") if path.is_file()} <= before


def test_the_same_file_twice_is_refused_with_the_version_it_became(house: House) -> None:
    dataset = house.dataset()
    house.imported(visits(3), dataset)
    with pytest.raises(Refused, match="notes v1"):
        house.upload(dataset, lines(visits(3)))


def test_duplicate_records_are_left_out_and_counted(house: House) -> None:
    version = house.imported([*visits(4), *visits(4)])
    assert (version.record_count, version.duplicate_count) == (4, 4)


def test_repeats_and_people_are_recognised_across_batches(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sealing, "BATCH_RECORDS", 3)
    once = visits(10)
    version = house.imported([*once, once[8], once[0], *visits(11)[10:], once[4]])
    assert (version.record_count, version.duplicate_count, version.subject_count) == (11, 3, 4)
    assert [record.payload["messages"][0]["content"] for record in RecordReader(version).raw()] == [
        row["prompt"] for row in visits(11)
    ]
    assert version.content_digest == house.imported(visits(11), version.dataset).content_digest


def test_importing_twice_changes_nothing(house: House) -> None:
    version = house.imported(visits(4))
    again = import_version(str(version.pk))
    assert again.content_digest == version.content_digest
    assert Record.objects.filter(version=version).count() == 4


def test_a_person_is_in_one_split_and_stays_there_in_later_versions(house: House) -> None:
    dataset = house.dataset()
    first = house.imported(visits(90), dataset)
    assert all(first.split_counts.values())
    splits = dict(Subject.objects.filter(dataset=dataset).values_list("digest", "split"))
    second = house.imported([*visits(90), *visits(120)[90:]], dataset)
    later = dict(Subject.objects.filter(dataset=dataset).values_list("digest", "split"))
    assert {digest: later[digest] for digest in splits} == splits
    assert sum(second.split_counts.values()) == 120


def test_a_declared_split_is_followed(house: House) -> None:
    rows = [{**row, "split": ("train", "validation", "test")[index // 3 % 3]} for index, row in enumerate(visits(27))]
    version = house.imported(rows)
    assert version.split_counts == {"train": 9, "validation": 9, "test": 9}


def test_a_group_is_never_torn_apart(house: House) -> None:
    rows = [{**row, "group": f"hospital-{index % 10}"} for index, row in enumerate(visits(40))]
    for row, index in zip(rows, range(40), strict=True):
        row["patient_id"] = f"p{index}"
    version = house.imported(rows)
    groups: dict[bytes, set[str]] = {}
    for unit, split in Subject.objects.filter(dataset=version.dataset).values_list("unit", "split"):
        groups.setdefault(bytes(unit), set()).add(split)
    assert len(groups) == 10
    assert all(len(splits) == 1 and splits <= set(Split.values) for splits in groups.values())


def test_neither_disk_nor_database_hold_a_raw_text(house: House) -> None:
    version = house.redacted(visits(12))
    with connection.cursor() as cursor:
        cursor.execute("CHECKPOINT")
    found = subprocess.run(
        ["grep", "-rlaF", "Quackenbush", str(settings.STEWARD_HOME)], capture_output=True, text=True, check=False
    )
    assert found.stdout == ""
    assert version.redaction is not None
    texts = json.dumps([record.payload for record in RecordReader(version).redacted(version.redaction)])
    assert "Quackenbush" not in texts
    assert "Dressing changed" in texts


def test_the_upload_is_sealed_and_opens_only_in_its_place(house: House) -> None:
    version = house.imported(visits(3))
    with open_object(version.source) as source:
        assert source.read() == lines(visits(3))
    version.source.bound_to = "elsewhere"
    with pytest.raises(VaultError), open_object(version.source) as source:
        source.read()


def test_records_of_an_imported_version_cannot_change(house: House) -> None:
    version = house.imported(visits(3))
    record = Record.objects.filter(version=version).first()
    assert record is not None
    for change in (
        lambda: Record.objects.filter(pk=record.pk).update(ciphertext=b"x"),
        lambda: Record.objects.create(
            version=version, subject=record.subject, ordinal=99, line=1, digest=b"d", ciphertext=b"c"
        ),
        lambda: DatasetVersion.objects.filter(pk=version.pk).update(content_digest="sha256:" + "0" * 64),
        lambda: DatasetVersion.objects.filter(pk=version.pk).update(state=VersionState.APPROVED),
    ):
        with pytest.raises(DatabaseError), transaction.atomic():
            change()


def test_a_shredded_person_is_gone_from_every_version(house: House) -> None:
    dataset = house.dataset()
    first = house.imported(visits(6), dataset)
    second = house.imported([*visits(6), *visits(9)[6:]], dataset)
    assert erasure_actions.shred_subject(actor=house.officer, dataset=dataset, subject="patient-0") == 6
    for version, left in ((first, 3), (second, 6)):
        reader = RecordReader(version)
        assert len(list(reader.raw())) == left
        assert reader.shredded == 3
    with pytest.raises(Refused, match="No readable records"):
        erasure_actions.shred_subject(actor=house.officer, dataset=dataset, subject="patient-0")
    version = house.imported([*visits(3)], dataset)
    assert version.problems[0]["code"] == "subject_shredded"


def test_a_destroyed_dataset_key_takes_the_upload_with_it(house: House) -> None:
    version = house.imported(visits(3))
    destroy_key(version.dataset.key)
    version.refresh_from_db()
    with pytest.raises(VaultError):
        open_key(DatasetVersion.objects.get(pk=version.pk).dataset.key)


def test_raw_text_is_shown_to_its_importer_and_to_officers_only_and_that_is_recorded(house: House) -> None:
    from steward.audit.models import OutboxEntry

    version = house.imported(visits(3))
    for actor in (house.analyst, house.officer):
        shown = actions.reveal_record(actor=actor, version=version, ordinal=1, reason="redaction_preview")
        assert "Quackenbush" in shown.payload["messages"][0]["content"]
        last = OutboxEntry.objects.order_by("-sequence").first()
        assert last is not None
        assert b"record.revealed" in bytes(last.body)
        assert b"Quackenbush" not in bytes(last.body)
    with pytest.raises(Denied):
        actions.reveal_record(actor=house.reviewer, version=version, ordinal=1, reason="redaction_preview")
    with pytest.raises(Refused, match="reason"):
        actions.reveal_record(actor=house.officer, version=version, ordinal=1, reason="curiosity")


def test_a_full_disk_keeps_nothing(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    import errno

    from steward.vault import objects

    def full(self: Any, data: bytes) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(objects._HashingSink, "write", full)
    dataset = house.dataset()
    with pytest.raises(objects.DiskFull, match="No space left"):
        house.upload(dataset, lines(visits(3)))
    assert not DatasetVersion.objects.filter(dataset=dataset).exists()
    folder = Path(settings.STEWARD_OBJECTS, str(house.workspace.pk))
    assert not list(folder.glob("*.partial"))
