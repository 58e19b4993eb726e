"""Sealed rows on their way into PostgreSQL, as COPY in its binary form.

Guarantees that exactly the given rows arrive, in order, or an error is raised and none does; constraints and triggers
hold as for INSERT. Writes ciphertext, digests and wrapped keys only. Does not encrypt.

Example: ``copy_records(version.pk, [(subject_id, 1, 1, digest, ciphertext)])``

Source: PostgreSQL manual, "COPY", section "Binary Format".
"""

import uuid
from collections.abc import Iterable
from struct import Struct

from django.db import connection

_HEADER = b"PGCOPY\n\xff\r\n\x00" + bytes(8)
_TRAILER = b"\xff\xff"
_NULL = b"\xff\xff\xff\xff"
# The number of columns, then each value behind its length: uuid, bigint, integer, integer, 16 bytes, ciphertext.
_RECORD = Struct("!h i16s iq ii ii i16s i")
# bigint, uuid, 16 bytes, 16 bytes; the split, which may be NULL, and the wrapped key follow.
_SUBJECT = Struct("!h iq i16s i16s i16s")
_LENGTH = Struct("!i")

RecordRow = tuple[int, int, int, bytes, bytes]
SubjectRow = tuple[int, bytes, bytes, str | None, bytes]


def copy_records(version_id: uuid.UUID, rows: Iterable[RecordRow]) -> None:
    """Stores records: (subject's row id, ordinal, line, digest of 16 bytes, ciphertext)."""
    version, pack = version_id.bytes, _RECORD.pack
    pieces = []
    for subject_id, ordinal, line, digest, sealed in rows:
        pieces.append(pack(6, 16, version, 8, subject_id, 4, ordinal, 4, line, 16, digest, len(sealed)))
        pieces.append(sealed)
    _copy("datasets_record (version_id,subject_id,ordinal,line,digest,ciphertext)", pieces)


def copy_subjects(dataset_id: uuid.UUID, rows: Iterable[SubjectRow]) -> None:
    """Stores subjects: (row id, digest and unit of 16 bytes each, declared split or None, wrapped key)."""
    dataset, pack, length = dataset_id.bytes, _SUBJECT.pack, _LENGTH.pack
    pieces = []
    for subject_id, digest, unit, split, wrapped in rows:
        pieces.append(pack(6, 8, subject_id, 16, dataset, 16, digest, 16, unit))
        pieces.append(_NULL if split is None else length(len(split)) + split.encode())
        pieces.append(length(len(wrapped)) + wrapped)
    _copy("datasets_subject (id,dataset_id,digest,unit,split,wrapped)", pieces)


def _copy(target: str, pieces: list[bytes]) -> None:
    if not pieces:
        return
    with connection.cursor() as cursor, cursor.copy(f"COPY {target} FROM STDIN (FORMAT BINARY)") as copy:
        copy.write(_HEADER + b"".join(pieces) + _TRAILER)
