"""Everything that changes datasets, from an upload to an approved version."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence

from django.db.models import Max
from django.utils import timezone

from compliance.canonical import canonical_json, sha256_digest
from compliance.vault import keyed_digest
from domains.packs import load_pack
from steward.accounts.models import Workspace
from steward.accounts.permissions import can, require
from steward.accounts.roles import Permission
from steward.audit.actor import Actor, Denied, Refused
from steward.audit.events import Event
from steward.audit.recording import audited, record
from steward.datasets import sampling, verdicts
from steward.datasets.formats import ImportedBefore, ImportProblems, Problems
from steward.datasets.limits import limits_of
from steward.datasets.models import (
    Dataset,
    DatasetVersion,
    Reading,
    Record,
    RedactionRun,
    RedactionState,
    SampleItem,
    SpanFault,
    SpanLabel,
    Verdict,
    VersionState,
)
from steward.datasets.privilege import is_screened, refuse_undecided, shown_to
from steward.datasets.reading import OpenRecord, RecordReader
from steward.datasets.readings import give_reading, lock_item
from steward.datasets.residual import UNSPECIFIED, residual_risk
from steward.datasets.sealing import RecordSealer
from steward.datasets.shapes import ColumnMapping
from steward.datasets.signals import trainable_records_changed
from steward.datasets.spans import MarkedSpan, SpanSealer
from steward.datasets.splitting import assign_splits
from steward.profiles.composing import effective_profile
from steward.vault.keys import make_key, open_key
from steward.vault.models import KeyLevel, SealedObject
from steward.vault.objects import destroy_object

REVEAL_REASONS = ("redaction_preview", "incident", "subject_request")


@audited(Event.DATASET_CREATED)
def create_dataset(*, actor: Actor, workspace: Workspace, name: str, purpose: str, workflow: str = "") -> Dataset:
    """Makes an empty dataset with its own key.

    Args:
        workflow: a workflow of the workspace's domain pack, or empty (also `conversations`) for chat-shaped data.
        purpose: what the data may be used for; asked for by GDPR article 5(1)(b).

    Raises:
        Refused: the name is taken or blank, the purpose is blank, or the pack has no such workflow.
    """
    require(actor, Permission.IMPORT_DATA, workspace)
    if not name.strip() or not purpose.strip():
        raise Refused(
            "Give the dataset a name and say what it may be used for.", code="name_missing", subject=workspace
        )
    if Dataset.objects.filter(workspace=workspace, name=name).exists():
        raise Refused(
            f"A dataset named {name!r} exists here. Choose another name.", code="name_taken", subject=workspace
        )
    pack = load_pack(workspace.domain)
    if workflow == pack.conversations.name:  # whose records have no fields to map
        workflow = ""
    known = [each.name for each in pack.workflows]
    if workflow and workflow not in known:
        raise Refused(f"No workflow {workflow!r}. This domain has: {', '.join(known)}.", code="workflow_unknown")
    dataset = Dataset(
        workspace=workspace,
        name=name,
        purpose=purpose,
        workflow=workflow,
        key=make_key(workspace, KeyLevel.DATASET),
        created_by_id=actor.user_id,
    )
    dataset.save(force_insert=True)
    record(dataset, workflow=workflow or "none")
    return dataset


@audited(Event.VERSION_UPLOADED)
def add_version(
    *,
    actor: Actor,
    dataset: Dataset,
    source: SealedObject,
    source_format: str,
    source_sha256: bytes,
    mapping: ColumnMapping,
) -> DatasetVersion:
    """Takes a sealed upload as the next version and queues its import.

    Args:
        source: the upload, sealed by `vault.objects.ObjectWriter`, not yet saved.
        source_sha256: SHA-256 of the plaintext; kept as a keyed digest, so that a repeated upload is noticed.

    Raises:
        Refused: the very same file was imported into this dataset before.
    """
    from steward.datasets.jobs import import_version

    require(actor, Permission.IMPORT_DATA, dataset.workspace)
    Dataset.objects.select_for_update().get(pk=dataset.pk)  # one version number at a time
    versions = DatasetVersion.objects.filter(dataset=dataset)
    digest = keyed_digest(open_key(dataset.key), source_sha256)
    repeated = (
        versions.filter(source_digest=digest, mapping=mapping.as_json()).exclude(state=VersionState.FAILED).first()
    )
    if repeated is not None:
        raise Refused(
            f"This file was imported before, as {repeated}. Nothing was changed.",
            code="duplicate_upload",
            subject=repeated,
        )
    source.save(force_insert=True)
    version = DatasetVersion(
        workspace=dataset.workspace,
        dataset=dataset,
        number=(versions.aggregate(Max("number"))["number__max"] or 0) + 1,
        source=source,
        source_format=source_format,
        source_digest=digest,
        mapping=mapping.as_json(),
        shape=mapping.shape,
        imported_by_id=actor.user_id,
    )
    version.save(force_insert=True)
    record(version, bytes=source.plain_bytes, format=source_format, source=source.sealed_sha256)
    import_version.configure(lock=str(version.pk)).defer(version_id=str(version.pk))
    return version


@audited(Event.VERSION_IMPORTED)
def finish_import(
    *, actor: Actor, version: DatasetVersion, fill: Callable[[RecordSealer], None], problems: Problems
) -> DatasetVersion:
    """Seals every record of the version, or none.

    Args:
        fill: hands all parsed rows to the sealer and reports what is wrong to `problems`.

    Raises:
        ImportProblems: something was wrong; everything is rolled back.
        ImportedBefore: another process was faster.
    """
    locked = DatasetVersion.objects.select_for_update().select_related("dataset__key").get(pk=version.pk)
    if locked.state != VersionState.IMPORTING:
        raise ImportedBefore(f"{locked} was imported before.", code="already_imported", subject=locked)
    sealer = RecordSealer(locked)
    fill(sealer)
    if problems.count:
        raise ImportProblems
    locked.split_counts = assign_splits(locked)
    locked.record_count = sealer.tally.records
    locked.duplicate_count = sealer.tally.duplicates
    locked.has_tools = sealer.tally.has_tools
    locked.subject_count = Record.objects.filter(version=locked).values("subject").distinct().count()
    locked.content_digest = sealer.content_digest
    locked.imported_at = timezone.now()
    locked.state = VersionState.IMPORTED
    locked.save()
    record(
        locked,
        after=locked.content_digest,
        records=locked.record_count,
        duplicates=locked.duplicate_count,
        subjects=locked.subject_count,
        **locked.split_counts,
    )
    return locked


@audited(Event.VERSION_FAILED)
def fail_import(*, actor: Actor, version: DatasetVersion, problems: Problems) -> DatasetVersion:
    """Marks the import as failed and keeps the list of problems; the sealed upload is destroyed.

    Raises:
        ImportedBefore: another process was faster.
    """
    locked = DatasetVersion.objects.select_for_update().get(pk=version.pk)
    if locked.state != VersionState.IMPORTING:
        raise ImportedBefore(f"{locked} was imported before.", code="already_imported", subject=locked)
    locked.state = VersionState.FAILED
    locked.problems = [problem.as_json() for problem in problems.kept]
    locked.problem_count = problems.count
    locked.save()
    destroy_object(locked.source)
    record(locked, errors=problems.count, code=problems.kept[0].code)
    return locked


@audited(Event.REDACTION_STARTED)
def start_redaction(*, actor: Actor, version: DatasetVersion, profile: str | None = None) -> RedactionRun:
    """Queues a redaction of the version with the workspace's profile in force: approved version, approved lists.

    Args:
        profile: name of a shipped profile; by default the domain's.

    Raises:
        Refused: the version is not imported, was decided on already, or is being redacted, or the profile is unknown,
            was changed under the workspace's version of it, or leaves out the domain's screen for privilege.
    """
    from steward.datasets.jobs import redact_version

    require(actor, Permission.REDACT_DATA, version.workspace, version)
    locked = DatasetVersion.objects.select_for_update().get(pk=version.pk)
    if locked.state not in (VersionState.IMPORTED, VersionState.REDACTED):
        raise Refused(
            f"{locked} is {locked.get_state_display().lower()}; only an imported version can be redacted.",
            code="wrong_state",
            subject=locked,
        )
    if RedactionRun.objects.filter(version=locked, state=RedactionState.RUNNING).exists():
        raise Refused(
            f"{locked} is being redacted already. Wait for it to end.", code="already_running", subject=locked
        )
    usual = effective_profile(version.workspace, load_pack(version.workspace.domain).redaction_profile)
    used = effective_profile(version.workspace, profile) if profile else usual
    if is_screened(usual.profile) and not is_screened(used.profile):
        raise Refused(
            f"The profile {used.profile.name} does not screen for privilege, which this domain asks for.",
            code="screen_missing",
            subject=locked,
        )
    run = RedactionRun(
        workspace=version.workspace,
        version=locked,
        profile=used.profile.name,
        profile_version=used.version,
        policy_digest=used.policy_digest,
        profile_digest=used.digest,
        list_entries=list(used.entry_ids),
        requested_by_id=actor.user_id,
    )
    run.save(force_insert=True)
    number = used.version.number if used.version else 0
    record(run, profile=used.digest, profile_version=number, phrases=len(used.entry_ids))
    redact_version.configure(lock=str(run.pk)).defer(run_id=str(run.pk))
    return run


@audited(Event.REDACTION_FINISHED)
def finish_redaction(*, actor: Actor, run: RedactionRun) -> RedactionRun:
    """Makes the run the version's redaction, once every record went through it.

    Raises:
        Refused: a record is missing; the run fails closed.
    """
    from steward.datasets.jobs import compare_runs

    locked = RedactionRun.objects.select_for_update().get(pk=run.pk)
    version = DatasetVersion.objects.select_for_update().get(pk=run.version_id)
    living = Record.objects.filter(version=version, subject__wrapped__isnull=False).count()
    if locked.records.count() < living:
        raise Refused("Not every record was redacted; the run cannot be used.", code="incomplete", subject=locked)
    earlier = version.redaction_id
    locked.state = RedactionState.DONE
    locked.finished_at = timezone.now()
    locked.doubtful_count = locked.records.filter(is_doubtful=True).count()
    locked.privileged_count = locked.records.filter(is_privileged=True).count()
    locked.save(update_fields=["state", "finished_at", "doubtful_count", "privileged_count"])
    version.redaction = locked
    version.state = VersionState.REDACTED
    version.save(update_fields=["redaction", "state"])
    record(
        locked,
        records=locked.done_count,
        findings=locked.finding_count,
        profile=locked.profile_digest,
        privileged=locked.privileged_count,
    )
    if earlier is not None:
        compare_runs.configure(lock=str(locked.pk)).defer(before_id=str(earlier), after_id=str(locked.pk))
    return locked


@audited(Event.REDACTION_FAILED)
def fail_redaction(*, actor: Actor, run: RedactionRun, code: str, message: str) -> RedactionRun:
    """Ends a run that could not redact a record. The version stays as it was."""
    locked = RedactionRun.objects.select_for_update().get(pk=run.pk)
    locked.state = RedactionState.FAILED
    locked.failure = message[:300]
    locked.finished_at = timezone.now()
    locked.save(update_fields=["state", "failure", "finished_at"])
    record(locked, code=code)
    return locked


@audited(Event.SAMPLE_DRAWN)
def draw_sample(*, actor: Actor, run: RedactionRun, size: int | None = None) -> int:
    """Draws records for review at random, beyond those drawn before, more from the doubtful ones.

    Args:
        size: how many more; by default what the policy's bound still needs if nothing more is missed.

    Returns:
        How many were added.

    Raises:
        Refused: the run is not done, privileged records are not decided on, or every record was drawn already.
    """
    require(actor, Permission.REVIEW_SAMPLE, run.workspace, run)
    locked = RedactionRun.objects.select_for_update().get(pk=run.pk)
    if locked.state != RedactionState.DONE:
        raise Refused("A sample can be drawn once the redaction is done.", code="wrong_state", subject=locked)
    refuse_undecided(locked, "The sample is drawn from what may be trained on.")
    second_percent = run.workspace.rules["second_review_percent"]
    wanted = residual_risk(locked).to_draw if size is None else size
    added = sampling.draw(locked, wanted, second_percent)
    if not added.size:
        raise Refused(
            "No record is left to draw, or the sample is large enough.", code="sample_complete", subject=locked
        )
    record(locked, size=added.size, doubtful=added.doubtful, read_twice=added.read_twice, round=added.round)
    return added.size


@audited(Event.SAMPLE_REVIEWED)
def review_item(
    *,
    actor: Actor,
    item: SampleItem,
    verdict: Verdict,
    missed_count: int = 0,
    missed_types: Mapping[str, int] | None = None,
    spans: Sequence[MarkedSpan] = (),
) -> SampleItem:
    """Records a reviewer's verdict on one sampled record: the first reading, or the blind second one if it wants one.

    Args:
        missed_count: identifiers that were missed, of no type in particular.
        missed_types: how many of each entity type were missed.
        spans: what was marked in the text; missed spans count by their types, beside the two above.

    Raises:
        Refused: the record wants no further reading or this person has read it, verdict and count do not fit, or a
            span does not fit the record.
    """
    require(actor, Permission.REVIEW_SAMPLE, item.workspace, item)
    locked = lock_item(item)
    shown_to(actor, locked.run, locked.redacted.ordinal)
    kind = verdicts.next_kind(locked)
    if kind is None or Reading.objects.standing().filter(item=locked, reviewer_id=actor.user_id).exists():
        raise Refused("This record was reviewed already.", code="already_reviewed", subject=locked)
    types = Counter(dict(missed_types or {}))
    types.update(span.entity_type for span in spans if span.fault == SpanFault.MISSED)
    if missed_count > 0:
        types[UNSPECIFIED] += missed_count
    reading = give_reading(actor, locked, kind, verdict, types)
    labels = SpanLabel.objects.bulk_create(SpanSealer(locked).seal(reading, spans)) if spans else []
    record(locked, verdict=str(reading.verdict), missed=types.total(), kind=str(kind), spans=len(labels))
    return locked


@audited(Event.DATASET_APPROVED)
def approve_version(*, actor: Actor, version: DatasetVersion, reason: str = "") -> DatasetVersion:
    """Lets a redacted version be trained on: by another person than the importer, with the residual risk in bounds.

    Raises:
        Denied: the actor imported the version.
        Refused: wrong state, too few verdicts, a bound above the policy's, privileged records not decided on, or a
            limit of the profile on re-identification that is not kept.
    """
    locked = _lock_for_decision(actor, version)
    if locked.redaction is None:
        raise Refused(f"{locked} is not redacted yet.", code="wrong_state", subject=locked)
    standing = refuse_undecided(locked.redaction)
    limits = limits_of(locked.redaction)
    if limits.problems:
        raise Refused(
            f"The profile's limits on re-identification are not kept: {'; '.join(limits.problems)}. Generalise "
            "or leave out a column, or redact again and measure.",
            code="reidentification",
            subject=locked,
        )
    risk = residual_risk(locked.redaction)
    if not risk.is_enough:
        raise Refused(
            f"The reviewed sample does not bear an approval: {risk.reviewed} of at least {risk.needed} records were "
            f"reviewed, {risk.missed} with a miss; at most {risk.bound_per_1000:.0f} in 1,000 records may hold one, "
            f"and the policy allows {risk.allowed_per_1000}. "
            f"{risk.second.given} of {risk.second.wanted} second readings were given. Review more records, or improve "
            "the profile and redact again.",
            code="residual_risk",
            subject=locked,
        )
    locked.residual = risk.as_json()
    _decide(locked, actor, VersionState.APPROVED, reason)
    record(
        locked,
        after=locked.content_digest,
        sample_size=risk.reviewed,
        missed=risk.missed,
        upper_bound_ppm=locked.residual["upper_bound_ppm"],
        policy=sha256_digest(canonical_json(locked.workspace.policy)),
        disagreements=risk.second.open_disagreements,
        withheld=standing.withheld,
    )
    trainable_records_changed.send(DatasetVersion, version=locked)
    return locked


@audited(Event.DATASET_REJECTED)
def reject_version(*, actor: Actor, version: DatasetVersion, reason: str) -> DatasetVersion:
    """Closes a version for good. A reason is asked for."""
    locked = _lock_for_decision(actor, version)
    if not reason.strip():
        raise Refused("Say why the version is rejected.", code="reason_missing", subject=locked)
    _decide(locked, actor, VersionState.REJECTED, reason)
    record(locked)
    return locked


def _lock_for_decision(actor: Actor, version: DatasetVersion) -> DatasetVersion:
    require(actor, Permission.APPROVE_DATASET, version.workspace, version)
    locked = DatasetVersion.objects.select_for_update().get(pk=version.pk)
    if locked.imported_by_id == actor.user_id:
        raise Denied(
            "You imported this version, so another compliance officer has to decide on it.",
            code="same_person",
            subject=locked,
        )
    if locked.state not in (VersionState.IMPORTED, VersionState.REDACTED):
        state = locked.get_state_display().lower()
        raise Refused(f"{locked} is {state}; there is nothing to decide.", code="wrong_state", subject=locked)
    return locked


def _decide(version: DatasetVersion, actor: Actor, state: VersionState, reason: str) -> None:
    version.state = state
    version.decided_by_id = actor.user_id
    version.decided_at = timezone.now()
    version.decision_reason = reason[:500]
    version.save()


@audited(Event.RECORD_REVEALED)
def reveal_record(*, actor: Actor, version: DatasetVersion, ordinal: int, reason: str) -> OpenRecord:
    """Shows one raw record to its importer or to an officer; that it was shown is recorded.

    What is held back as privileged is shown to officers only.

    Args:
        reason: a word of `REVEAL_REASONS`.

    Raises:
        Denied: neither the importer nor an officer, or the record is held back.
        Refused: an unknown reason, or no such record (it may have been shredded).
    """
    is_importer = version.imported_by_id == actor.user_id and can(actor, Permission.IMPORT_DATA, version.workspace)
    if not is_importer:
        require(actor, Permission.REVEAL_RECORD, version.workspace, version)
    if reason not in REVEAL_REASONS:
        raise Refused(f"Give a reason: {', '.join(REVEAL_REASONS)}.", code="reason_missing", subject=version)
    if version.redaction is not None:
        shown_to(actor, version.redaction, ordinal)
    try:
        opened = RecordReader(version).raw_one(ordinal)
    except Record.DoesNotExist:
        raise Refused(
            f"{version} has no readable record {ordinal}; it may have been shredded.", code="no_record", subject=version
        ) from None
    record(version, reason=reason)
    return opened
