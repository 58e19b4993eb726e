"""Everything that changes fine-tunes, from the request to the model version."""

import json
from collections.abc import Mapping
from typing import Any

from django.conf import settings
from django.utils import timezone

from compliance.canonical import sha256_digest
from domains.packs import load_pack
from steward.accounts.permissions import require
from steward.accounts.roles import Permission
from steward.audit.actor import Actor, Denied, Refused
from steward.audit.events import Event
from steward.audit.recording import audited, record
from steward.catalog.models import BaseModel
from steward.code import code_digest, library_versions
from steward.datasets.models import DatasetVersion, Split, VersionState
from steward.runs.dispatch import claim_devices, end_claim, refuse_hopeless, wanted_devices
from steward.runs.models import FineTune, ModelVersion, Pool, Priority, RunState
from steward.runs.recipes import merged_recipe, with_changes
from steward.runs.sealed_outputs import sealed_outputs
from steward.runs.shards import workflow_for, write_shard
from steward.runs.signals import model_version_made
from steward.runs.specs import build_spec, output_context, run_folder, write_spec
from steward.vault.keys import make_key
from steward.vault.models import KeyLevel, SealedObject
from steward.vault.objects import destroy_with_key
from trainers.events import RunFinished


@audited(Event.FINE_TUNE_REQUESTED)
def request_fine_tune(
    *,
    actor: Actor,
    version: DatasetVersion,
    base_model: BaseModel,
    name: str,
    workflow: str = "",
    changes: dict[str, Any] | None = None,
    priority: int = Priority.NORMAL,
    cloned_from: FineTune | None = None,
) -> FineTune:
    """Queues a fine-tune of an approved version, or holds it for a second person where the policy wants one.

    Args:
        workflow: whose recipe, metric and gates apply; by default the dataset's own, else the domain's demo workflow.
        changes: values that replace those of the recipe, by their place in the training spec, e.g. {"epochs": 3}.
        priority: its place in the queue for devices; above normal takes a permission.
        cloned_from: a run of the same workspace whose settings take the recipe's place, with `changes` on top; where
            another workflow is chosen, that one's recipe counts. It trains from the start all the same.

    Raises:
        Refused: the version is not approved, the workflow is unknown, the recipe is not a valid spec, or the workspace
            may never have the devices.
    """
    workspace = version.workspace
    require(actor, Permission.START_FINE_TUNE, workspace, version)
    if priority > Priority.NORMAL:
        require(actor, Permission.RAISE_PRIORITY, workspace, version)
    if DatasetVersion.objects.select_for_update().get(pk=version.pk).state != VersionState.APPROVED:
        raise Refused(
            f"{version} is {version.get_state_display().lower()}. Only an approved dataset version can be trained on; "
            "a compliance officer approves it on the dataset's page.",
            code="not_approved",
            subject=version,
        )
    if not name.strip():
        raise Refused("Give the fine-tune a name.", code="name_missing", subject=version)
    chosen = workflow or version.dataset.workflow or load_pack(workspace.domain).demo_workflow
    if cloned_from is not None:
        changes = _cloned_settings(cloned_from, version, chosen, changes or {})
    recipe = merged_recipe(workspace.domain, chosen, changes or {}, subject=version)
    pool = Pool(settings.STEWARD_LAUNCHER)
    refuse_hopeless(workspace, pool, wanted_devices(recipe), subject=version)
    held = bool(workspace.policy["is_fine_tune_approval_required"])
    fine_tune = FineTune(
        workspace=workspace,
        name=name.strip()[:120],
        dataset_version=version,
        base_model=base_model,
        workflow=chosen,
        cloned_from=cloned_from,
        recipe=recipe,
        state=RunState.AWAITING_APPROVAL if held else RunState.QUEUED,
        priority=priority,
        pool=pool,
        requested_by_id=actor.user_id,
    )
    fine_tune.save(force_insert=True)
    record(
        fine_tune,
        base_model=base_model.digest,
        dataset_version=version.content_digest,
        spec=sha256_digest(json.dumps(recipe, sort_keys=True).encode()),
        workflow=chosen,
        priority=Priority(priority).name.lower(),
        cloned_from=None if cloned_from is None else str(cloned_from.pk),
    )
    if not held:
        _queue(fine_tune)
    return fine_tune


def _cloned_settings(
    source: FineTune, version: DatasetVersion, workflow: str, changes: Mapping[str, Any]
) -> dict[str, Any]:
    if source.workspace_id != version.workspace_id:
        raise Refused("A clone stays in the workspace of its source.", code="other_workspace", subject=version)
    return with_changes(source.recipe, changes) if workflow == source.workflow else dict(changes)


def _queue(fine_tune: FineTune) -> None:
    claim_devices(
        workspace=fine_tune.workspace,
        subject=fine_tune.pk,
        task="runs.drive_fine_tune",
        argument="fine_tune_id",
        priority=fine_tune.priority,
        wanted=wanted_devices(fine_tune.recipe),
        pool=fine_tune.pool,
    )


@audited(Event.FINE_TUNE_APPROVED)
def approve_fine_tune(*, actor: Actor, fine_tune: FineTune) -> FineTune:
    """Lets a held fine-tune start; by an officer who did not ask for it."""
    require(actor, Permission.APPROVE_DATASET, fine_tune.workspace, fine_tune)
    locked = _lock(fine_tune)
    if locked.requested_by_id == actor.user_id:
        raise Denied(
            "You asked for this fine-tune; another officer has to approve it.", code="same_person", subject=locked
        )
    if locked.state != RunState.AWAITING_APPROVAL:
        raise Refused(f"{locked} does not wait for an approval.", code="wrong_state", subject=locked)
    locked.state = RunState.QUEUED
    locked.save(update_fields=["state"])
    record(locked)
    _queue(locked)
    return locked


@audited(Event.FINE_TUNE_DISPATCHED)
def dispatch_fine_tune(*, actor: Actor, fine_tune: FineTune) -> FineTune:
    """Makes the run's keys, seals its shards and writes its spec. The trainer starts after this has committed."""
    locked = _lock(fine_tune)
    if locked.state != RunState.QUEUED:
        raise Refused(f"{locked} is {locked.get_state_display().lower()}.", code="wrong_state", subject=locked)
    version = locked.dataset_version
    workflow = workflow_for(locked.workspace.domain, locked.workflow)
    locked.run_key = make_key(locked.workspace, KeyLevel.RUN, version.dataset.key)
    locked.output_key = make_key(locked.workspace, KeyLevel.MODEL)
    shards = [write_shard(version, workflow, split, locked.run_key) for split in (Split.TRAIN, Split.VALIDATION)]
    counts = {str(shard.split): shard.records for shard in shards}
    for shard in shards:
        if not shard.records:
            raise Refused(
                f"{version} has no readable records in its {shard.split.label.lower()} part. Import more records.",
                code="split_empty",
                subject=locked,
            )
        shard.sealed.save(force_insert=True)
    spec = build_spec(locked, {str(shard.split): shard.sealed for shard in shards})
    written = write_spec(run_folder(locked), "spec.json", spec)
    digest = sha256_digest(written.read_bytes())
    locked.facts = {"code_digest": code_digest(), "library_versions": library_versions()}
    locked.state = RunState.RUNNING
    locked.started_at = timezone.now()
    locked.save()
    record(locked, attempt=1, device=locked.pool, code=code_digest(), spec=digest, **counts)
    return locked


@audited(Event.FINE_TUNE_RESUMED)
def note_resumed(*, actor: Actor, fine_tune: FineTune) -> None:
    """Records that a trainer had to be started again."""
    record(fine_tune, attempt=fine_tune.attempt, step=fine_tune.step)


@audited(Event.FINE_TUNE_CANCELLED)
def cancel_fine_tune(*, actor: Actor, fine_tune: FineTune) -> FineTune:
    """Stops a fine-tune: at once if it waits, within seconds if it runs.

    Raises:
        Refused: it is over.
    """
    require(actor, Permission.START_FINE_TUNE, fine_tune.workspace, fine_tune)
    locked = _lock(fine_tune)
    if locked.is_over:
        raise Refused(f"{locked} is over.", code="wrong_state", subject=locked)
    if locked.state == RunState.RUNNING:
        locked.state = RunState.CANCELLING
    elif locked.state != RunState.CANCELLING:
        locked.state = RunState.CANCELLED
        locked.finished_at = timezone.now()
        end_claim(locked.pk)
    locked.save(update_fields=["state", "finished_at"])
    record(locked, step=locked.step)
    return locked


@audited(Event.SHARDS_DESTROYED)
def finish_cancelled(*, actor: Actor, fine_tune: FineTune) -> FineTune:
    """Ends a cancelled run once its trainer is gone, and destroys its shards."""
    return _end(fine_tune, RunState.CANCELLED)


@audited(Event.FINE_TUNE_FAILED)
def fail_fine_tune(*, actor: Actor, fine_tune: FineTune, code: str, message: str) -> FineTune:
    """Ends a run that failed, says why, and destroys its shards."""
    record(fine_tune, code=code.replace(" ", "_"), step=fine_tune.step)
    return _end(fine_tune, RunState.FAILED, failure_code=code, failure=message[:600])


@audited(Event.FINE_TUNE_SUCCEEDED)
def finish_fine_tune(*, actor: Actor, fine_tune: FineTune, finished: RunFinished) -> FineTune:
    """Ends a run that finished: registers its adapter as a model version, destroys the shards, queues the evaluation.

    Raises:
        Refused: another run yielded the very same adapter.
    """
    locked = _lock(fine_tune)
    record(
        locked,
        after=finished.adapter_digest,
        steps=finished.step,
        tokens=finished.tokens,
        seconds=round(finished.seconds),
        best_step=finished.best_step,
    )
    adapter = SealedObject(
        workspace=locked.workspace,
        key=locked.output_key,
        kind="adapter",
        bound_to=output_context(locked)["object"],
        path=str((run_folder(locked) / "adapter.sealed").relative_to(settings.STEWARD_HOME)),
        plain_bytes=finished.adapter_bytes,
        commitment=bytes.fromhex(finished.commitment),
        sealed_sha256=finished.sealed_digest,
    )
    for output in (adapter, *sealed_outputs(locked)):
        output.save(force_insert=True)
    model_version = ModelVersion(
        workspace=locked.workspace, fine_tune=locked, adapter=adapter, adapter_digest=finished.adapter_digest
    )
    model_version.save(force_insert=True)
    model_version_made.send(ModelVersion, model_version=model_version)
    return _end(
        locked,
        RunState.SUCCEEDED,
        best_step=finished.best_step,
        best_loss=finished.best_loss,
        tokens=finished.tokens,
        train_seconds=finished.seconds,
        flops=float(finished.flops),
        facts=locked.facts | {"peak_memory_bytes": finished.memory_bytes, "stopped_early": finished.stopped_early},
    )


def _lock(fine_tune: FineTune) -> FineTune:
    rows = FineTune.objects.select_for_update(of=("self",)).select_related(
        "workspace", "dataset_version__dataset__key", "base_model", "run_key", "output_key"
    )
    return rows.get(pk=fine_tune.pk)


def _end(fine_tune: FineTune, state: RunState, **changes: Any) -> FineTune:
    """Sets the final state and destroys the run's key and shards: nothing of the training data outlives the run."""
    locked = _lock(fine_tune)
    for name, value in {
        "state": state,
        "finished_at": timezone.now(),
        "process_id": None,
        "cluster_job": "",
        **changes,
    }.items():
        setattr(locked, name, value)
    locked.save()
    destroyed = 0
    if locked.run_key is not None and locked.run_key.wrapped is not None:
        destroyed = destroy_with_key(locked.run_key)
    record(locked, event=Event.SHARDS_DESTROYED, objects=destroyed)
    return locked


@audited(Event.CHAT_OPENED)
def open_chat(*, actor: Actor, model_version: ModelVersion) -> None:
    """Records that somebody starts talking to a model version. What is said is not recorded."""
    require(actor, Permission.CHAT, model_version.workspace, model_version)
    record(model_version)
