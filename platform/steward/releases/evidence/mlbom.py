"""The machine-learning bill of materials, CycloneDX 1.6.

Guarantees a document of that schema (a test validates it against the one published). Written as JSON because the
official library has no model cards; its list of SPDX names decides how a licence is stated.

Source: ECMA-424 (CycloneDX 1.6), "machine-learning-model" components and model cards.
"""

import uuid
from typing import Any

from cyclonedx.spdx import is_expression, is_supported_id

from domains.metrics import METRICS
from steward.assurance.models import Evaluation
from steward.releases.evidence.dossier import Dossier
from steward.releases.evidence.model_card import LIMITS, lineage
from steward.releases.evidence.rendering import json_document, timestamp
from steward.runs.methods import Output

SERIAL = uuid.UUID("6f2b1a52-3f60-5a57-9a3e-0d4f5a1f8f11")


def documents(dossier: Dossier) -> dict[str, bytes]:
    """`mlbom.cdx.json`."""
    return {"mlbom.cdx.json": json_document(bill_of_materials(dossier))}


def bill_of_materials(dossier: Dossier) -> dict[str, Any]:
    """The fine-tuned model, the base model and the dataset it depends on, and the software that joined them."""
    tuned, base, data = _tuned(dossier), _base(dossier), _dataset(dossier)
    software = [_steward(dossier.facts), *_libraries(dossier.facts)]
    made_with = [each["bom-ref"] for each in (base, data, *software)]
    return {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{uuid.uuid5(SERIAL, str(dossier.release.pk))}",
        "version": 1,
        "metadata": {
            "timestamp": timestamp(dossier.release.decided_at),
            "lifecycles": [{"phase": "post-build"}],
            "component": tuned,
        },
        "components": [base, data, *software],
        "dependencies": [
            {"ref": tuned["bom-ref"], "dependsOn": sorted(made_with)},
            *({"ref": ref, "dependsOn": []} for ref in made_with),
        ],
    }


def _tuned(dossier: Dossier) -> dict[str, Any]:
    release, model_version = dossier.release, dossier.model_version
    return {
        "type": "machine-learning-model",
        "bom-ref": f"model:{model_version.pk}",
        "name": dossier.typed(str(model_version)),
        "version": release.adapter_digest.removeprefix("sha256:")[:12],
        "description": f"{dossier.fine_tune.way.yields}, {dossier.base_model.name}: {dossier.workflow.title}",
        "hashes": [_hash(release.adapter_digest)],
        **_pedigree(dossier),
        "modelCard": _model_card(dossier),
        "properties": _properties(
            method=dossier.fine_tune.method.name,
            way=dossier.fine_tune.way.name,
            seed=dossier.fine_tune.recipe.get("seed"),
            tokens=dossier.fine_tune.tokens,
            flops=f"{dossier.fine_tune.flops:.0f}",
            seconds=f"{dossier.fine_tune.train_seconds:.1f}",
            device=dossier.facts.get("device"),
            precision=dossier.facts.get("precision"),
        ),
    }


def _pedigree(dossier: Dossier) -> dict[str, Any]:
    """The models this one went on from; nothing where there are none."""
    ancestors = [
        {
            "type": "machine-learning-model",
            "bom-ref": f"model:{parent['model_version']}",
            "name": f"fine-tune {parent['fine_tune']}",
            "hashes": [_hash(parent["adapter_digest"])],
        }
        for parent in lineage(dossier)
    ]
    return {"pedigree": {"ancestors": ancestors}} if ancestors else {}


_FORMATS = {Output.TEXT: "text", Output.LABEL: "label", Output.SPANS: "start, end and label of each span"}


def _model_card(dossier: Dossier) -> dict[str, Any]:
    output = dossier.fine_tune.method.output
    return {
        "bom-ref": f"model-card:{dossier.model_version.pk}",
        "modelParameters": {
            "approach": {"type": "supervised"},
            "task": dossier.workflow.title,
            "architectureFamily": "transformer",
            "datasets": [{"ref": f"dataset:{dossier.version.pk}"}],
            "inputs": [{"format": "text" if output is Output.SPANS else "chat messages"}],
            "outputs": [{"format": _FORMATS[output]}],
        },
        "quantitativeAnalysis": {"performanceMetrics": _metrics(dossier)},
        "considerations": {
            "users": [dossier.release.get_audience_display()],
            "useCases": [dossier.typed(dossier.release.purpose)],
            "technicalLimitations": [*LIMITS, *(f"{gate.title}: {gate.limits}" for gate in dossier.gates)],
        },
    }


def _metrics(dossier: Dossier) -> list[dict[str, Any]]:
    done = dossier.evaluation
    title = METRICS[done.metric].title
    measured: dict[str, tuple[float | None, ...]] = {
        f"{title}, {_base_name(done)}": (done.base_score, done.base_low, done.base_high),
        f"{title}, tuned model": (done.tuned_score, done.tuned_low, done.tuned_high),
        f"{title}, tuned minus base": (done.gain_score, done.gain_low, done.gain_high),
    }
    for each in done.measures:
        for side in ("base", "tuned", "gain"):
            if each[side] is not None:
                measured[f"{each['title']}, {side}"] = tuple(each[side])
    return [
        {
            "type": name,
            "value": f"{score:.6f}",
            "slice": f"{done.record_count} held-out records",
            "confidenceInterval": {"lowerBound": f"{low:.6f}", "upperBound": f"{high:.6f}"},
        }
        for name, (score, low, high) in measured.items()
        if score is not None and low is not None and high is not None
    ]


def _base_name(done: Evaluation) -> str:
    named = {"majority": "most frequent training label", "phrases": "phrases of the training records"}
    return named.get(done.baseline.get("kind", ""), "base model")


def _base(dossier: Dossier) -> dict[str, Any]:
    base = dossier.base_model
    return {
        "type": "machine-learning-model",
        "bom-ref": f"base-model:{base.pk}",
        "name": base.name,
        "version": base.digest.removeprefix("sha256:")[:12],
        "description": base.source,
        "hashes": [_hash(base.digest)],
        "licenses": [_licence(base.licence)],
        "properties": _properties(parameters=base.parameters, context_length_tokens=base.context_length),
    }


def _dataset(dossier: Dossier) -> dict[str, Any]:
    version = dossier.version
    return {
        "type": "data",
        "bom-ref": f"dataset:{version.pk}",
        "name": dossier.typed(dossier.dataset.name),
        "version": str(version.number),
        "hashes": [_hash(version.content_digest)],
        "data": [
            {
                "type": "dataset",
                "name": dossier.typed(str(version)),
                "description": dossier.typed(dossier.dataset.purpose),
                "classification": "confidential; redacted before training",
                "sensitiveData": sorted(dossier.redaction.counts_by_type),
            }
        ],
        "properties": _properties(
            records=version.record_count,
            subjects=version.subject_count,
            redaction_profile=dossier.redaction.profile_digest,
            upload_ciphertext=version.source.sealed_sha256,
            digest_is="SHA-256 over the keyed digests of all records",
        ),
    }


def _steward(facts: dict[str, Any]) -> dict[str, Any]:
    digest = str(facts["code_digest"])
    return {
        "type": "application",
        "bom-ref": "software:steward",
        "name": "steward",
        "version": digest.removeprefix("sha256:")[:12],
        "hashes": [_hash(digest)],
    }


def _libraries(facts: dict[str, Any]) -> list[dict[str, Any]]:
    return [
        {"type": "library", "bom-ref": f"software:{name}", "name": name, "version": version}
        for name, version in facts["library_versions"].items()
    ]


def _licence(name: str) -> dict[str, Any]:
    """A licence by its SPDX identifier or expression, else by its title."""
    if is_supported_id(name):
        return {"license": {"id": name}}
    return {"expression": name} if is_expression(name) else {"license": {"name": name}}


def _hash(digest: str) -> dict[str, str]:
    return {"alg": "SHA-256", "content": digest.removeprefix("sha256:")}


def _properties(**values: object) -> list[dict[str, str]]:
    return [{"name": f"steward:{name}", "value": str(value)} for name, value in values.items() if value is not None]
