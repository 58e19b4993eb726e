"""Runs of the trainer as processes of their own, and what they say."""

import subprocess
import sys

from trainers import events


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
