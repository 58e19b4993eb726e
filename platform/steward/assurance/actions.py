"""Everything that changes evaluations and gate results."""

from django.utils import timezone

from steward.accounts.permissions import require
from steward.accounts.roles import Permission
from steward.assurance.gates import GateOutcome
from steward.assurance.judgement import Judgement
from steward.assurance.models import Evaluation, EvaluationState, GateResult, GateState
from steward.assurance.queueing import queue_evaluation
from steward.audit.actor import Actor, Refused
from steward.audit.events import Event
from steward.audit.recording import audited, record
from steward.runs.models import ModelVersion
from steward.vault.models import DataKey, SealedObject
from steward.vault.objects import destroy_with_key
from trainers.events import EvaluateFinished


@audited(Event.EVALUATION_REQUESTED)
def request_evaluation(*, actor: Actor, model_version: ModelVersion) -> Evaluation:
    """Queues another evaluation of a model version; the first one is queued by its fine-tune.

    Raises:
        Refused: one is under way.
    """
    require(actor, Permission.EVALUATE_MODEL, model_version.workspace, model_version)
    locked = ModelVersion.objects.select_for_update().get(pk=model_version.pk)
    if Evaluation.objects.filter(model_version=locked, state=EvaluationState.RUNNING).exists():
        raise Refused(
            "This model is being evaluated already. Wait for it to end.", code="already_running", subject=locked
        )
    evaluation = queue_evaluation(locked, actor.user_id)
    record(evaluation)
    return evaluation


@audited(Event.EVALUATION_FINISHED)
def finish_evaluation(
    *,
    actor: Actor,
    evaluation: Evaluation,
    finished: EvaluateFinished,
    judgement: Judgement,
    predictions: SealedObject,
    key: DataKey,
) -> Evaluation:
    """Stores scores and intervals, and destroys the shard the models were tested on.

    Args:
        judgement: what the answers are worth.
        predictions: the sealed predictions, not yet saved.
        key: the key the test shard was sealed with; destroyed with it.
    """
    locked = Evaluation.objects.select_for_update().get(pk=evaluation.pk)
    if locked.state != EvaluationState.RUNNING:
        raise Refused("This evaluation is over.", code="wrong_state", subject=locked)
    base, tuned = judgement.base, judgement.tuned
    locked.measures, locked.baseline = judgement.measures, judgement.baseline
    for name, interval in judgement.intervals().items():
        setattr(locked, f"{name}_score", interval.estimate)
        setattr(locked, f"{name}_low", interval.low)
        setattr(locked, f"{name}_high", interval.high)
    predictions.save(force_insert=True)
    locked.predictions = predictions
    locked.base_loss, locked.tuned_loss = finished.base_loss, finished.tuned_loss
    locked.record_count, locked.shortened_count = len(base), finished.shortened
    locked.done_count = locked.total_count = 2 * len(base)
    locked.scores = {"ids": finished.ids, "base": base, "tuned": tuned}
    if judgement.parts:
        locked.scores["parts"] = judgement.parts
    if judgement.further:
        locked.scores["further"] = judgement.further
    locked.state = EvaluationState.DONE
    locked.finished_at = timezone.now()
    locked.save()
    destroy_with_key(key)
    record(
        locked,
        records=len(base),
        metric=locked.metric,
        base_ppm=round(1e6 * (locked.base_score or 0)),
        tuned_ppm=round(1e6 * (locked.tuned_score or 0)),
        gain_low_ppm=round(1e6 * (locked.gain_low or 0)),
    )
    return locked


@audited(Event.EVALUATION_FAILED)
def fail_evaluation(
    *, actor: Actor, evaluation: Evaluation, code: str, message: str, key: DataKey | None
) -> Evaluation:
    """Ends an evaluation that could not be done."""
    locked = Evaluation.objects.select_for_update().get(pk=evaluation.pk)
    locked.state = EvaluationState.FAILED
    locked.failure = message[:600]
    locked.finished_at = timezone.now()
    locked.save()
    if key is not None:
        destroy_with_key(key)
    record(locked, code=code.replace(" ", "_"))
    return locked


@audited(Event.GATES_RUN)
def store_gates(*, actor: Actor, evaluation: Evaluation, outcomes: list[GateOutcome]) -> list[GateResult]:
    """Stores what every gate of the workflow found. A gate without a figure has failed."""
    locked = Evaluation.objects.select_for_update().get(pk=evaluation.pk)
    results = [
        GateResult(
            workspace=locked.workspace,
            model_version=locked.model_version,
            evaluation=locked,
            adapter_digest=locked.model_version.adapter_digest,
            gate=outcome.gate.name,
            title=outcome.gate.title,
            state=outcome.state,
            figure=outcome.figure,
            threshold=outcome.gate.threshold,
            explanation=outcome.explanation,
            limits=outcome.limits,
        )
        for outcome in outcomes
    ]
    GateResult.objects.bulk_create(results)
    passed = sum(result.state == GateState.PASSED for result in results)
    record(locked, passed=passed, failed=len(results) - passed)
    return results
