"""How many threads a trainer has, whether they stay awake between products, and that it keeps the memory it frees."""

import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from trainers import process
from trainers.process import available_cores, default_threads, keep_threads_awake

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def cores(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setenv("GOMP_SPINCOUNT", "")  # so that it is as it was afterwards
    monkeypatch.delenv("GOMP_SPINCOUNT")


@pytest.mark.parametrize(
    ("share", "expected"),
    [("max 100000", 8), ("250000 100000", 2), ("50000 100000", 1), ("6400000 100000", 8), (None, 8)],
)
def test_a_control_groups_share_bounds_the_threads(share, expected, cores, monkeypatch, tmp_path):
    monkeypatch.setattr(process, "_GROUPS", tmp_path)
    monkeypatch.setattr(process, "_OWN_GROUP", tmp_path / "own")
    (tmp_path / "own").write_text("1:name=systemd:/\n0::/system.slice/steward.service\n")
    group = tmp_path / "system.slice" / "steward.service"
    group.mkdir(parents=True)
    if share is not None:
        (group / "cpu.max").write_text(share + "\n")
    assert available_cores() == default_threads() == expected
    (tmp_path / "own").write_text("1:name=systemd:/\n")
    assert available_cores() == 8


def test_the_number_of_threads_is_what_the_environment_says(cores, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert default_threads() == 3
    for nonsense in ("0", "many", "-1", "2,1"):
        monkeypatch.setenv("OMP_NUM_THREADS", nonsense)
        assert default_threads() == available_cores()


@pytest.mark.parametrize(
    ("busy", "threads", "are_awake"),
    [
        ([0.0] * 8, "8", True),
        ([3.0] * 8, "8", True),
        ([0.0] * 7 + [100.0], "8", False),
        ([100.0] * 6 + [0.0] * 2, "2", True),
        ([100.0] * 7 + [0.0], "2", False),
        ([0.0] * 8, "1", False),
    ],
)
def test_threads_stay_awake_where_there_are_idle_cores_for_all(busy, threads, are_awake, cores, monkeypatch):
    monkeypatch.setattr(psutil, "cpu_percent", lambda *_, **__: busy)
    monkeypatch.setenv("OMP_NUM_THREADS", threads)
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    keep_threads_awake()
    assert ("GOMP_SPINCOUNT" in os.environ) == are_awake


def test_what_an_operator_set_stays(cores, monkeypatch):
    monkeypatch.setattr(psutil, "cpu_percent", lambda *_, **__: [0.0] * 8)
    monkeypatch.setenv("GOMP_SPINCOUNT", "7")
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    keep_threads_awake()
    assert os.environ["GOMP_SPINCOUNT"] == "7"


def test_a_command_decides_before_the_library_of_the_threads_is_loaded(bench):
    """Afterwards it would be decided for nothing."""
    code = (
        "import sys; from trainers import cli, process\n"
        "def decided(): sys.exit(40 + ('torch' in sys.modules))\n"
        "cli.keep_threads_awake = decided\n"
        "cli.console()\n"
    )
    bench.spec()
    asked = ["run", "--spec", str(bench.root / "spec.json"), "--out", str(bench.out)]
    done = subprocess.run(
        [sys.executable, "-c", code, *asked], cwd=ROOT, input=bench.key_line, text=True, capture_output=True
    )
    assert done.returncode == 40, done.stderr


def test_what_a_pass_frees_is_there_for_the_next():
    """Counted in pages that the system hands out, of a few megabytes taken and freed again and again."""
    code = (
        "import resource, sys, torch\n"
        "from trainers.process import keep_freed_memory\n"
        "if sys.argv[1] == 'kept': keep_freed_memory()\n"
        "def passes():\n"
        "    for _ in range(9): [torch.ones(6 << 20, dtype=torch.uint8) for _ in range(20)]\n"
        "passes()\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt\n"
        "passes()\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)\n"
    )
    # glibc raises this threshold by itself once a block was freed, and by where the system happened to lay the heap may
    # or may not give back what is freed then. Named, even if as it is, it stays.
    environment = os.environ | {"MALLOC_MMAP_THRESHOLD_": "131072"}
    pages = {
        way: int(
            subprocess.run(
                [sys.executable, "-c", code, way], cwd=ROOT, env=environment, capture_output=True, check=True
            ).stdout
        )
        for way in ("kept", "returned")
    }
    assert pages["kept"] * 100 < pages["returned"]
