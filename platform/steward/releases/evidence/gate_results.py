"""Gate results with the raw scores they rest on, so that an auditor can compute the figures again."""

from collections.abc import Mapping
from typing import Any

from domains.gates import MEASURES
from steward.releases.evidence.dossier import Dossier, Incomplete
from steward.releases.evidence.model_card import evaluation
from steward.releases.evidence.rendering import json_document, timestamp

#: What further figures rest on, record by record; those of records that were too long to be measured are not there.
FURTHER = {
    "reference_likelihood": "mean log-probability of a token of the record's own answer, in nats",
    "preference_margin": "log-probability of the chosen answer less that of the rejected one, in nats",
    "judged_likelihood": "log-probability of a whole judged answer, in nats; its tokens, and whether it is a good one",
}


def documents(dossier: Dossier) -> dict[str, bytes]:
    """`gates.json`."""
    return {"gates.json": json_document(gate_results(dossier))}


def gate_results(dossier: Dossier) -> dict[str, Any]:
    """Each gate with figure, threshold and limits, and both models' score on each held-out record.

    Raises:
        Incomplete: the scores are not one pair for each record.
    """
    asked = {gate.name: gate for gate in dossier.workflow.gates}
    return {
        "schema": "steward.gates/1",
        "adapter_digest": dossier.release.adapter_digest,
        "evaluation": evaluation(dossier),
        "gates": [
            {
                "gate": result.gate,
                "title": result.title,
                "state": result.state,
                "has_passed": result.has_passed,
                "figure": result.figure,
                "threshold": result.threshold,
                "comparison": asked[result.gate].comparison if result.gate in asked else None,
                "measure": MEASURES.get(asked[result.gate].measure) if result.gate in asked else None,
                "explanation": result.explanation,
                "limits": result.limits,
                "at": timestamp(result.created_at),
            }
            for result in dossier.gates
        ],
        "scores": _scores(dossier),
    }


def _scores(dossier: Dossier) -> dict[str, Any]:
    kept = dossier.evaluation.scores
    try:
        rows = zip(kept["ids"], kept["base"], kept["tuned"], strict=True)
        records = [{"record": int(ordinal), "base": base, "tuned": tuned} for ordinal, base, tuned in rows]
        if "parts" in kept:
            parts = zip(kept["parts"]["base"], kept["parts"]["tuned"], strict=True)
            records = [
                {**row, "base_parts": base, "tuned_parts": tuned}
                for row, (base, tuned) in zip(records, parts, strict=True)
            ]
    except (KeyError, ValueError):
        raise Incomplete("the evaluation's scores are not one pair for each record") from None
    if len(records) != dossier.evaluation.record_count:
        raise Incomplete("the evaluation has another number of scores than of records")
    said = {"record_is": "place of the record in the dataset version, from 1", "by_record": records}
    if "parts" in kept:
        said["parts_are"] = (
            "what a record adds to two sums, of which the figure is the ratio (domains.intervals.pooled)"
        )
    for name, columns in kept.get("further", {}).items():
        said[name] = {"is": FURTHER[name], "by_record": _rows(name, columns)}
    return said


def _rows(name: str, columns: Mapping[str, list[Any]]) -> list[dict[str, Any]]:
    """Columns as rows, a record each."""
    others = [each for each in columns if each != "ids"]
    try:
        rows = list(zip(columns["ids"], *(columns[each] for each in others), strict=True))
    except ValueError:
        raise Incomplete(f"the evaluation has not one {name} for each record") from None
    return [{"record": int(ordinal), **dict(zip(others, values, strict=True))} for ordinal, *values in rows]
