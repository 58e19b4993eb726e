"""What follows the verdicts of a review: taking one back, adjudicating, turning a correction into a list entry, and
measuring how far columns single people out."""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

from django.utils import timezone

from steward.accounts.permissions import require
from steward.accounts.roles import Permission
from steward.audit.actor import Actor, Denied, Refused
from steward.audit.events import Event
from steward.audit.recording import audited, record
from steward.datasets.models import (
    DatasetVersion,
    Reading,
    ReadingKind,
    RedactionState,
    RiskMeasurement,
    SampleItem,
    SpanFault,
    SpanLabel,
    Verdict,
)
from steward.datasets.privilege import refuse_undecided
from steward.datasets.readings import give_reading, lock_item, settle
from steward.datasets.spans import open_phrase
from steward.profiles.lists import add_entry
from steward.profiles.models import ListEntry, ListKind

UNDO_SECONDS = 600


@audited(Event.SAMPLE_WITHDRAWN)
def withdraw_reading(*, actor: Actor, item: SampleItem) -> SampleItem:
    """Takes one's own last verdict back, within ten minutes and before anybody else read the record after it.

    The reading stays, marked as withdrawn; the record waits again.

    Raises:
        Refused: there is none, it is not one's last, it is too old, or somebody read the record since.
    """
    require(actor, Permission.REVIEW_SAMPLE, item.workspace, item)
    locked = lock_item(item)
    standing = Reading.objects.standing()
    own = standing.filter(item=locked, reviewer_id=actor.user_id).first()
    last = standing.filter(item__run=locked.run_id, reviewer_id=actor.user_id).order_by("given_at").last()
    if own is None or last is None or own.pk != last.pk:
        raise Refused("Only your own last verdict can be taken back.", code="not_last", subject=locked)
    is_late = own.given_at < timezone.now() - timedelta(seconds=UNDO_SECONDS)
    if is_late or standing.filter(item=locked, given_at__gt=own.given_at).exists():
        raise Refused(
            "The verdict stands: ten minutes have passed, or somebody read the record after you.",
            code="verdict_stands",
            subject=locked,
        )
    if own.spans.filter(list_entry__isnull=False).exists():
        raise Refused(
            "A span of this verdict was proposed for the lists; it stands.", code="verdict_stands", subject=locked
        )
    own.withdrawn_at = timezone.now()
    own.save(update_fields=["withdrawn_at"])
    settle(locked)
    record(locked, verdict=own.verdict, kind=own.kind)
    return locked


@audited(Event.SAMPLE_ADJUDICATED)
def adjudicate_item(
    *, actor: Actor, item: SampleItem, verdict: Verdict, missed_types: Mapping[str, int] | None = None
) -> SampleItem:
    """Decides between two readers who differ; until then the record counts as missed.

    Raises:
        Denied: by one of the two readers.
        Refused: the readers do not differ, or it was adjudicated before.
    """
    require(actor, Permission.REVIEW_SAMPLE, item.workspace, item)
    locked = lock_item(item)
    standing = {each.kind: each for each in Reading.objects.standing().filter(item=locked)}
    first, second = standing.get(ReadingKind.FIRST), standing.get(ReadingKind.SECOND)
    if actor.user_id in {each.reviewer_id for each in standing.values()}:
        raise Denied("You read this record; a third person has to decide.", code="same_person", subject=locked)
    if first is None or second is None or (first.verdict == Verdict.MISSED) == (second.verdict == Verdict.MISSED):
        raise Refused("No two readers differ on this record.", code="no_disagreement", subject=locked)
    if ReadingKind.ADJUDICATION in standing:
        raise Refused("This record was adjudicated before.", code="already_reviewed", subject=locked)
    types = dict(missed_types or {})
    if verdict == Verdict.MISSED and not types:
        types = dict((first if first.verdict == Verdict.MISSED else second).missed_types)
    reading = give_reading(actor, locked, ReadingKind.ADJUDICATION, verdict, types)
    record(locked, verdict=str(reading.verdict), missed=sum(types.values()))
    return locked


@audited(Event.LIST_ENTRY_PROPOSED)
def promote_span(*, actor: Actor, label: SpanLabel) -> ListEntry:
    """Proposes what a reviewer marked for the workspace's lists: missed → always mask, over-masked → never mask.

    It takes effect once an officer approves it, who is not the one who proposed it, and dies with the person in whose
    record it stands.

    Raises:
        Refused: proposed before, its verdict was taken back, the person was erased, or see `lists.add_entry`.
    """
    require(actor, Permission.REVIEW_SAMPLE, label.workspace, label)
    rows = SpanLabel.objects.select_related("reading", "redacted__record__subject", "redacted__run__version__dataset")
    locked = rows.select_for_update(of=("self",)).get(pk=label.pk)
    if locked.list_entry_id is not None or locked.reading.withdrawn_at is not None:
        raise Refused("This span was proposed before, or its verdict taken back.", code="wrong_state", subject=locked)
    phrase = open_phrase(locked, locked.redacted.run.version)
    kind = ListKind.DENY if locked.fault == SpanFault.MISSED else ListKind.ALLOW
    origin = str(locked.redacted.record.subject_id)
    entry = add_entry(label.workspace, actor, kind, locked.entity_type, phrase, origin)
    locked.list_entry = entry
    locked.save(update_fields=["list_entry"])
    record(entry, kind=str(kind), type=locked.entity_type, phrase=entry.digest)
    return entry


@audited(Event.RISK_REQUESTED)
def measure_risk(
    *, actor: Actor, version: DatasetVersion, quasi_identifiers: Sequence[str], sensitive: str = ""
) -> RiskMeasurement:
    """Queues a measurement of how far the redacted values of some columns single people out.

    Args:
        quasi_identifiers: columns of the version that an outsider may know of a person, at least one.
        sensitive: the column whose diversity within a class is counted; empty for none.

    Raises:
        Refused: not redacted, privileged records are not decided on, no columns of its own, an unknown column, or one
            named twice.
    """
    from steward.datasets.jobs import measure_risk as job

    require(actor, Permission.REVIEW_SAMPLE, version.workspace, version)
    locked = DatasetVersion.objects.select_for_update().get(pk=version.pk)
    if locked.redaction is None:
        raise Refused(f"{locked} is not redacted yet.", code="wrong_state", subject=locked)
    refuse_undecided(locked.redaction, "The figures are about what may be trained on.")
    columns = set(locked.mapping.get("fields", {}))
    asked = [*quasi_identifiers, *([sensitive] if sensitive else [])]
    if not quasi_identifiers or len(set(asked)) != len(asked) or not set(asked) <= columns:
        known = ", ".join(sorted(columns)) or "none, since it is chat data"
        raise Refused(
            f"Choose at least one column, each once. {locked} has: {known}.", code="column_unknown", subject=locked
        )
    measurement = RiskMeasurement(
        workspace=version.workspace,
        version=locked,
        run=locked.redaction,
        quasi_identifiers=list(quasi_identifiers),
        sensitive=sensitive,
        requested_by_id=actor.user_id,
    )
    measurement.save(force_insert=True)
    record(measurement, columns=len(quasi_identifiers))
    job.configure(lock=str(measurement.pk)).defer(measurement_id=str(measurement.pk))
    return measurement


@audited(Event.RISK_MEASURED)
def finish_risk(*, actor: Actor, measurement: RiskMeasurement, figures: Mapping[str, Any]) -> RiskMeasurement:
    """Keeps the figures of a measurement; the ledger gets the counts."""
    locked = RiskMeasurement.objects.select_for_update().get(pk=measurement.pk)
    locked.figures = dict(figures)
    locked.state = RedactionState.DONE
    locked.save(update_fields=["figures", "state"])
    names = ("records", "classes", "k", "l", "max_risk_ppm", "average_risk_ppm", "small_cells")
    record(locked, **{name: figures[name] for name in names})
    return locked


@audited(Event.RISK_FAILED)
def fail_risk(*, actor: Actor, measurement: RiskMeasurement, code: str, message: str) -> RiskMeasurement:
    """Ends a measurement that could not be made."""
    locked = RiskMeasurement.objects.select_for_update().get(pk=measurement.pk)
    locked.state = RedactionState.FAILED
    locked.failure = message[:300]
    locked.save(update_fields=["state", "failure"])
    record(locked, code=code)
    return locked
