"""Fine-tunes on a real Ray cluster of four nodes, on one or two of them: to the end, cancelled, one of them lost."""

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest

from steward.audit.models import OutboxEntry
from steward.runs import actions, following
from steward.runs.claims import DeviceClaim
from steward.runs.dispatch import gathering
from steward.runs.launchers import LaunchError, nodes, ray_jobs
from steward.runs.models import FineTune, RunState
from steward.runs.output_actions import show_sample_answers
from steward.runs.specs import run_folder
from steward.vault.keys import open_key
from tests.steward.house import House, visits
from trainers.channel import ring_secret
from trainers.spec import ANSWERS_KEPT

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600), pytest.mark.filterwarnings("ignore")]
SMALL = {"lora": {"rank": 4, "alpha": 8}, "precision": "fp32", "batch_tokens": 400, "max_length": 512}


@dataclass
class Cluster:
    """The running cluster."""

    process: subprocess.Popen[str]
    dashboard: str
    folder: Path
    hearts: dict[int, str]

    def trainers(self) -> list[psutil.Process]:
        """The processes of trainers that this cluster's nodes started, and no others of this machine."""
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                is_keeper = process.cmdline()[1:4] == ["-m", "trainers", "remote"]
                if is_keeper and process.environ().get("TMPDIR") == str(self.folder):
                    found += [*process.children(), process]
        # One that has ended and is not yet asked how is not there any more.
        return [each for each in found if each.is_running() and each.status() != psutil.STATUS_ZOMBIE]

    def node_of(self, process: psutil.Process) -> str:
        """The node that a process belongs to."""
        (node,) = [self.hearts[each.pid] for each in process.parents() if each.pid in self.hearts]
        return node

    def kill(self, node: str) -> None:
        """Takes a node away as a power cut does."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(f"kill {node}\n")
        self.process.stdin.flush()
        assert json.loads(self.process.stdout.readline()) == {"killed": node}


@contextlib.contextmanager
def started(count: int, **variables: str) -> Iterator[Cluster]:
    """A cluster of so many nodes beside its head, with some variables more in its environment."""
    folder = Path(tempfile.mkdtemp(prefix="ray-", dir="/tmp"))  # sockets in it: a short path
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_AUTH_MODE": "disabled",
        "RAY_raylet_start_wait_time_s": "300",
        "RAY_agent_register_timeout_ms": "300000",
        "RAY_DASHBOARD_STARTUP_TIMEOUT_S": "300",
        "TMPDIR": str(folder),
        **variables,
    }
    environment.pop("PYTHONPATH", None)
    script = Path(__file__).with_name("ray_nodes.py")
    process = subprocess.Popen(
        [sys.executable, str(script), str(count), str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
        start_new_session=True,
    )
    try:
        assert process.stdout is not None
        about = json.loads(next((line for line in process.stdout if line.startswith("{")), "{}"))
        hearts = {heart: node for node, heart in about["nodes"].items()}
        yield Cluster(process, f"http://{about['dashboard']}", folder, hearts)
    finally:
        assert process.stdin is not None
        process.stdin.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(60)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        assert process.stdout is not None
        process.stdout.close()
        left = [each.pid for each in psutil.process_iter() if str(folder) in " ".join(_words(each))]
        for pid in left:
            os.kill(pid, signal.SIGKILL)
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with started(3) as cluster:
        yield cluster


def _words(process: psutil.Process) -> list[str]:
    with contextlib.suppress(psutil.Error):
        return process.cmdline()
    return []


def stay_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test leaves this machine."""

    def connect(address: tuple[str, int], timeout: float) -> socket.socket:
        return socket.create_connection(("127.0.0.1", address[1]), timeout)

    monkeypatch.setattr(nodes, "socket", SimpleNamespace(create_connection=connect))


@pytest.fixture
def fine_tune(house: House, tiny_base: Any, cluster: Cluster, settings: Any, monkeypatch: Any) -> FineTune:
    settings.STEWARD_LAUNCHER, settings.STEWARD_RAY_ADDRESS = "ray", cluster.dashboard
    settings.STEWARD_RAY_GPUS = 0

    stay_here(monkeypatch)
    return actions.request_fine_tune(
        actor=house.analyst,
        version=house.approved(visits(90)),
        base_model=tiny_base,
        name="try",
        changes={**SMALL, "epochs": 40, "evaluate_every": 5, "checkpoint_every": 5, "patience": None},
    )


def at_each_poll(monkeypatch: pytest.MonkeyPatch, do: Callable[[FineTune], None], pk: Any) -> None:
    rest = time.sleep

    def sleep(seconds: float) -> None:
        rest(0.1)
        do(FineTune.objects.get(pk=pk))

    monkeypatch.setattr(following.time, "sleep", sleep)


def jobs_of(cluster: Cluster) -> Any:
    from ray.job_submission import JobSubmissionClient

    return JobSubmissionClient(cluster.dashboard)


def files_holding(folder: Path, needle: bytes) -> list[str]:
    found = []
    for path in folder.rglob("*"):
        with contextlib.suppress(OSError):
            if path.is_file() and not path.is_symlink() and needle in path.read_bytes():
                found.append(str(path))
    return found


def test_a_run_is_taken_over_and_ends_with_its_adapter_and_no_key_or_text_on_the_cluster(
    house: House, cluster: Cluster, fine_tune: FineTune, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []

    def look_and_die(row: FineTune) -> None:
        if row.step > 2:
            assert row.run_key is not None
            assert row.output_key is not None
            about = str(jobs_of(cluster).get_job_info(row.cluster_job))
            about += jobs_of(cluster).get_job_logs(row.cluster_job)
            about += "".join(str((each.cmdline(), each.environ())) for each in cluster.trainers())
            for key in (open_key(row.run_key), open_key(row.output_key)):
                assert key.hex() not in about
                assert files_holding(cluster.folder, key.hex().encode()) == []
            assert files_holding(cluster.folder, b"Dressing changed") == []
            seen.append(about)
            raise KeyboardInterrupt

    at_each_poll(monkeypatch, look_and_die, fine_tune.pk)
    with pytest.raises(KeyboardInterrupt):
        following.drive(str(fine_tune.pk))
    assert "remote.listening" in seen[0]
    monkeypatch.undo()
    stay_here(monkeypatch)
    done = following.drive(str(fine_tune.pk))
    assert (done.state, done.failure, done.attempt) == (RunState.SUCCEEDED, "", 1)
    assert done.measurements.filter(split="train").count() == done.steps
    left = {path.name for path in run_folder(done).iterdir()}
    assert {"adapter.sealed", "held_out.sealed", "train_records.sealed"} <= left
    assert done.model_version.adapter_digest
    said = show_sample_answers(actor=house.analyst, fine_tune=done)
    assert len(said.steps) == min(ANSWERS_KEPT, done.measurements.filter(split="validation").count())
    assert len([*run_folder(done).glob("answers-*.sealed")]) == len(said.steps)
    assert [len(asked.answers) for asked in said.asked] == [len(said.steps)] * 4
    recorded = [json.loads(bytes(each.body)) for each in OutboxEntry.objects.all()]
    assert [each["facts"]["device"] for each in recorded if each["action"] == "fine_tune.dispatched"] == ["ray"]
    assert cluster.trainers() == []


def test_a_cancelled_run_ends_within_seconds(
    house: House, cluster: Cluster, fine_tune: FineTune, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[float] = []

    def cancel(row: FineTune) -> None:
        if not asked and row.step > 2:
            asked.append(time.monotonic())
            actions.cancel_fine_tune(actor=house.analyst, fine_tune=row)

    at_each_poll(monkeypatch, cancel, fine_tune.pk)
    done = following.drive(str(fine_tune.pk))
    assert done.state == RunState.CANCELLED
    assert time.monotonic() - asked[0] < 15
    assert cluster.trainers() == []


TWO = {**SMALL, "parallel": {"nodes": 2}, "evaluate_every": 5, "checkpoint_every": 5, "patience": None}


def asked(house: House, base: Any, **changes: Any) -> FineTune:
    version = getattr(house, "version", None) or house.approved(visits(90))
    house.version = version  # type: ignore[attr-defined]
    return actions.request_fine_tune(
        actor=house.analyst, version=version, base_model=base, name="two", changes={**TWO, **changes}
    )


def losses(fine_tune: FineTune) -> dict[int, float]:
    return dict(fine_tune.measurements.filter(split="train").values_list("step", "loss"))


def learnt_alone(house: House, base: Any, settings: Any, **changes: Any) -> dict[int, float]:
    """The losses of the same run by one process on this machine."""
    settings.STEWARD_LAUNCHER = "local"
    done = following.drive(str(asked(house, base, **{**changes, "parallel": {"nodes": 1}}).pk))
    assert (done.state, done.failure) == (RunState.SUCCEEDED, "")
    return losses(done)


@pytest.fixture
def on_cluster(cluster: Cluster, settings: Any, monkeypatch: pytest.MonkeyPatch) -> Cluster:
    settings.STEWARD_LAUNCHER, settings.STEWARD_RAY_ADDRESS = "ray", cluster.dashboard
    settings.STEWARD_RAY_GPUS, settings.STEWARD_RAY_DEVICES = 0, 8
    stay_here(monkeypatch)
    return cluster


def test_two_nodes_learn_as_one_process_does_and_nothing_of_it_can_be_read_on_the_way(
    house: House, tiny_base: Any, on_cluster: Cluster, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: set[str] = set()

    def look(row: FineTune) -> None:
        if row.step > 2 and not seen:
            seen.update(on_cluster.node_of(each) for each in on_cluster.trainers())
            assert DeviceClaim.objects.get(subject=row.pk).wanted == 2
            assert row.run_key is not None
            key = open_key(row.run_key)
            about = jobs_of(on_cluster).get_job_logs(row.cluster_job)
            about += "".join(str((each.cmdline(), each.environ())) for each in on_cluster.trainers())
            for secret in (key, ring_secret(key, str(row.pk), row.attempt)):
                assert secret.hex() not in about
                assert files_holding(on_cluster.folder, secret.hex().encode()) == []
            assert files_holding(on_cluster.folder, b"Dressing changed") == []

    fine_tune = asked(house, tiny_base, epochs=6)
    at_each_poll(monkeypatch, look, fine_tune.pk)
    done = following.drive(str(fine_tune.pk))
    assert done.failure == ""
    assert (done.state, done.attempt) == (RunState.SUCCEEDED, 1)
    assert len(seen) == 2
    assert on_cluster.trainers() == []
    assert (run_folder(done) / "events-1.jsonl").read_text().count("train.step") == done.steps
    assert losses(done) == pytest.approx(learnt_alone(house, tiny_base, settings, epochs=6), rel=1e-3)


def test_a_cancelled_run_in_parts_on_two_nodes_is_gone_from_both_within_seconds(
    house: House, tiny_base: Any, on_cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked_at: list[float] = []
    jobs: list[str] = []

    def cancel(row: FineTune) -> None:
        if not asked_at and row.step > 2:
            asked_at.append(time.monotonic())
            jobs.append(row.cluster_job)
            actions.cancel_fine_tune(actor=house.analyst, fine_tune=row)

    fine_tune = asked(house, tiny_base, epochs=40, parallel={"nodes": 2, "shard": "weights"})
    at_each_poll(monkeypatch, cancel, fine_tune.pk)
    done = following.drive(str(fine_tune.pk))
    took = time.monotonic() - asked_at[0]
    assert done.state == RunState.CANCELLED
    assert on_cluster.trainers() == []
    assert took < 15
    assert jobs_of(on_cluster).get_job_status(jobs[0]).is_terminal()


def test_of_two_nodes_with_parts_one_is_killed_in_mid_run_and_the_run_ends_as_if_nothing_had_been(
    house: House, tiny_base: Any, on_cluster: Cluster, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    killed: list[int] = []

    def cut_power(row: FineTune) -> None:
        if not killed and (run_folder(row) / "checkpoint.sealed").exists() and row.step > 5:
            killed.append(row.step)
            (first,) = [each for each in on_cluster.trainers() if "--node 0" in " ".join(each.cmdline())]
            on_cluster.kill(on_cluster.node_of(first))

    fine_tune = asked(house, tiny_base, epochs=4, parallel={"nodes": 2, "shard": "weights"})
    at_each_poll(monkeypatch, cut_power, fine_tune.pk)
    done = following.drive(str(fine_tune.pk))
    assert killed
    # A cluster may take a dead node for a living one for some seconds, and an attempt with it.
    assert (done.state, done.failure, done.attempt in (2, 3)) == (RunState.SUCCEEDED, "", True)
    alone = learnt_alone(house, tiny_base, settings, epochs=4)
    after = {step: loss for step, loss in losses(done).items() if step > killed[0] + 5}
    assert after == pytest.approx({step: alone[step] for step in after}, rel=1e-3)
    assert max(after) == done.steps
    assert on_cluster.trainers() == []


def test_a_node_killed_in_mid_run_costs_no_more_than_the_steps_since_the_last_checkpoint(
    cluster: Cluster, fine_tune: FineTune, monkeypatch: pytest.MonkeyPatch
) -> None:
    killed: list[int] = []

    def cut_power(row: FineTune) -> None:
        if not killed and (run_folder(row) / "checkpoint.sealed").exists() and row.step > 5:
            killed.append(row.step)
            for trainer in cluster.trainers():
                trainer.kill()
            cluster.kill(jobs_of(cluster).get_job_info(row.cluster_job).driver_node_id)

    at_each_poll(monkeypatch, cut_power, fine_tune.pk)
    done = following.drive(str(fine_tune.pk))
    assert killed
    assert (done.state, done.failure, done.attempt) == (RunState.SUCCEEDED, "", 2)
    resumed = [json.loads(line) for line in (run_folder(done) / "events.jsonl").read_text().splitlines()]
    (step,) = [each["step"] for each in resumed if each["event"] == "run.resumed"]
    assert step >= 5
    # A checkpoint may have come back that is newer than what was heard of; what was said of the steps between died
    # with the node, and nothing else is missing.
    measured = set(done.measurements.filter(split="train").values_list("step", flat=True))
    assert set(range(1, done.steps + 1)) - measured <= set(range(killed[0], step + 1))


def test_a_cluster_with_too_few_machines_is_named(
    house: House, tiny_base: Any, on_cluster: Cluster, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    waited: set[str] = set()

    def look(row: FineTune) -> None:
        waits = gathering(row)
        if waits is not None and waits.large is not None:  # a busy machine may take seconds to begin the job at all
            waited.add(waits.text)

    settings.STEWARD_RAY_GATHER_SECONDS = 6
    fine_tune = asked(house, tiny_base, parallel={"nodes": 7})
    at_each_poll(monkeypatch, look, fine_tune.pk)
    done = following.drive(str(fine_tune.pk))
    (text,) = waited
    assert "once 7 nodes of the cluster are free at once" in text
    assert "for 6 seconds, it fails" in text
    assert (done.state, done.failure_code) == (RunState.FAILED, "parallel.nodes")
    assert "wants 7 machines with 1 CPU each; the cluster has" in done.failure


def test_a_run_that_no_node_has_room_for_says_that_it_waits_and_can_be_cancelled(
    house: House, tiny_base: Any, on_cluster: Cluster, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    waited: list[str] = []
    asked_at: list[float] = []

    def look_and_cancel(row: FineTune) -> None:
        if (waits := gathering(row)) is not None and not waited:
            assert (waits.wanted, waits.large) == (1, None)
            waited.append(waits.text)
            asked_at.append(time.monotonic())
            actions.cancel_fine_tune(actor=house.analyst, fine_tune=row)

    settings.STEWARD_RAY_CPUS = 500
    fine_tune = asked(house, tiny_base, parallel={"nodes": 1})
    at_each_poll(monkeypatch, look_and_cancel, fine_tune.pk)
    done = following.drive(str(fine_tune.pk))
    assert time.monotonic() - asked_at[0] < 15
    assert "once a node has 500 CPUs free" in waited[0]
    assert done.state == RunState.CANCELLED


def test_a_run_that_the_cluster_gives_up_waits_on_while_nodes_are_busy_and_fails_where_none_is_large_enough(
    house: House, tiny_base: Any, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs_seen: list[str] = []
    settings.STEWARD_LAUNCHER, settings.STEWARD_RAY_GPUS = "ray", 0
    stay_here(monkeypatch)
    with started(1, RAY_JOB_START_TIMEOUT_SECONDS="8") as cluster:
        settings.STEWARD_RAY_ADDRESS, client = cluster.dashboard, jobs_of(cluster)
        busy = client.submit_job(entrypoint="sleep 600", entrypoint_num_cpus=1)
        while client.get_job_status(busy).value == "PENDING":
            time.sleep(0.2)

        def free_the_node_later(row: FineTune) -> None:
            if row.cluster_job and row.cluster_job not in jobs_seen:
                jobs_seen.append(row.cluster_job)
                if len(jobs_seen) == 2:
                    client.stop_job(busy)

        fine_tune = asked(house, tiny_base, parallel={"nodes": 1})
        at_each_poll(monkeypatch, free_the_node_later, fine_tune.pk)
        done = following.drive(str(fine_tune.pk))
        first = client.get_job_info(f"steward-{done.pk}-1")

        settings.STEWARD_RAY_CPUS = 500
        hopeless = following.drive(str(asked(house, tiny_base, parallel={"nodes": 1}).pk))
        settings.STEWARD_RAY_BEGIN_SECONDS = 1
        late = following.drive(str(asked(house, tiny_base, parallel={"nodes": 1}).pk))

        settings.STEWARD_RAY_CPUS, settings.STEWARD_RAY_BEGIN_SECONDS = 1, 600
        (ray_jobs.staged_code() / "unlike.txt").touch()  # code that no node has laid out yet, and none can
        for place in cluster.folder.glob("session_2*/runtime_resources/working_dir_files"):
            shutil.rmtree(place)
            place.touch()
        spoilt = following.drive(str(asked(house, tiny_base, parallel={"nodes": 1}).pk))
        (ray_jobs.staged_code() / "unlike.txt").unlink()
        why = client.get_job_info(f"steward-{spoilt.pk}-1-3")
    assert jobs_seen[:2] == [f"steward-{done.pk}-1", f"steward-{done.pk}-1-2"]
    assert (first.status.value, first.error_type) == ("FAILED", ray_jobs.NEVER_BEGAN)
    assert (done.state, done.failure, done.attempt) == (RunState.SUCCEEDED, "", 1)
    entries = [json.loads(bytes(body)) for body in OutboxEntry.objects.values_list("body", flat=True)]
    assert not [entry for entry in entries if entry["action"] == "fine_tune.resumed"]
    assert (hopeless.state, hopeless.failure_code, hopeless.attempt) == (RunState.FAILED, "remote.room", 1)
    assert "once a node has 500 CPUs free, and no node of the cluster is so large; lower" in hopeless.failure
    assert (late.state, late.failure_code) == (RunState.FAILED, "remote.late")
    assert f"has not begun steward-{late.pk}-1 for 0.000278 hours; it begins once a node has 500 CPUs" in late.failure
    assert "raise STEWARD_RAY_BEGIN_SECONDS" in late.failure
    assert (spoilt.state, spoilt.failure_code, spoilt.attempt) == (RunState.FAILED, "remote.environment", 1)
    assert f"`ray job status steward-{spoilt.pk}-1-3` says why" in spoilt.failure
    assert why.error_type == ray_jobs.NEVER_SET_UP


def test_without_ray_or_an_address_the_run_fails_with_what_to_do(
    house: House, tiny_base: Any, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.STEWARD_LAUNCHER, settings.STEWARD_RAY_ADDRESS = "ray", ""
    fine_tune = actions.request_fine_tune(
        actor=house.analyst, version=house.approved(visits(70)), base_model=tiny_base, name="try", changes=SMALL
    )
    done = following.drive(str(fine_tune.pk))
    assert (done.state, done.failure_code) == (RunState.FAILED, "ray_unset")
    settings.STEWARD_RAY_ADDRESS = "http://127.0.0.1:9"
    monkeypatch.setitem(sys.modules, "ray.job_submission", None)
    with pytest.raises(LaunchError, match="Install the extra"):
        ray_jobs.RayLauncher()._client()
