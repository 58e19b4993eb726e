"""Everything that changes releases: asked for by one person, decided by another, bound to the adapter's digest."""

from pathlib import Path

from django.conf import settings
from django.utils import timezone

from steward.accounts.permissions import require
from steward.accounts.roles import Permission
from steward.assurance.models import Evaluation, EvaluationState, GateResult
from steward.audit.actor import Actor, Denied, Refused
from steward.audit.events import Event
from steward.audit.recording import audited, record
from steward.releases.models import Audience, EvidenceBundle, Release, ReleaseState
from steward.releases.rules_today import gates_refusing_today
from steward.runs.models import ModelVersion
from steward.vault.objects import plaintext_digest

EVIDENCE_FAILED = "The evidence bundle could not be built; the worker's log says why. Tell your administrator."


@audited(Event.RELEASE_REQUESTED)
def request_release(*, actor: Actor, model_version: ModelVersion, audience: Audience, purpose: str) -> Release:
    """Asks for a release of the model version as it is now.

    Raises:
        Refused: gates have not run, one failed or would fail by today's rules, no purpose is given, or a request is
            open.
    """
    require(actor, Permission.REQUEST_RELEASE, model_version.workspace, model_version)
    locked = ModelVersion.objects.select_for_update(of=("self",)).select_related("fine_tune").get(pk=model_version.pk)
    _require_passed_gates(locked)
    if not purpose.strip():
        raise Refused("Say what the model will be used for.", code="purpose_missing", subject=locked)
    if Release.objects.filter(model_version=locked, audience=audience, state=ReleaseState.REQUESTED).exists():
        raise Refused(
            "This release has been asked for already and waits for a decision.", code="open_request", subject=locked
        )
    if actor.user_id is None:
        raise Denied("A release is asked for by a person.", subject=locked)
    release = Release(
        workspace=locked.workspace,
        model_version=locked,
        adapter_digest=locked.adapter_digest,
        audience=audience,
        purpose=purpose[:300],
        requested_by_id=actor.user_id,
        trained_by_id=locked.fine_tune.requested_by_id,
    )
    release.save(force_insert=True)
    record(release, after=locked.adapter_digest, audience=str(audience), adapter=locked.adapter_digest)
    return release


def _require_passed_gates(model_version: ModelVersion) -> None:
    newest = Evaluation.objects.filter(model_version=model_version).order_by("-created_at").first()
    if newest is None or newest.state != EvaluationState.DONE:
        raise Refused("The model has not been evaluated to the end yet.", code="not_evaluated", subject=model_version)
    results = list(GateResult.objects.filter(evaluation=newest, adapter_digest=model_version.adapter_digest))
    if not results:
        raise Refused("The gates have not run for this model yet.", code="gates_missing", subject=model_version)
    failed = [result.title for result in results if not result.has_passed]
    if failed:
        raise Refused(f"These gates have not passed: {', '.join(failed)}.", code="gates_failed", subject=model_version)
    if stricter := gates_refusing_today(model_version, results):
        raise Refused(
            f"The rules are stricter than when the model was judged; today it does not pass: {', '.join(stricter)}. "
            "Train one that does, or let an officer who answers for it change the policy.",
            code="gates_stricter",
            subject=model_version,
        )


@audited(Event.RELEASE_APPROVED)
def approve_release(*, actor: Actor, release: Release, reason: str = "") -> Release:
    """Gives a release that somebody else asked for, if the adapter on disk is still the one that was judged.

    Raises:
        Denied: the actor asked for it, trained it or imported its data.
        Refused: decided already, a gate does not pass by today's rules, or the adapter changed.
    """
    from steward.releases.jobs import build_evidence

    locked = _lock_for_decision(actor, release)
    _require_passed_gates(locked.model_version)
    if plaintext_digest(locked.model_version.adapter) != locked.adapter_digest:
        raise Refused(
            "The adapter is not the one that was judged. Ask for a new fine-tune.",
            code="digest_changed",
            subject=locked,
        )
    _decide(locked, actor, ReleaseState.APPROVED, reason)
    requester = str(locked.requested_by.pseudonym)
    record(
        locked,
        after=locked.adapter_digest,
        audience=locked.audience,
        adapter=locked.adapter_digest,
        requester=requester,
    )
    build_evidence.configure(lock=str(locked.pk)).defer(release_id=str(locked.pk))
    return locked


@audited(Event.RELEASE_REFUSED)
def refuse_release(*, actor: Actor, release: Release, reason: str) -> Release:
    """Turns a release down. A reason is asked for."""
    locked = _lock_for_decision(actor, release)
    if not reason.strip():
        raise Refused("Say why the release is refused.", code="reason_missing", subject=locked)
    _decide(locked, actor, ReleaseState.REFUSED, reason)
    requester = str(locked.requested_by.pseudonym)
    record(locked, audience=locked.audience, adapter=locked.adapter_digest, requester=requester)
    return locked


def _lock_for_decision(actor: Actor, release: Release) -> Release:
    require(actor, Permission.APPROVE_RELEASE, release.workspace, release)
    rows = Release.objects.select_for_update(of=("self",)).select_related(
        "workspace", "requested_by", "model_version__adapter__key", "model_version__fine_tune__dataset_version"
    )
    locked = rows.get(pk=release.pk)
    involved = {
        locked.requested_by_id: "asked for this release",
        locked.trained_by_id: "started the fine-tune",
        locked.model_version.fine_tune.dataset_version.imported_by_id: "imported the data",
    }
    if actor.user_id in involved:
        raise Denied(
            f"You {involved[actor.user_id]}, so another compliance officer has to decide.",
            code="same_person",
            subject=locked,
        )
    if locked.state != ReleaseState.REQUESTED:
        raise Refused(f"This release is {locked.get_state_display().lower()}.", code="wrong_state", subject=locked)
    return locked


def _decide(release: Release, actor: Actor, state: ReleaseState, reason: str) -> None:
    release.state = state
    release.decided_by_id = actor.user_id
    release.decided_at = timezone.now()
    release.reason = reason[:500]
    release.save(update_fields=["state", "decided_by", "decided_at", "reason"])


@audited(Event.EVIDENCE_BUILT)
def seal_evidence(*, actor: Actor, release: Release, contents: str, members: int) -> None:
    """Binds the documents of a bundle to the ledger by their common digest, before the bundle is written."""
    record(release, after=contents, members=members)


@audited(Event.EVIDENCE_STORED)
def store_evidence(
    *, actor: Actor, release: Release, path: Path, digest: str, size_bytes: int, tree_size: int
) -> EvidenceBundle:
    """Registers a bundle that was written and verified."""
    EvidenceBundle.objects.filter(release=release).delete()
    Release.objects.filter(pk=release.pk).update(evidence_failure="")
    evidence = EvidenceBundle(
        workspace=release.workspace,
        release=release,
        path=str(path.relative_to(settings.STEWARD_HOME)),
        digest=digest,
        size_bytes=size_bytes,
        tree_size=tree_size,
    )
    evidence.save(force_insert=True)
    record(release, after=digest, tree_size=tree_size)
    return evidence


@audited(Event.EVIDENCE_FAILED)
def fail_evidence(*, actor: Actor, release: Release, code: str) -> None:
    """Notes that a bundle could not be built, so that nobody waits for it."""
    Release.objects.filter(pk=release.pk).update(evidence_failure=code[:60])
    record(release, code=code[:60])


@audited(Event.EVIDENCE_EXPORTED)
def export_evidence(*, actor: Actor, release: Release) -> Path:
    """Hands out a release's evidence bundle.

    Raises:
        Refused: it has not been built yet.
    """
    require(actor, Permission.EXPORT_EVIDENCE, release.workspace, release)
    evidence = EvidenceBundle.objects.filter(release=release).first()
    if evidence is None and release.evidence_failure:
        raise Refused(EVIDENCE_FAILED, code="evidence_failed", subject=release)
    if evidence is None:
        raise Refused(
            "The evidence bundle is still being built. Try again in a moment.", code="not_built", subject=release
        )
    record(release, after=evidence.digest)
    return Path(settings.STEWARD_HOME, evidence.path)
