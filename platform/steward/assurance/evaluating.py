"""The evaluation job: base and tuned on the held-out records, then the gates.

Guarantees that a killed job can run again from the start, and that the test shards and their keys are destroyed at the
end, those of a killed try included. Scores come as events; texts stay sealed.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from django.conf import settings
from django.db import transaction

from compliance.vault import VaultError
from domains.workflows import Workflow
from steward.assurance import actions
from steward.assurance.gates import run_gates
from steward.assurance.judgement import Measured
from steward.assurance.judging import judged
from steward.assurance.models import Evaluation, EvaluationState
from steward.audit.actor import Actor, UserError
from steward.datasets.models import Split
from steward.recovery import CONNECTION_LOST, unforeseen
from steward.runs.asking import TrainerFailed, ask_trainer
from steward.runs.models import FineTune
from steward.runs.shards import workflow_for, write_shard
from steward.runs.specs import build_spec, output_context, run_folder, write_spec
from steward.vault.keys import make_key
from steward.vault.models import DataKey, KeyLevel, SealedObject
from steward.vault.objects import destroy_with_key, object_path
from trainers import events

WORKER = Actor.system("worker")
#: What a base model gets that is asked for a label in words.
LABEL_TOKENS = 32


@dataclass(frozen=True, slots=True)
class Said:
    """What an evaluating process said: its last word, and what it measured on pairs or judged answers."""

    finished: events.EvaluateFinished
    compared: events.PairsCompared | events.JudgementsCompared | None


def evaluate(evaluation_id: str) -> Evaluation:
    """Carries out an evaluation and its gates; does nothing if it is over."""
    evaluation = _load(evaluation_id)
    if evaluation.state == EvaluationState.RUNNING:
        try:
            key, spec = _prepare(evaluation)
            said = _run_trainer(evaluation, key, spec)
            predictions = _sealed(evaluation, said.finished)
            judgement = judged(Measured(evaluation, said.finished, said.compared, predictions))
            evaluation = actions.finish_evaluation(
                actor=WORKER,
                evaluation=evaluation,
                finished=said.finished,
                judgement=judgement,
                predictions=judgement.predictions or predictions,
                key=key,
            )
            if judgement.predictions is not None:
                object_path(predictions).unlink(missing_ok=True)
        except (TrainerFailed, UserError, VaultError, OSError) as error:
            return _fail(evaluation, getattr(error, "code", type(error).__name__), str(error))
        except CONNECTION_LOST:
            raise
        except Exception as error:
            _fail(evaluation, type(error).__name__, unforeseen(error))
            raise
    evaluation = _load(evaluation_id)
    if evaluation.state == EvaluationState.DONE and not evaluation.gate_results.exists():
        actions.store_gates(actor=WORKER, evaluation=evaluation, outcomes=run_gates(evaluation))
    return evaluation


def _fail(evaluation: Evaluation, code: str, message: str) -> Evaluation:
    key = evaluation.test_key
    return actions.fail_evaluation(actor=WORKER, evaluation=evaluation, code=code, message=message, key=key)


def _load(evaluation_id: str) -> Evaluation:
    return Evaluation.objects.select_related(
        "workspace",
        "test_key",
        "predictions__key",
        "model_version__adapter__key",
        "model_version__fine_tune__dataset_version__dataset__key",
        "model_version__fine_tune__dataset_version__redaction",
        "model_version__fine_tune__base_model",
    ).get(pk=evaluation_id)


def _prepare(evaluation: Evaluation) -> tuple[DataKey, Path]:
    """Seals the test records under a fresh key, destroys those of an earlier try, and writes the spec."""
    fine_tune = evaluation.model_version.fine_tune
    version = fine_tune.dataset_version
    workflow = workflow_for(evaluation.workspace.domain, fine_tune.workflow)
    with transaction.atomic():
        if evaluation.test_key is not None and evaluation.test_key.wrapped is not None:
            destroy_with_key(evaluation.test_key)  # of a worker that was killed
        key = make_key(evaluation.workspace, KeyLevel.RUN, version.dataset.key)
        shard = write_shard(version, workflow, fine_tune.method, Split.TEST, key)
        shard.sealed.save(force_insert=True)
        evaluation.test_key = key
        evaluation.save(update_fields=["test_key"])
    if not shard.records:
        raise TrainerFailed("split_empty", "The version has no readable held-out records; there is nothing to test on.")
    test = shard.sealed
    # The trainer reads the test shard only; the run's own shards are destroyed, so it stands in for them.
    spec = build_spec(fine_tune, {"train": test, "validation": test, "test": test})
    return key, write_spec(run_folder(fine_tune), f"evaluate-{evaluation.pk}.json", spec)


def _run_trainer(evaluation: Evaluation, key: DataKey, spec: Path) -> Said:
    """Scores out of a trainer process.

    Raises:
        TrainerFailed: it said why it cannot, or as `ask_trainer`.
    """
    model_version = evaluation.model_version
    workflow = workflow_for(evaluation.workspace.domain, model_version.fine_tune.workflow)
    asked = ["--metric", evaluation.metric, *_room(model_version.fine_tune, workflow)]

    def heard(said: Sequence[events.Event]) -> None:
        if said and isinstance(said[-1], events.EvaluateProgress):
            _note_progress(evaluation, said[-1])

    *said, ended = ask_trainer(model_version, "evaluate", spec, key, asked, evaluation.pk, heard)
    if isinstance(ended, events.RunFailed):
        raise TrainerFailed(ended.code, f"{ended.message}; {ended.hint}")
    if not isinstance(ended, events.EvaluateFinished):
        raise TrainerFailed("trainer_killed", "The evaluating process ended without scores. Ask again.")
    kinds = events.PairsCompared | events.JudgementsCompared
    return Said(ended, next((each for each in said if isinstance(each, kinds)), None))


def _room(fine_tune: FineTune, workflow: Workflow) -> list[str]:
    """How long an answer may become. Free ones get what the held-out ones need, labels what a label needs."""
    if workflow.reads_fields:
        return ["--max-new-tokens", str(workflow.max_new_tokens)]
    if fine_tune.method.is_classifier:
        return ["--max-new-tokens", str(LABEL_TOKENS)]
    return ["--max-new-tokens", str(workflow.max_new_tokens), "--free"]


def _note_progress(evaluation: Evaluation, event: events.EvaluateProgress) -> None:
    done = event.done + (event.total if event.model == "tuned" else 0)
    Evaluation.objects.filter(pk=evaluation.pk).update(done_count=done, total_count=2 * event.total)


def _sealed(evaluation: Evaluation, finished: events.EvaluateFinished) -> SealedObject:
    """The predictions file as an object of the vault, moved to a name of this evaluation."""
    fine_tune = evaluation.model_version.fine_tune
    folder = run_folder(fine_tune)
    target = folder / f"predictions-{evaluation.pk}.sealed"
    (folder / "predictions.sealed").rename(target)
    return SealedObject(
        workspace=evaluation.workspace,
        key=evaluation.model_version.adapter.key,
        kind="predictions",
        bound_to=output_context(fine_tune)["object"],
        path=str(target.relative_to(settings.STEWARD_HOME)),
        plain_bytes=0,
        commitment=bytes.fromhex(finished.commitment),
        sealed_sha256=finished.sealed_digest,
    )
