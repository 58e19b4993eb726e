"""The trainers of one attempt of a run, on one machine or several, as the platform holds them.

Guarantees: nothing is handed over before all of them are there; each gets spec, sealed shards, checkpoint and keys over
its own channel, and those of several machines the secret and the places of their ring (`trainers.ring`); checkpoints,
adapter and events come from the first one, of the others the events are kept beside; if the first one lost another one,
that one's own last words count. A line that breaks is taken up again; what the disk here does not take is raised as the
`OSError` that it is. Does not start or end machines; see `ray_jobs`.

`cluster.json` in the run's folder says what of `events.jsonl` is older than the trainers, and what was done already.
"""

import contextlib
import json
import socket
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from django.conf import settings

from compliance.vault import atomic_output
from steward.runs import disk
from steward.runs.dispatch import wanted_devices, wanted_nodes
from steward.runs.launchers.node_link import NodeLink
from steward.runs.models import FineTune
from steward.runs.processes import drop_half_line
from steward.runs.specs import run_folder
from steward.vault.keys import open_key
from trainers.channel import ChannelError, key_from, ring_secret
from trainers.errors import EXIT_CANCELLED, EXIT_DONE, EXIT_PAUSED
from trainers.events import Event, EventError, RemoteListening, RunFailed, decode, encode
from trainers.keys import Keys, RingPlace
from trainers.remote import EVENTS_FILE
from trainers.spec import SURPLUS_ANSWERS

CONNECT_SECONDS = 10.0
#: How long trainers that listen may be out of reach before the run fails, while none of them has begun.
REACH_SECONDS = 120.0
#: How long the others have to say why they ended, once the first one has.
FAREWELL_SECONDS = 5.0
# Source: trainers.parallel, what is left to say when one of several processes was killed.
LOST = "parallel.lost"
NOTES_FILE = "cluster.json"
_GOOD_ENDS = (EXIT_DONE, EXIT_CANCELLED, EXIT_PAUSED)


class Nodes:
    """Those of the fine-tune's present attempt."""

    def __init__(self, fine_tune: FineTune) -> None:
        self._fine_tune = fine_tune
        self.count = wanted_nodes(fine_tune.recipe)
        self.processes = wanted_devices(fine_tune.recipe) // self.count
        self._run, self._attempt, self._folder = str(fine_tune.pk), fine_tune.attempt, run_folder(fine_tune)
        self._links: dict[int, NodeLink] = {}
        self._begun = time.monotonic()

    @property
    def platform_key(self) -> X25519PrivateKey:
        """The platform's key of this attempt; gone with the run's key when the run is over."""
        return key_from(self._keys().data_key, self._run, self._attempt)

    def _keys(self) -> Keys:
        """Opened when they are needed, and not kept."""
        assert self._fine_tune.run_key is not None
        assert self._fine_tune.output_key is not None
        return Keys(open_key(self._fine_tune.run_key), open_key(self._fine_tune.output_key))

    @property
    def are_all_linked(self) -> bool:
        """Whether there is a connection to each."""
        return len(self._links) == self.count

    @property
    def is_over(self) -> bool:
        """Whether the first trainer has ended, or another one has failed and the first cannot know.

        It does not know before they have met, and says nothing until then.
        """
        first = self._links.get(0)
        if first is not None and (first.exit_code is not None or first.size_of(EVENTS_FILE)):
            return first.exit_code is not None
        return any(link.exit_code for link in self._links.values())

    def begin_notes(self) -> None:
        """Notes that a new attempt begins: what was said so far is older."""
        events = self._folder / EVENTS_FILE
        drop_half_line(events)
        for path in self._folder.glob("events-*.jsonl"):
            path.unlink()
        self._write_notes({"attempt": self._attempt, "base": self._said_bytes(), "asked_at": time.time()})

    @property
    def waited_seconds(self) -> float:
        """How long ago the cluster was first asked for this attempt, by whichever worker."""
        return time.time() - self._notes().get("asked_at", time.time())

    def count_spoilt(self, job: str) -> int:
        """How many jobs of this attempt the cluster could not set up, with this one; each counts once."""
        notes = self._notes()
        spoilt = sorted({*notes.get("spoilt", []), job})
        self._write_notes(notes | {"spoilt": spoilt})
        return len(spoilt)

    def _said_bytes(self) -> int:
        events = self._folder / EVENTS_FILE
        return events.stat().st_size if events.exists() else 0

    def note(self, event: Event) -> None:
        """Adds what the cluster said of the run before its trainers had their work; the same again is passed over."""
        notes, line = self._notes(), encode(event)
        if notes.get("noted") != line and not (notes.get("is_handed") or notes.get("is_told")):
            self._write_notes(notes | {"noted": line})
            with (self._folder / EVENTS_FILE).open("a") as file:
                file.write(line + "\n")

    @property
    def has_waited(self) -> bool:
        """Whether it was noted that this attempt waits for machines."""
        return "noted" in self._notes()

    def meet(self, heard: Mapping[int, RemoteListening]) -> None:
        """Connects to those that listen; once all are there, those without work get theirs."""
        for node, place in heard.items():
            if node < self.count and node not in self._links:
                with contextlib.suppress(ChannelError, OSError):
                    self._links[node] = self._link_to(place)
        if self.are_all_linked and not all(link.is_started for link in self._links.values()):
            try:
                self._hand_over(heard)
            except (ChannelError, OSError) as error:
                self.close()
                if disk.is_to_blame(error):
                    raise
        self._give_up_on(heard)

    def _link_to(self, place: RemoteListening) -> NodeLink:
        line = socket.create_connection((place.address, place.port), CONNECT_SECONDS)
        try:
            link = NodeLink(line, self._run, self.platform_key, bytes.fromhex(place.public_key))
            link.look()
        except BaseException:
            line.close()
            raise
        return link

    def _give_up_on(self, heard: Mapping[int, RemoteListening]) -> None:
        missing = [place for node, place in heard.items() if node not in self._links]
        is_late = time.monotonic() - self._begun > REACH_SECONDS
        if missing and is_late and not self._notes().get("is_handed"):
            where = f"{missing[0].address}, port {missing[0].port}"
            message = f"the trainer at {where}, cannot be reached from the platform"
            self.tell(RunFailed(self._run, "remote.unreachable", message, "let the worker reach the nodes by TCP"))

    def _hand_over(self, heard: Mapping[int, RemoteListening]) -> None:
        """Spec, shards and checkpoint to all, and at last the keys."""
        members = self._ring(heard) if self.count > 1 else []
        if members is None:
            return
        waiting = [node for node, link in sorted(self._links.items()) if not link.is_started]
        if len(waiting) == self.count:
            self._write_notes(self._notes() | {"base": self._said_bytes()})
        for node in waiting:
            self._bring(self._links[node])
        for node in waiting:
            self._links[node].start(self._keys_for(node, members).line())
        self._write_notes(self._notes() | {"is_handed": True})

    def _bring(self, link: NodeLink) -> None:
        spec = json.loads((self._folder / "spec.json").read_text())
        for name, place in sealed_inputs(spec).items():
            link.put("given", name, Path(place["path"]))
            place["path"] = f"given/{name}"
        if settings.STEWARD_RAY_MODELS:
            spec["model"]["path"] = str(Path(settings.STEWARD_RAY_MODELS, Path(spec["model"]["path"]).name))
        link.put_bytes("given", "spec.json", json.dumps(spec).encode())
        for path in sorted(self._folder.glob("checkpoint*")):
            link.put("out", path.name, path)

    def _ring(self, heard: Mapping[int, RemoteListening]) -> list[tuple[str, int]] | None:
        """Where each trainer is reached by the others, by rank; None if ports cannot be had, which ends the run."""
        members: list[tuple[str, int]] = []
        for node, link in sorted(self._links.items()):
            ports = link.open_doors(self.processes)
            if not ports:
                message = f"the machine at {heard[node].address} cannot open its ports for the other machines"
                self.tell(RunFailed(self._run, "remote.port", message, "set STEWARD_RAY_RING_PORT to others, or 0"))
                return None
            members += [(heard[node].address, port) for port in ports]
        return members

    def _keys_for(self, node: int, members: list[tuple[str, int]]) -> Keys:
        keys = self._keys()
        if not members:
            return keys
        secret = ring_secret(keys.data_key, self._run, self._attempt)
        return replace(keys, ring=RingPlace(secret, node * self.processes, tuple(members)))

    def fetch(self) -> None:
        """Brings what is new into the run's folder."""
        for node, link in sorted(self._links.items(), reverse=True):
            try:
                if node:
                    self._listen(node, link)
                else:
                    self._fetch(link)
            except (ChannelError, OSError) as error:
                self._drop(node)
                if disk.is_to_blame(error):
                    raise
        if self.count > 1 and self.is_over and not self._has_ended_well():
            self._hear_last_words()

    def _fetch(self, link: NodeLink) -> None:
        """First the files, then the events that were said before they were looked at: none speaks of a file that is
        not here."""
        for name in link.changed():
            if name != EVENTS_FILE:
                link.get(name, self._folder / name)
        # The trainer lets the same files go there. Source: trainers.answers.
        for older in sorted(self._folder.glob("answers-*.sealed"))[SURPLUS_ANSWERS]:
            older.unlink()
        notes = self._notes()
        if notes.get("is_told"):
            return
        have = self._said_bytes()
        with (self._folder / EVENTS_FILE).open("ab") as file:
            file.write(link.read(EVENTS_FILE, have - notes["base"], link.size_of(EVENTS_FILE)))

    def _listen(self, node: int, link: NodeLink) -> None:
        link.look()
        path = self._folder / f"events-{node}.jsonl"
        have = path.stat().st_size if path.exists() else 0
        with path.open("ab") as file:
            file.write(link.read(EVENTS_FILE, have, link.size_of(EVENTS_FILE)))

    def _has_ended_well(self) -> bool:
        """Of what is over. The first trainer has not ended where another one failed before it said anything."""
        return 0 in self._links and self._links[0].exit_code in _GOOD_ENDS

    def _hear_last_words(self) -> None:
        """What another trainer said of its end, if it did: that the first one lost it is not why."""
        deadline = time.monotonic() + FAREWELL_SECONDS
        for node, link in sorted(self._links.items()):
            with contextlib.suppress(ChannelError, OSError):
                while node and link.exit_code is None and time.monotonic() < deadline:
                    time.sleep(0.1)
                    link.look()
                if node:
                    self._listen(node, link)
        for path in sorted(self._folder.glob("events-*.jsonl")):
            for event in told_by(path.read_text()):
                if isinstance(event, RunFailed) and event.code != LOST:
                    self.tell(event)
                    return

    def tell(self, event: RunFailed) -> None:
        """Ends the run with words that are not those of its first trainer; once."""
        notes = self._notes()
        if notes.get("is_told"):
            return
        self._write_notes(notes | {"is_told": True})
        drop_half_line(self._folder / EVENTS_FILE)
        with (self._folder / EVENTS_FILE).open("a") as file:
            file.write(encode(event) + "\n")

    def stop(self) -> bool:
        """Asks the first trainer to stop, which ends them all; whether it was there to be asked."""
        if 0 not in self._links or not self._links[0].is_started:
            return False
        try:
            self._links[0].signal("stop")
        except (ChannelError, OSError):
            self._drop(0)
            return False
        return True

    @property
    def is_handed(self) -> bool:
        """Whether the trainers of this attempt have their work."""
        return bool(self._notes().get("is_handed"))

    def leave(self) -> None:
        """Lets the machines that can be reached forget the run."""
        for link in self._links.values():
            with contextlib.suppress(ChannelError, OSError):
                link.leave()
        self.close()

    def close(self) -> None:
        """Ends the connections; the trainers go on."""
        for node in list(self._links):
            self._drop(node)

    def _drop(self, node: int) -> None:
        self._links.pop(node).close()

    def _notes(self) -> dict[str, Any]:
        notes: dict[str, Any] = json.loads((self._folder / NOTES_FILE).read_text())
        return notes

    def _write_notes(self, notes: Mapping[str, Any]) -> None:
        with atomic_output(self._folder / NOTES_FILE) as file:
            file.write(json.dumps(notes).encode())


def told_by(text: str) -> list[Any]:
    """The events among some lines; what is none, Ray's own words for example, is passed over."""
    found = []
    for line in text.splitlines():
        with contextlib.suppress(EventError):
            found.append(decode(line))
    return found


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
