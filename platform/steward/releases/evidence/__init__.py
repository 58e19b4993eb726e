"""The documents of an evidence bundle: everything in it but the ledger's part.

Guarantees that the same state of the database, of the adapter and of the installed code gives the same bytes, that no
record text, no key and no user's name is in them, and that the adapter that is signed is the one that was released.
Does not write, seal or verify the bundle; `releases.bundles` does.

Example:
    documents = build_documents(release)
    write_bundle(path, documents | evidence_files(entries))
"""

from compliance.ledger.bundle import verifier_source
from steward.releases.evidence import (
    approvals,
    datasheet,
    gate_results,
    mlbom,
    model_card,
    provenance,
    readme,
    redaction_report,
    signature,
)
from steward.releases.evidence.dossier import Dossier, Incomplete
from steward.releases.evidence.signature import AdapterChanged
from steward.releases.models import Release

__all__ = ["AdapterChanged", "Incomplete", "build_documents"]


def build_documents(release: Release) -> dict[str, bytes]:
    """The files of the bundle outside `ledger/`, by name.

    Args:
        release: decided on; best loaded with its relations, which are read otherwise.

    Raises:
        Incomplete: the release is not decided, or something it rests on is missing or does not add up.
        AdapterChanged: the adapter in the vault is not the released one.
        compliance.vault.VaultError: the adapter or the workspace's key cannot be opened.
    """
    dossier = Dossier.of(release)
    members = signature.adapter_manifest(dossier.model_version.adapter, release.adapter_digest)
    return {
        **readme.documents(dossier),
        **model_card.documents(dossier),
        **datasheet.documents(dossier),
        **redaction_report.documents(dossier),
        **gate_results.documents(dossier),
        **approvals.documents(dossier),
        **mlbom.documents(dossier),
        **provenance.documents(dossier),
        "model.sig": signature.sign_model(f"adapter-{dossier.model_version.pk}", members),
        "model-signing.pub": signature.public_key(),
        **verifier_source(),
    }
