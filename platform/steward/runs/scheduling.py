"""Who gets a free device next: one pure function over what waits, what runs and what each workspace has used.

Guarantees: no device is given twice; no workspace gets more runs at once or more device-hours in a month than it may
have; a free device is not left idle while something that fits it may start, except where devices are gathered for a
run that needs several; and nothing starves: what has waited `OVERDUE_SECONDS` goes first, in the order of arrival,
whatever else comes. Equal input gives an equal plan; the order of the input does not matter.
Does not: take a device away from a run, or know how long a run will take.

The order is: overdue first, then priority, then the workspace that used least (device
seconds in the last `WINDOW_SECONDS`, those of running work included), then arrival.
Source: max-min fairness by least attained service over a sliding window (Demers, Keshav and Shenker 1989).

Example:
    >>> made = plan([Waiting("a", "ward", NORMAL, since=0.0)], [], {"local": ["cuda:0"]}, {}, now=5.0)
    >>> made.placed
    (Placed(id='a', devices=('cuda:0',)),)
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

LOW, NORMAL, HIGH = 0, 1, 2
HOUR = 3600.0
WINDOW_SECONDS = 7 * 24 * HOUR
OVERDUE_SECONDS = 24 * HOUR
#: How long something that needs several devices is overtaken by smaller work before free devices are kept for it.
GATHER_SECONDS = 1 * HOUR
#: What a run that has just begun counts as used, so that devices freed together do not all go to one workspace.
HELD_SECONDS = 600.0


class Reason(StrEnum):
    """Why something waits."""

    DEVICES_BUSY = "devices_busy"
    GATHERING = "gathering"
    RUNS_AT_ONCE = "runs_at_once"
    QUOTA_USED = "quota_used"
    TOO_FEW_DEVICES = "too_few_devices"


@dataclass(frozen=True, slots=True)
class Waiting:
    """Work that wants `devices` devices of a pool. `since` in seconds since the epoch."""

    id: str
    workspace: str
    priority: int
    since: float
    devices: int = 1
    pool: str = "local"


@dataclass(frozen=True, slots=True)
class Running:
    """Work that holds devices of a pool."""

    id: str
    workspace: str
    devices: tuple[str, ...]
    pool: str = "local"


@dataclass(frozen=True, slots=True)
class Account:
    """What a workspace has used and may use; None is no limit. Times in device seconds."""

    window_seconds: float = 0.0
    month_seconds: float = 0.0
    month_limit: float | None = None
    runs_limit: int | None = None


@dataclass(frozen=True, slots=True)
class Placed:
    """Work that starts now, and where."""

    id: str
    devices: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Outlook:
    """Where waiting work stands: `position` from 1 among what waits for the same pool, and why it waits."""

    position: int
    of: int
    reason: Reason


@dataclass(frozen=True, slots=True)
class Plan:
    """What starts now, and how things stand for the rest."""

    placed: tuple[Placed, ...]
    outlooks: Mapping[str, Outlook]


def plan(
    waiting: Iterable[Waiting],
    running: Iterable[Running],
    pools: Mapping[str, Sequence[str]],
    accounts: Mapping[str, Account],
    now: float,
) -> Plan:
    """Decides what starts on the free devices.

    Args:
        pools: the devices of each pool, by name.
        accounts: by workspace; one that is missing has used nothing and has no limits.
        now: seconds since the epoch.
    """
    held = list(running)
    left = list(waiting)
    placed: list[Placed] = []
    reasons: dict[str, Reason] = {}
    while True:
        left = _ordered(left, held, accounts, now)
        reasons = {}
        chosen = _first_that_starts(left, held, pools, accounts, now, reasons)
        if chosen is None:
            break
        work, devices = chosen
        placed.append(Placed(work.id, devices))
        held.append(Running(work.id, work.workspace, devices, work.pool))
        left.remove(work)
    return Plan(tuple(placed), _outlooks(left, reasons))


def _ordered(
    waiting: Iterable[Waiting], held: Sequence[Running], accounts: Mapping[str, Account], now: float
) -> list[Waiting]:
    def key(work: Waiting) -> tuple[float | str, ...]:
        if now - work.since >= OVERDUE_SECONDS:
            return (0, work.since, 0, 0, work.id)
        at_hand = sum(len(each.devices) for each in held if each.workspace == work.workspace)
        used = accounts.get(work.workspace, Account()).window_seconds + HELD_SECONDS * at_hand
        return (1, -work.priority, used, work.since, work.id)

    return sorted(waiting, key=key)


def _first_that_starts(
    ordered: Sequence[Waiting],
    held: Sequence[Running],
    pools: Mapping[str, Sequence[str]],
    accounts: Mapping[str, Account],
    now: float,
    reasons: dict[str, Reason],
) -> tuple[Waiting, tuple[str, ...]] | None:
    """The first that may start and fits, with its devices; why the ones before it do not goes into `reasons`."""
    gathering: set[str] = set()
    for work in ordered:
        devices = pools.get(work.pool, ())
        taken = {device for each in held if each.pool == work.pool for device in each.devices}
        free = [device for device in devices if device not in taken]
        if reason := _forbidden(work, held, devices, accounts.get(work.workspace, Account())):
            reasons[work.id] = reason
        elif work.pool in gathering:
            reasons[work.id] = Reason.GATHERING
        elif len(free) < work.devices:
            reasons[work.id] = Reason.DEVICES_BUSY
            if now - work.since >= GATHER_SECONDS:
                gathering.add(work.pool)
        else:
            return work, tuple(free[: work.devices])
    return None


def _forbidden(work: Waiting, held: Sequence[Running], devices: Sequence[str], account: Account) -> Reason | None:
    """What keeps work from starting even if every device were free."""
    if work.devices > len(devices):
        return Reason.TOO_FEW_DEVICES
    if account.month_limit is not None and account.month_seconds >= account.month_limit:
        return Reason.QUOTA_USED
    if account.runs_limit is not None and account.runs_limit <= sum(each.workspace == work.workspace for each in held):
        return Reason.RUNS_AT_ONCE
    return None


def _outlooks(ordered: Sequence[Waiting], reasons: Mapping[str, Reason]) -> dict[str, Outlook]:
    by_pool: dict[str, list[str]] = {}
    for work in ordered:
        by_pool.setdefault(work.pool, []).append(work.id)
    return {
        name: Outlook(position, len(names), reasons[name])
        for names in by_pool.values()
        for position, name in enumerate(names, 1)
    }
