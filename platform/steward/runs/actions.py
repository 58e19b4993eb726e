"""Everything that changes fine-tunes, from the request to the model version."""

import contextlib
import json
from collections.abc import Mapping
from typing import Any

from django.conf import settings
from django.db import transaction
from django.utils import timezone

from compliance.canonical import sha256_digest
from steward.accounts.permissions import require
from steward.accounts.roles import Permission
from steward.audit.actor import Actor, Denied, Refused
from steward.audit.events import Event
from steward.audit.recording import audited, record
from steward.catalog.models import BaseModel
from steward.code import code_digest, library_versions
from steward.datasets.models import DatasetVersion, Split, Subject, VersionState
from steward.runs.dispatch import (
    claim_for,
    end_claim,
    present_pool,
    refuse_hopeless,
    wanted_devices,
    wanted_nodes,
)
from steward.runs.fitting import check_tools, parts_from_data
from steward.runs.methods import method_of
from steward.runs.models import DRIVEN_STATES, FineTune, ModelVersion, Priority, RunState
from steward.runs.recipes import merged_recipe, with_changes, within_positions, workflow_of
from steward.runs.sealed_outputs import sealed_outputs
from steward.runs.shards import Shard, workflow_for, write_shard
from steward.runs.signals import model_version_made
from steward.runs.specs import build_spec, discard_checkpoint, output_context, run_folder, write_spec
from steward.vault.keys import make_key
from steward.vault.models import KeyLevel, SealedObject
from steward.vault.objects import ObjectWriter, destroy_with_key, object_path, open_object
from trainers.events import RunFinished

CHUNK_BYTES = 1 << 20
# What a continued fine-tune takes from its parent unchanged: the shape of what is trained, and what is learnt.
KEPT_BY_CHILDREN = ("method", "way", "lora", "quantise", "prompt", "preference")


@audited(Event.FINE_TUNE_REQUESTED)
def request_fine_tune(
    *,
    actor: Actor,
    version: DatasetVersion,
    base_model: BaseModel,
    name: str,
    workflow: str = "",
    changes: Mapping[str, Any] | None = None,
    priority: int = Priority.NORMAL,
    cloned_from: FineTune | None = None,
) -> FineTune:
    """Queues a fine-tune of an approved version, or holds it for a second person where the policy wants one.

    Args:
        workflow: whose recipe, metric and gates apply; by default the dataset's own, else that for conversations.
        changes: values that replace those of the recipe, by their place in the training spec, e.g. {"epochs": 3};
            `method` and `way` among them.
        priority: its place in the queue for devices; above normal takes a permission.
        cloned_from: a run of the same workspace whose settings take the recipe's place, with `changes` on top; where
            another workflow is chosen, that one's recipe counts. It trains from the start all the same.

    Raises:
        Refused: the version is not approved, its records are not what the method or the model's template needs, the
            workflow is unknown, the recipe is not a valid spec, or the workspace may never have the devices.
    """
    return _request(actor, version, base_model, name, workflow, changes or {}, priority, cloned_from=cloned_from)


@audited(Event.FINE_TUNE_REQUESTED)
def continue_fine_tune(
    *, actor: Actor, parent: FineTune, epochs: int, name: str = "", changes: Mapping[str, Any] | None = None
) -> FineTune:
    """Queues a fine-tune that begins with the result of a finished one: same data, base model, method and way.

    The schedule and the optimiser begin anew; what the parent learnt is the start, and is shipped if nothing better
    comes of it.

    Args:
        epochs: more passes over the training records.
        changes: to the parent's recipe; what decides the shape of what is trained stays.

    Raises:
        Refused: the parent did not succeed, or as `request_fine_tune`.
    """
    require(actor, Permission.START_FINE_TUNE, parent.workspace, parent)
    if parent.state != RunState.SUCCEEDED:
        raise Refused(
            f"{parent} is {parent.get_state_display().lower()}. Only a fine-tune that succeeded can be continued.",
            code="wrong_state",
            subject=parent,
        )
    fixed = {name: parent.recipe[name] for name in KEPT_BY_CHILDREN if name in parent.recipe}
    strange = sorted(name for name in changes or {} if name in fixed and (changes or {})[name] != fixed[name])
    if strange:
        raise Refused(
            f"{', '.join(strange)}: a continued fine-tune keeps what decides the shape of the result. Start a new one.",
            code="recipe_invalid",
            subject=parent,
        )
    return _request(
        actor,
        parent.dataset_version,
        parent.base_model,
        name or f"{parent.name}, continued",
        parent.workflow,
        {**parent.recipe, "max_steps": None, **(changes or {}), "epochs": epochs},
        Priority.NORMAL,
        parent=parent,
    )


def _request(
    actor: Actor,
    version: DatasetVersion,
    base_model: BaseModel,
    name: str,
    workflow: str,
    changes: Mapping[str, Any],
    priority: int,
    *,
    parent: FineTune | None = None,
    cloned_from: FineTune | None = None,
) -> FineTune:
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
    chosen = workflow_of(workspace.domain, version.dataset.workflow, workflow)
    if cloned_from is not None:
        changes = _cloned_settings(cloned_from, version, chosen, changes)
    recipe = within_positions(merged_recipe(workspace.domain, chosen, changes, subject=version), base_model)
    check_tools(version, base_model)
    recipe |= parts_from_data(version, workflow_for(workspace.domain, chosen), method_of(recipe))
    if parent is not None and recipe.get("classification") != parent.recipe.get("classification"):
        raise Refused(
            f"The labels of {version} are not those that {parent} learnt. Start a new fine-tune.",
            code="labels_changed",
            subject=parent,
        )
    pool = present_pool()
    refuse_hopeless(workspace, pool, wanted_devices(recipe), subject=version, nodes=wanted_nodes(recipe))
    held = bool(workspace.policy["is_fine_tune_approval_required"])
    fine_tune = FineTune(
        workspace=workspace,
        name=name.strip()[:120],
        dataset_version=version,
        base_model=base_model,
        workflow=chosen,
        cloned_from=cloned_from,
        parent=parent,
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
        method=fine_tune.method.name,
        way=fine_tune.way.name,
        **({} if parent is None else {"parent": str(parent.pk), "parent_adapter": parent.model_version.adapter_digest}),
    )
    if not held:
        claim_for(fine_tune)
    return fine_tune


def _cloned_settings(
    source: FineTune, version: DatasetVersion, workflow: str, changes: Mapping[str, Any]
) -> dict[str, Any]:
    if source.workspace_id != version.workspace_id:
        raise Refused("A clone stays in the workspace of its source.", code="other_workspace", subject=version)
    return with_changes(source.recipe, changes) if workflow == source.workflow else dict(changes)


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
    claim_for(locked)
    return locked


@audited(Event.FINE_TUNE_DISPATCHED)
def dispatch_fine_tune(*, actor: Actor, fine_tune: FineTune) -> FineTune:
    """Makes the run's keys, seals its shards and writes its spec. The trainer starts after this has committed."""
    locked = _lock(fine_tune)
    if locked.state != RunState.QUEUED:
        raise Refused(f"{locked} is {locked.get_state_display().lower()}.", code="wrong_state", subject=locked)
    if locked.run_key is not None:  # it was paused: keys, shards and spec are there
        locked.state = RunState.RUNNING
        locked.save(update_fields=["state"])
        record(locked, attempt=locked.attempt + 1, device=locked.pool, code=code_digest())
        return locked
    locked.run_key = make_key(locked.workspace, KeyLevel.RUN, locked.dataset_version.dataset.key)
    locked.output_key = make_key(locked.workspace, KeyLevel.MODEL)
    with contextlib.ExitStack() as unless_dispatched:
        shards = []
        for split in (Split.TRAIN, Split.VALIDATION):
            shards.append(_seal_shard(locked, split))
            # Its row goes with the transaction; the file would stay for a week on a disk that is full already.
            unless_dispatched.callback(object_path(shards[-1].sealed).unlink, missing_ok=True)
        spec = build_spec(locked, {str(shard.split): shard.sealed for shard in shards}, start=_start(locked))
        written = write_spec(run_folder(locked), "spec.json", spec)
        unless_dispatched.pop_all()
    digest = sha256_digest(written.read_bytes())
    locked.facts = {"code_digest": code_digest(), "library_versions": library_versions()}
    locked.state = RunState.RUNNING
    locked.started_at = timezone.now()
    locked.save()
    counts = {str(shard.split): shard.records for shard in shards}
    record(locked, attempt=1, device=locked.pool, code=code_digest(), spec=digest, **counts)
    return locked


def _seal_shard(fine_tune: FineTune, split: Split) -> Shard:
    version = fine_tune.dataset_version
    assert fine_tune.run_key is not None
    workflow = workflow_for(fine_tune.workspace.domain, fine_tune.workflow)
    shard = write_shard(version, workflow, fine_tune.method, split, fine_tune.run_key)
    if not shard.records:
        raise Refused(
            f"{version} has no readable records in its {split.label.lower()} part. Import more records.",
            code="split_empty",
            subject=fine_tune,
        )
    shard.sealed.save(force_insert=True)
    return shard


@audited(Event.FINE_TUNE_RESUMED)
def note_resumed(*, actor: Actor, fine_tune: FineTune) -> None:
    """Records that a trainer had to be started again."""
    record(fine_tune, attempt=fine_tune.attempt, step=fine_tune.step)


def _start(fine_tune: FineTune) -> SealedObject | None:
    """The parent's result, sealed anew for this run: its trainer gets no key but its own."""
    if fine_tune.parent is None:
        return None
    assert fine_tune.run_key is not None
    with (
        open_object(fine_tune.parent.model_version.adapter) as source,
        ObjectWriter(fine_tune.workspace, fine_tune.run_key, "start", dataset=str(fine_tune.pk)) as writer,
    ):
        while chunk := source.read(CHUNK_BYTES):
            writer.write(chunk)
    writer.sealed.save(force_insert=True)
    return writer.sealed


@audited(Event.FINE_TUNE_PAUSE_REQUESTED)
def pause_fine_tune(*, actor: Actor, fine_tune: FineTune) -> FineTune:
    """Frees the device and keeps what was learnt: at once if it waits in the queue, within seconds if it runs.

    Its shards and its key stay, sealed, until it is resumed or cancelled.

    Raises:
        Refused: it neither runs nor is queued.
    """
    require(actor, Permission.START_FINE_TUNE, fine_tune.workspace, fine_tune)
    locked = _lock(fine_tune)
    if locked.state not in (RunState.QUEUED, RunState.RUNNING):
        raise Refused(
            f"{locked} is {locked.get_state_display().lower()}; only what runs or is queued can be paused.",
            code="wrong_state",
            subject=locked,
        )
    if locked.state == RunState.QUEUED:
        end_claim(locked.pk)
    locked.state = RunState.PAUSING if locked.state == RunState.RUNNING else RunState.PAUSED
    locked.save(update_fields=["state"])
    record(locked, step=locked.step)
    return locked


@audited(Event.FINE_TUNE_PAUSED)
def put_aside(
    *, actor: Actor, fine_tune: FineTune, has_checkpoint: bool, event_offset: int, code: str = "", message: str = ""
) -> FineTune:
    """Pauses a run whose trainer is gone: because somebody asked, or, with a code, because it cannot go on as it is.

    Args:
        has_checkpoint: whether it will go on from a step, or begin anew.
        event_offset: bytes of the event file that were read, the trainer's last word included.
        code: stable, as of a failure.
        message: why, and what a person does before it is resumed.

    Raises:
        Refused: it is over, about to be cancelled, or nobody asked and there is no code.
    """
    locked = _lock(fine_tune)
    unasked = (RunState.QUEUED, RunState.RUNNING) if code else ()
    if locked.state not in (RunState.PAUSING, *unasked):
        raise Refused(f"{locked} is {locked.get_state_display().lower()}.", code="wrong_state", subject=locked)
    locked.state, locked.event_offset = RunState.PAUSED, event_offset
    locked.process_id, locked.cluster_job = None, ""
    locked.failure_code, locked.failure = code, message[:600]
    locked.save(update_fields=["state", "event_offset", "process_id", "cluster_job", "failure_code", "failure"])
    record(locked, step=locked.step, has_checkpoint=has_checkpoint, code=code.replace(" ", "_") or None)
    return locked


@audited(Event.FINE_TUNE_RESUME_REQUESTED)
def resume_fine_tune(*, actor: Actor, fine_tune: FineTune) -> FineTune:
    """Queues a paused fine-tune; it goes on from its checkpoint.

    Raises:
        Refused: it is not paused, or somebody whose records it learns from was erased since it began.
    """
    require(actor, Permission.START_FINE_TUNE, fine_tune.workspace, fine_tune)
    locked = _lock(fine_tune)
    if locked.state != RunState.PAUSED:
        raise Refused(
            f"{locked} is {locked.get_state_display().lower()}, not paused.", code="wrong_state", subject=locked
        )
    erased = Subject.objects.filter(records__version=locked.dataset_version_id, shredded_at__gt=locked.created_at)
    if erased.exists():
        raise Refused(
            f"Records that {locked} learns from were erased since it began. Cancel it, which destroys its shards, "
            "and start a new one.",
            code="records_erased",
            subject=locked,
        )
    locked.state, locked.failure_code, locked.failure = RunState.QUEUED, "", ""
    locked.save(update_fields=["state", "failure_code", "failure"])
    record(locked, step=locked.step)
    claim_for(locked)
    return locked


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
    record(locked, step=locked.step)
    if locked.state in DRIVEN_STATES:
        locked.state = RunState.CANCELLING
        locked.save(update_fields=["state"])
        return locked
    end_claim(locked.pk)
    if locked.run_key is None:
        locked.state, locked.finished_at = RunState.CANCELLED, timezone.now()
        locked.failure_code = locked.failure = ""
        locked.save(update_fields=["state", "finished_at", "failure_code", "failure"])
        return locked
    transaction.on_commit(lambda: discard_checkpoint(locked))
    return _end(locked, RunState.CANCELLED)


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
        "failure_code": "",
        "failure": "",
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
