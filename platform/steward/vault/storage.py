"""Django's storage interface over the vault, so that any `FileField` keeps ciphertext only.

Guarantees what `vault.objects` guarantees: nothing readable on a disk, no half-written file under a final name. Names
begin with the workspace, `WORKSPACE/KIND`, since that decides the key; a name without one is refused. Files are read
from the vault as a stream. Saving must happen inside an action's transaction, like every other row.

Example:
    models.FileField(upload_to=lambda row, name: f"{row.workspace_id}/attachment")
"""

import io
import uuid

from django.core.exceptions import SuspiciousFileOperation
from django.core.files.base import File
from django.core.files.storage import Storage
from django.utils.deconstruct import deconstructible

from steward.accounts.models import Workspace
from steward.vault.keys import workspace_key
from steward.vault.models import SealedObject
from steward.vault.objects import ObjectWriter, destroy_object, object_path, open_object


class SealedFile(File):
    """A file of the vault, opened for reading; decrypts as it is read."""

    def __init__(self, sealed: SealedObject, name: str) -> None:
        self._opened = open_object(sealed)
        super().__init__(self._opened.__enter__(), name)
        self.size = sealed.plain_bytes

    def close(self) -> None:
        super().close()
        self._opened.__exit__(None, None, None)


@deconstructible
class VaultStorage(Storage):
    """Seals what is saved under the workspace's key; `name` comes back as `WORKSPACE/KIND/OBJECT`."""

    def _save(self, name: str, content: File) -> str:
        workspace_id, kind = _place(name)
        workspace = Workspace.objects.get(pk=workspace_id)
        with ObjectWriter(workspace, workspace_key(workspace), kind) as writer:
            for chunk in content.chunks():
                writer.write(chunk if isinstance(chunk, bytes) else chunk.encode())
        writer.sealed.save(force_insert=True)
        return f"{workspace_id}/{kind}/{writer.sealed.pk}"

    def _open(self, name: str, mode: str = "rb") -> SealedFile:
        if mode != "rb":
            raise io.UnsupportedOperation("a sealed file is read as bytes; to change it, save another one")
        return SealedFile(_sealed(name), name)

    def get_available_name(self, name: str, max_length: int | None = None) -> str:
        """The name as it is: every save makes an object with a fresh identity."""
        return name

    def generate_filename(self, filename: str) -> str:
        """The workspace and the kind; whatever name the file came with is not kept."""
        workspace_id, kind = _place(filename)
        return f"{workspace_id}/{kind}"

    def exists(self, name: str) -> bool:
        """Whether the object is there and not destroyed."""
        try:
            return object_path(_sealed(name)).exists()
        except (SealedObject.DoesNotExist, SuspiciousFileOperation):
            return False

    def size(self, name: str) -> int:
        """Bytes of the plaintext."""
        return _sealed(name).plain_bytes

    def delete(self, name: str) -> None:
        """Removes the ciphertext; the row stays as a trace."""
        destroy_object(_sealed(name))


def _place(name: str) -> tuple[uuid.UUID, str]:
    """Workspace and kind out of `WORKSPACE/KIND…`. Raises SuspiciousFileOperation for any other form."""
    workspace, _, rest = name.partition("/")
    kind = rest.partition("/")[0]
    try:
        workspace_id = uuid.UUID(workspace)
    except ValueError:
        raise SuspiciousFileOperation("a file of the vault is named WORKSPACE/KIND") from None
    if not kind.isidentifier() or len(kind) > 24:
        raise SuspiciousFileOperation("the kind of a file of the vault is a word of at most 24 letters")
    return workspace_id, kind


def _sealed(name: str) -> SealedObject:
    workspace_id, kind = _place(name)
    object_id = name.rpartition("/")[2]
    try:
        identity = uuid.UUID(object_id)
    except ValueError:
        raise SealedObject.DoesNotExist from None
    return SealedObject.objects.select_related("key").get(
        pk=identity, workspace_id=workspace_id, kind=kind, destroyed_at=None
    )
