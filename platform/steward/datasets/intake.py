"""Receiving a file: sealed as it arrives, looked at while its first bytes pass by, then queued for import.

Guarantees that an upload is never on disk in the clear and that nothing is kept of one that is refused.

Example:
    with open("visits.jsonl", "rb") as file:
        version = receive_file(actor=actor, dataset=dataset, filename="visits.jsonl", chunks=iter_chunks(file))
"""

import hashlib
import io
from collections.abc import Iterable, Iterator, Mapping
from typing import BinaryIO

from steward.accounts.permissions import require
from steward.accounts.roles import Permission
from steward.audit.actor import Actor, Refused
from steward.datasets import actions
from steward.datasets.formats import Problems, detect_format, rows
from steward.datasets.importing import workflow_of
from steward.datasets.models import Dataset, DatasetVersion
from steward.datasets.shapes import ColumnMapping, propose
from steward.vault.objects import ObjectWriter

CHUNK_BYTES = 1 << 20
HEAD_BYTES = 1 << 18


def iter_chunks(file: BinaryIO) -> Iterator[bytes]:
    """The file's bytes in pieces of a mebibyte."""
    while chunk := file.read(CHUNK_BYTES):
        yield chunk


class Reception:
    """A file on its way in, pushed piece by piece. End it with `finish` or `abandon`; nothing else leaves a row."""

    def __init__(self, actor: Actor, dataset: Dataset, filename: str) -> None:
        """Raises Denied if the actor may not import here."""
        require(actor, Permission.IMPORT_DATA, dataset.workspace, dataset)
        self._actor, self._dataset, self._filename = actor, dataset, filename
        self._sha256 = hashlib.sha256()
        self._head = bytearray()
        self._writer = ObjectWriter(dataset.workspace, dataset.key, "upload", dataset=str(dataset.pk))
        self._writer.__enter__()

    def write(self, chunk: bytes) -> None:
        """Takes the next bytes. Raises DiskFull."""
        self._sha256.update(chunk)
        if len(self._head) < HEAD_BYTES:
            self._head += chunk[: HEAD_BYTES - len(self._head)]
        self._writer.write(chunk)

    def abandon(self) -> None:
        """Leaves nothing of the file behind."""
        self._writer.discard()

    def finish(self, columns: Mapping[str, str] | None = None) -> DatasetVersion:
        """Makes the file the dataset's next version and queues its import; errors as in `receive_file`."""
        try:
            source_format, mapping = inspect_head(self._dataset, self._filename, bytes(self._head), columns)
            self._writer.__exit__(None, None, None)
            return actions.add_version(
                actor=self._actor,
                dataset=self._dataset,
                source=self._writer.sealed,
                source_format=source_format,
                source_sha256=self._sha256.digest(),
                mapping=mapping,
            )
        except BaseException:
            self._writer.discard()
            raise


def receive_file(
    *, actor: Actor, dataset: Dataset, filename: str, chunks: Iterable[bytes], columns: Mapping[str, str] | None = None
) -> DatasetVersion:
    """Seals a file and queues its import as the next version of `dataset`.

    Args:
        filename: a hint at the format; not kept.
        columns: column by field name, also for `subject` and `group`, where they cannot be found by name.

    Raises:
        Denied: the actor may not import here.
        Refused: empty, of no known format, no usable first row, fields without a column, or imported before.
        DiskFull: nothing was kept.
    """
    reception = Reception(actor, dataset, filename)
    try:
        for chunk in chunks:
            reception.write(chunk)
    except BaseException:
        reception.abandon()
        raise
    return reception.finish(columns)


def inspect_head(
    dataset: Dataset, filename: str, head: bytes, columns: Mapping[str, str] | None
) -> tuple[str, ColumnMapping]:
    """Format and column mapping from a file's first bytes.

    Raises:
        Refused: saying what is wrong with the file or the mapping.
    """
    if not head.strip():
        raise Refused("The file is empty.", code="empty_file", subject=dataset)
    if head[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise Refused(
            "The file is UTF-16. Save it as UTF-8 and import it again.", code="wrong_encoding", subject=dataset
        )
    source_format = detect_format(filename, head)
    if source_format is None:
        raise Refused(
            "The file is neither JSON Lines nor CSV nor TSV. Save it as one of these, in UTF-8.",
            code="unknown_format",
            subject=dataset,
        )
    problems = Problems()
    first = next(rows(io.BytesIO(head), source_format, problems), None)
    if first is None:
        found = problems.kept[0] if problems.kept else None
        where = f" Line {found.line}: {found.message}" if found else " It may hold a header only."
        raise Refused(
            f"No readable record was found at the start of the file.{where}", code="no_record", subject=dataset
        )
    return source_format, propose(first[1], workflow_of(dataset), columns)
