"""`make bench`: every figure beside its peer's, measured in the same run, and written to bench.json.

A benchmark is a file `bench_NAME.py` here with a function `run() -> dict[name, row]`, a row being
`{"figure", "unit", "peer", "peer_figure", "ratio", "runs"}`; the machine is added here. Each runs in a process of its
own, so that none finds the caches, threads or memory of another. `run_all.py NAME ...` runs some of them only; their
rows replace those in an existing bench.json.
"""

import argparse
import importlib.util
import json
import os
import platform
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
OUTPUT = ROOT / "bench.json"
FIELDS = {"figure", "unit", "peer", "peer_figure", "ratio", "runs", "machine"}


def main() -> int:
    """Run the benchmarks asked for; 0 if none failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help="without bench_ and .py; all if none is given")
    parser.add_argument("--one", nargs=2, metavar=("FILE", "OUT"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        return run_one(Path(options.one[0]), Path(options.one[1]))
    known = {path.stem.removeprefix("bench_"): path for path in sorted(HERE.glob("bench_*.py"))}
    unknown = set(options.names) - known.keys()
    if unknown:
        parser.error(f"no such benchmark: {', '.join(sorted(unknown))}; there are {', '.join(known)}")
    rows: dict[str, Any] = {}
    failed = []
    for name in options.names or known:
        print(f"{name} ...", flush=True)
        found = run_apart(known[name])
        if found is None:
            failed.append(name)
            continue
        for key, row in found.items():
            print(line(key, row), flush=True)
        rows |= found
    kept = json.loads(OUTPUT.read_text()) if options.names and OUTPUT.exists() else {}
    OUTPUT.write_text(json.dumps(kept | rows, indent=1) + "\n")
    print(f"written: {OUTPUT.name}")
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


def run_apart(path: Path) -> dict[str, Any] | None:
    """Run one benchmark in a process of its own; None if it failed, its error being on the terminal."""
    with tempfile.TemporaryDirectory(prefix="steward-bench-") as folder:
        out = Path(folder, "rows.json")
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "platform"), str(HERE)]),
            "STEWARD_HOME": str(Path(folder, "home")),
            "HF_HUB_OFFLINE": "1",
        }
        done = subprocess.run([sys.executable, __file__, "--one", str(path), str(out)], env=environment, check=False)
        return json.loads(out.read_text()) if done.returncode == 0 else None


def run_one(path: Path, out: Path) -> int:
    """Run the benchmark in `path` in this process and write its rows."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    rows = {name: {"machine": machine(), **row} for name, row in module.run().items()}
    for name, row in rows.items():
        if FIELDS - row.keys():
            raise SystemExit(f"{path.name}: row {name} lacks {', '.join(sorted(FIELDS - row.keys()))}")
    out.write_text(json.dumps(rows))
    return 0


def machine() -> str:
    """Say what was measured on: processor, cores, Python."""
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        rows = [row.partition(":") for row in cpuinfo.read_text().splitlines()]
        model = next((value.strip() for key, _, value in rows if key.strip() == "model name"), model)
    return f"{model}, {os.cpu_count()} cores, Python {platform.python_version()}"


def line(name: str, row: dict[str, Any]) -> str:
    """One row for people: the figure beside the peer's."""
    mine, theirs = f"{row['figure']:,.4g} {row['unit']}", f"{row['peer']}: {row['peer_figure']:,.4g}"
    return f"  {name:18} {mine:28} {theirs:50} ratio {row['ratio']:.2f}"


if __name__ == "__main__":
    sys.exit(main())
