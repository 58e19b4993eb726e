"""Exports of released models: asked for by an officer, proven by a job, handed out with an entry before and after."""

from dataclasses import dataclass
from typing import Any

from django.utils import timezone

from steward.accounts.permissions import require
from steward.accounts.roles import Permission
from steward.assurance.compressing import keepable_rows, row_of, too_lossy
from steward.audit.actor import Actor, Refused
from steward.audit.events import Event
from steward.audit.recording import audited, record
from steward.releases.models import Export, ExportForm, ExportState, Release, ReleaseState, forms_of
from steward.releases.rules_today import refusal_today
from steward.runs.dispatch import claim_devices
from steward.vault.models import SealedObject
from steward.vault.objects import destroy_object, plaintext_digest
from trainers.events import CompressionMeasured, ExportMeasured


@audited(Event.EXPORT_REQUESTED)
def request_export(*, actor: Actor, release: Release, form: str, way: str = "") -> Export:
    """Asks for a released model in one form. The adapter is there at once; other forms are made and proven by a job.

    Args:
        way: of the form `compressed`, one that the model's newest finished comparison measured.

    Raises:
        Denied: no compliance officer.
        Refused: not released, an unknown form or way, a form that the model cannot have, a way that loses more of the
            score than the workspace's policy allows, made already and not refused by the rules of today, being made, or
            the adapter changed.
    """
    require(actor, Permission.EXPORT_MODEL, release.workspace, release)
    rows = Release.objects.select_for_update(of=("self",)).select_related(
        "workspace", "model_version__adapter__key", "model_version__fine_tune"
    )
    locked = rows.get(pk=release.pk)
    if locked.state != ReleaseState.APPROVED:
        raise Refused("Only a released model is exported.", code="not_released", subject=locked)
    if form not in ExportForm.values:
        raise Refused(f"Export as one of {', '.join(ExportForm.values)}.", code="form_unknown", subject=locked)
    offered = forms_of(locked.model_version.fine_tune)
    if form not in offered:
        raise Refused(
            f"This model has no such form; it can leave as {' or '.join(each.value for each in offered)}. A classifier "
            "has no place in GGUF, and a soft prompt is part of no weight.",
            code="form_impossible",
            subject=locked,
        )
    _check_way(locked, form, way)
    _make_room(locked, form, way)
    export = Export(workspace=locked.workspace, release=locked, form=form, way=way, requested_by_id=actor.user_id)
    if form == ExportForm.ADAPTER:
        _take_adapter(export, locked)
    export.save(force_insert=True)
    record(export, adapter=locked.adapter_digest, **export.named_in_ledger)
    if export.state == ExportState.RUNNING:
        claim_devices(workspace=export.workspace, subject=export.pk, task="releases.make_export", argument="export_id")
    return export


def _make_room(release: Release, form: str, way: str) -> None:
    """Withdraws what stands in the way of a new export and would not be handed out any more."""
    standing = Export.objects.select_for_update().filter(
        release=release, form=form, way=way, state__in=[ExportState.RUNNING, ExportState.READY]
    )
    for old in standing:
        reason = refusal_today(old) if old.state == ExportState.READY else ""
        if not reason:
            raise Refused("This form is there already, or being made.", code="already_there", subject=release)
        old.state, old.failure = ExportState.WITHDRAWN, reason[:600]
        if old.sealed is not None:
            destroy_object(old.sealed)
        old.save(update_fields=["state", "failure"])
        record(old, event=Event.EXPORT_WITHDRAWN, **old.named_in_ledger)


def _take_adapter(export: Export, release: Release) -> None:
    """The adapter needs no proof: it is what was judged, if its digest still is."""
    adapter = release.model_version.adapter
    if plaintext_digest(adapter) != release.adapter_digest:
        raise Refused("The adapter is not the one that was released.", code="digest_changed", subject=release)
    export.sealed, export.digest, export.size_bytes = adapter, release.adapter_digest, adapter.plain_bytes
    export.state, export.finished_at = ExportState.READY, timezone.now()


def _check_way(release: Release, form: str, way: str) -> None:
    reasons = {"": ""}
    if form == ExportForm.COMPRESSED:
        reasons = {row["way"]: reason for row, reason in keepable_rows(release.model_version)}
    if way not in reasons:
        raise Refused(
            "Choose a way that the newest finished comparison measured and that can be kept.",
            code="way_unknown",
            subject=release,
        )
    if reasons[way]:
        raise Refused(f"This way is not exported. {reasons[way]}", code="loses_too_much", subject=release)


@dataclass(frozen=True)
class CompressedMeasured:
    """A compressed form: the tuned model's figures and its own, how its file, read back, compares with what was
    measured in memory, and what the policy allows it to lose of the score."""

    tuned: CompressionMeasured
    way: CompressionMeasured
    written: ExportMeasured
    most_loss_percent: int

    @property
    def reason(self) -> str:
        """Why it may not be offered, or ''."""
        return too_lossy(row_of(self.tuned), row_of(self.way), self.most_loss_percent)


Measured = ExportMeasured | CompressedMeasured


def _ppm(value: float | None) -> int | None:
    return None if value is None else round(1e6 * value)


def _facts(measured: Measured) -> dict[str, int | None]:
    """What an entry says of a comparison with the tuned model."""
    if isinstance(measured, ExportMeasured):
        about, scores = measured, {}
    else:
        about, rows = measured.way, {"score_ppm": measured.way, "tuned_score_ppm": measured.tuned}
        scores = {name: _ppm(row_of(row)["score"]) for name, row in rows.items()}
    agreement, divergence = _ppm(about.agreement), _ppm(about.divergence)
    return {"positions": about.positions, "agreement_ppm": agreement, "divergence_ppm": divergence, **scores}


def _figures(measured: Measured) -> dict[str, Any]:
    if isinstance(measured, CompressedMeasured):
        tuned = row_of(measured.tuned)
        return {
            **row_of(measured.way),
            "tuned_score": tuned["score"],
            "tuned_loss": tuned["loss"],
            "most_loss_percent": measured.most_loss_percent,
            "written": _figures(measured.written),
        }
    names = (
        "precision", "reader", "positions", "agreement", "divergence", "loss_difference", "metric", "scored",
        "trained_score", "exported_score", "least_agreement", "most_divergence", "most_loss_difference",
        "most_score_loss",
    )  # fmt: skip
    values = {name: getattr(measured, name) for name in names}
    return {name: None if value != value else value for name, value in values.items()}


@audited(Event.EXPORT_FINISHED)
def finish_export(
    *,
    actor: Actor,
    export: Export,
    measured: Measured,
    digest: str,
    sealed: SealedObject,
) -> Export:
    """Offers an export that was proven.

    Args:
        digest: of the content.
        sealed: the object, not yet saved.

    Raises:
        Refused: it is over already.
    """
    locked = Export.objects.select_for_update().get(pk=export.pk)
    if locked.state != ExportState.RUNNING:
        raise Refused("This export is over.", code="wrong_state", subject=locked)
    sealed.save(force_insert=True)
    locked.sealed = sealed
    locked.digest, locked.size_bytes = digest, sealed.plain_bytes
    locked.figures = _figures(measured)
    locked.state, locked.finished_at = ExportState.READY, timezone.now()
    locked.save()
    record(
        locked,
        after=digest,
        **locked.named_in_ledger,
        bytes=locked.size_bytes,
        **_facts(measured),
    )
    return locked


@audited(Event.EXPORT_WITHDRAWN)
def withdraw_export(*, actor: Actor, export: Export, measured: Measured, message: str) -> Export:
    """Takes the offer of a form back that does not answer as it has to; the figures stay."""
    locked = Export.objects.select_for_update().get(pk=export.pk)
    locked.state, locked.finished_at = ExportState.WITHDRAWN, timezone.now()
    locked.figures, locked.failure = _figures(measured), message[:600]
    locked.save()
    record(locked, **locked.named_in_ledger, **_facts(measured))
    return locked


@audited(Event.EXPORT_FAILED)
def fail_export(*, actor: Actor, export: Export, code: str, message: str) -> Export:
    """Notes that an export could not be made."""
    locked = Export.objects.select_for_update().get(pk=export.pk)
    locked.state, locked.finished_at = ExportState.FAILED, timezone.now()
    locked.failure = message[:600]
    locked.save()
    record(locked, **locked.named_in_ledger, code=code.replace(" ", "_")[:60])
    return locked


@audited(Event.EXPORT_HANDED_OUT)
def record_handing_out(*, actor: Actor, export: Export, package: str) -> None:
    """The outcome of `exports.hand_out`: what is handed out, by the digest of its files.

    Raises:
        Refused: it was withdrawn meanwhile, or a rule of today refuses it.
    """
    locked = Export.objects.select_for_update().get(pk=export.pk)
    if locked.state != ExportState.READY:
        raise Refused("This export is not ready.", code="not_ready", subject=locked)
    if reason := refusal_today(locked):
        raise Refused(f"This export is not handed out. {reason}", code="refused_today", subject=locked)
    record(locked, after=package, **export.named_in_ledger, audience=export.release.audience)
