"""Writing and reading sealed files under `STEWARD_OBJECTS`. Plaintext passes through memory, never through a file.

Guarantees that a file under its final name is whole (written aside, synced, renamed), that a reader sees either the
plaintext that was written or an error, and that a file goes only once the transaction that destroys it is committed. A
crash may leave ciphertext: half-written, whole but known to no row, or of a row that is destroyed; `sweep_objects`
removes it. The keys of what it removes are with the rows, so none of it could be read.

Example:
    with ObjectWriter(workspace, key, "upload") as writer:
        writer.write(b"...")
    sealed = writer.sealed  # an unsaved SealedObject, to be saved inside the action
"""

import contextlib
import hashlib
import io
import logging
import os
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

from django.conf import settings
from django.utils import timezone

from compliance.vault import open_reader, seal_writer
from steward.accounts.models import Workspace
from steward.audit.actor import UserError
from steward.audit.recording import after_commit
from steward.vault.keys import destroy_key, open_key
from steward.vault.models import DataKey, SealedObject

PARTIAL_MAX_AGE_SECONDS = 24 * 3600
#: Longer than any action takes from the file to its row.
ORPHAN_MAX_AGE_SECONDS = 7 * 24 * 3600
SWEEP_FILES = 500


class DiskFull(UserError):
    """The disk is full; nothing was kept of the object being written."""

    status = 507


class _HashingSink(io.RawIOBase):
    """Passes bytes on to a file and keeps their SHA-256."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.sha256 = hashlib.sha256()

    def writable(self) -> bool:
        return True

    def write(self, data: "bytes | bytearray | memoryview") -> int:  # type: ignore[override]
        self.sha256.update(data)
        return self._file.write(data)


def object_path(sealed: SealedObject) -> Path:
    """Where the ciphertext of `sealed` lies."""
    return Path(settings.STEWARD_HOME, sealed.path)


class ObjectWriter:
    """Seals what is written into a new object. Leaving by an exception leaves nothing behind."""

    def __init__(self, workspace: Workspace, key: DataKey, kind: str, dataset: str = "none") -> None:
        object_id = uuid.uuid4()
        folder = settings.STEWARD_OBJECTS.relative_to(settings.STEWARD_HOME)
        self.sealed = SealedObject(
            id=object_id,
            workspace=workspace,
            key=key,
            kind=kind,
            dataset=dataset,
            bound_to=str(object_id),
            path=str(folder / str(workspace.pk) / f"{object_id}.{kind}.sealed"),
        )
        self._path = object_path(self.sealed)
        self._partial = self._path.with_suffix(".partial")

    def __enter__(self) -> "ObjectWriter":
        secret = open_key(self.sealed.key)
        self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._file = open(os.open(self._partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb")
        self._sink = _HashingSink(self._file)
        try:
            self._writer = seal_writer(self._sink, secret, self.sealed.context)  # type: ignore[arg-type]
        except OSError as error:
            self.discard()
            raise _disk_error(error) from error
        return self

    def write(self, data: bytes) -> None:
        """Seals `data`. Raises DiskFull."""
        try:
            self._writer.write(data)
        except OSError as error:
            raise _disk_error(error) from error

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._writer.__exit__(kind, error, trace)
            if error is None:
                self._file.flush()
                os.fsync(self._file.fileno())
        except OSError as failure:
            self.discard()
            raise _disk_error(failure) from failure
        if error is not None:
            self.discard()
            return
        self._file.close()
        os.rename(self._partial, self._path)
        self.sealed.sealed_sha256 = f"sha256:{self._sink.sha256.hexdigest()}"
        self.sealed.commitment = self._writer.commitment
        self.sealed.plain_bytes = self._writer.plaintext_bytes

    def discard(self) -> None:
        """Leaves nothing of the object behind, whether it was finished or not."""
        with contextlib.suppress(OSError):  # closing flushes, and may find the disk full again
            self._file.close()
        self._partial.unlink(missing_ok=True)
        self._path.unlink(missing_ok=True)


def _disk_error(error: OSError) -> UserError:
    return DiskFull(
        f"The vault under {settings.STEWARD_OBJECTS} cannot be written ({error.strerror}). Nothing was kept. "
        "Free some space, then try again; `manage.py doctor` shows how much is left.",
        code="disk_full",
    )


@contextlib.contextmanager
def open_object(sealed: SealedObject) -> Iterator[io.BufferedReader]:
    """A reader of the plaintext, decrypted segment by segment.

    Raises:
        KeyDestroyed: the object's key was destroyed.
        WrongKeyOrContext, Corrupt: before any bad byte is returned.
    """
    with open(object_path(sealed), "rb") as file:
        reader = open_reader(file, open_key(sealed.key), sealed.context, commitment=bytes(sealed.commitment))
        yield io.BufferedReader(reader, buffer_size=1 << 20)


def plaintext_digest(sealed: SealedObject) -> str:
    """`sha256:…` of what the vault gives back now; reading it also checks every segment's tag."""
    with open_object(sealed) as file:
        return f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"  # type: ignore[arg-type]


def destroy_object(sealed: SealedObject) -> None:
    """Marks the row, and removes the ciphertext once that is committed. The row stays: the ledger speaks of it."""
    sealed.destroyed_at = timezone.now()
    sealed.save(update_fields=["destroyed_at"])
    path = object_path(sealed)
    after_commit(lambda: _remove(path))


def _remove(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError as error:  # what it belonged to is destroyed already; the sweep tries again
        logging.getLogger(__name__).warning("A destroyed object's file could not be removed (%s).", error.strerror)


def destroy_with_key(key: DataKey) -> int:
    """Shreds a key made for one purpose and removes everything it sealed. Returns how many objects."""
    sealed_objects = SealedObject.objects.filter(key=key, destroyed_at=None)
    for sealed in sealed_objects:
        destroy_object(sealed)
    destroy_key(key)
    return len(sealed_objects)


def sweep_objects() -> int:
    """Removes ciphertext that a crash left behind: half-written a day ago, or whole without a living row a week ago.

    Only folders of workspaces that this database knows are looked into, so that an empty database, or another one,
    empties no vault. Returns how many files.
    """
    removed = 0
    for workspace_id in Workspace.objects.values_list("pk", flat=True):
        folder = Path(settings.STEWARD_OBJECTS, str(workspace_id))
        old = [path for path in folder.glob("*.partial") if _age_seconds(path) > PARTIAL_MAX_AGE_SECONDS]
        whole = [path for path in folder.glob("*.sealed") if _age_seconds(path) > ORPHAN_MAX_AGE_SECONDS]
        for first in range(0, len(whole), SWEEP_FILES):
            old += _orphans(whole[first : first + SWEEP_FILES])
        for path in old:
            path.unlink(missing_ok=True)
        removed += len(old)
    return removed


def _orphans(paths: list[Path]) -> list[Path]:
    names = {str(path.relative_to(settings.STEWARD_HOME)): path for path in paths}
    living = SealedObject.objects.filter(path__in=names, destroyed_at=None).values_list("path", flat=True)
    return [names[name] for name in names.keys() - set(living)]


def _age_seconds(path: Path) -> float:
    """0 for a file that is gone meanwhile."""
    with contextlib.suppress(FileNotFoundError):
        return time.time() - path.stat().st_mtime
    return 0.0
