"""The model card: what the model is, what it was tuned on, how it did against its base, what nobody has shown.

Source: Mitchell et al., "Model Cards for Model Reporting", 2019; Regulation (EU) 2024/1689, Annexes IV and XI.
"""

from typing import Any

from domains.metrics import METRICS
from steward.assurance.models import Evaluation
from steward.releases.evidence.dossier import Dossier
from steward.releases.evidence.rendering import figure, interval, json_document, plain, table, timestamp

INTERVALS = "95 %, percentile bootstrap over records (domains.intervals); gain: the same over paired differences"
LIMITS = (
    "The scores speak of the held-out records of this one dataset. Other sources, writers and times may score lower.",
    "Intervals treat records as independent; several records of one person make the true interval wider.",
    "Whether the model repeats its training records was not attacked: no canaries, no extraction, no membership "
    "inference. It must be treated as holding personal data.",
    "It was trained without differential privacy.",
    "Fairness between groups of people was not measured unless a gate below says so.",
    "It may answer wrongly and fluently. A person has to check every answer that matters.",
)


def model_card(dossier: Dossier) -> dict[str, Any]:
    """The card as data."""
    release, model_version = dossier.release, dossier.model_version
    return {
        "schema": "steward.model-card/1",
        "model": {
            "name": dossier.typed(str(model_version)),
            "id": str(model_version.pk),
            "kind": kind(dossier),
            "learns": dossier.fine_tune.method.hint,
            "adapter_digest": release.adapter_digest,
            "adapter_bytes": model_version.adapter.plain_bytes,
            "made_at": timestamp(model_version.created_at),
        },
        "intended_use": {
            "domain": release.workspace.domain,
            "task": dossier.workflow.title,
            "task_description": dossier.workflow.description,
            "purpose": dossier.typed(release.purpose),
            "audience": release.audience,
            "decision": release.state,
        },
        "base_model": _base_model(dossier),
        "data": _data(dossier),
        "training": _training(dossier),
        "evaluation": evaluation(dossier),
        "gates": [
            {
                "gate": gate.gate,
                "title": gate.title,
                "state": gate.state,
                "figure": gate.figure,
                "threshold": gate.threshold,
                "limits": gate.limits,
            }
            for gate in dossier.gates
        ],
        "limits": list(LIMITS),
    }


def kind(dossier: Dossier) -> str:
    """What was made, and what it needs to run."""
    fine_tune = dossier.fine_tune
    needs = "; runs by itself" if fine_tune.way.name == "full" else "; needs the base model below"
    return fine_tune.way.yields + needs


def lineage(dossier: Dossier) -> list[dict[str, Any]]:
    """The fine-tunes whose results this one went on from, the nearest first."""
    found = []
    parent = dossier.fine_tune.parent
    while parent is not None:
        found.append(
            {
                "fine_tune": str(parent.pk),
                "model_version": str(parent.model_version.pk),
                "adapter_digest": parent.model_version.adapter_digest,
                "dataset_version": str(parent.dataset_version_id),
                "dataset_content_digest": parent.dataset_version.content_digest,
                "steps": parent.step,
                "tokens": parent.tokens,
                "flops": parent.flops,
            }
        )
        parent = parent.parent
    return found


def _base_model(dossier: Dossier) -> dict[str, Any]:
    base = dossier.base_model
    return {
        "name": base.name,
        "licence": base.licence,
        "source": base.source,
        "digest": base.digest,
        "digest_covers": "names and contents of the files in the model's folder",
        "parameters": base.parameters,
        "context_length_tokens": base.context_length,
    }


def _data(dossier: Dossier) -> dict[str, Any]:
    version, facts = dossier.version, dossier.facts
    return {
        "dataset": dossier.typed(dossier.dataset.name),
        "version": version.number,
        "version_id": str(version.pk),
        "content_digest": version.content_digest,
        "records": version.record_count,
        "subjects": version.subject_count,
        "split": version.split_counts,
        "split_by": "subject, so that nobody is in more than one part",
        "redaction_profile": dossier.redaction.profile,
        "redaction_profile_digest": dossier.redaction.profile_digest,
        "read_by_the_trainer": {
            name.removeprefix("data_"): value for name, value in facts.items() if name.startswith("data_")
        },
    }


def _training(dossier: Dossier) -> dict[str, Any]:
    fine_tune = dossier.fine_tune
    return {
        "method": fine_tune.method.name,
        "way": fine_tune.way.name,
        "went_on_from": lineage(dossier),
        "recipe": fine_tune.recipe,
        "workflow": fine_tune.workflow,
        "seed": fine_tune.recipe.get("seed"),
        "settings_decided_by_the_machine": {
            name: value for name, value in dossier.facts.items() if not name.startswith("data_")
        },
        "steps": fine_tune.step,
        "best_step": fine_tune.best_step,
        "best_validation_loss": fine_tune.best_loss,
        "tokens": fine_tune.tokens,
        "seconds": fine_tune.train_seconds,
        "flops": fine_tune.flops,
        "attempts": fine_tune.attempt,
        "started_at": timestamp(fine_tune.started_at),
        "finished_at": timestamp(fine_tune.finished_at),
        "code_digest": dossier.facts["code_digest"],
        "library_versions": dossier.facts["library_versions"],
    }


def evaluation(dossier: Dossier) -> dict[str, Any]:
    """Base against tuned on the held-out records, with intervals."""
    done = dossier.evaluation
    return {
        "id": str(done.pk),
        "metric": done.metric,
        "metric_title": METRICS[done.metric].title,
        "base_is": base_is(done),
        "scale": "0 to 1, higher is better",
        "records": done.record_count,
        "intervals": INTERVALS,
        "base": {"score": done.base_score, "low": done.base_low, "high": done.base_high, "loss": done.base_loss},
        "tuned": {"score": done.tuned_score, "low": done.tuned_low, "high": done.tuned_high, "loss": done.tuned_loss},
        "gain": {"score": done.gain_score, "low": done.gain_low, "high": done.gain_high},
        "further_measures": done.measures,
        "max_new_tokens": dossier.workflow.max_new_tokens,
        "finished_at": timestamp(done.finished_at),
    }


def base_is(done: Evaluation) -> str:
    """What the base's score is the score of."""
    if done.baseline.get("kind") == "majority":
        share = 100 * done.baseline["training_share"]
        return (
            f"the most frequent label of the training records ({share:.1f} % of them), given to every record; the "
            "untuned model has no head for the labels"
        )
    if done.baseline.get("kind") == "phrases":
        return (
            f"a list of the {done.baseline['phrases']:,} phrases that had one label throughout the training records, "
            "looked up in each text; the untuned model has no head for tags"
        )
    return "the base model, asked the same"


def documents(dossier: Dossier) -> dict[str, bytes]:
    """`model-card.json` and `model-card.md`."""
    card = model_card(dossier)
    return {"model-card.json": json_document(card), "model-card.md": _markdown(card).encode()}


def _markdown(card: dict[str, Any]) -> str:
    model, use, scores = card["model"], card["intended_use"], card["evaluation"]
    parts = [
        f"# Model card: {plain(model['name'])}",
        f"{model['kind']}. Adapter `{model['adapter_digest']}`, {figure(model['adapter_bytes'])} bytes.",
        "## Intended use",
        table(("", ""), [(name.replace("_", " "), value) for name, value in use.items()]),
        "Any other use is outside what was approved.",
        "## Base model",
        table(("", ""), [(name.replace("_", " "), value) for name, value in card["base_model"].items()]),
        f"## Base against tuned ({scores['metric_title']}, {scores['scale']})",
        table(
            ("", f"score on {figure(scores['records'])} held-out records (95 % interval)", "loss"),
            [
                (name, interval(*(scores[name][each] for each in ("score", "low", "high"))), _loss(scores[name]))
                for name in ("base", "tuned", "gain")
            ],
        ),
        f"Base: {scores['base_is']}.",
        *_further(scores["further_measures"]),
        f"Intervals: {scores['intervals']}. Each record's scores are in `gates.json`.",
        "## Gates",
        table(
            ("gate", "result", "figure", "threshold"),
            [
                (gate["title"], gate["state"], _number(gate["figure"]), _number(gate["threshold"]))
                for gate in card["gates"]
            ],
        ),
        *_data_and_training(card),
        "## Limits",
        "\n".join(f"- {limit}" for limit in card["limits"]),
        "\n".join(f"- {plain(gate['title'])}: {plain(gate['limits'])}" for gate in card["gates"]),
    ]
    return "\n\n".join(parts) + "\n"


def _further(measures: list[dict[str, Any]]) -> list[str]:
    if not measures:
        return []
    rows = [
        (each["title"], *(interval(*each[side]) if each[side] else None for side in ("base", "tuned", "gain")))
        for each in measures
    ]
    notes = "\n".join(f"- {each['title']}: {each['note']}" for each in measures)
    return [table(("further measures", "base", "tuned", "gain"), rows), notes]


def _data_and_training(card: dict[str, Any]) -> list[str]:
    data, training = card["data"], card["training"]
    split = ", ".join(f"{name} {figure(count)}" for name, count in sorted(data["split"].items()))
    machine = training["settings_decided_by_the_machine"]
    parents = training["went_on_from"]
    before = sum(parent["flops"] for parent in parents)
    settings = [
        *((name, value) for name, value in sorted(_flat(training["recipe"]).items())),
        *((f"{name} (found)", value) for name, value in sorted(machine.items())),
        *((name, figure(training[name])) for name in ("steps", "best_step", "tokens", "seconds", "flops")),
        ("best validation loss", figure(training["best_validation_loss"])),
    ]
    return [
        "## Training data",
        f"{plain(data['dataset'])}, version {data['version']}, `{data['content_digest']}`: {figure(data['records'])} "
        f"records of {figure(data['subjects'])} subjects; {split}, split by {data['split_by']}. Redacted with the "
        f"profile {plain(data['redaction_profile'])}. See `datasheet.md` and `redaction-report.md`.",
        "## Training",
        table(("setting", "value"), settings),
        *(
            f"It went on from the result of fine-tune `{parent['fine_tune']}`, adapter `{parent['adapter_digest']}`, "
            f"which took {parent['flops']:.3g} floating-point operations."
            for parent in parents
        ),
        f"Tuning took {training['flops'] + before:.3g} floating-point operations in all. Whoever modifies a "
        "general-purpose model with more than a third of the compute of its first training takes on a provider's "
        "duties for it (Commission guidelines on Regulation (EU) 2024/1689, July 2025; to be confirmed by counsel).",
    ]


def _flat(recipe: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings under dotted names."""
    flat: dict[str, Any] = {}
    for name, value in recipe.items():
        flat |= _flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {f"{prefix}{name}": value}
    return flat


def _loss(scores: dict[str, Any]) -> str | None:
    return None if scores.get("loss") is None else f"{scores['loss']:.3f}"


def _number(value: float | None) -> str | None:
    return None if value is None else f"{value:.4g}"
