"""Building a release's evidence bundle: documents, their digest in the ledger, proofs, one deterministic tar.

Guarantees that a bundle that was registered has passed the offline verifier with this house's key.
"""

import hashlib
from pathlib import Path

from django.conf import settings
from django.db.models import Q, QuerySet

from compliance.ledger.bundle import contents_digest_of, write_bundle
from compliance.ledger.verify import verify_bundle
from steward.audit.actor import Actor, Refused
from steward.audit.models import LedgerEntry
from steward.audit.proofs import evidence_files, seal_all
from steward.keyring import verification_key
from steward.releases import actions
from steward.releases.evidence import build_documents
from steward.releases.models import EvidenceBundle, Release

WORKER = Actor.system("worker")


def build_evidence(release_id: str) -> EvidenceBundle:
    """Builds, verifies and registers the bundle of an approved release."""
    release = Release.objects.select_related(
        "workspace",
        "requested_by",
        "decided_by",
        "model_version__adapter__key",
        "model_version__fine_tune__base_model",
        "model_version__fine_tune__dataset_version__dataset__workspace",
        "model_version__fine_tune__dataset_version__redaction",
        "model_version__fine_tune__dataset_version__source",
    ).get(pk=release_id)
    documents = build_documents(release)
    actions.seal_evidence(actor=WORKER, release=release, contents=contents_digest_of(documents), members=len(documents))
    seal_all()
    path = Path(settings.STEWARD_HOME, "evidence", f"{release.pk}.tar")
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    write_bundle(path, {**documents, **evidence_files(relevant_entries(release))})
    report = verify_bundle(path, [verification_key()])
    with path.open("rb") as file:
        digest = f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"
    return actions.store_evidence(
        actor=WORKER,
        release=release,
        path=path,
        digest=digest,
        size_bytes=path.stat().st_size,
        tree_size=report.size,
    )


def note_failure(release_id: str, code: str) -> None:
    """Records that building failed, whatever the reason was, before the error goes on to the worker's log."""
    actions.fail_evidence(actor=WORKER, release=Release.objects.get(pk=release_id), code=code)


def evidence_is_built(release: Release) -> bool:
    """Whether the bundle is there.

    Raises:
        Refused: building it failed for good.
    """
    if EvidenceBundle.objects.filter(release=release).exists():
        return True
    if release.evidence_failure:
        raise Refused(actions.EVIDENCE_FAILED, code="evidence_failed", subject=release)
    return False


def relevant_entries(release: Release) -> QuerySet[LedgerEntry]:
    """Every sealed entry about the objects that led to this release: from the import to the decision."""
    model_version = release.model_version
    fine_tune = model_version.fine_tune
    version = fine_tune.dataset_version
    objects = {
        "workspace": [release.workspace_id],
        "dataset": [version.dataset_id],
        "datasetversion": [version.pk],
        "redactionrun": list(version.redactions.values_list("pk", flat=True)),
        "sampleitem": list(version.redaction.sample.values_list("pk", flat=True)) if version.redaction else [],
        "finetune": [fine_tune.pk],
        "basemodel": [fine_tune.base_model_id],
        "modelversion": [model_version.pk],
        "evaluation": list(model_version.evaluations.values_list("pk", flat=True)),
        "release": [release.pk],
    }
    wanted = Q()
    for kind, ids in objects.items():
        wanted |= Q(object_type=kind, object_id__in=[str(each) for each in ids])
    return LedgerEntry.objects.filter(wanted)
