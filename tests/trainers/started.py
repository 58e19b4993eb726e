"""Runs of the trainer as processes of their own, and what they say."""

import socket
import subprocess
import sys
from pathlib import Path

from trainers import events
from trainers.keys import Keys, RingPlace

WITNESS = Path(__file__).with_name("witness.py")


def start(bench, **changes):
    """The run as a process of its own, so that its helpers are children of nobody here."""
    spec = bench.spec(**changes)
    argv = [sys.executable, "-m", "trainers", "run", "--spec", str(spec), "--out", str(bench.out)]
    process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    process.stdin.write(bench.key_line)
    process.stdin.close()
    return process


def heard(process, until=lambda event: False):
    said = []
    for line in process.stdout:
        said.append(events.decode(line))
        if until(said[-1]):
            break
    return said


def doors(count):
    """Sockets that listen, on this machine only."""
    return [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]


def address(door):
    return ("127.0.0.1", door.getsockname()[1])


RING_SECRET = bytes(range(32))


def start_machines(bench, stack, outs, processes=1):
    """A trainer for each output folder as on a machine of its own, with the doors of its processes."""
    opened = [doors(processes) for _ in outs]
    members = tuple(address(door) for each in opened for door in each)
    places = [RingPlace(RING_SECRET, rank * processes, members) for rank in range(len(outs))]
    return [stack.enter_context(_start_machine(bench, *each)) for each in zip(outs, places, opened, strict=True)]


def _start_machine(bench, out, place, opened):
    handles = [door.fileno() for door in opened]
    argv = [sys.executable, str(WITNESS), "run", "--spec", str(bench.root / "spec.json"), "--out", str(out)]
    argv += ["--doors", ",".join(map(str, handles))]
    process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, pass_fds=handles)
    for door in opened:
        door.close()
    process.stdin.write(Keys(bench.data_key, bench.output_key, place).line())
    process.stdin.close()
    return process
