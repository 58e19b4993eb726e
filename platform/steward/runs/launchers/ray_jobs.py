"""Trainers on a Ray cluster, as Ray Jobs: Ray finds a node, everything that matters goes over a channel of our own.

The job's entrypoint is `python -m trainers remote`; for a run on several machines it is `python -m trainers machines`,
which takes them all at once and starts the former on each. The job is told the run's name and a public key, nothing
else; its working directory is our code. Once its log says where they listen, the worker connects (`trainers.channel`)
and hands over spec, sealed shards, the last checkpoint and the keys, then fetches events, checkpoints and adapter as
they come (`nodes`).

Guarantees: keys are in no argument, environment, metadata, file or log of the cluster; what travels, between nodes as
well, and what lies on a node is ciphertext, but for the spec and events, which hold no text; a worker's successor takes
the trainers over; a node that dies costs the steps since the last checkpoint that was fetched, and the run goes on on
others; a job that the cluster gave up before a node had room for it is submitted anew, for so long as
`STEWARD_RAY_BEGIN_SECONDS` says. What the channel defends against, and what not, stands in `trainers.channel`: whoever
controls the cluster sees the data that is trained on there. Does not ship the base model: each node has it at the same
path, or under `STEWARD_RAY_MODELS`, and its digest is checked.

Ray is optional and is imported here when it is needed, never with the module.
"""

import contextlib
import shutil
import time
from pathlib import Path
from typing import Any

from django.conf import settings
from django.utils import timezone

from steward.code import code_digest
from steward.runs.dispatch import room_on_node, wanted_room
from steward.runs.launchers import LaunchError
from steward.runs.launchers.nodes import LOST, Nodes, told_by
from steward.runs.models import FineTune
from steward.runs.specs import run_folder
from trainers.channel import public
from trainers.events import Event, RemoteListening, RemoteWaiting, RunFailed

ASK_CLUSTER_SECONDS = 2.0
#: How long a cluster may be out of reach before its trainer counts as dead.
OUT_OF_REACH_SECONDS = 300.0
#: How long trainers that were let go may take to clean up before their job is stopped.
LEAVE_SECONDS = 4.0
# Source: ray.dashboard.modules.dashboard_sdk, what its client says of an answer that is none.
NOT_FOUND = "status code 404"
# Source: ray.dashboard.modules.job.common.JobErrorType, of a job that no node had room for within the cluster's
# RAY_JOB_START_TIMEOUT_SECONDS, 900 by default.
NEVER_BEGAN = "JOB_SUPERVISOR_ACTOR_START_TIMEOUT"
# Source: the same, of a job whose code could not be laid out on the node that was found; Ray has tried several times.
NEVER_SET_UP = "RUNTIME_ENV_SETUP_FAILURE"
MOST_SPOILT_JOBS = 3
MOST_NODES = 10_000
#: A job that the cluster has not begun for so long waits for a node: laying out code takes less, mostly.
BEGIN_SECONDS = 5.0
LOG_CHARS = 1 << 16
# What lies in these folders beside code; nothing of it is needed to train.
_CODE = ("*.py", "*.json", "*.toml", "*.yaml", "*.txt")
_PACKAGES = ("trainers", "compliance", "domains")
_ON_ITS_WAY = ("PENDING", "RUNNING", "UNKNOWN")


class RayLauncher:
    """See `Launcher`. One instance follows one fine-tune."""

    def __init__(self) -> None:
        self._jobs: Any = None
        self._nodes: Nodes | None = None
        self._status, self._asked, self._heard = "", 0.0, time.monotonic()
        self._begun, self._is_given_up, self._error = self._heard, False, ""

    def start(self, fine_tune: FineTune, keys: bytes) -> None:
        """Submits the job; keys follow when its trainers listen, see `follow`."""
        self._forget(fine_tune)
        is_same_attempt = self.never_began(fine_tune)
        fine_tune.attempt += not is_same_attempt
        fine_tune.cluster_job = _job_name(fine_tune)
        fine_tune.heartbeat_at = timezone.now()
        self._nodes = Nodes(fine_tune)
        if not is_same_attempt:
            self._nodes.begin_notes()
        fine_tune.save(update_fields=["cluster_job", "attempt", "heartbeat_at"])
        code = staged_code()
        try:
            self._client().submit_job(
                submission_id=fine_tune.cluster_job,
                runtime_env={"working_dir": str(code)},
                **_job(self._nodes, fine_tune),
            )
        except OSError as error:
            message = f"The Ray cluster at STEWARD_RAY_ADDRESS does not answer ({type(error).__name__})."
            raise LaunchError("ray_unreachable", message) from None
        except (RuntimeError, ValueError) as error:
            raise LaunchError("ray_refused", f"The Ray cluster took no job ({type(error).__name__}).") from None
        self._status, self._begun = "PENDING", time.monotonic()
        self._is_given_up, self._error = False, ""
        self._asked = self._heard = self._begun

    def is_alive(self, fine_tune: FineTune) -> bool:
        """Whether its trainers run, or the job still waits for nodes."""
        if not fine_tune.cluster_job or self._is_given_up or (self._nodes is not None and self._nodes.is_over):
            return False
        return self._now(fine_tune.cluster_job) in _ON_ITS_WAY

    def _now(self, job: str) -> str:
        """The job's status, at most some seconds old."""
        if time.monotonic() - self._asked >= ASK_CLUSTER_SECONDS or not self._status:
            self._status = self._ask_status(job)
        return self._status

    def _ask_status(self, job: str) -> str:
        """PENDING, RUNNING, … as the cluster says; UNKNOWN while it does not answer, GONE once it has not for long."""
        self._asked = time.monotonic()
        try:
            about = self._client().get_job_info(job)
        except (RuntimeError, OSError) as error:
            if NOT_FOUND in str(error):
                return "GONE"  # the cluster is a new one, it does not know the job
            return "UNKNOWN" if time.monotonic() - self._heard < OUT_OF_REACH_SECONDS else "GONE"
        self._heard = time.monotonic()
        self._error = str(about.error_type or "")
        return str(about.status.value)

    def never_began(self, fine_tune: FineTune) -> bool:
        """Whether the cluster gave the job up because no node had room for it in time, or could not set it up."""
        return self._error in (NEVER_BEGAN, NEVER_SET_UP)

    def follow(self, fine_tune: FineTune) -> None:
        """Connects when the job's trainers listen, starts the training, and fetches what is new."""
        if not fine_tune.cluster_job:
            return
        if self._nodes is None:
            self._nodes = Nodes(fine_tune)
        if self._status == "PENDING":
            if time.monotonic() - self._begun > BEGIN_SECONDS:
                self._nodes.note(RemoteWaiting(str(fine_tune.pk), self._nodes.count, None))
        elif self._error == NEVER_BEGAN:
            self._end_if_hopeless(fine_tune, self._nodes)
        elif self._error == NEVER_SET_UP:
            self._end_if_spoilt(fine_tune, self._nodes)
        elif not self._nodes.are_all_linked:
            self._hear(fine_tune, self._nodes)
        self._end_if_late(fine_tune, self._nodes)
        self._nodes.fetch()

    def _end_if_late(self, fine_tune: FineTune, nodes: Nodes) -> None:
        """Ends a run that has waited for its cluster for as long as runs may."""
        most = settings.STEWARD_RAY_BEGIN_SECONDS
        if nodes.is_handed or nodes.waited_seconds < most:
            return
        job = fine_tune.cluster_job
        message = f"the cluster has not begun {job} for {most / 3600:,.3g} hours; it begins once "
        message += f"{wanted_room(fine_tune)} free and Ray can set it up there"
        hint = f"ask the cluster with `ray status` and `ray job status {job}`, or raise STEWARD_RAY_BEGIN_SECONDS"
        nodes.tell(RunFailed(str(fine_tune.pk), "remote.late", message, f"{hint}; then run it again"))

    def _end_if_spoilt(self, fine_tune: FineTune, nodes: Nodes) -> None:
        """Ends a run whose jobs no node could set up; a single one may have been unlucky with its node."""
        job = fine_tune.cluster_job
        if nodes.count_spoilt(job) < MOST_SPOILT_JOBS:
            return
        message = f"Ray could not lay Steward's code out on a node for {MOST_SPOILT_JOBS} jobs, the last one {job}"
        hint = f"`ray job status {job}` says why, often a node's full disk; mend that, then run it again"
        nodes.tell(RunFailed(str(fine_tune.pk), "remote.environment", message, hint))

    def _end_if_hopeless(self, fine_tune: FineTune, nodes: Nodes) -> None:
        """Ends the run if not even an idle node would have room; a job for several nodes finds out by itself."""
        if nodes.count > 1:
            return
        from ray.util.state import list_nodes
        from ray.util.state.exception import RayStateApiException

        try:
            there = list_nodes(settings.STEWARD_RAY_ADDRESS, limit=MOST_NODES, filters=[("state", "=", "ALIVE")])
        except (RayStateApiException, RuntimeError, OSError):
            return  # whoever does not answer has not said that it is too small
        room = room_on_node(fine_tune)
        if not any(all(node.resources_total.get(name, 0) >= room[name] for name in room) for node in there):
            message = f"the run begins once {wanted_room(fine_tune)} free, and no node of the cluster is so large"
            hint = "lower parallel.processes, STEWARD_RAY_CPUS or STEWARD_RAY_GPUS, or add such a node to the cluster"
            nodes.tell(RunFailed(str(fine_tune.pk), "remote.room", message, hint))

    def _hear(self, fine_tune: FineTune, nodes: Nodes) -> None:
        """Reads in the job's log where its trainers listen, or why they do not."""
        try:
            said = told_by(self._client().get_job_logs(fine_tune.cluster_job))
        except (RuntimeError, OSError):
            return
        ours = [event for event in said if event.run == str(fine_tune.pk)]
        for event in ours:
            if isinstance(event, RunFailed) and event.code != LOST:
                nodes.tell(event)
        self._note_waiting(nodes, ours)
        heard = {event.node: event for event in ours if isinstance(event, RemoteListening)}
        if self._status in ("", "RUNNING") and len(heard) == nodes.count:
            nodes.meet(heard)

    def _note_waiting(self, nodes: Nodes, said: list[Event]) -> None:
        """Keeps where the run stands: it waits for its machines, or has them. One that never waited leaves no note."""
        standing = [event for event in said if isinstance(event, RemoteWaiting | RemoteListening)]
        if standing and (nodes.has_waited or any(isinstance(event, RemoteWaiting) for event in standing)):
            nodes.note(standing[-1])

    def cancel(self, fine_tune: FineTune) -> None:
        """Asks the trainers, or Ray where they cannot be asked."""
        if self._nodes is None or not self._nodes.stop():
            self._give_up(fine_tune)

    def pause(self, fine_tune: FineTune) -> None:
        """As `cancel`, but trainers that are out of reach are asked again later: their checkpoint is worth it.

        It is brought here, and the next trainer may be another node's.
        """
        if self._nodes is None or not (self._nodes.stop() or self._nodes.is_handed):
            self._give_up(fine_tune)

    def collect(self, fine_tune: FineTune) -> None:
        """Lets the nodes forget the run."""
        self.follow(fine_tune)
        self._forget(fine_tune)

    def abandon(self, fine_tune: FineTune) -> None:
        """Lets the nodes forget the run as it is."""
        self._forget(fine_tune)

    def _forget(self, fine_tune: FineTune) -> None:
        """Ends the job, by force if the trainers do not leave, and keeps what Ray logged of it."""
        if self._nodes is not None:
            self._nodes.leave()
            self._nodes = None
            deadline = time.monotonic() + LEAVE_SECONDS
            while time.monotonic() < deadline and self._ask_status(fine_tune.cluster_job) in _ON_ITS_WAY:
                time.sleep(0.2)
        if fine_tune.cluster_job:
            with contextlib.suppress(RuntimeError, OSError):
                log = self._client().get_job_logs(fine_tune.cluster_job)
                with open(run_folder(fine_tune) / "trainer.log", "a") as kept:
                    kept.write(log[-LOG_CHARS:])
            self._stop_job(fine_tune)

    def _give_up(self, fine_tune: FineTune) -> None:
        """Has Ray stop the job. One that has not begun hears of it only when it begins, and has no key: it is over."""
        self._stop_job(fine_tune)
        self._is_given_up = self._status == "PENDING"

    def _stop_job(self, fine_tune: FineTune) -> None:
        if fine_tune.cluster_job:
            with contextlib.suppress(RuntimeError, OSError):
                self._client().stop_job(fine_tune.cluster_job)

    def _client(self) -> Any:
        """Ray's client for jobs.

        Raises:
            LaunchError: Ray is not installed, or no cluster is named.
            OSError: the cluster does not answer.
        """
        if self._jobs is None:
            if not settings.STEWARD_RAY_ADDRESS:
                raise LaunchError("ray_unset", "Set STEWARD_RAY_ADDRESS to the cluster's dashboard, http://HOST:8265.")
            try:
                from ray.job_submission import JobSubmissionClient
            except ImportError:
                raise LaunchError(
                    "ray_missing", 'Ray is not installed here. Install the extra: pip install "steward[ray]".'
                ) from None
            self._jobs = JobSubmissionClient(settings.STEWARD_RAY_ADDRESS)
        return self._jobs


def _job_name(fine_tune: FineTune) -> str:
    """What the cluster calls the attempt; “-2” is added where the job is given to it a second time, and so on."""
    name = f"steward-{fine_tune.pk}-{fine_tune.attempt}"
    if fine_tune.cluster_job != name and not fine_tune.cluster_job.startswith(f"{name}-"):
        return name
    return f"{name}-{int(fine_tune.cluster_job.removeprefix(name).removeprefix('-') or 1) + 1}"


def _job(nodes: Nodes, fine_tune: FineTune) -> dict[str, Any]:
    """What the job runs, and on what."""
    cpus, gpus = room_on_node(fine_tune).values()
    words = f"--run {fine_tune.pk} --platform-key {public(nodes.platform_key).hex()} --port {settings.STEWARD_RAY_PORT}"
    if nodes.count == 1:
        entrypoint = f"python -m trainers remote {words}"
        return {"entrypoint": entrypoint, "entrypoint_num_cpus": cpus, "entrypoint_num_gpus": gpus or None}
    words += f" --ring-port {settings.STEWARD_RAY_RING_PORT} --nodes {nodes.count} --cpus {cpus} --gpus {gpus}"
    return {"entrypoint": f"python -m trainers machines {words} --gather {settings.STEWARD_RAY_GATHER_SECONDS}"}


def staged_code() -> Path:
    """A folder with the packages that train, as they are here; made once for each state of the code."""
    folder = Path(settings.STEWARD_HOME, "ray-code", code_digest().removeprefix("sha256:")[:32])
    if folder.exists():
        return folder
    staging = folder.with_name(f".{folder.name}.{timezone.now().timestamp():.0f}")
    try:
        for package in _PACKAGES:
            _copy_code(Path(settings.ROOT, package), staging)
        with contextlib.suppress(OSError):  # another worker was faster
            staging.rename(folder)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return folder


def _copy_code(package: Path, staging: Path) -> None:
    for pattern in _CODE:
        for source in package.rglob(pattern):
            if source.stat().st_size < 1 << 20:
                target = staging / source.relative_to(settings.ROOT)
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(source, target)
