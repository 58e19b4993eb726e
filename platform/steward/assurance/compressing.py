"""The compression job: the tuned model and what each way makes of it, measured by a trainer process.

Guarantees that shards and their key are destroyed at the end and that a killed job can run again from the start. Rows
are shown as they come; they are figures, no text.
"""

import dataclasses
from typing import Any

from compliance.vault import VaultError
from steward.assurance import compression_actions
from steward.assurance.models import Compression, EvaluationState
from steward.audit.actor import Actor, UserError
from steward.datasets.models import Split
from steward.recovery import CONNECTION_LOST, unforeseen
from steward.runs.asking import TrainerFailed, ask_trainer, shards_of
from steward.runs.shards import workflow_for
from trainers import events

WORKER = Actor.system("worker")
SCORED_RECORDS = 64
HEAL_STEPS = 20


def compress(compression_id: str) -> Compression:
    """Carries a comparison out; does nothing if it is over."""
    compression = Compression.objects.select_related(
        "workspace",
        "model_version__workspace",
        "model_version__adapter__key",
        "model_version__fine_tune__base_model",
        "model_version__fine_tune__dataset_version__dataset__key",
        "model_version__fine_tune__dataset_version__redaction",
    ).get(pk=compression_id)
    if compression.state != EvaluationState.RUNNING:
        return compression
    rows: list[dict[str, Any]] = []

    def heard(event: events.Event) -> None:
        if isinstance(event, events.CompressionMeasured):
            rows.append(_said(event))
            Compression.objects.filter(pk=compression.pk).update(rows=rows)

    try:
        ended = _ask(compression, heard)
        if isinstance(ended, events.CompressionFinished):
            return compression_actions.finish_compression(
                actor=WORKER, compression=compression, rows=rows, digest=ended.digest
            )
        failed = (
            ended if isinstance(ended, events.RunFailed) else events.RunFailed("", "stopped", "it stopped", "ask again")
        )
        return _fail(compression, failed.code, f"{failed.message}; {failed.hint}")
    except CONNECTION_LOST:
        raise
    except (TrainerFailed, UserError, VaultError, OSError) as error:
        return _fail(compression, str(getattr(error, "code", type(error).__name__)), str(error))
    except Exception as error:
        _fail(compression, type(error).__name__, unforeseen(error))
        raise


def _fail(compression: Compression, code: str, message: str) -> Compression:
    return compression_actions.fail_compression(actor=WORKER, compression=compression, code=code, message=message)


def _ask(compression: Compression, heard: Any) -> events.Event:
    model_version = compression.model_version
    workflow = workflow_for(model_version.workspace.domain, model_version.fine_tune.workflow)
    asked = ["--ways", ",".join(compression.ways), "--metric", compression.metric]
    asked += ["--max-new-tokens", str(workflow.max_new_tokens), "--limit", str(SCORED_RECORDS)]
    asked += ["--heal-steps", str(HEAL_STEPS)]
    with shards_of(compression, model_version, list(Split)) as (key, spec):
        return ask_trainer(model_version, "compress", spec, key, asked, heard, compression.pk)


def _said(event: events.CompressionMeasured) -> dict[str, Any]:
    values = {name: value for name, value in dataclasses.asdict(event).items() if name not in ("run", "metric")}
    return {name: None if value != value else value for name, value in values.items()}
