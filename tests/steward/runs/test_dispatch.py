"""The queue for devices: one process a device, limits with their reasons, and claims that outlive workers."""

import json
import os
import subprocess
import sys
import uuid
from pathlib import Path
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.db import OperationalError
from django.utils import timezone
from procrastinate.contrib.django.models import ProcrastinateJob

from steward.accounts.roles import Role
from steward.audit.actor import Actor, Denied, Refused
from steward.audit.models import OutboxEntry
from steward.runs import actions, dispatch, dispatch_actions, jobs
from steward.runs.claims import Allowance, DeviceClaim, Priority
from steward.runs.launchers import devices
from steward.runs.launchers.devices import device_environment, found_gpus, read_devices
from steward.runs.models import FineTune, RunState
from tests.steward.house import House, visits

HOUR = 3600


@pytest.fixture
def two(house: House, tiny_base: Any) -> tuple[FineTune, FineTune]:
    """Fine-tunes of two workspaces, the second one waiting for the only device."""
    other = House()
    return ask(house, tiny_base), ask(other, tiny_base)


def ask(house: House, base: Any, actor: Actor | None = None, **options: Any) -> FineTune:
    version = getattr(house, "version", None) or house.approved(visits(70))
    house.version = version  # type: ignore[attr-defined]
    return actions.request_fine_tune(
        actor=actor or house.analyst, version=version, base_model=base, name="try", **options
    )


def started() -> list[uuid.UUID]:
    return list(DeviceClaim.objects.filter(ended_at=None, started_at__isnull=False).values_list("subject", flat=True))


def used(house: House, seconds: float) -> None:
    now = timezone.now()
    DeviceClaim.objects.create(
        workspace=house.workspace,
        subject=uuid.uuid4(),
        task="runs.drive_fine_tune",
        argument="fine_tune_id",
        started_at=now - timezone.timedelta(seconds=seconds),
        ended_at=now,
    )


def jobs_for(fine_tune: FineTune) -> int:
    return ProcrastinateJob.objects.filter(args={"fine_tune_id": str(fine_tune.pk)}).count()


def test_one_fine_tune_a_device_and_the_other_is_told_why_it_waits(two: tuple[FineTune, FineTune]) -> None:
    first, second = two
    assert started() == [first.pk]
    assert (jobs_for(first), jobs_for(second)) == (1, 0)
    assert dispatch.devices_of(first.pk) == ("cpu:0",)
    assert dispatch.standing(first.pk) is None
    waits = dispatch.standing(second.pk)
    assert waits is not None
    assert (waits.position, waits.of, waits.reason) == (1, 1, "devices_busy")
    assert "only device on this machine" in waits.text


def test_a_job_that_is_over_hands_its_device_on(two: tuple[FineTune, FineTune], monkeypatch: Any) -> None:
    first, second = two
    driven: list[str] = []
    monkeypatch.setattr("steward.runs.following.drive", driven.append)
    jobs.drive_fine_tune(str(first.pk))
    assert driven == [str(first.pk)]
    assert started() == [second.pk]
    assert jobs_for(second) == 1


@pytest.mark.parametrize(
    ("fault", "is_handed_on"), [(OperationalError, False), (KeyboardInterrupt, False), (ValueError, True)]
)
def test_a_job_that_will_be_tried_again_keeps_its_device(
    two: tuple[FineTune, FineTune], monkeypatch: Any, fault: type[BaseException], is_handed_on: bool
) -> None:
    def fail(_: str) -> None:
        raise fault

    monkeypatch.setattr("steward.runs.following.drive", fail)
    with pytest.raises(fault):
        jobs.drive_fine_tune(str(two[0].pk))
    assert started() == [two[is_handed_on].pk]


def test_a_claim_whose_job_ended_unheard_is_ended_and_a_run_that_is_not_over_asks_anew(
    two: tuple[FineTune, FineTune],
) -> None:
    first, second = two
    dispatch.place_waiting()
    assert started() == [first.pk]
    claim = DeviceClaim.objects.get(subject=first.pk)
    ProcrastinateJob.objects.filter(pk=claim.job_id).delete()
    jobs.place_waiting(0)
    assert started() == [second.pk]
    assert dispatch.standing(first.pk).position == 1  # type: ignore[union-attr]
    dispatch.end_claim(second.pk)
    assert started() == [first.pk]
    assert jobs_for(first) == 1


def test_a_cancelled_fine_tune_leaves_the_queue(house: House, tiny_base: Any) -> None:
    first, second, third = (ask(house, tiny_base) for _ in range(3))
    actions.cancel_fine_tune(actor=house.analyst, fine_tune=second)
    assert dispatch.standing(second.pk) is None
    assert dispatch.standing(third.pk).position == 1  # type: ignore[union-attr]
    actions.cancel_fine_tune(actor=house.analyst, fine_tune=first)
    assert started() == [third.pk]


def test_the_workspace_that_used_less_goes_first(house: House, tiny_base: Any) -> None:
    modest = House()
    running = ask(house, tiny_base)
    used(house, 100 * HOUR)
    early, later = ask(house, tiny_base), ask(modest, tiny_base)
    dispatch.end_claim(running.pk)
    assert started() == [later.pk]
    dispatch.end_claim(later.pk)
    assert started() == [early.pk]


def test_only_some_may_raise_a_priority_and_it_is_recorded(house: House, tiny_base: Any) -> None:
    _, early, later = (ask(house, tiny_base) for _ in range(3))
    with pytest.raises(Denied, match=r"fine_tunes\.prioritise"):
        ask(house, tiny_base, priority=Priority.HIGH)
    with pytest.raises(Denied):
        dispatch_actions.change_priority(actor=house.analyst, fine_tune=later, priority=Priority.HIGH)
    dispatch_actions.change_priority(actor=house.officer, fine_tune=later, priority=Priority.HIGH)
    assert dispatch.standing(later.pk).position == 1  # type: ignore[union-attr]
    dispatch_actions.change_priority(actor=house.analyst, fine_tune=later, priority=Priority.LOW)
    assert dispatch.standing(early.pk).position == 1  # type: ignore[union-attr]
    recorded = [json.loads(bytes(each.body)) for each in OutboxEntry.objects.order_by("sequence")]
    moves = [each for each in recorded if each["action"] == "fine_tune.prioritised"]
    assert [each["outcome"] for each in moves] == ["denied", "done", "done"]
    assert moves[1]["facts"]["priority"] == "high"
    with pytest.raises(Refused, match="low, normal or high"):
        dispatch_actions.change_priority(actor=house.officer, fine_tune=early, priority=7)


def test_used_up_hours_make_wait_and_a_raised_limit_starts(house: House, tiny_base: Any) -> None:
    used(house, 2 * HOUR + 60)
    set_limits(house.officer, house, 2)
    fine_tune = ask(house, tiny_base)
    waits = dispatch.standing(fine_tune.pk)
    assert waits is not None
    assert waits.reason == "quota_used"
    assert "used 2.0 of the 2 device hours" in waits.text
    set_limits(house.person(Role.ADMINISTRATOR), house, 3)
    assert started() == [fine_tune.pk]


def test_a_workspace_without_any_hours_is_refused_at_once(house: House, tiny_base: Any) -> None:
    set_limits(house.officer, house, 0)
    with pytest.raises(Refused, match="may use no device hours"):
        ask(house, tiny_base)


def test_runs_at_once_are_limited(house: House, tiny_base: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr(dispatch, "local_devices", lambda: ("cpu:0", "cpu:1", "cpu:2"))
    set_limits(house.officer, house, None, 1)
    first, second = ask(house, tiny_base), ask(house, tiny_base)
    other = ask(House(), tiny_base)
    assert {*started()} == {first.pk, other.pk}
    assert dispatch.standing(second.pk).reason == "runs_at_once"  # type: ignore[union-attr]


def set_limits(actor: Actor, house: House, hours: int | None, runs: int | None = None) -> None:
    dispatch_actions.change_allowance(
        actor=actor, workspace=house.workspace, device_hours_per_month=hours, runs_at_once=runs
    )


def test_limits_are_set_by_officers_and_administrators_and_recorded(house: House) -> None:
    for stranger in (house.analyst, house.auditor, House().officer):
        with pytest.raises(Denied):
            set_limits(stranger, house, 5)
    with pytest.raises(Refused, match="runs_at_once: give a whole number from 1"):
        set_limits(house.officer, house, 5, 0)
    assert not Allowance.objects.exists()
    set_limits(house.officer, house, 5, 2)
    recorded = json.loads(bytes(OutboxEntry.objects.order_by("-sequence")[0].body))
    assert recorded["action"] == "allowance.changed"
    assert recorded["facts"] == {"device_hours_per_month": 5, "runs_at_once": 2}


def test_a_run_that_wants_more_devices_than_there_are_is_refused(house: House) -> None:
    with pytest.raises(Refused, match="wants 2 devices at once; this installation has 1 device"):
        dispatch.refuse_hopeless(house.workspace, "local", 2, None)


def test_several_machines_take_a_cluster_that_has_as_many_devices(house: House, settings: Any) -> None:
    recipe = {"parallel": {"nodes": 2, "processes": 3}}
    assert (dispatch.wanted_devices(recipe), dispatch.wanted_nodes(recipe), dispatch.wanted_nodes({})) == (6, 2, 1)
    with pytest.raises(Refused, match="wants 2 machines; this installation trains on this one alone"):
        dispatch.refuse_hopeless(house.workspace, "local", 6, None, nodes=2)
    settings.STEWARD_LAUNCHER, settings.STEWARD_RAY_DEVICES = "ray", 5
    with pytest.raises(
        Refused, match=r"has 5 devices on the ray cluster\. Lower parallel\.processes or parallel\.nodes"
    ):
        dispatch.refuse_hopeless(house.workspace, "ray", 6, None, nodes=2)
    settings.STEWARD_RAY_DEVICES = 6
    dispatch.refuse_hopeless(house.workspace, "ray", 6, None, nodes=2)


# --- devices


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ([], ()),
        (["cpu:2"], ("cpu:0", "cpu:1")),
        (["0", "2"], ("cuda:0", "cuda:2")),
        (["GPU-5d1f-02", "MIG-1/2/3"], ("cuda:GPU-5d1f-02", "cuda:MIG-1/2/3")),
    ],
)
def test_a_setting_names_the_devices(words: list[str], found: tuple[str, ...]) -> None:
    assert read_devices(words) == found


@pytest.mark.parametrize("words", [["cpu:0"], ["cpu:65"], ["cpu"], ["0", "0"], ["0", "cpu:1"], ["-1"], ["0;1"]])
def test_a_setting_that_names_none_is_refused(words: list[str]) -> None:
    with pytest.raises(ImproperlyConfigured, match="STEWARD_DEVICES"):
        read_devices(words)


def test_gpus_are_found_by_the_driver_s_own_tool(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    tool = tmp_path / "nvidia-smi"
    tool.write_text("#!/bin/sh\nprintf '0\\n1\\n'\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert found_gpus() == ("cuda:0", "cuda:1")
    tool.write_text("#!/bin/sh\necho 'no driver'\nexit 9\n")
    assert found_gpus() == ()
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1, GPU-77")
    assert found_gpus() == ("cuda:1", "cuda:GPU-77")


def test_a_process_sees_its_own_devices_only(monkeypatch: Any) -> None:
    assert device_environment(("cuda:1", "cuda:3"))["CUDA_VISIBLE_DEVICES"] == "1,3"
    assert device_environment(()) == {}
    assert device_environment(("cpu:0",))["CUDA_VISIBLE_DEVICES"] == ""
    monkeypatch.setattr(devices, "local_devices", lambda: ("cpu:0", "cpu:1"))
    assert device_environment(("cpu:1",))["OMP_NUM_THREADS"] == "1"


def test_the_platform_finds_devices_without_torch() -> None:
    code = "import sys, django; django.setup(); from steward.runs import dispatch; dispatch.pools(); "
    code += "print([m for m in ('torch', 'ray') if m in sys.modules])"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(["platform", "."])}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_the_state_of_a_placed_fine_tune_is_still_queued(two: tuple[FineTune, FineTune]) -> None:
    assert [each.state for each in two] == [RunState.QUEUED, RunState.QUEUED]
