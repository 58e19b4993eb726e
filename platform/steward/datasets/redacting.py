"""The redaction job: detects and replaces identifiers in every record of a version, on all cores.

Guarantees fail closed: one record that cannot be redacted fails the whole run and nothing of it is used. Plaintext
passes between processes over pipes, never over files.
"""

import hmac
import json
import os
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from dataclasses import dataclass
from itertools import islice
from multiprocessing import get_context
from typing import Any

from django.db import connection, transaction

from compliance.redaction import (
    Detector,
    Finding,
    Profile,
    RedactionError,
    detect_subject,
    privileged_passages,
    redact,
)
from compliance.redaction.profile import parse_profile
from domains.packs import load_pack
from steward.audit.actor import Actor, Refused
from steward.datasets import actions
from steward.datasets.models import RedactionRun, RedactionState
from steward.datasets.privilege import digest_of, passages_of, privilege_key
from steward.datasets.reading import OpenRecord, RecordReader
from steward.datasets.sealing import redacted_context
from steward.datasets.shapes import ClosedLabels, slots, with_slots
from steward.profiles.composing import EffectiveProfile, recomposed
from steward.recovery import CONNECTION_LOST, unforeseen
from steward.vault.keys import open_key

WORKER = Actor.system("worker")
BATCH_RECORDS = 200
INLINE_BELOW_RECORDS = 2_000
DOUBTFUL_MARGIN = 0.1

# A record's subject and its texts, each with whether it is a label that stays as it is.
Texts = tuple[str, list[tuple[str, bool]]]

# A profile as plain data: what crosses to other processes, over pipes like the texts.
Plain = dict[str, Any]

_detector: Detector | None = None
_loaded: Plain | None = None


@dataclass(frozen=True, slots=True)
class RedactedTexts:
    """One record's texts after redaction, with the findings and the likely privileged passages of each."""

    texts: list[str]
    findings: list[list[dict[str, Any]]]
    is_doubtful: bool
    privileged: list[list[dict[str, Any]]]


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
    profile = profile_of(run).data
    key = redaction_key(run)
    dataset = run.version.dataset
    closed = ClosedLabels(load_pack(dataset.workspace.domain), dataset.workflow)
    records = RecordReader(run.version).raw(after=run.last_ordinal)
    if run.version.record_count < INLINE_BELOW_RECORDS:
        while batch := list(islice(records, BATCH_RECORDS)):
            _store(run, batch, _redact_batch(profile, key, _texts(batch, closed)))
        return
    workers = os.cpu_count()
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn"), initializer=_load, initargs=(profile,)) as pool:
        for batch, done in _in_order(pool, records, profile, key, closed):
            _store(run, batch, done.result())


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


def _texts(batch: list[OpenRecord], closed: ClosedLabels) -> list[Texts]:
    return [
        (record.subject, list(zip(slots(record.payload), closed.of(record.payload), strict=True))) for record in batch
    ]


def _in_order(
    pool: Executor, records: Iterator[OpenRecord], profile: Plain, key: bytes, closed: ClosedLabels
) -> Iterator[tuple[list[OpenRecord], "Future[list[RedactedTexts]]"]]:
    """Keeps a few batches in flight, so that memory stays flat and results come in order."""
    waiting: list[tuple[list[OpenRecord], Future[list[RedactedTexts]]]] = []
    while batch := list(islice(records, BATCH_RECORDS)):
        waiting.append((batch, pool.submit(_redact_batch, profile, key, _texts(batch, closed))))
        if len(waiting) > 2 * (os.cpu_count() or 1):
            yield waiting.pop(0)
    yield from waiting


def _load(profile: Plain) -> None:
    global _detector, _loaded
    _detector, _loaded = Detector(parse_profile(profile)), profile


def _redact_batch(profile: Plain, key: bytes, batch: list[Texts]) -> list[RedactedTexts]:
    if _detector is None or _loaded != profile:
        _load(profile)
    assert _detector is not None
    detector, profile = _detector, _detector.profile
    return [
        _redact_texts(profile, key, subject, texts, found)
        for (subject, texts), found in zip(batch, _found(detector, batch), strict=True)
    ]


def _found(detector: Detector, batch: list[Texts]) -> list[list[list[Finding]]]:
    """Findings of every text of every record; what one text of a subject gives away is found in all of the batch.

    A batch begins behind the last stored ordinal and has a fixed size, so a restarted run sees the same batches.
    """
    places: dict[str, list[tuple[int, int]]] = {}
    found: list[list[list[Finding]]] = [[[] for _ in texts] for _, texts in batch]
    for record, (subject, texts) in enumerate(batch):
        places.setdefault(subject, []).extend((record, i) for i, (_, is_label) in enumerate(texts) if not is_label)
    for own in places.values():
        for (record, i), findings in zip(
            own, detect_subject(detector, [batch[r][1][j][0] for r, j in own]), strict=True
        ):
            found[record][i] = findings
    return found


def _redact_texts(
    profile: Profile, key: bytes, subject: str, texts: list[tuple[str, bool]], found: list[list[Finding]]
) -> RedactedTexts:
    outcomes = [
        redact(text, findings, profile=profile, key=key, subject=subject)
        for (text, _), findings in zip(texts, found, strict=True)
    ]
    findings = [[finding.to_json() for finding in outcome.findings] for outcome in outcomes]
    is_doubtful = any(_is_close(finding, profile) for each in findings for finding in each)
    privileged = [
        [] if is_label else passages_of(privileged_passages(text, profile), own)
        for (text, is_label), own in zip(texts, findings, strict=True)
    ]
    return RedactedTexts([outcome.text for outcome in outcomes], findings, is_doubtful, privileged)


def _is_close(finding: dict[str, Any], profile: Profile) -> bool:
    """Whether a finding only just reached the threshold of its type."""
    policy = profile.entities.get(finding["type"])
    return bool(finding["score"] < (policy.threshold if policy else 0.5) + DOUBTFUL_MARGIN)


def _store(run: RedactionRun, batch: list[OpenRecord], done: list[RedactedTexts]) -> None:
    """Stores a batch and the run's progress together, so that a killed job goes on behind it."""
    counts = Counter(run.counts_by_type)
    columns = "run_id,record_id,ordinal,finding_count,is_doubtful,is_privileged,passages_digest,ciphertext"
    key = privilege_key(run.version.dataset)
    with transaction.atomic():
        with connection.cursor() as cursor, cursor.copy(f"COPY datasets_redactedrecord ({columns}) FROM STDIN") as copy:
            for record, redacted in zip(batch, done, strict=True):
                counts.update(finding["type"] for each in redacted.findings for finding in each)
                kept: dict[str, Any] = {"payload": with_slots(record.payload, redacted.texts)}
                kept["findings"] = redacted.findings
                digest = digest_of(key, record.record_id, redacted.privileged)
                if digest:
                    kept["privileged"] = redacted.privileged
                plain = json.dumps(kept, ensure_ascii=False).encode()
                sealed = record.cipher.encrypt(plain, redacted_context(run.pk, record.ordinal))
                total = sum(len(each) for each in redacted.findings)
                place = (run.pk, record.record_id, record.ordinal)
                copy.write_row((*place, total, redacted.is_doubtful, bool(digest), digest, sealed))
        run.counts_by_type = dict(counts)
        run.finding_count = counts.total()
        run.done_count += len(batch)
        run.last_ordinal = batch[-1].ordinal
        run.save(update_fields=["counts_by_type", "finding_count", "done_count", "last_ordinal"])
