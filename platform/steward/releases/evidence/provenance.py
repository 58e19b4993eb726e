"""How the adapter was made: an in-toto Statement with SLSA provenance.

Guarantees the published shapes (a test reads the document with in-toto's own library). It carries no signature of its
own: the ledger entry `evidence.built` records its digest with that of the other documents.

Source: in-toto Attestation Framework, Statement v1; SLSA v1.0, Provenance v1.
"""

from typing import Any

from django.conf import settings

from steward.releases.evidence.dossier import Dossier
from steward.releases.evidence.model_card import lineage
from steward.releases.evidence.rendering import json_document, timestamp
from steward.vault.models import SealedObject

BUILD_TYPE = "urn:x-steward:fine-tune:1"


def documents(dossier: Dossier) -> dict[str, bytes]:
    """`provenance.intoto.json`."""
    return {"provenance.intoto.json": json_document(provenance(dossier))}


def provenance(dossier: Dossier) -> dict[str, Any]:
    """The statement about the adapter."""
    return {
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{"name": "adapter.tar", "digest": _sha256(dossier.release.adapter_digest)}],
        "predicateType": "https://slsa.dev/provenance/v1",
        "predicate": {"buildDefinition": _definition(dossier), "runDetails": _run(dossier)},
    }


def _definition(dossier: Dossier) -> dict[str, Any]:
    fine_tune = dossier.fine_tune
    return {
        "buildType": BUILD_TYPE,
        "externalParameters": {
            "recipe": fine_tune.recipe,
            "method": fine_tune.method.name,
            "way": fine_tune.way.name,
            "workflow": fine_tune.workflow,
            "base_model": dossier.base_model.name,
            "dataset_version": str(dossier.version.pk),
        },
        "internalParameters": dossier.facts,
        "resolvedDependencies": [
            {
                "name": "steward",
                "digest": _sha256(dossier.facts["code_digest"]),
                "annotations": {"digest_covers": "all source files, as installed when the run was dispatched"},
            },
            *(
                {"name": name, "uri": f"urn:x-steward:library:{name}:{version}", "annotations": {"version": version}}
                for name, version in dossier.facts["library_versions"].items()
            ),
            {
                "name": "base-model",
                "digest": _sha256(dossier.base_model.digest),
                "annotations": {
                    "licence": dossier.base_model.licence,
                    "digest_covers": "names and contents of its files",
                },
            },
            *(
                {
                    "name": "start-adapter.tar",
                    "digest": _sha256(parent["adapter_digest"]),
                    "annotations": {"fine_tune": parent["fine_tune"], "model_version": parent["model_version"]},
                }
                for parent in lineage(dossier)
            ),
            *_data(dossier),
        ],
    }


def _data(dossier: Dossier) -> list[dict[str, Any]]:
    """The dataset version by content and by ciphertext, and the shards that the run read."""
    version = dossier.version
    run_key = dossier.fine_tune.run_key_id
    shards = SealedObject.objects.filter(key_id=run_key, kind__startswith="shard-").order_by("kind", "pk")
    return [
        {
            "name": "dataset-version",
            "digest": _sha256(version.content_digest),
            "annotations": {"digest_covers": "the keyed digests of its records", "records": version.record_count},
        },
        {
            "name": "upload.sealed",
            "digest": _sha256(version.source.sealed_sha256),
            "annotations": {"digest_covers": "ciphertext"},
        },
        *(
            {
                "name": f"{shard.kind}.sealed",
                "digest": _sha256(shard.sealed_sha256),
                "annotations": {"digest_covers": "ciphertext", "destroyed_at": timestamp(shard.destroyed_at)},
            }
            for shard in shards
        ),
    ]


def _run(dossier: Dossier) -> dict[str, Any]:
    fine_tune = dossier.fine_tune
    return {
        "builder": {"id": f"urn:x-steward:installation:{settings.LEDGER_ORIGIN}"},
        "metadata": {
            "invocationId": str(fine_tune.pk),
            "startedOn": timestamp(fine_tune.started_at),
            "finishedOn": timestamp(fine_tune.finished_at),
            # Source: SLSA v1.0, "Extension fields": a vendor's prefix and an underscore.
            "steward_compute": {
                "flops": fine_tune.flops,
                "seconds": fine_tune.train_seconds,
                "tokens": fine_tune.tokens,
                "steps": fine_tune.step,
                "attempts": fine_tune.attempt,
            },
        },
        "byproducts": [{"name": "adapter.sealed", "digest": _sha256(dossier.model_version.adapter.sealed_sha256)}],
    }


def _sha256(digest: str) -> dict[str, str]:
    return {"sha256": digest.removeprefix("sha256:")}
