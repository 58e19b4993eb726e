"""Driving one fine-tune from queue to end: launch, follow its events, restart what was killed.

Guarantees that killing the worker or the trainer at any moment loses nothing but seconds: a later call attaches to a
living trainer, or starts one that resumes from the last checkpoint. Three trainers that die without a word are a
failure; one that its place gave up before it had room to begin has not died, and is asked for anew. Each event is
applied once, together with the file position behind it. A paused run has no trainer and waits for whoever resumes it;
its next trainer goes on from the checkpoint. A run that cannot go on for a reason outside of it keeps its checkpoint:
it is paused with the reason, and so is every run that a full disk stops, also before its first checkpoint.
"""

import math
import time
from pathlib import Path

from django.db import transaction
from django.utils import timezone

from compliance.vault import VaultError
from steward.audit.actor import Actor, Refused, UserError
from steward.recovery import CONNECTION_LOST, unforeseen
from steward.runs import actions, disk
from steward.runs.curves import QUANTITIES
from steward.runs.dispatch import WAITING
from steward.runs.launchers import Launcher, LaunchError, launcher_of
from steward.runs.models import DRIVEN_STATES, FineTune, Measurement, RunState
from steward.runs.processes import key_line
from steward.runs.sealed_outputs import ANSWERS, facts_of, part_of, with_answers
from steward.runs.specs import checkpoint_of, discard_checkpoint, run_folder
from steward.vault.keys import open_key
from trainers import events
from trainers.saved_step import saved_step
from trainers.spec import SpecError

WORKER = Actor.system("worker")
ADVICE = "advice"
POLL_SECONDS = 0.5
MAX_SILENT_DEATHS = 3
MAX_LINE_BYTES = 8 << 20
# Source: trainers.keys, what a trainer says when stdin ends without a key.
NO_KEYS = "keys.missing"
# Source: trainers.parallel, what is left to say when one of several processes was killed.
ONE_LOST = "parallel.lost"
#: Begins the codes of what went wrong between a cluster and the run, which the run is not to blame for.
OF_THE_CLUSTER = "remote."


def drive(fine_tune_id: str) -> FineTune:
    """Brings a fine-tune to its end, or aside, from wherever it is. Blocks while it trains.

    Of one that is over no checkpoint is left.
    """
    try:
        fine_tune = _drive(fine_tune_id)
    except CONNECTION_LOST:
        raise
    except Exception as error:
        fine_tune = _load(fine_tune_id)
        if not fine_tune.is_over:
            code = type(error).__name__
            actions.fail_fine_tune(actor=WORKER, fine_tune=fine_tune, code=code, message=unforeseen(error))
        raise
    if fine_tune.is_over:
        discard_checkpoint(fine_tune)  # only now: until the end is committed, a killed worker's successor needs it
    return fine_tune


def _drive(fine_tune_id: str) -> FineTune:
    fine_tune = _load(fine_tune_id)
    if fine_tune.state == RunState.QUEUED:
        fine_tune = _dispatch(fine_tune)
    launcher = launcher_of(fine_tune)
    try:
        return _follow(fine_tune, launcher)
    except OSError as error:
        if not disk.is_to_blame(error):
            raise
        fine_tune = _load(fine_tune_id)
        launcher.abandon(fine_tune)
        return _pause(fine_tune, disk.UNUSABLE, disk.in_words(error))


def _dispatch(fine_tune: FineTune) -> FineTune:
    """Lets a queued run begin; it is another state's where that went wrong."""
    try:
        return actions.dispatch_fine_tune(actor=WORKER, fine_tune=fine_tune)
    except (UserError, VaultError, SpecError) as error:
        code, message = getattr(error, "code", "dispatch_failed"), str(error)
    except OSError as error:
        if not disk.is_to_blame(error):
            raise
        code, message = disk.UNUSABLE, disk.in_words(error)
    fine_tune = _load(str(fine_tune.pk))
    if fine_tune.state != RunState.QUEUED:  # cancelled or paused a moment ago
        return fine_tune
    if code in disk.CODES:
        return _pause(fine_tune, code, message)
    return actions.fail_fine_tune(actor=WORKER, fine_tune=fine_tune, code=code, message=message)


def _follow(fine_tune: FineTune, launcher: Launcher) -> FineTune:
    silent_deaths = 0
    while fine_tune.state in DRIVEN_STATES:
        if not launcher.is_alive(fine_tune):
            launcher.follow(fine_tune)
            if ended := _apply_new_events(fine_tune):
                return _finish(fine_tune, ended, launcher)
            if fine_tune.state == RunState.CANCELLING:
                return actions.finish_cancelled(actor=WORKER, fine_tune=fine_tune)
            if fine_tune.state == RunState.PAUSING:
                return _pause(fine_tune)
            # A trainer that finds no room for a word ends without one, and the next one would do no better.
            if lacking := disk.lacking(fine_tune):
                return _pause(fine_tune, disk.UNUSABLE, lacking)
            if silent_deaths == MAX_SILENT_DEATHS:
                message = "The trainer was killed again and again. Is memory or disk short? See `manage.py doctor`."
                return _stop_short(fine_tune, "trainer_killed", message)
            silent_deaths += fine_tune.was_launched and not launcher.never_began(fine_tune)
            try:
                _launch(fine_tune, launcher)
            except LaunchError as error:
                return _stop_short(fine_tune, error.code, str(error))
        launcher.follow(fine_tune)
        ended = _apply_new_events(fine_tune)
        if ended:
            return _finish(fine_tune, ended, launcher)
        time.sleep(POLL_SECONDS)
        fine_tune = _load(str(fine_tune.pk))
        if fine_tune.state == RunState.CANCELLING:
            launcher.cancel(fine_tune)
        if fine_tune.state == RunState.PAUSING:
            launcher.pause(fine_tune)
    return fine_tune


def _load(fine_tune_id: str) -> FineTune:
    return FineTune.objects.select_related(
        "run_key", "output_key", "base_model", "dataset_version__dataset__key", "workspace"
    ).get(pk=fine_tune_id)


def _launch(fine_tune: FineTune, launcher: Launcher) -> None:
    """Starts a trainer, which is remembered before it can have done anything."""
    assert fine_tune.run_key is not None
    assert fine_tune.output_key is not None
    before = fine_tune.attempt
    launcher.start(fine_tune, key_line(open_key(fine_tune.run_key), open_key(fine_tune.output_key)))
    if fine_tune.attempt > max(before, 1):
        actions.note_resumed(actor=WORKER, fine_tune=fine_tune)


def _apply_new_events(fine_tune: FineTune) -> events.Event | None:
    """Applies what the trainer has said since last time; returns the event that ended the run, if it came."""
    path = run_folder(fine_tune) / "events.jsonl"
    if not path.exists():
        return None
    lines, offset = _whole_lines(path, fine_tune.event_offset)
    if not lines:
        return None
    ended: events.Event | None = None
    with transaction.atomic():
        measurements: dict[tuple[str, int], Measurement] = {}
        for line in lines:
            event = events.decode(line.decode())
            _apply(fine_tune, event, measurements)
            if _is_end(event, fine_tune):
                ended = event
        for measurement in measurements.values():
            measurement.event_offset = offset
        Measurement.objects.bulk_create(
            measurements.values(),
            update_conflicts=True,
            unique_fields=["fine_tune", "split", "step"],
            update_fields=["attempt", *QUANTITIES, "eta_seconds", "event_offset", "at"],
        )
        fine_tune.heartbeat_at = timezone.now()
        if ended is None:  # the offset behind the last event is stored by the action that finishes the run
            fine_tune.event_offset = offset
        fine_tune.save(
            update_fields=["heartbeat_at", "event_offset", "step", "steps", "tokens", "best_step", "best_loss", "facts"]
        )
    return ended


def _is_end(event: events.Event, fine_tune: FineTune) -> bool:
    """Whether the run ended with this event, or was put aside."""
    if isinstance(event, events.RunPaused):
        return fine_tune.state != RunState.RUNNING  # nobody asked for it: its trainer is started again
    if isinstance(event, events.RunFailed):
        # Its worker was killed before it could hand the keys over, or a part of it was: another one begins.
        return event.code not in (NO_KEYS, ONE_LOST)
    return isinstance(event, events.RunFinished | events.RunCancelled)


def _whole_lines(path: Path, offset: int) -> tuple[list[bytes], int]:
    """The complete lines behind `offset`, and the offset behind them. Half a line waits for its rest."""
    with open(path, "rb") as file:
        file.seek(offset)
        data = file.read(MAX_LINE_BYTES)
    end = data.rfind(b"\n") + 1
    return data[:end].splitlines(), offset + end


def _apply(fine_tune: FineTune, event: events.Event, measurements: dict[tuple[str, int], Measurement]) -> None:
    if isinstance(event, events.RemoteListening | events.DataLoaded):
        fine_tune.facts.pop(WAITING, None)  # it has the machines, perhaps in an attempt that never had to wait
    match event:
        case events.RemoteWaiting():
            fine_tune.facts[WAITING] = {"wanted": event.wanted, "large": event.nodes}
        case events.RunStarted():
            fine_tune.steps = event.steps
            fine_tune.facts |= {
                "device": event.device,
                "precision": event.precision,
                "precision_reason": event.precision_reason,
                "packing": event.packing,
                "packing_reason": event.packing_reason,
                "parameters": event.parameters,
                "trainable": event.trainable,
            }
        case events.RunAdvised():
            said = {"message": event.message, "hint": event.hint}
            fine_tune.facts[ADVICE] = fine_tune.facts.get(ADVICE, {}) | {event.code: said}
        case events.FitChecked():
            fine_tune.facts["fit"] = {
                "fits": event.fits,
                "memory_bytes": event.memory_bytes,
                "free_bytes": event.free_bytes,
                "micro_tokens": event.micro_tokens,
                "is_recomputed": event.recompute,
                "seconds": event.seconds if math.isfinite(event.seconds) else None,
                "advice": event.advice,
                "tokens": event.tokens,
                "passes": event.passes,
            }
        case events.DataLoaded():
            fine_tune.facts[f"data_{event.split}"] = {
                "records": event.records,
                "tokens": event.tokens,
                "supervised": event.supervised,
                "longest": event.longest,
                "truncated": event.truncated,
                "refused": event.refused,
            }
        case events.TrainStep():
            fine_tune.step, fine_tune.steps, fine_tune.tokens = event.step, event.steps, event.tokens
            if math.isfinite(event.loss):
                measurements["train", event.step] = Measurement(
                    fine_tune=fine_tune,
                    attempt=fine_tune.attempt,
                    split="train",
                    step=event.step,
                    loss=event.loss,
                    learning_rate=event.learning_rate,
                    grad_norm=event.grad_norm if math.isfinite(event.grad_norm) else None,
                    tokens_per_second=event.tokens_per_second,
                    memory_bytes=event.memory_bytes,
                    temperature_celsius=event.temperature_celsius,
                    power_watts=event.power_watts,
                    eta_seconds=event.eta_seconds,
                )
        case events.EvalLoss():
            if event.best:
                fine_tune.best_step, fine_tune.best_loss = event.step, event.loss
            measurements["validation", event.step] = Measurement(
                fine_tune=fine_tune, attempt=fine_tune.attempt, split="validation", step=event.step, loss=event.loss
            )
        case events.AnswersMeasured():
            fine_tune.facts[ANSWERS] = with_answers(fine_tune, event)
            if math.isfinite(event.score):
                _evaluated(fine_tune, event.step, measurements).score = event.score
        case events.RecordsMeasured() | events.TrainRecordsMeasured():
            fine_tune.facts[part_of(event)] = facts_of(event)
        case _:
            pass  # the other events end the run (see `_finish`) or tell of checkpoints, which resuming finds itself


def _evaluated(fine_tune: FineTune, step: int, measurements: dict[tuple[str, int], Measurement]) -> Measurement:
    """The point of the evaluation after `step`, whose loss was told a moment ago, perhaps in an earlier reading."""
    place = ("validation", step)
    if place not in measurements:
        told = Measurement.objects.get(fine_tune=fine_tune, split="validation", step=step)
        measurements[place] = Measurement(
            fine_tune=fine_tune, attempt=told.attempt, split="validation", step=step, loss=told.loss
        )
    return measurements[place]


def _pause(fine_tune: FineTune, code: str = "", why: str = "") -> FineTune:
    """Puts a run aside whose trainer is gone, behind everything that it said; with a code if nobody asked for it."""
    said = run_folder(fine_tune) / "events.jsonl"
    _, offset = _whole_lines(said, fine_tune.event_offset) if said.exists() else ([], 0)
    step, has_checkpoint = saved_step(run_folder(fine_tune))
    place = f"It goes on after step {step}" if has_checkpoint else "Nothing was kept of it yet: it begins anew"
    try:
        return actions.put_aside(
            actor=WORKER,
            fine_tune=fine_tune,
            has_checkpoint=has_checkpoint,
            event_offset=offset,
            code=code,
            message=code and f"{why.rstrip('.')}. {place} when it is resumed.",
        )
    except Refused:  # cancelled a moment ago
        return actions.finish_cancelled(actor=WORKER, fine_tune=fine_tune)


def _stop_short(fine_tune: FineTune, code: str, why: str) -> FineTune:
    """Ends a run for a reason outside of it; one that has a checkpoint is put aside instead, for a person to mend."""
    if checkpoint_of(fine_tune).exists():
        return _pause(fine_tune, code, why)
    return actions.fail_fine_tune(actor=WORKER, fine_tune=fine_tune, code=code, message=why)


def _finish(fine_tune: FineTune, ended: events.Event, launcher: Launcher) -> FineTune:
    launcher.collect(fine_tune)
    match ended:
        case events.RunFinished():
            try:
                return actions.finish_fine_tune(actor=WORKER, fine_tune=fine_tune, finished=ended)
            except VaultError as error:
                return actions.fail_fine_tune(
                    actor=WORKER, fine_tune=fine_tune, code="adapter_unreadable", message=str(error)
                )
        case events.RunCancelled() | events.RunPaused():
            if _load(str(fine_tune.pk)).state == RunState.PAUSING:
                return _pause(fine_tune)
            return actions.finish_cancelled(actor=WORKER, fine_tune=fine_tune)
        case events.RunFailed():
            message = f"{ended.message}; {ended.hint}"
            if ended.code in disk.CODES:
                return _pause(fine_tune, ended.code, message)
            if ended.code.startswith(OF_THE_CLUSTER):
                return _stop_short(fine_tune, ended.code, message)
            return actions.fail_fine_tune(actor=WORKER, fine_tune=fine_tune, code=ended.code, message=message)
    raise AssertionError(ended)
