"""Who decided what, when, on which digest: by pseudonym, with each reason as a keyed digest."""

from typing import Any

from compliance.canonical import canonical_json, sha256_digest
from steward.audit.events import Event
from steward.audit.models import LedgerEntry
from steward.releases.evidence.dossier import Dossier
from steward.releases.evidence.rendering import json_document, timestamp


def documents(dossier: Dossier) -> dict[str, bytes]:
    """`approvals.json`."""
    return {"approvals.json": json_document(approvals(dossier))}


def approvals(dossier: Dossier) -> dict[str, Any]:
    """The decisions on dataset, fine-tune and release. `object` is how ledger entries name what was decided on."""
    policy = dossier.workspace.policy
    return {
        "schema": "steward.approvals/1",
        "dataset": _dataset(dossier),
        "fine_tune": _fine_tune(dossier),
        "release": _release(dossier),
        "waivers": [],
        "policy_now": {
            "version": dossier.workspace.policy_version,
            "rules": policy,
            "digest": sha256_digest(canonical_json(policy)),
        },
        "notes": [
            "People are known by pseudonym. Who they are stands in the platform's own records.",
            "Roles are those held when this was written; the ledger's membership entries show their history.",
            "A reason is given as HMAC-SHA256 under the workspace's key, null if none was given.",
            "The database refuses a version decided by its importer and a release decided by who asked or trained.",
        ],
    }


def _dataset(dossier: Dossier) -> dict[str, Any]:
    version = dossier.version
    return {
        "object": {"type": "datasetversion", "id": str(version.pk)},
        "decision": version.state,
        "bound_to": version.content_digest,
        "redaction": {
            "type": "redactionrun",
            "id": str(dossier.redaction.pk),
            "profile": dossier.redaction.profile_digest,
        },
        "residual_risk": version.residual,
        "imported_by": dossier.person(version.imported_by),
        "imported_at": timestamp(version.imported_at),
        "decided_by": dossier.person(version.decided_by),
        "decided_at": timestamp(version.decided_at),
        "reason": dossier.reason_digest(version.decision_reason),
    }


def _fine_tune(dossier: Dossier) -> dict[str, Any]:
    fine_tune = dossier.fine_tune
    given = LedgerEntry.objects.filter(
        action=str(Event.FINE_TUNE_APPROVED), outcome="done", object_id=str(fine_tune.pk)
    ).order_by("index")
    return {
        "object": {"type": "finetune", "id": str(fine_tune.pk)},
        "requested_by": dossier.person(fine_tune.requested_by),
        "requested_at": timestamp(fine_tune.created_at),
        # Without an entry the policy let the run start by itself.
        "approvals": [
            {"decided_by": entry.actor, "at": timestamp(entry.time), "entry": entry.index} for entry in given
        ],
    }


def _release(dossier: Dossier) -> dict[str, Any]:
    release = dossier.release
    return {
        "object": {"type": "release", "id": str(release.pk)},
        "decision": release.state,
        "bound_to": release.adapter_digest,
        "audience": release.audience,
        "requested_by": dossier.person(release.requested_by),
        "requested_at": timestamp(release.requested_at),
        "trained_by": dossier.person(release.trained_by),
        "decided_by": dossier.person(release.decided_by),
        "decided_at": timestamp(release.decided_at),
        "reason": dossier.reason_digest(release.reason),
    }
