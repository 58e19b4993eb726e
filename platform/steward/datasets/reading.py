"""Reading records back: raw or redacted, decrypted in memory, in a stream.

Guarantees that a shredded subject's records are passed over and counted, never guessed. Callers are actions or jobs;
a person's look at raw text goes through `actions.reveal_record`.
"""

import base64
import hmac
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from compliance.vault import RecordCipher, unwrap_key
from steward.datasets.models import DatasetVersion, Record, RedactedRecord, RedactionRun
from steward.datasets.redaction_work import original_context
from steward.datasets.sealing import record_context, redacted_context, subject_wrap_context
from steward.vault.keys import open_key

CHUNK_ROWS = 1_000


@dataclass(frozen=True, slots=True)
class OpenRecord:
    """A record in the clear, with what is needed to seal something beside it. `subject` is the keyed digest (hex).

    `person_id` is the subject's row; `originals_key` seals single originals, see `RecordReader.original`.
    """

    record_id: int
    ordinal: int
    split: str
    person_id: int
    subject: str
    payload: dict[str, Any]
    cipher: RecordCipher
    originals_key: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class OpenRedacted:
    """A redacted record in the clear: the payload as it will be trained on, and of each text what was found in it.

    `privileged` holds the likely privileged passages of each text, as `redaction_work.passages_of` makes them.
    """

    record_id: int
    subject_id: int
    ordinal: int
    split: str
    payload: dict[str, Any]
    findings: list[list[dict[str, Any]]]
    privileged: list[list[dict[str, Any]]]


def originals_key(secret: bytes) -> bytes:
    """The key of single sealed originals, from the subject's: it opens no record, and dies with the subject's key."""
    return hmac.digest(secret, b"steward/originals", "sha256")


class RecordReader:
    """Decrypts the records of one version; holds the dataset's key while it lives."""

    def __init__(self, version: DatasetVersion) -> None:
        self._version = version
        self._dataset_key = open_key(version.dataset.key)
        self.shredded = 0

    def cipher(self, subject_digest: bytes, wrapped: bytes) -> RecordCipher:
        return RecordCipher(self._secret(subject_digest, wrapped))

    def _secret(self, subject_digest: bytes, wrapped: bytes) -> bytes:
        return unwrap_key(self._dataset_key, wrapped, subject_wrap_context(self._version.dataset_id, subject_digest))

    def raw(self, after: int = 0) -> Iterator[OpenRecord]:
        """Raw records in order, from the one after ordinal `after`."""
        rows = Record.objects.filter(version=self._version, ordinal__gt=after).select_related("subject")
        for row in rows.order_by("ordinal").iterator(chunk_size=CHUNK_ROWS):
            if row.subject.wrapped is None:
                self.shredded += 1
                continue
            yield self._open_raw(row)

    def raw_rows(self, keys: Sequence[int]) -> Iterator[OpenRecord]:
        """The raw records with these row numbers, person by person."""
        rows = Record.objects.filter(version=self._version, pk__in=keys).select_related("subject")
        for row in rows.order_by("subject_id", "ordinal"):
            if row.subject.wrapped is None:
                self.shredded += 1
                continue
            yield self._open_raw(row)

    def _open_raw(self, row: Record) -> OpenRecord:
        secret = self._secret(bytes(row.subject.digest), bytes(row.subject.wrapped))
        cipher = RecordCipher(secret)
        plain = cipher.decrypt(bytes(row.ciphertext), record_context(row.version_id, row.ordinal))
        return OpenRecord(
            row.pk,
            row.ordinal,
            row.subject.split or "train",
            row.subject_id,
            bytes(row.subject.digest).hex(),
            json.loads(plain),
            cipher,
            originals_key(secret),
        )

    def raw_one(self, ordinal: int) -> OpenRecord:
        """One raw record. Raises Record.DoesNotExist if it is not there or was shredded."""
        row = Record.objects.select_related("subject").get(
            version=self._version, ordinal=ordinal, subject__wrapped__isnull=False
        )
        return self._open_raw(row)

    def redacted(
        self,
        run: RedactionRun,
        *,
        split: str | None = None,
        ordinals: list[int] | None = None,
        is_for_training: bool = False,
    ) -> Iterator[OpenRedacted]:
        """Redacted records in order, of one split or of the ordinals named, or all.

        Args:
            is_for_training: pass over what is held back as privileged.
        """
        rows = RedactedRecord.objects.filter(run=run).select_related("record__subject").order_by("ordinal")
        if is_for_training:
            rows = rows.trainable()
        if split is not None:
            rows = rows.filter(record__subject__split=split)
        if ordinals is not None:
            rows = rows.filter(ordinal__in=ordinals)
        for row in rows.iterator(chunk_size=CHUNK_ROWS):
            subject = row.record.subject
            if subject.wrapped is None:
                self.shredded += 1
                continue
            sealed = self._open_redacted(row)
            payload, findings = sealed["payload"], sealed["findings"]
            privileged = sealed.get("privileged") or [[] for _ in findings]
            place = (row.record_id, subject.pk, row.ordinal, subject.split or "train")
            yield OpenRedacted(*place, payload, findings, privileged)

    def _open_redacted(self, row: RedactedRecord) -> dict[str, Any]:
        subject = row.record.subject
        cipher = self.cipher(bytes(subject.digest), bytes(subject.wrapped))
        sealed = cipher.decrypt(bytes(row.ciphertext), redacted_context(row.run_id, row.ordinal))
        return dict(json.loads(sealed))

    def original(self, row: RedactedRecord, slot: int, number: int) -> tuple[str, str]:
        """What stood in the place of one finding, and its type, where the profile had it sealed.

        Args:
            row: a record whose person is not erased.
            slot: which text of the record, from 0.
            number: which finding of the text, from 0.

        Raises:
            LookupError: there is no such finding, or its original was not sealed.
        """
        opened = self._open_redacted(row)
        sealed = {(each[0], each[1]): each[2] for each in opened.get("originals", ())}[slot, number]
        finding = opened["findings"][slot][number]
        subject = row.record.subject
        key = originals_key(self._secret(bytes(subject.digest), bytes(subject.wrapped)))
        context = original_context(redacted_context(row.run_id, row.ordinal), slot, finding)
        plain = RecordCipher(key).decrypt(base64.b64decode(sealed), context)
        return plain.decode("utf-8", "surrogatepass"), finding["type"]
