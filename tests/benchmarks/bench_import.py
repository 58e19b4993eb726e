"""Import of a JSON Lines file into sealed records, beside a library that only reads the same file.

``run()`` imports 200,000 chat records of 25,000 people from the sealed upload: opened, parsed, checked, digested,
encrypted under each person's key, copied into a PostgreSQL of its own with fsync on, split, and committed. The peer is
`datasets.load_dataset("json")`, which parses the file into Arrow tables and writes those to disk in the clear; it
checks nothing and encrypts nothing. Both run once, one after the other, the peer in a process of its own with an empty
cache.

Run it: ``make bench``, or ``python tests/benchmarks/run_all.py import``. With ``STEWARD_BENCH_RECORDS=1000000`` the
file has a million records.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

RECORDS = int(os.environ.get("STEWARD_BENCH_RECORDS", "200000"))
RECORDS_A_PERSON = 8
CHUNK_RECORDS = 5_000
PEER = """
import sys, time
from datasets import load_dataset
begun = time.perf_counter()
table = load_dataset("json", data_files=sys.argv[1], cache_dir=sys.argv[2], split="train")
print(time.perf_counter() - begun, len(table))
"""


def run() -> dict[str, dict[str, Any]]:
    """Measure in a home of its own, which is removed afterwards."""
    with tempfile.TemporaryDirectory(prefix="steward-bench-") as folder:
        os.environ |= {"STEWARD_HOME": f"{folder}/home", "DJANGO_SETTINGS_MODULE": "steward.settings"}
        os.environ |= {"STEWARD_LOG_LEVEL": "ERROR"}
        os.environ.pop("DATABASE_URL", None)
        import django

        from steward import embedded

        with embedded.hold(Path(folder, "home", "postgres")):
            django.setup()
            seconds, grown, peak = imported()
        peer_seconds = read_only(Path(folder))
    print(f"peak memory of the process {peak:.0f} MiB, {grown:.0f} MiB of it by the import", file=sys.stderr)
    return {
        "import": {
            "figure": round(RECORDS / seconds),
            "unit": f"records/s of {RECORDS:,}, peak {peak:.0f} MiB",
            "peer": 'datasets.load_dataset("json"), reads only',
            "peer_figure": round(RECORDS / peer_seconds),
            "ratio": round(peer_seconds / seconds, 3),
            "runs": 1,
        }
    }


def imported() -> tuple[float, float, float]:
    """Seconds of the import job, MiB by which it raised the peak of resident memory, and that peak."""
    from django.core.management import call_command

    call_command("migrate", interactive=False, verbosity=0)
    from steward.datasets import importing, intake
    from tests.steward.house import House

    house = House()
    version = intake.receive_file(
        actor=house.analyst, dataset=house.dataset(), filename="visits.jsonl", chunks=content()
    )
    before, begun = peak_mib(), time.perf_counter()
    version = importing.import_version(str(version.pk))
    seconds = time.perf_counter() - begun
    assert (version.record_count, version.subject_count) == (RECORDS, -(-RECORDS // RECORDS_A_PERSON))
    return seconds, peak_mib() - before, peak_mib()


def peak_mib() -> float:
    """The highest resident memory this process had, MiB. Source: proc(5), VmHWM."""
    row = next(row for row in Path("/proc/self/status").read_text().splitlines() if row.startswith("VmHWM"))
    return int(row.split()[1]) / 1024


def content() -> Iterator[bytes]:
    for first in range(0, RECORDS, CHUNK_RECORDS):
        yield b"".join(line(number) for number in range(first, min(first + CHUNK_RECORDS, RECORDS)))


def line(number: int) -> bytes:
    row = {
        "prompt": f"Mrs. Quackenbush, visit {number}: what was done about the dressing on her left forearm?",
        "completion": f"Dressing changed, plan {number}. Review in two days, sooner if the wound weeps.",
        "patient_id": f"patient-{number // RECORDS_A_PERSON}",
    }
    return json.dumps(row).encode() + b"\n"


def read_only(folder: Path) -> float:
    """Seconds the peer takes for the same file."""
    path = folder / "visits.jsonl"
    with path.open("wb") as file:
        file.writelines(content())
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", PEER, str(path), str(folder / "cache")],
        env={**os.environ, "HF_HUB_OFFLINE": "1", "HF_DATASETS_DISABLE_PROGRESS_BARS": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    seconds, count = done.stdout.split()
    assert int(count) == RECORDS
    return float(seconds)


if __name__ == "__main__":
    print(json.dumps(run(), indent=1))
