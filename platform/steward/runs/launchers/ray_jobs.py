"""Trainers on a Ray cluster, as Ray Jobs: Ray finds a node, everything that matters goes over a channel of our own.

The job's entrypoint is `python -m trainers remote`. The job is told the run's name and a public key, nothing else; its
working directory is our code. Once its log says where it listens, the worker connects (`trainers.channel`) and hands
over spec, sealed shards, the last checkpoint and the keys, then fetches events, checkpoints and adapter as they come.

Guarantees: keys are in no argument, environment, metadata, file or log of the cluster; what travels and what lies on a
node is ciphertext, but for the spec and events, which hold no text; a worker's successor takes the trainer over; a node
that dies costs the steps since the last checkpoint that was fetched, and the run goes on on another node. What the
channel defends against, and what not, stands in `trainers.channel`: whoever controls the cluster sees the data that is
trained on there. Does not ship the base model: each node has it at the same path, or under
`STEWARD_RAY_MODELS`, and its digest is checked.

Ray is optional and is imported here when it is needed, never with the module.
"""

import contextlib
import json
import shutil
import socket
import time
from pathlib import Path
from typing import Any

from django.conf import settings
from django.utils import timezone

from steward.code import code_digest
from steward.runs.launchers import LaunchError
from steward.runs.launchers.node_link import NodeLink
from steward.runs.models import FineTune
from steward.runs.processes import drop_half_line, key_line
from steward.runs.specs import run_folder
from steward.vault.keys import open_key
from trainers.channel import ChannelError, key_from, public
from trainers.events import EventError, RemoteListening, decode
from trainers.remote import EVENTS_FILE

ASK_CLUSTER_SECONDS = 2.0
CONNECT_SECONDS = 10.0
#: How long a cluster may be out of reach before its trainer counts as dead.
OUT_OF_REACH_SECONDS = 300.0
LOG_CHARS = 1 << 16
BASE_FILE = "cluster.json"
# What lies in these folders beside code; nothing of it is needed to train.
_CODE = ("*.py", "*.json", "*.toml", "*.yaml", "*.txt")
_PACKAGES = ("trainers", "compliance", "domains")


class RayLauncher:
    """See `Launcher`. One instance follows one fine-tune."""

    def __init__(self) -> None:
        self._jobs: Any = None
        self._link: NodeLink | None = None
        self._status, self._asked, self._heard = "", 0.0, time.monotonic()

    def start(self, fine_tune: FineTune, keys: bytes) -> None:
        """Submits the job; keys follow when it listens, see `follow`."""
        folder = run_folder(fine_tune)
        self._forget(fine_tune)
        drop_half_line(folder / EVENTS_FILE)
        attempt = fine_tune.attempt + 1
        said = (folder / EVENTS_FILE).stat().st_size if (folder / EVENTS_FILE).exists() else 0
        (folder / BASE_FILE).write_text(json.dumps({"attempt": attempt, "base": said}))
        fine_tune.cluster_job, fine_tune.attempt = f"steward-{fine_tune.pk}-{attempt}", attempt
        fine_tune.heartbeat_at = timezone.now()
        fine_tune.save(update_fields=["cluster_job", "attempt", "heartbeat_at"])
        command = f"python -m trainers remote --run {fine_tune.pk} --platform-key {public(_key(fine_tune)).hex()}"
        command += f" --port {settings.STEWARD_RAY_PORT}"
        wanted = int(fine_tune.recipe.get("parallel", {}).get("processes", 1))
        try:
            self._client().submit_job(
                entrypoint=command,
                submission_id=fine_tune.cluster_job,
                runtime_env={"working_dir": str(staged_code())},
                entrypoint_num_cpus=settings.STEWARD_RAY_CPUS * wanted,
                entrypoint_num_gpus=settings.STEWARD_RAY_GPUS * wanted or None,
            )
        except OSError as error:
            message = f"The Ray cluster at STEWARD_RAY_ADDRESS does not answer ({type(error).__name__})."
            raise LaunchError("ray_unreachable", message) from None
        except (RuntimeError, ValueError) as error:
            raise LaunchError("ray_refused", f"The Ray cluster took no job ({type(error).__name__}).") from None
        self._status, self._asked, self._heard = "PENDING", time.monotonic(), time.monotonic()

    def is_alive(self, fine_tune: FineTune) -> bool:
        """Whether its trainer runs, or the job still waits for a node."""
        if not fine_tune.cluster_job:
            return False
        if self._link is not None and self._link.exit_code is not None:
            return False
        if time.monotonic() - self._asked >= ASK_CLUSTER_SECONDS or not self._status:
            self._status = self._ask_status(fine_tune.cluster_job)
        return self._status in ("PENDING", "RUNNING", "UNKNOWN")

    def _ask_status(self, job: str) -> str:
        """PENDING, RUNNING, … as the cluster says; UNKNOWN while it does not answer, GONE once it has not for long."""
        self._asked = time.monotonic()
        try:
            status = str(self._client().get_job_status(job).value)
        except RuntimeError:
            return "GONE"  # the cluster is a new one, it does not know the job
        except OSError:
            return "UNKNOWN" if time.monotonic() - self._heard < OUT_OF_REACH_SECONDS else "GONE"
        self._heard = time.monotonic()
        return status

    def follow(self, fine_tune: FineTune) -> None:
        """Connects when the job listens, starts the training, and fetches what is new."""
        if not fine_tune.cluster_job:
            return
        try:
            if self._link is None:
                self._link = self._connect(fine_tune)
            if self._link is not None:
                self._fetch(fine_tune, self._link)
        except (ChannelError, OSError):
            self._drop_link()

    def _connect(self, fine_tune: FineTune) -> NodeLink | None:
        """A link to the trainer; None while it does not listen yet."""
        if self._status not in ("", "RUNNING"):
            return None
        heard = self._listening(fine_tune)
        if heard is None:
            return None
        line = socket.create_connection((heard.address, heard.port), CONNECT_SECONDS)
        try:
            link = NodeLink(line, str(fine_tune.pk), _key(fine_tune), bytes.fromhex(heard.public_key))
            if not link.look()["is_started"]:
                self._hand_over(fine_tune, link)
        except BaseException:
            line.close()
            raise
        return link

    def _listening(self, fine_tune: FineTune) -> RemoteListening | None:
        """Where the job says that it listens, by its log."""
        try:
            said = self._client().get_job_logs(fine_tune.cluster_job)
        except RuntimeError:
            return None
        for line in reversed(said.splitlines()):
            with contextlib.suppress(EventError):
                event = decode(line)
                if isinstance(event, RemoteListening) and event.run == str(fine_tune.pk):
                    return event
        return None

    def _hand_over(self, fine_tune: FineTune, link: NodeLink) -> None:
        """Spec, shards, checkpoint, and at last the keys."""
        folder = run_folder(fine_tune)
        spec = json.loads((folder / "spec.json").read_text())
        for name, place in sealed_inputs(spec).items():
            link.put("given", name, Path(place["path"]))
            place["path"] = f"given/{name}"
        if settings.STEWARD_RAY_MODELS:
            spec["model"]["path"] = str(Path(settings.STEWARD_RAY_MODELS, Path(spec["model"]["path"]).name))
        link.put_bytes("given", "spec.json", json.dumps(spec).encode())
        for path in sorted(folder.glob("checkpoint*")):
            link.put("out", path.name, path)
        assert fine_tune.run_key is not None
        assert fine_tune.output_key is not None
        link.start(key_line(open_key(fine_tune.run_key), open_key(fine_tune.output_key)).decode())

    def _fetch(self, fine_tune: FineTune, link: NodeLink) -> None:
        """First the files, then the events that were said before they were looked at: none speaks of a file that is
        not here."""
        folder = run_folder(fine_tune)
        for name in link.changed():
            if name != EVENTS_FILE:
                link.get(name, folder / name)
        base = json.loads((folder / BASE_FILE).read_text())["base"]
        have = (folder / EVENTS_FILE).stat().st_size if (folder / EVENTS_FILE).exists() else 0
        with open(folder / EVENTS_FILE, "ab") as events:
            events.write(link.read(EVENTS_FILE, have - base, link.size_of(EVENTS_FILE)))

    def cancel(self, fine_tune: FineTune) -> None:
        """Asks the trainer, or Ray where there is none yet."""
        with contextlib.suppress(ChannelError, OSError):
            if self._link is not None:
                self._link.signal("stop")
                return
        self._drop_link()
        if fine_tune.cluster_job and self._status != "RUNNING":
            with contextlib.suppress(RuntimeError, OSError):
                self._client().stop_job(fine_tune.cluster_job)

    def pause(self, fine_tune: FineTune) -> None:
        """As `cancel`: the checkpoint is brought here, and the next trainer may be another node's."""
        self.cancel(fine_tune)

    def collect(self, fine_tune: FineTune) -> None:
        """Lets the node forget the run."""
        with contextlib.suppress(ChannelError, OSError):
            if self._link is None:
                self._link = self._connect(fine_tune)
            if self._link is not None:
                self._link.leave()
        self._forget(fine_tune)

    def _forget(self, fine_tune: FineTune) -> None:
        """Stops the job, whatever it does, and keeps what Ray logged of it."""
        self._drop_link()
        if fine_tune.cluster_job:
            with contextlib.suppress(RuntimeError, OSError):
                log = self._client().get_job_logs(fine_tune.cluster_job)
                with open(run_folder(fine_tune) / "trainer.log", "a") as kept:
                    kept.write(log[-LOG_CHARS:])
                self._client().stop_job(fine_tune.cluster_job)

    def _drop_link(self) -> None:
        if self._link is not None:
            self._link.close()
            self._link = None

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


def _key(fine_tune: FineTune) -> Any:
    """The platform's key of this attempt; gone with the run's key when the run is over."""
    assert fine_tune.run_key is not None
    return key_from(open_key(fine_tune.run_key), str(fine_tune.pk), fine_tune.attempt)


def sealed_inputs(spec: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The parts of a spec that name a sealed object, by a name for each."""
    found: dict[str, dict[str, Any]] = {}

    def look(part: Any, name: str) -> None:
        if isinstance(part, dict):
            if "path" in part and "commitment" in part:
                found[f"{name}.sealed"] = part
            else:
                for key, value in part.items():
                    look(value, f"{name}.{key}" if name else key)

    look(spec, "")
    return found


def staged_code() -> Path:
    """A folder with the packages that train, as they are here; made once for each state of the code."""
    folder = Path(settings.STEWARD_HOME, "ray-code", code_digest().removeprefix("sha256:")[:32])
    if folder.exists():
        return folder
    staging = folder.with_name(f".{folder.name}.{timezone.now().timestamp():.0f}")
    for package in _PACKAGES:
        root = Path(settings.ROOT, package)
        for pattern in _CODE:
            for source in root.rglob(pattern):
                if source.stat().st_size < 1 << 20:
                    target = staging / source.relative_to(settings.ROOT)
                    target.parent.mkdir(parents=True, exist_ok=True)
                    shutil.copyfile(source, target)
    with contextlib.suppress(OSError):  # another worker was faster
        staging.rename(folder)
    return folder
