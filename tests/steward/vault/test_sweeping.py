"""What a crash leaves in the vault goes in time, and nothing else does."""

import os
import time
import uuid
from pathlib import Path

import pytest
from django.conf import settings
from django.core.files.base import ContentFile
from django.core.files.storage import default_storage
from django.db import transaction

from steward.vault import objects
from steward.vault.models import SealedObject
from steward.vault.objects import destroy_object, object_path, sweep_objects
from tests.steward.house import House

DAY = 24 * 3600


def kept(house: House) -> SealedObject:
    name = default_storage.save(f"{house.workspace.pk}/attachment", ContentFile(b"x"))
    return SealedObject.objects.get(pk=name.rpartition("/")[2])


def aged(path: Path, days: float) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    os.utime(path, (time.time() - days * DAY,) * 2)
    return path


def test_leftovers_go_and_what_a_row_knows_stays(house: House) -> None:
    folder = Path(settings.STEWARD_OBJECTS, str(house.workspace.pk))
    living = aged(object_path(kept(house)), 400)
    halves = [aged(folder / f"{uuid.uuid4()}.upload.partial", days) for days in (0.5, 2)]
    orphans = [aged(folder / f"{uuid.uuid4()}.upload.sealed", days) for days in (2, 8)]
    destroyed = kept(house)
    SealedObject.objects.filter(pk=destroyed.pk).update(destroyed_at="2026-01-01T00:00Z")
    dead = aged(object_path(destroyed), 8)
    assert sweep_objects() == 3
    assert [path.exists() for path in (living, *halves, *orphans, dead)] == [True, True, False, True, False, False]
    assert sweep_objects() == 0


def test_another_database_s_vault_is_left_alone(house: House) -> None:
    elsewhere = aged(Path(settings.STEWARD_OBJECTS, str(uuid.uuid4()), f"{uuid.uuid4()}.upload.sealed"), 400)
    sweep_objects()
    assert elsewhere.exists()


def test_many_files_are_asked_for_in_parts(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(objects, "SWEEP_FILES", 2)
    folder = Path(settings.STEWARD_OBJECTS, str(house.workspace.pk))
    living = [aged(object_path(kept(house)), 400) for _ in range(3)]
    orphans = [aged(folder / f"{uuid.uuid4()}.upload.sealed", 8) for _ in range(4)]
    assert sweep_objects() == 4
    assert all(path.exists() for path in living)
    assert not any(path.exists() for path in orphans)


@pytest.mark.django_db(transaction=True)
def test_a_file_goes_with_the_commit_and_stays_with_a_rollback(transactional_db: None) -> None:
    house = House()
    with transaction.atomic():
        sealed = kept(house)
    path = object_path(sealed)
    with transaction.atomic():
        destroy_object(sealed)
        transaction.set_rollback(True)
    assert path.exists()
    with transaction.atomic():
        destroy_object(sealed)
        assert path.exists()
    assert not path.exists()
