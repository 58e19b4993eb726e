"""The plan for devices as a pure function: safe, fair, and nobody starves, whatever comes."""

import random
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from steward.runs.scheduling import (
    GATHER_SECONDS,
    HIGH,
    HOUR,
    LOW,
    NORMAL,
    OVERDUE_SECONDS,
    WINDOW_SECONDS,
    Account,
    Placed,
    Reason,
    Running,
    Waiting,
    plan,
)

ONE = {"local": ["cuda:0"]}
DAY = 24 * HOUR


def order(waiting: list[Waiting], accounts: dict[str, Account], now: float) -> list[str]:
    """Who goes first, second, …, as the positions of the queue before a busy device tell."""
    busy = [Running("r", "other", ("cuda:0",))]
    outlooks = plan(waiting, busy, ONE, accounts, now).outlooks
    return sorted(outlooks, key=lambda each: outlooks[each].position)


def test_priority_goes_before_use_and_use_before_arrival() -> None:
    waiting = [
        Waiting("early", "greedy", NORMAL, 0.0),
        Waiting("later", "modest", NORMAL, 5.0),
        Waiting("low", "modest", LOW, 0.0),
        Waiting("high", "greedy", HIGH, 9.0),
    ]
    assert order(waiting, {"greedy": Account(window_seconds=60.0)}, 10.0) == ["high", "later", "early", "low"]


def test_what_waited_for_a_day_goes_first() -> None:
    waiting = [Waiting("old", "greedy", LOW, 0.0), Waiting("high", "modest", HIGH, OVERDUE_SECONDS - 1)]
    accounts = {"greedy": Account(window_seconds=1e6)}
    assert order(waiting, accounts, OVERDUE_SECONDS - 1) == ["high", "old"]
    assert order(waiting, accounts, OVERDUE_SECONDS) == ["old", "high"]


def test_devices_that_are_free_together_go_to_different_workspaces() -> None:
    waiting = [Waiting(f"a{n}", "a", NORMAL, n) for n in range(3)] + [Waiting("b", "b", NORMAL, 9.0)]
    placed = plan(waiting, [], {"local": ["cuda:0", "cuda:1"]}, {}, 10.0).placed
    assert placed == (Placed("a0", ("cuda:0",)), Placed("b", ("cuda:1",)))


@pytest.mark.parametrize(
    ("account", "reason"),
    [
        (Account(month_seconds=7200.0, month_limit=7200.0), Reason.QUOTA_USED),
        (Account(month_limit=0.0), Reason.QUOTA_USED),
        (Account(runs_limit=1), Reason.RUNS_AT_ONCE),
    ],
)
def test_a_limit_that_is_reached_holds_the_workspace_back_and_nobody_else(account: Account, reason: Reason) -> None:
    waiting = [Waiting("a", "a", HIGH, 0.0), Waiting("b", "b", LOW, 1.0)]
    running = [Running("r", "a", ("cuda:0",))]
    made = plan(waiting, running, {"local": ["cuda:0", "cuda:1"]}, {"a": account}, 2.0)
    assert made.placed == (Placed("b", ("cuda:1",)),)
    assert made.outlooks["a"].reason == reason


def test_devices_are_gathered_for_a_run_that_waited_an_hour_for_several() -> None:
    devices = {"local": ["cuda:0", "cuda:1"]}
    running = [Running("r", "x", ("cuda:0",))]
    waiting = [Waiting("two", "a", NORMAL, 0.0, devices=2), Waiting("one", "b", NORMAL, 1.0)]
    assert [each.id for each in plan(waiting, running, devices, {}, GATHER_SECONDS - 1).placed] == ["one"]
    made = plan(waiting, running, devices, {}, GATHER_SECONDS)
    assert not made.placed
    assert made.outlooks["one"].reason == Reason.GATHERING
    assert plan(waiting, [], devices, {}, GATHER_SECONDS).placed == (Placed("two", ("cuda:0", "cuda:1")),)


def test_what_can_never_fit_blocks_nobody() -> None:
    made = plan([Waiting("nine", "a", HIGH, 0.0, devices=9), Waiting("b", "b", LOW, 0.0)], [], ONE, {}, 2 * DAY)
    assert [each.id for each in made.placed] == ["b"]
    assert made.outlooks["nine"].reason == Reason.TOO_FEW_DEVICES


# --- whatever comes


WORKSPACES = st.sampled_from(["a", "b", "c"])


@st.composite
def states(draw: Any) -> tuple[list[Waiting], list[Running], dict[str, list[str]], dict[str, Account], float]:
    now = 40 * DAY
    pools = {"local": [f"cuda:{n}" for n in range(draw(st.integers(0, 4)))], "ray": ["ray:0", "ray:1"]}
    waiting = [
        Waiting(
            f"w{number}",
            draw(WORKSPACES),
            draw(st.integers(LOW, HIGH)),
            now - draw(st.floats(0, 3 * DAY)),
            draw(st.integers(1, 3)),
            draw(st.sampled_from(["local", "ray"])),
        )
        for number in range(draw(st.integers(0, 8)))
    ]
    running = [
        Running(f"r{number}", draw(WORKSPACES), (device,), pool)
        for number, (pool, device) in enumerate((pool, each) for pool, devices in pools.items() for each in devices)
        if draw(st.booleans())
    ]
    accounts = {
        name: Account(
            draw(st.floats(0, WINDOW_SECONDS)),
            draw(st.floats(0, 100)),
            draw(st.none() | st.floats(0, 100)),
            draw(st.none() | st.integers(1, 3)),
        )
        for name in "ab"
    }
    return waiting, running, pools, accounts, now


@given(states())
@settings(max_examples=400, deadline=None)
def test_no_plan_breaks_a_limit_or_gives_a_device_twice_or_leaves_one_idle(state: Any) -> None:
    waiting, running, pools, accounts, now = state
    made = plan(waiting, running, pools, accounts, now)
    by_id = {work.id: work for work in waiting}
    held = [(each.pool, device) for each in running for device in each.devices]
    held += [(by_id[each.id].pool, device) for each in made.placed for device in each.devices]
    assert len(held) == len({*held})
    assert {device for pool, device in held} <= {device for devices in pools.values() for device in devices}
    for each in made.placed:
        work = by_id[each.id]
        account = accounts.get(work.workspace, Account())
        assert len(each.devices) == work.devices
        assert account.month_limit is None or account.month_seconds < account.month_limit
    for name, account in accounts.items():
        before = sum(each.workspace == name for each in running)
        now_running = before + sum(by_id[each.id].workspace == name for each in made.placed)
        assert account.runs_limit is None or now_running <= max(account.runs_limit, before)
    assert {each.id for each in made.placed} | {*made.outlooks} == {*by_id}
    for name, outlook in made.outlooks.items():
        work = by_id[name]
        free = len(pools[work.pool]) - sum(pool == work.pool for pool, _ in held)
        assert outlook.reason != Reason.DEVICES_BUSY or free < work.devices
    shuffled = random.Random(0).sample(waiting, len(waiting))
    assert plan(shuffled, running[::-1], pools, accounts, now) == made


@dataclass
class House:
    """Devices in time: what was asked for, what runs, what was used."""

    devices: list[str]
    longest: float
    now: float = 0.0
    waiting: list[Waiting] = field(default_factory=list)
    running: list[tuple[Running, float, float]] = field(default_factory=list)
    ended: list[tuple[str, float, float, int]] = field(default_factory=list)
    started: dict[str, float] = field(default_factory=dict)

    def accounts(self) -> dict[str, Account]:
        used: dict[str, float] = {}
        spans = [(work.workspace, begun, self.now, len(work.devices)) for work, begun, _ in self.running] + self.ended
        for workspace, begun, end, count in spans:
            inside = max(0.0, end - max(begun, self.now - WINDOW_SECONDS)) * count
            used[workspace] = used.get(workspace, 0.0) + inside
        return {name: Account(window_seconds=seconds) for name, seconds in used.items()}

    def go_on(self, seconds: float, dice: random.Random) -> None:
        self.now += seconds
        for work, begun, end in self.running:
            if end <= self.now:
                self.ended.append((work.workspace, begun, end, len(work.devices)))
        self.running = [each for each in self.running if each[2] > self.now]
        made = plan(
            self.waiting, [each[0] for each in self.running], {"local": self.devices}, self.accounts(), self.now
        )
        by_id = {work.id: work for work in self.waiting}
        for placed in made.placed:
            work = by_id[placed.id]
            runs_until = self.now + self.longest * dice.choice([0.5, 1.0])
            self.running.append((Running(work.id, work.workspace, placed.devices), self.now, runs_until))
            self.started[work.id] = self.now
        self.waiting = [each for each in self.waiting if each.id not in self.started]


@given(st.integers(0, 2**32), st.integers(1, 3), st.integers(1, 3), st.integers(0, 5))
@settings(max_examples=40, deadline=None)
def test_nothing_starves_however_urgent_and_modest_the_others_are(seed: int, count: int, wanted: int, own: int) -> None:
    """A low run of a workspace that used most, among an endless stream of high ones of workspaces that used nothing."""
    dice = random.Random(seed)
    longest = 4 * HOUR
    house = House([f"cuda:{number}" for number in range(count)], longest)
    house.ended.append(("greedy", -DAY, 0.0, 3))
    house.waiting.append(Waiting("poor", "greedy", LOW, 0.0, min(wanted, count)))
    house.waiting += [replace(house.waiting[0], id=f"own{number}", since=-1.0) for number in range(own)]
    # Older work is served first, each at most `longest` a device, then the devices are gathered once more.
    bound = OVERDUE_SECONDS + (own + 2) * longest + 2 * HOUR
    number = 0
    while "poor" not in house.started:
        for _ in range(dice.randint(1, 4)):
            number += 1
            devices = dice.randint(1, count)
            house.waiting.append(Waiting(f"n{number}", f"new{number}", HIGH, house.now, devices))
        house.go_on(HOUR, dice)
        assert house.now <= bound, "it starves"


@given(st.integers(0, 2**32), st.lists(st.sampled_from(["a", "b", "c"]), min_size=3, max_size=3))
@settings(max_examples=20, deadline=None)
def test_workspaces_that_always_want_more_get_equal_shares(seed: int, first: list[str]) -> None:
    dice = random.Random(seed)
    house = House(["cuda:0"], HOUR)
    number = 0
    for _ in range(72):
        for name in (*first, "a", "a", "a", "b", "c"):  # a asks for three times as much as the others
            number += 1
            house.waiting.append(Waiting(f"n{number}", name, NORMAL, house.now))
        house.go_on(HOUR / 2, dice)
        if house.now >= OVERDUE_SECONDS - HOUR:
            break
    shares = [account.window_seconds for account in house.accounts().values()]
    assert len(shares) == 3
    assert max(shares) - min(shares) <= HOUR
