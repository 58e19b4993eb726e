"""The compression job: the tuned model and what each way makes of it, measured by a trainer process.

Guarantees that shards and their key are destroyed at the end and that a killed job, or a killed process of it, can run
again from the start. Rows are shown as they come, those of one process only; they are figures, no text.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any
from uuid import UUID

from compliance.vault import VaultError
from steward.accounts.models import Workspace
from steward.assurance import compression_actions
from steward.assurance.models import Compression, EvaluationState
from steward.audit.actor import Actor, UserError
from steward.datasets.models import Split
from steward.recovery import CONNECTION_LOST, unforeseen
from steward.runs.asking import TrainerFailed, ask_trainer, shards_of
from steward.runs.models import ModelVersion
from steward.runs.shards import workflow_for
from trainers import events

WORKER = Actor.system("worker")
SCORED_RECORDS = 64
HEAL_STEPS = 20
#: A file of it would be no smaller than that of int8; the four bits that leave the house are GGUF's.
NOT_KEPT = frozenset({"int4"})


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
    try:
        said = _ask(compression)
        ended = said[-1]
        if isinstance(ended, events.CompressionFinished):
            return compression_actions.finish_compression(
                actor=WORKER, compression=compression, rows=_rows(said), digest=ended.digest
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


def _ask(compression: Compression) -> list[events.Event]:
    model_version = compression.model_version
    asked = arguments_for(model_version, compression.ways, compression.metric)

    def heard(said: Sequence[events.Event]) -> None:
        Compression.objects.filter(pk=compression.pk).update(rows=_rows(said))

    with shards_of(compression, model_version, list(Split)) as (key, spec):
        return ask_trainer(model_version, "compress", spec, key, asked, compression.pk, heard)


def arguments_for(model_version: ModelVersion, ways: Sequence[str], metric: str) -> list[str]:
    """What `python -m trainers compress` is told, the same for a comparison and for a way that is kept."""
    workflow = workflow_for(model_version.workspace.domain, model_version.fine_tune.workflow)
    asked = ["--ways", ",".join(ways), "--metric", metric, "--max-new-tokens", str(workflow.max_new_tokens)]
    return [*asked, "--limit", str(SCORED_RECORDS), "--heal-steps", str(HEAL_STEPS)]


def _rows(said: Sequence[events.Event]) -> list[dict[str, Any]]:
    return [row_of(event) for event in said if isinstance(event, events.CompressionMeasured)]


def row_of(event: events.CompressionMeasured) -> dict[str, Any]:
    """The figures of a way as a row keeps them."""
    values = {name: value for name, value in dataclasses.asdict(event).items() if name not in ("run", "metric")}
    return {name: None if value != value else value for name, value in values.items()}


def keepable_rows(model_version: ModelVersion) -> list[tuple[dict[str, Any], str]]:
    """The figures of the ways that can be kept, of the newest finished comparison and in its order; beside each, why
    it may not leave the house, or ''."""
    done = Compression.objects.filter(model_version=model_version, state=EvaluationState.DONE)
    newest = done.order_by("-created_at").first()
    if newest is None:
        return []
    tuned, *ways = newest.rows
    most = most_loss_percent(model_version.workspace_id)
    return [(row, too_lossy(tuned, row, most)) for row in ways if row["way"] not in NOT_KEPT]


def most_loss_percent(workspace_id: UUID) -> int:
    """What the workspace's policy allows a compressed form to lose, as it stands now."""
    return int(Workspace.objects.get(pk=workspace_id).rules["compressed_loss_percent_max"])


def too_lossy(tuned: dict[str, Any], row: dict[str, Any], most_percent: int) -> str:
    """Why a way loses more of the tuned model's score than is allowed, or ''. What was not scored is not allowed."""
    before, after = tuned["score"], row["score"]
    if before is None or after is None:
        return "Its score could not be measured, and what is not measured does not leave the house."
    if before - after <= before * most_percent / 100 + 1e-9:
        return ""
    return (
        f"It scores {after:.3f} where the tuned model scores {before:.3f}: {100 * (before - after) / before:.0f} % are "
        f"lost, and the policy allows {most_percent} %."
    )
