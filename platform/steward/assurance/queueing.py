"""Making and queueing an evaluation, inside the action under way that asks for it."""

from steward.assurance.models import Evaluation
from steward.runs.dispatch import claim_devices
from steward.runs.models import ModelVersion
from steward.runs.shards import workflow_for


def queue_evaluation(model_version: ModelVersion, requested_by_id: int | None) -> Evaluation:
    """Makes and queues an evaluation inside the action under way."""
    fine_tune = model_version.fine_tune
    evaluation = Evaluation(
        workspace=model_version.workspace,
        model_version=model_version,
        metric=fine_tune.method.metric or workflow_for(model_version.workspace.domain, fine_tune.workflow).metric,
        total_count=2 * fine_tune.dataset_version.split_counts["test"],
        requested_by_id=requested_by_id,
    )
    evaluation.save(force_insert=True)
    claim_devices(
        workspace=evaluation.workspace,
        subject=evaluation.pk,
        task="assurance.run_evaluation",
        argument="evaluation_id",
        priority=fine_tune.priority,
    )
    return evaluation
