"""An officer's decision on a record that looks privileged: to release it, or to leave it out of training for good.

Guarantees that the importer decides on none of his own and that a trigger says the same. The ledger gets ids, counts
and a keyed digest: never a word of the record, nor the reason.
"""

from steward.accounts.permissions import require
from steward.accounts.roles import Permission
from steward.audit.actor import Actor, Denied, Refused
from steward.audit.events import Event
from steward.audit.recording import audited, record
from steward.datasets.models import (
    DatasetVersion,
    PrivilegeDecision,
    PrivilegeKind,
    RedactedRecord,
    RedactionState,
    VersionState,
)
from steward.datasets.privilege import privilege_standing
from steward.datasets.reading import RecordReader
from steward.datasets.signals import trainable_records_changed


@audited(Event.PRIVILEGE_RELEASED)
def release_privileged(*, actor: Actor, redacted: RedactedRecord, reason: str) -> PrivilegeDecision:
    """Lets a record that looks privileged be trained on, as long as the passages are the ones that were found.

    Args:
        reason: why, without quoting the record; kept beside the decision.

    Raises:
        Denied: not an officer, or the one who imported the version.
        Refused: no reason, no longer the version's redaction, or decided before.
    """
    version = _lock(actor, redacted, reason)
    if version.state != VersionState.REDACTED or version.redaction_id != redacted.run_id:
        raise Refused(f"{version} does not wait for this decision any more.", code="wrong_state", subject=version)
    if not RedactedRecord.objects.filter(pk=redacted.pk).quarantined().exists():
        raise Refused("This record was decided on before.", code="already_decided", subject=version)
    return _decide(actor, version, redacted, PrivilegeKind.RELEASED, reason)


@audited(Event.PRIVILEGE_WITHHELD)
def withhold_privileged(*, actor: Actor, redacted: RedactedRecord, reason: str) -> PrivilegeDecision:
    """Leaves a record out of every training shard from now on, whatever a later redaction says of it.

    A released record can be withheld as well, also after the approval: that is the claw-back. What was trained on it
    meanwhile is not undone. Source: Fed. R. Evid. 502(b); Fed. R. Civ. P. 26(b)(5)(B).

    Raises:
        Denied: not an officer, or the one who imported the version.
        Refused: no reason, the redaction is not done, or withheld before.
    """
    version = _lock(actor, redacted, reason)
    if PrivilegeDecision.objects.filter(record=redacted.record_id, kind=PrivilegeKind.WITHHELD).exists():
        raise Refused("This record is withheld already.", code="already_decided", subject=version)
    decision = _decide(actor, version, redacted, PrivilegeKind.WITHHELD, reason)
    if version.state == VersionState.APPROVED:
        trainable_records_changed.send(DatasetVersion, version=version)
    return decision


def _lock(actor: Actor, redacted: RedactedRecord, reason: str) -> DatasetVersion:
    """The version of the record, once it is sure that this actor may decide and that there is something to decide."""
    version = redacted.run.version
    require(actor, Permission.APPROVE_DATASET, version.workspace, version)
    locked = DatasetVersion.objects.select_for_update().get(pk=version.pk)
    if actor.user_id is None or locked.imported_by_id == actor.user_id:
        raise Denied(
            "You imported this version, so another compliance officer has to decide on its privileged records.",
            code="same_person",
            subject=locked,
        )
    if not reason.strip():
        raise Refused("Say why, without quoting the record.", code="reason_missing", subject=locked)
    if not redacted.is_privileged or redacted.run.state != RedactionState.DONE:
        raise Refused("Nothing in this record waits for a decision on privilege.", code="wrong_state", subject=locked)
    return locked


def _decide(
    actor: Actor, version: DatasetVersion, redacted: RedactedRecord, kind: PrivilegeKind, reason: str
) -> PrivilegeDecision:
    opened = next(RecordReader(version).redacted(redacted.run, ordinals=[redacted.ordinal]), None)
    if opened is None:
        raise Refused("The person of this record was erased; it cannot be read again.", code="shredded")
    decision = PrivilegeDecision(
        workspace_id=version.workspace_id,
        record_id=redacted.record_id,
        redacted=redacted,
        kind=kind,
        passages_digest=redacted.passages_digest,
        reason=reason.strip()[:500],
        decided_by_id=actor.user_id,
    )
    decision.save(force_insert=True)
    record(
        decision,
        version=str(version.pk),
        ordinal=redacted.ordinal,
        passages=sum(len(passages) for passages in opened.privileged),
        digest=redacted.passages_digest,
        undecided=privilege_standing(redacted.run).undecided,
    )
    return decision
