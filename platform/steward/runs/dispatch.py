"""The queue for devices: claims are made here, given devices, and ended.

Guarantees: the plan of `scheduling` is carried out under one lock, together with the jobs it starts, in the transaction
of whoever asks; a claim outlives the worker that works for it, and is ended with its job even if nobody said so; no
fine-tune that is queued or runs is without one for long. Does not record anything in the ledger: the actions that ask
for work do, and the one that begins it.

Example:
    claim_devices(workspace=w, subject=fine_tune.pk, task="runs.drive_fine_tune", argument="fine_tune_id")
"""

import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.db import connection, transaction
from django.db.models import Q
from django.utils import timezone
from procrastinate.contrib.django import app
from procrastinate.contrib.django.models import ProcrastinateJob

from steward.accounts.models import Workspace
from steward.audit.actor import Refused
from steward.recovery import CONNECTION_LOST
from steward.runs.claims import Allowance, DeviceClaim, Pool, Priority, month_start
from steward.runs.launchers.devices import local_devices
from steward.runs.models import DRIVEN_STATES, FineTune, RunState
from steward.runs.scheduling import (
    WINDOW_SECONDS,
    Account,
    Outlook,
    Plan,
    Reason,
    Running,
    Waiting,
    plan,
)

#: Where a run's facts say for how many machines it waits.
WAITING = "waiting_for_nodes"
ADVISORY_LOCK = 0x57E3D15  # arbitrary, but the same in every process
JOB_IS_OVER = ("succeeded", "failed", "cancelled", "aborted")


def pools() -> dict[str, tuple[str, ...]]:
    """The devices of this installation, by pool."""
    return {
        Pool.LOCAL: local_devices(),
        Pool.RAY: tuple(f"ray:{number}" for number in range(settings.STEWARD_RAY_DEVICES))
        if settings.STEWARD_LAUNCHER == Pool.RAY
        else (),
    }


def present_pool() -> Pool:
    """Whose devices new fine-tunes take."""
    return Pool(settings.STEWARD_LAUNCHER)


def wanted_devices(recipe: Mapping[str, Any]) -> int:
    """How many devices a training recipe wants: one for each of its processes, on all of its machines."""
    return int(recipe.get("parallel", {}).get("processes", 1)) * wanted_nodes(recipe)


def wanted_nodes(recipe: Mapping[str, Any]) -> int:
    """How many machines a training recipe wants."""
    return int(recipe.get("parallel", {}).get("nodes", 1))


def usable_parallel() -> frozenset[str]:
    """The settings by which a fine-tune takes several devices here, as places in a recipe; none where there is one."""
    pool = present_pool()
    if len(pools()[pool]) < 2:
        return frozenset()
    return frozenset({"parallel.processes", "parallel.shard"} | ({"parallel.nodes"} if pool == Pool.RAY else set()))


def refuse_hopeless(workspace: Workspace, pool: str, wanted: int, subject: object, nodes: int = 1) -> None:
    """Turns work away that would wait for ever, rather than queueing it.

    Raises:
        Refused: the installation has fewer devices or machines, or the workspace is allowed no device hours at all.
    """
    if nodes > 1 and pool == Pool.LOCAL:
        raise Refused(
            f"This wants {nodes} machines; this installation trains on this one alone. Lower parallel.nodes, or let "
            "fine-tunes run on a Ray cluster (STEWARD_LAUNCHER=ray).",
            code="too_few_machines",
            subject=subject,
        )
    if wanted > len(pools()[pool]):
        raise Refused(
            f"This wants {wanted} devices at once; this installation has {_counted(pool)}. Lower parallel.processes"
            f"{' or parallel.nodes' if nodes > 1 else ''}.",
            code="too_few_devices",
            subject=subject,
        )
    if usage(workspace).hours_a_month == 0:
        raise Refused(
            "This workspace may use no device hours. An officer or administrator of the workspace changes that in the "
            "console.",
            code="quota_none",
            subject=subject,
        )


def claim_devices(
    *,
    workspace: Workspace,
    subject: uuid.UUID,
    task: str,
    argument: str,
    priority: int = Priority.NORMAL,
    wanted: int = 1,
    pool: str = Pool.LOCAL,
) -> DeviceClaim:
    """Asks for devices within the action under way; the job `task` starts with it if some are free.

    A claim of the same subject that is still open (its job is about to end) is ended.

    Args:
        subject: the row that the job works on; it is passed to the job as `argument`.
    """
    _lock()
    DeviceClaim.objects.filter(subject=subject, ended_at=None).update(ended_at=timezone.now())
    claim = DeviceClaim(
        workspace=workspace,
        subject=subject,
        task=task,
        argument=argument,
        priority=priority,
        wanted=wanted,
        pool=pool,
    )
    claim.save(force_insert=True)
    _place()
    return claim


def claim_for(fine_tune: FineTune) -> DeviceClaim:
    """Asks for the devices of a fine-tune; as `claim_devices`."""
    return claim_devices(
        workspace=fine_tune.workspace,
        subject=fine_tune.pk,
        task="runs.drive_fine_tune",
        argument="fine_tune_id",
        priority=fine_tune.priority,
        wanted=wanted_devices(fine_tune.recipe),
        pool=fine_tune.pool,
    )


def end_claim(subject: uuid.UUID) -> None:
    """Gives the devices of `subject` to whoever is next, or takes it out of the queue."""
    with transaction.atomic():
        _lock()
        DeviceClaim.objects.filter(subject=subject, ended_at=None).update(ended_at=timezone.now())
        _place()


def reorder(subject: uuid.UUID, priority: int) -> None:
    """Moves waiting work within the queue, inside the action under way."""
    _lock()
    DeviceClaim.objects.filter(subject=subject, started_at=None, ended_at=None).update(priority=priority)
    _place()


def place_waiting() -> None:
    """Ends the claims of jobs that are over, and starts whatever may start. Cheap; called on a clock as well.

    A fine-tune whose job is over and which is not (its database was away for longer than jobs are tried) asks anew.
    """
    with transaction.atomic():
        _lock()
        _end_orphans()
        claimed = DeviceClaim.objects.filter(ended_at=None).values("subject")
        for left in FineTune.objects.filter(state__in=(RunState.QUEUED, *DRIVEN_STATES)).exclude(pk__in=claimed):
            claim_for(left)
        _place()


@contextmanager
def holding(subject: str) -> Iterator[None]:
    """What a job does with devices. They go to the next when the job is over; not when the job will be tried again."""
    claim = DeviceClaim.objects.filter(subject=subject, ended_at=None).first()
    try:
        yield
    except CONNECTION_LOST:
        raise
    except Exception:
        _end(claim)
        raise
    _end(claim)


def devices_of(subject: uuid.UUID) -> tuple[str, ...]:
    """The devices that the work holds; none for work that was started by hand, beside the queue."""
    claim = DeviceClaim.objects.filter(subject=subject, ended_at=None).first()
    return tuple(claim.devices) if claim is not None else ()


@dataclass(frozen=True, slots=True)
class Standing:
    """Where waiting work stands in the queue, and why, in words."""

    position: int
    of: int
    reason: Reason
    text: str


def standing(subject: uuid.UUID) -> Standing | None:
    """How things stand for work that waits; None where it does not, or is about to start."""
    claim = DeviceClaim.objects.filter(subject=subject, started_at=None, ended_at=None).first()
    if claim is None:
        return None
    outlook = _plan(timezone.now()).outlooks.get(str(claim.pk))
    return None if outlook is None else Standing(outlook.position, outlook.of, outlook.reason, _told(claim, outlook))


@dataclass(frozen=True, slots=True)
class Gathering:
    """A run that holds its devices here, while its cluster has not so many machines free at once; in words too.

    `large` of the cluster's machines have what one of the run's wants, free or not; None where it has not said.
    """

    wanted: int
    large: int | None
    text: str


def gathering(fine_tune: FineTune) -> Gathering | None:
    """What a run on a cluster waits for; None where it does not."""
    waits = fine_tune.facts.get(WAITING) if fine_tune.state == RunState.RUNNING else None
    if waits is None:
        return None
    wanted, large = waits["wanted"], waits["large"]
    if large is None:
        text = "The cluster has taken its job and not begun it. "
        hours = settings.STEWARD_RAY_BEGIN_SECONDS / 3600
        text += f"It begins once {wanted_room(fine_tune)} free, and waits for that for at most {hours:,.3g} hours. "
        text += "If no node is so large when the cluster gives the job up, it fails."
        return Gathering(wanted, None, text)
    text = f"It begins once {wanted} nodes of the cluster are free at once. Of its nodes, {large} "
    text += "is large enough for it." if large == 1 else "are large enough for it."
    if large < wanted:
        text += f" If that stays so for {settings.STEWARD_RAY_GATHER_SECONDS} seconds, it fails."
    return Gathering(wanted, large, text)


def room_on_node(fine_tune: FineTune) -> dict[str, int]:
    """CPU and GPU: what its processes want of one node of a cluster, by Ray's names."""
    processes = wanted_devices(fine_tune.recipe) // wanted_nodes(fine_tune.recipe)
    return {"CPU": settings.STEWARD_RAY_CPUS * processes, "GPU": settings.STEWARD_RAY_GPUS * processes}


def wanted_room(fine_tune: FineTune) -> str:
    """What it wants of nodes, for example “a node has 2 CPUs and 1 GPU”."""
    nodes, room = wanted_nodes(fine_tune.recipe), room_on_node(fine_tune)
    wants = " and ".join(f"{count} {name}{'' if count == 1 else 's'}" for name, count in room.items() if count)
    return f"a node has {wants}" if nodes == 1 else f"{nodes} nodes have {wants} each"


@dataclass(frozen=True, slots=True)
class Usage:
    """What a workspace has used this month and may use; hours are device hours, None is no limit."""

    hours_this_month: float
    hours_a_month: int | None
    runs_now: int
    runs_at_once: int | None


def usage(workspace: Workspace) -> Usage:
    """The account of one workspace."""
    now = timezone.now()
    allowed = Allowance.objects.filter(workspace=workspace).first() or Allowance(workspace=workspace)
    claims = list(DeviceClaim.objects.filter(_recent(now), workspace=workspace))
    used = sum(claim.seconds_between(month_start(now), now) for claim in claims)
    running = sum(claim.started_at is not None and claim.ended_at is None for claim in claims)
    return Usage(used / 3600, allowed.device_hours_per_month, running, allowed.runs_at_once)


def _end(claim: DeviceClaim | None) -> None:
    """Ends that very claim: the subject may have another one by now."""
    if claim is not None:
        with transaction.atomic():
            _lock()
            DeviceClaim.objects.filter(pk=claim.pk, ended_at=None).update(ended_at=timezone.now())
            _place()


def _lock() -> None:
    """One at a time, until the transaction under way ends. Taken before any claim is touched, so nobody waits in a
    circle."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(%s)", [ADVISORY_LOCK])


def _end_orphans() -> None:
    held = DeviceClaim.objects.filter(ended_at=None, started_at__isnull=False)
    jobs = dict(ProcrastinateJob.objects.filter(id__in=held.values("job_id")).values_list("id", "status"))
    over = [claim.pk for claim in held if jobs.get(claim.job_id or 0, "failed") in JOB_IS_OVER]
    DeviceClaim.objects.filter(pk__in=over).update(ended_at=timezone.now())


def _place() -> None:
    now = timezone.now()
    for placed in _plan(now).placed:
        claim = DeviceClaim.objects.get(pk=placed.id)
        job = app.configure_task(claim.task, queue="training", lock=f"claim-{claim.pk}")
        claim.job_id = job.defer(**{claim.argument: str(claim.subject)})
        claim.devices, claim.started_at = list(placed.devices), now
        claim.save(update_fields=["job_id", "devices", "started_at"])


def _recent(now: datetime) -> Q:
    since = min(now - timedelta(seconds=WINDOW_SECONDS), month_start(now))
    return Q(ended_at=None) | Q(ended_at__gte=since)


def _plan(now: datetime) -> Plan:
    claims = list(DeviceClaim.objects.filter(_recent(now)))
    waiting = [
        Waiting(
            str(each.pk), str(each.workspace_id), each.priority, each.requested_at.timestamp(), each.wanted, each.pool
        )
        for each in claims
        if each.started_at is None and each.ended_at is None
    ]
    running = [
        Running(str(each.pk), str(each.workspace_id), tuple(each.devices), each.pool)
        for each in claims
        if each.started_at is not None and each.ended_at is None
    ]
    return plan(waiting, running, pools(), _accounts(claims, now), now.timestamp())


def _accounts(claims: list[DeviceClaim], now: datetime) -> dict[str, Account]:
    window, month = now - timedelta(seconds=WINDOW_SECONDS), month_start(now)
    of_workspace: dict[str, list[DeviceClaim]] = {}
    for claim in claims:
        of_workspace.setdefault(str(claim.workspace_id), []).append(claim)
    allowed = {str(each.workspace_id): each for each in Allowance.objects.filter(workspace__in=of_workspace)}
    accounts = {}
    for workspace, own in of_workspace.items():
        limits = allowed.get(workspace, Allowance())
        hours = limits.device_hours_per_month
        accounts[workspace] = Account(
            window_seconds=sum(each.seconds_between(window, now) for each in own),
            month_seconds=sum(each.seconds_between(month, now) for each in own),
            month_limit=None if hours is None else hours * 3600.0,
            runs_limit=limits.runs_at_once,
        )
    return accounts


def _counted(pool: str) -> str:
    """For example “2 devices on this machine”."""
    count = len(pools()[pool])
    return f"{count} device{'s' if count != 1 else ''} on {Pool(pool).label.lower()}"


def _told(claim: DeviceClaim, outlook: Outlook) -> str:
    match outlook.reason:
        case Reason.DEVICES_BUSY:
            what = f"Too few of {_counted(claim.pool)} are free"
            if len(pools()[claim.pool]) == 1:
                what = f"The only device on {claim.get_pool_display().lower()} is busy"
            return f"{what}; it starts when it is its turn."
        case Reason.GATHERING:
            return "Devices are kept free for a run that needs several at once and has waited for long."
        case Reason.TOO_FEW_DEVICES:
            return f"It needs {claim.wanted} devices at once, and there are {_counted(claim.pool)}."
        case Reason.RUNS_AT_ONCE:
            return (
                f"This workspace may hold devices for {usage(claim.workspace).runs_at_once} pieces of work at once, "
                "and does; it starts when one of them ends."
            )
        case Reason.QUOTA_USED:
            used = usage(claim.workspace)
            return (
                f"This workspace used {used.hours_this_month:.1f} of the {used.hours_a_month} device hours it may use "
                "in a month (UTC). It starts next month, or when an officer or administrator raises the limit."
            )
