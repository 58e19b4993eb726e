"""Django's file interface keeps ciphertext only, bound to its workspace."""

import io
import uuid
from typing import Any

import pytest
from django.conf import settings
from django.core.exceptions import SuspiciousFileOperation
from django.core.files.base import ContentFile
from django.core.files.storage import default_storage
from hypothesis import HealthCheck, given
from hypothesis import settings as limits
from hypothesis import strategies as st

from steward.vault.models import SealedObject
from steward.vault.objects import object_path
from tests.steward.house import House

SECRET = b"Imelda Quackenbush, room 12\n" * 5_000


@limits(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(content=st.binary(max_size=3_000))
def test_what_was_saved_comes_back(house: House, content: bytes) -> None:
    name = default_storage.save(f"{house.workspace.pk}/attachment", ContentFile(content))
    with default_storage.open(name) as file:
        assert file.read() == content
    assert default_storage.size(name) == len(content)


def test_the_disk_holds_no_plaintext_and_no_name(house: House) -> None:
    name = default_storage.save(f"{house.workspace.pk}/attachment/quackenbush.txt", ContentFile(SECRET))
    assert "quackenbush" not in name
    sealed = SealedObject.objects.get(pk=name.rpartition("/")[2])
    assert SECRET[:20] not in object_path(sealed).read_bytes()
    assert object_path(sealed).is_relative_to(settings.STEWARD_OBJECTS)


def test_a_name_without_a_workspace_is_refused(house: House) -> None:
    for name in ("notes.txt", "../../etc/passwd", f"{house.workspace.pk}", f"{house.workspace.pk}/../x"):
        with pytest.raises(SuspiciousFileOperation):
            default_storage.save(name, ContentFile(b"x"))


def test_another_workspace_s_name_does_not_open_a_file(house: House) -> None:
    name = default_storage.save(f"{house.workspace.pk}/attachment", ContentFile(b"x"))
    elsewhere = f"{House().workspace.pk}/attachment/{name.rpartition('/')[2]}"
    assert not default_storage.exists(elsewhere)
    with pytest.raises(SealedObject.DoesNotExist):
        default_storage.open(elsewhere)
    assert not default_storage.exists(f"{house.workspace.pk}/attachment/{uuid.uuid4()}")


def test_deleting_removes_the_ciphertext_and_writing_in_place_is_refused(
    house: House, django_capture_on_commit_callbacks: Any
) -> None:
    name = default_storage.save(f"{house.workspace.pk}/attachment", ContentFile(b"x"))
    with pytest.raises(io.UnsupportedOperation):
        default_storage.open(name, "wb")
    path = object_path(SealedObject.objects.get(pk=name.rpartition("/")[2]))
    with django_capture_on_commit_callbacks(execute=True):
        default_storage.delete(name)
        assert path.exists()
    assert not path.exists()
    assert not default_storage.exists(name)
