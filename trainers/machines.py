"""The driver of a Ray job that takes several machines at once and starts a trainer for the platform on each.

``python -m trainers machines`` reserves its part of so many nodes, all or none, and lets each run ``python -m trainers
remote`` (`trainers.remote`), whose ``remote.listening`` it says on. From there on the platform talks to each itself.

Guarantees: two jobs never hold half of the machines each and wait for one another; when the driver ends, or is ended,
Ray ends what it started and takes the reservation back; when a machine is lost, the driver ends.
Does not: see a key, a record or a checkpoint; it knows no more than the job's arguments do.

Example:
    ``python -m trainers machines --nodes 2 --cpus 1 --gpus 1 --run r1 --platform-key 9f…``
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from typing import Any

from trainers.errors import EXIT_DONE, EXIT_FAULT, TrainerError
from trainers.events import EventError, RemoteListening, RemoteWaiting, RunFailed, decode
from trainers.process import Speaker, die_with_parent

ASK_SECONDS = 5.0
WORDS_SECONDS = 120.0


class Keeper:
    """On a node: ``python -m trainers remote`` as a process of its own, which goes when this one does."""

    def __init__(self, arguments: list[str]) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "trainers", "remote", *arguments],
            stdout=subprocess.PIPE,
            text=True,
            preexec_fn=die_with_parent(os.getpid()),
        )

    def first_words(self) -> str:
        """The line that says where it listens, or why it does not."""
        assert self._process.stdout is not None
        return self._process.stdout.readline()

    def end(self) -> int:
        """Waits for its end; the exit code."""
        return self._process.wait()


def hold_machines(arguments: argparse.Namespace, speak: Speaker) -> None:
    """Holds the machines until all trainers have left.

    Raises:
        TrainerError: ``parallel.nodes``, when the cluster has too few that are large enough; ``parallel.lost``, when a
            machine is lost; what a trainer says that cannot listen.
    """
    import ray
    from ray.exceptions import RayError

    share = {"CPU": float(arguments.cpus), "GPU": float(arguments.gpus)}
    share = {name: amount for name, amount in share.items() if amount}
    try:
        ray.init(logging_level="ERROR")
        reserved = _reserve(ray, share, arguments, speak)
        keepers = [_start(ray, reserved, index, share, arguments) for index in range(arguments.nodes)]
        for line in ray.get([keeper.first_words.remote() for keeper in keepers], timeout=WORDS_SECONDS):
            speak(_listening(line))
        ends = [keeper.end.remote() for keeper in keepers]
        while ends:
            done, ends = ray.wait(ends, num_returns=1)
            ended = ray.get(done[0])
            if ended != EXIT_DONE:
                raise TrainerError("parallel.lost", "a trainer's keeper was killed", "run again", EXIT_FAULT)
    except (RayError, ConnectionError) as fault:
        raise TrainerError(
            "parallel.lost", f"a machine of the run was lost ({type(fault).__name__})", "run again", EXIT_FAULT
        ) from None


def _reserve(ray: Any, share: dict[str, float], arguments: argparse.Namespace, speak: Speaker) -> Any:
    """The same share of so many nodes, once all are free."""
    from ray.util.placement_group import placement_group

    reserved = placement_group([share] * arguments.nodes, strategy="STRICT_SPREAD")
    begun, last = time.monotonic(), -1
    while not reserved.wait(ASK_SECONDS):
        large = sum(_has(node, share) for node in ray.nodes())
        if large < arguments.nodes and time.monotonic() - begun > arguments.gather:
            wanted = " and ".join(f"{amount:g} {name}" for name, amount in share.items())
            raise TrainerError(
                "parallel.nodes",
                f"the run wants {arguments.nodes} machines with {wanted} each; the cluster has {large} such",
                "lower parallel.nodes or parallel.processes, or add machines to the cluster",
            )
        if large != last:
            speak(RemoteWaiting(arguments.run, arguments.nodes, large))
            last = large
    return reserved


def _has(node: dict[str, Any], share: dict[str, float]) -> bool:
    return bool(node["Alive"]) and all(node["Resources"].get(name, 0.0) >= amount for name, amount in share.items())


def _start(ray: Any, reserved: Any, index: int, share: dict[str, float], arguments: argparse.Namespace) -> Any:
    from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

    place = PlacementGroupSchedulingStrategy(reserved, placement_group_bundle_index=index)
    options = {"num_cpus": share.get("CPU", 0.0), "num_gpus": share.get("GPU", 0.0), "scheduling_strategy": place}
    words = ["--run", arguments.run, "--platform-key", arguments.platform_key, "--node", str(index)]
    words += ["--port", str(arguments.port), "--ring-port", str(arguments.ring_port)]
    return ray.remote(Keeper).options(**options).remote(words)


def _listening(line: str) -> RemoteListening:
    try:
        said = decode(line)
    except EventError:
        said = None
    if isinstance(said, RemoteListening):
        return said
    if isinstance(said, RunFailed):
        raise TrainerError(said.code, said.message, said.hint, EXIT_FAULT)
    raise TrainerError("parallel.lost", "a trainer ended before it said anything", "see the cluster's logs", EXIT_FAULT)
