"""The redaction job: detects and replaces identifiers in every record of a version, on all cores.

Guarantees fail closed: one record that cannot be redacted fails the whole run and nothing of it is used. What one
record of a person gives away is found in all of that person's records of the version. A process that is killed is
replaced; a killed job goes on behind its last stored batch. Plaintext passes between processes over pipes, never over
files. Memory grows neither with the version nor with a person's records.
"""

import contextlib
import hmac
import json
import os
from collections import Counter
from collections.abc import Iterator
from typing import Any

from django.db import connection, transaction

from compliance.redaction import RedactionError
from domains.packs import load_pack
from steward.audit.actor import Actor, Refused
from steward.datasets import actions
from steward.datasets.labelled_spans import carried
from steward.datasets.models import RedactionRun, RedactionState
from steward.datasets.people import Batch, PeopleReader
from steward.datasets.privilege import digest_of, privilege_key
from steward.datasets.processes import Inline, InOrder, Processes
from steward.datasets.reading import OpenRecord
from steward.datasets.redaction_work import (
    Examined,
    Known,
    RecordTexts,
    RedactedTexts,
    all_known,
    learn_batch,
    redact_batch,
)
from steward.datasets.sealing import redacted_context
from steward.datasets.texts import ClosedLabels, texts, with_slots
from steward.profiles.composing import EffectiveProfile, recomposed
from steward.recovery import CONNECTION_LOST, unforeseen
from steward.vault.keys import open_key

WORKER = Actor.system("worker")
BATCH_RECORDS = 200
INLINE_BELOW_RECORDS = 2_000


def redact_version(run_id: str) -> RedactionRun:
    """Carries out a redaction run, going on after the last stored batch; does nothing if the run is over."""
    run = RedactionRun.objects.select_related("version__dataset__key", "version__dataset__workspace").get(pk=run_id)
    if run.state != RedactionState.RUNNING:
        return run
    try:
        _fill(run)
    except RedactionError as error:
        return actions.fail_redaction(actor=WORKER, run=run, code=type(error).__name__, message=str(error))
    except CONNECTION_LOST:
        raise
    except Exception as error:
        actions.fail_redaction(actor=WORKER, run=run, code=type(error).__name__, message=unforeseen(error))
        raise
    return actions.finish_redaction(actor=WORKER, run=run)


def _fill(run: RedactionRun) -> None:
    if run.last_ordinal and not run.last_person:
        raise RedactionError("An older Steward began this redaction in another order. Start the redaction again.")
    profile = profile_of(run)
    dataset = run.version.dataset
    closed = ClosedLabels(load_pack(dataset.workspace.domain), dataset.workflow)
    with contextlib.ExitStack() as stack:
        processes: InOrder = Inline()
        if run.version.record_count >= INLINE_BELOW_RECORDS:
            processes = stack.enter_context(Processes(os.cpu_count() or 1))
        for batch, done in processes.in_order(redact_batch, _tasks(run, profile, closed, processes)):
            _store(run, batch.records, done)


def profile_of(run: RedactionRun) -> EffectiveProfile:
    """The profile that was asked for, lists included.

    Raises:
        RedactionError: it cannot be composed again as it was.
    """
    try:
        used = recomposed(run.workspace, run.profile, run.profile_version, run.list_entries)
    except Refused as error:
        raise RedactionError(str(error)) from None
    if used.digest != run.profile_digest:
        raise RedactionError("The redaction profile changed after the run was asked for. Start the redaction again.")
    return used


def redaction_key(run: RedactionRun) -> bytes:
    """The key of surrogates, hashes and date shifts: one for each dataset, so that a person keeps their surrogate."""
    return hmac.digest(open_key(run.version.dataset.key), b"steward/redaction", "sha256")


def _tasks(
    run: RedactionRun, profile: EffectiveProfile, closed: ClosedLabels, processes: InOrder
) -> Iterator[tuple[Batch, tuple[Any, ...]]]:
    """Batches behind the last stored one. Of a person with more records than fit into one, all are looked at before."""
    reader, key = PeopleReader(run.version, BATCH_RECORDS), redaction_key(run)
    is_reversible = profile.profile.is_reversible
    known: tuple[int, Known] | None = None
    for batch in reader.batches(after=(run.last_person, run.last_ordinal)):
        if batch.crowded is not None and profile.profile.memory and (known is None or known[0] != batch.crowded):
            lessons = (
                (None, (profile.data, _texts(run, each, closed, is_reversible=False)))
                for each in reader.all_of(batch.crowded)
            )
            known = batch.crowded, all_known(part for _, part in processes.in_order(learn_batch, lessons))
        own = known[1] if known is not None and known[0] == batch.crowded else None
        yield batch, (profile.data, key, _texts(run, batch, closed, is_reversible=is_reversible), own)


def _texts(run: RedactionRun, batch: Batch, closed: ClosedLabels, *, is_reversible: bool) -> list[RecordTexts]:
    return [
        RecordTexts(
            record.subject,
            tuple(
                Examined(text.value, is_label, text.read_as)
                for text, is_label in zip(texts(record.payload), closed.of(record.payload), strict=True)
            ),
            record.originals_key if is_reversible else None,
            redacted_context(run.pk, record.ordinal),
        )
        for record in batch.records
    ]


def _store(run: RedactionRun, batch: list[OpenRecord], done: list[RedactedTexts]) -> None:
    """Stores a batch and the run's progress together, so that a killed job goes on behind it."""
    counts = Counter(run.counts_by_type)
    columns = "run_id,record_id,ordinal,finding_count,is_doubtful,is_privileged,passages_digest,ciphertext"
    key = privilege_key(run.version.dataset)
    with transaction.atomic():
        with connection.cursor() as cursor, cursor.copy(f"COPY datasets_redactedrecord ({columns}) FROM STDIN") as copy:
            for record, redacted in zip(batch, done, strict=True):
                counts.update(finding["type"] for each in redacted.findings for finding in each)
                payload = with_slots(record.payload, redacted.texts)
                if "spans" in payload:
                    payload["spans"] = carried(payload["spans"], redacted.findings[0])
                    run.set_aside_count += payload["spans"] is None
                kept: dict[str, Any] = {"payload": payload, "findings": redacted.findings}
                digest = digest_of(key, record.record_id, redacted.privileged)
                if digest:
                    kept["privileged"] = redacted.privileged
                if redacted.originals:
                    kept["originals"] = redacted.originals
                plain = json.dumps(kept, ensure_ascii=False).encode()
                sealed = record.cipher.encrypt(plain, redacted_context(run.pk, record.ordinal))
                total = sum(len(each) for each in redacted.findings)
                place = (run.pk, record.record_id, record.ordinal)
                copy.write_row((*place, total, redacted.is_doubtful, bool(digest), digest, sealed))
        run.counts_by_type = dict(counts)
        run.finding_count = counts.total()
        run.done_count += len(batch)
        run.last_person, run.last_ordinal = batch[-1].person_id, batch[-1].ordinal
        progress = ["counts_by_type", "finding_count", "set_aside_count", "done_count", "last_person", "last_ordinal"]
        run.save(update_fields=progress)
