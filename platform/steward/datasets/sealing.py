"""From parsed rows to sealed record rows, in batches, with memory that stays flat.

Guarantees that no plaintext reaches the database: subjects by keyed digest, payloads under their subject's key, and
that equal content appears once in a version. Must run inside the caller's transaction. Does not parse or split.
"""

import contextlib
import hmac
import json
from collections.abc import Generator, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from hashlib import sha256
from itertools import islice
from typing import Any, NamedTuple, TypeVar

import psycopg
from django.db import connection, transaction

from compliance.vault import RecordCipher, keyed_digest, new_key, unwrap_key, wrap_key
from steward.datasets.copying import copy_records, copy_subjects
from steward.datasets.messages import has_tools
from steward.datasets.models import Dataset, DatasetVersion, Split
from steward.vault.keys import open_key

T = TypeVar("T")
BATCH_RECORDS = 4_000
DIGEST_BYTES = 16
SPLITS = frozenset(Split.values)
_dump = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


class Incoming(NamedTuple):
    """A parsed record on its way in: `subject` and `group` are the raw values of those columns, or None.

    A group that is called like a split (`train`, `validation`, `test`) is a declaration: its subjects go there.
    """

    line: int
    payload: dict[str, Any]
    subject: str | None
    group: str | None


class _Prepared(NamedTuple):
    """A record with its keyed digests, ready to be sealed."""

    line: int
    digest: bytes
    plain: bytes
    subject: bytes
    unit: bytes
    declared_split: str | None


@dataclass(slots=True)
class Sealed:
    """What sealing counted, and whether a record names tools or calls one."""

    records: int = 0
    duplicates: int = 0
    has_tools: bool = False


def record_context(version_id: object, ordinal: int) -> bytes:
    """Associated data that ties a raw record's ciphertext to its place."""
    return f"record/{version_id}/{ordinal}".encode()


def redacted_context(run_id: object, ordinal: int) -> bytes:
    """Associated data that ties a redacted record's ciphertext to its place."""
    return f"redacted/{run_id}/{ordinal}".encode()


def subject_wrap_context(dataset_id: object, digest: bytes) -> dict[str, str]:
    """Context under which a subject's key is wrapped by the dataset's."""
    return {"dataset": str(dataset_id), "subject": digest.hex()}


def dump_payload(payload: dict[str, Any]) -> bytes:
    """A payload as the bytes that are sealed."""
    return _dump(payload).encode()


def subject_in_ledger(dataset: Dataset, subject: str) -> str:
    """A person as entries name them: a keyed digest, which tells that two are about the same one and nothing else."""
    return keyed_digest(open_key(dataset.key), subject.encode())


class DatasetDigests:
    """Keyed digests of one dataset: whether two values are equal, and nothing else to whoever lacks its key."""

    def __init__(self, dataset: Dataset) -> None:
        key = hmac.digest(open_key(dataset.key), b"steward/record-digest", "sha256")
        self._content, self._subject, self._group = (
            hmac.new(key, purpose + b"\x00", "sha256") for purpose in (b"content", b"subject", b"group")
        )

    def content(self, plain: bytes) -> bytes:
        return _extended(self._content, plain)

    def subject(self, subject: str) -> bytes:
        return _extended(self._subject, subject.encode())

    def group(self, group: str) -> bytes:
        return _extended(self._group, group.encode())


def _extended(keyed: hmac.HMAC, value: bytes) -> bytes:
    digest = keyed.copy()
    digest.update(value)
    return digest.digest()[:DIGEST_BYTES]


class RecordSealer:
    """Seals the records of one version. `tally` counts; `content_digest` covers all of them in order."""

    def __init__(self, version: DatasetVersion) -> None:
        self._version_id = version.pk
        self._dataset_id = version.dataset_id
        self._dataset_key = open_key(version.dataset.key)
        self._digests = DatasetDigests(version.dataset)
        self._is_first = not version.dataset.subjects.exists()
        self._has_repeats = False
        self._content = sha256()
        self.tally = Sealed()

    @property
    def content_digest(self) -> str:
        return f"sha256:{self._content.hexdigest()}"

    def seal(self, incoming: Iterable[Incoming]) -> None:
        """Seals and stores everything that comes in, which another thread takes in meanwhile."""
        with connection.cursor() as cursor:
            # Foreign keys are looked at after each batch, and not all at the commit, while the next batch is read.
            cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")
        with contextlib.closing(_ahead(self._prepared(iter(incoming)))) as batches:
            for count, batch in batches:
                before = self.tally.records
                self._store(batch)
                self.tally.duplicates += count - (self.tally.records - before)

    def _prepared(self, incoming: Iterator[Incoming]) -> Iterator[tuple[int, dict[bytes, _Prepared]]]:
        """Batches as (how many came in, records by digest). Uses no database: it runs in a thread of its own."""
        digests = self._digests
        while batch := list(islice(incoming, BATCH_RECORDS)):
            prepared: dict[bytes, _Prepared] = {}
            for item in batch:
                plain = dump_payload(item.payload)
                self.tally.has_tools = self.tally.has_tools or has_tools(item.payload)
                digest = digests.content(plain)
                if digest in prepared:
                    continue
                subject = digest if item.subject is None else digests.subject(item.subject)
                unit = subject if item.group is None else digests.group(item.group)
                declared = item.group if item.group in SPLITS else None
                prepared[digest] = _Prepared(item.line, digest, plain, subject, unit, declared)
            yield len(batch), prepared

    def _store(self, batch: dict[bytes, _Prepared]) -> None:
        """Stores what the version does not hold yet. Whether it does is asked only once a batch was refused for it."""
        if not self._has_repeats:
            try:
                with transaction.atomic():
                    self._seal_batch(list(batch.values()))
            except psycopg.errors.UniqueViolation:
                self._has_repeats = True
            else:
                return
        for known in self._known_digests(batch):
            del batch[known]
        self._seal_batch(list(batch.values()))

    def _seal_batch(self, fresh: list[_Prepared]) -> None:
        keys = self._subject_keys(fresh)
        version, first = str(self._version_id), self.tally.records + 1
        rows = []
        for ordinal, record in enumerate(fresh, first):
            subject_id, cipher = keys[record.subject]
            sealed = cipher.encrypt(record.plain, record_context(version, ordinal))
            rows.append((subject_id, ordinal, record.line, record.digest, sealed))
        copy_records(self._version_id, rows)
        self.tally.records += len(fresh)
        self._content.update(b"".join([record.digest for record in fresh]))

    def _known_digests(self, digests: Iterable[bytes]) -> list[bytes]:
        """Those that are in the version already."""
        query = "SELECT digest FROM datasets_record WHERE version_id = %s AND digest = ANY(%b)"
        return [digest for (digest,) in _select(query, self._version_id, list(digests))]

    def _subject_keys(self, fresh: list[_Prepared]) -> dict[bytes, tuple[int, RecordCipher]]:
        """Subject digest → (row id, cipher); makes rows and keys for people not met before."""
        first = {record.subject: record for record in reversed(fresh)}
        # A record that names nobody is its own subject, new unless an earlier version of the dataset held it.
        may_be_known = [digest for digest, record in first.items() if digest != record.digest or not self._is_first]
        keys: dict[bytes, tuple[int, RecordCipher]] = dict(self._known_subjects(may_be_known))
        missing = [record for digest, record in first.items() if digest not in keys]
        rows = []
        for subject_id, record in zip(self._new_ids(len(missing)), missing, strict=True):
            secret, digest = new_key(), record.subject
            wrapped = wrap_key(self._dataset_key, secret, subject_wrap_context(self._dataset_id, digest))
            rows.append((subject_id, digest, record.unit, record.declared_split, wrapped))
            keys[digest] = (subject_id, RecordCipher(secret))
        copy_subjects(self._dataset_id, rows)
        return keys

    def _new_ids(self, count: int) -> list[int]:
        query = "SELECT nextval(pg_get_serial_sequence('datasets_subject', 'id')) FROM generate_series(1, %s)"
        return [number for (number,) in _select(query, count)]

    def _known_subjects(self, digests: list[bytes]) -> Iterator[tuple[bytes, tuple[int, RecordCipher]]]:
        query = "SELECT id, digest, wrapped FROM datasets_subject WHERE dataset_id = %s AND digest = ANY(%b)"
        for subject_id, digest, wrapped in _select(query, self._dataset_id, digests) if digests else ():
            if wrapped is None:
                raise SubjectShredded
            secret = unwrap_key(self._dataset_key, wrapped, subject_wrap_context(self._dataset_id, digest))
            yield digest, (subject_id, RecordCipher(secret))


def _select(query: str, *parameters: Any) -> list[tuple[Any, ...]]:
    """Rows in PostgreSQL's binary form: Django's cursors write thousands of digests into the statement as text."""
    connection.ensure_connection()
    with psycopg.Cursor(connection.connection) as cursor:
        return cursor.execute(query.encode(), parameters, binary=True).fetchall()


def _ahead(source: Iterator[T]) -> Generator[T, None, None]:
    """The same items, the next one being made in a thread while the caller works on this one."""
    with ThreadPoolExecutor(1, "import") as thread:
        coming = thread.submit(next, source, None)
        while (item := coming.result()) is not None:
            coming = thread.submit(next, source, None)
            yield item


class SubjectShredded(Exception):
    """The file holds records of a person who was erased from this dataset."""
