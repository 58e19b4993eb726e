"""The evaluation job: base and tuned on the held-out records, then the gates.

Guarantees that a killed job can run again from the start, and that the test shard and its key are destroyed at the
end. Scores come as events; texts stay sealed.
"""

import subprocess
from pathlib import Path

from django.conf import settings
from django.db import transaction

from compliance.vault import VaultError
from steward.assurance import actions
from steward.assurance.gates import run_gates
from steward.assurance.models import Evaluation, EvaluationState
from steward.audit.actor import Actor, UserError
from steward.datasets.models import Split
from steward.recovery import CONNECTION_LOST, unforeseen
from steward.runs.processes import key_line
from steward.runs.shards import workflow_for, write_shard
from steward.runs.specs import build_spec, output_context, run_folder, write_spec
from steward.trainer_process import trainer_command, trainer_environment
from steward.vault.keys import make_key, open_key
from steward.vault.models import DataKey, KeyLevel, SealedObject
from trainers import events

WORKER = Actor.system("worker")


class TrainerFailed(Exception):
    """The evaluating process ended without scores."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


def evaluate(evaluation_id: str) -> Evaluation:
    """Carries out an evaluation and its gates; does nothing if it is over."""
    evaluation = _load(evaluation_id)
    if evaluation.state == EvaluationState.RUNNING:
        key: DataKey | None = None
        try:
            key, spec = _prepare(evaluation)
            finished = _run_trainer(evaluation, key, spec)
            evaluation = actions.finish_evaluation(
                actor=WORKER,
                evaluation=evaluation,
                finished=finished,
                predictions=_sealed(evaluation, finished),
                key=key,
            )
        except (TrainerFailed, UserError, VaultError, OSError) as error:
            return _fail(evaluation, getattr(error, "code", type(error).__name__), str(error), key)
        except CONNECTION_LOST:
            raise
        except Exception as error:
            _fail(evaluation, type(error).__name__, unforeseen(error), key)
            raise
    evaluation = _load(evaluation_id)
    if evaluation.state == EvaluationState.DONE and not evaluation.gate_results.exists():
        actions.store_gates(actor=WORKER, evaluation=evaluation, outcomes=run_gates(evaluation))
    return evaluation


def _fail(evaluation: Evaluation, code: str, message: str, key: DataKey | None) -> Evaluation:
    return actions.fail_evaluation(actor=WORKER, evaluation=evaluation, code=code, message=message, key=key)


def _load(evaluation_id: str) -> Evaluation:
    return Evaluation.objects.select_related(
        "workspace",
        "predictions__key",
        "model_version__adapter__key",
        "model_version__fine_tune__dataset_version__dataset__key",
        "model_version__fine_tune__dataset_version__redaction",
        "model_version__fine_tune__base_model",
    ).get(pk=evaluation_id)


def _prepare(evaluation: Evaluation) -> tuple[DataKey, Path]:
    """Seals the test records under a fresh key and writes the spec."""
    fine_tune = evaluation.model_version.fine_tune
    version = fine_tune.dataset_version
    workflow = workflow_for(evaluation.workspace.domain, fine_tune.workflow)
    with transaction.atomic():
        key = make_key(evaluation.workspace, KeyLevel.RUN, version.dataset.key)
        shard = write_shard(version, workflow, Split.TEST, key)
        shard.sealed.save(force_insert=True)
    if not shard.records:
        raise TrainerFailed("split_empty", "The version has no readable held-out records; there is nothing to test on.")
    test = shard.sealed
    # The trainer reads the test shard only; the run's own shards are destroyed, so it stands in for them.
    spec = build_spec(fine_tune, {"train": test, "validation": test, "test": test})
    return key, write_spec(run_folder(fine_tune), f"evaluate-{evaluation.pk}.json", spec)


def _run_trainer(evaluation: Evaluation, key: DataKey, spec: Path) -> events.EvaluateFinished:
    fine_tune = evaluation.model_version.fine_tune
    workflow = workflow_for(evaluation.workspace.domain, fine_tune.workflow)
    command = trainer_command("evaluate", "--spec", str(spec), "--out", str(run_folder(fine_tune)))
    command += ["--metric", evaluation.metric, "--max-new-tokens", str(workflow.max_new_tokens)]
    with (
        open(run_folder(fine_tune) / "trainer.log", "ab") as log,
        subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            env=trainer_environment(),
            cwd=spec.parent,
        ) as process,
    ):
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(key_line(open_key(key), open_key(evaluation.model_version.adapter.key)))
        process.stdin.close()
        ended: events.Event | None = None
        for line in process.stdout:
            event = events.decode(line.decode())
            if isinstance(event, events.EvaluateProgress):
                _note_progress(evaluation, event)
            ended = event
    if isinstance(ended, events.EvaluateFinished):
        return ended
    if isinstance(ended, events.RunFailed):
        raise TrainerFailed(ended.code, f"{ended.message} {ended.hint}")
    raise TrainerFailed("trainer_killed", "The evaluating process was killed. Ask for the evaluation again.")


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
