"""How near the fit check comes: memory and time foretold before the first step, beside what the run took.

Each setting is a short run of the bundled model on the pairs of ``bench_training``, as ``python -m trainers run`` does
it, in a process of its own. The goal is memory within 15 % and time within 25 %. Memory grows over the first forty
steps, by what the forecast says of them; load on the machine does not change it.

Run it: ``python -m tests.benchmarks.bench_fit``. Other work on the machine shows in the time.
"""

import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from compliance.vault import ObjectContext, new_key
from tests.benchmarks.bench_training import _seal, pairs
from trainers import events

SETTINGS = {
    "lora": {},
    "lora, fp32": {"precision": "fp32"},
    "lora, small pieces": {"micro_tokens": 256},
    "lora, large pieces": {"micro_tokens": 2048, "batch_tokens": 2048},
    "lora, inputs only": {"recompute": "always"},
    "lora, two processes": {"parallel": {"processes": 2}},
    "lora, six epochs": {"epochs": 6},
    "qlora": {"quantise": {"form": "nf4"}},
    "lora, padded": {"packing": "bucket"},
    "dora": {"way": "dora"},
    "full": {"way": "full"},
    "dpo": {"method": "dpo"},
    "orpo": {"method": "orpo"},
    "kto": {"method": "kto"},
    "kto, two epochs": {"method": "kto", "epochs": 2},
    "token classification": {"method": "token-classification", "classification": {"labels": ["PERSON"]}},
}


def _paired(record: dict, _: int) -> dict:
    """The answer backwards is the worse one."""
    return record | {"rejected": " ".join(reversed(record["messages"][-1]["content"].split()))}


def _judged(record: dict, index: int) -> dict:
    return record | {"label": index % 2 == 0}


def _tagged(record: dict, _: int) -> dict:
    text = record["messages"][0]["content"]
    spans = [{"start": each.start(), "end": each.end(), "label": "PERSON"} for each in re.finditer("patient", text)]
    return {"id": record["id"], "text": text, "spans": spans}


SHAPES = {"dpo": _paired, "orpo": _paired, "kto": _judged, "token-classification": _tagged}


def measure(model: str, changes: dict, records: int) -> dict:
    """One run: foretold and taken, bytes and seconds."""
    data_key, output_key = new_key(), new_key()
    context = ObjectContext(workspace="bench", dataset="bench", object="adapter", kind="adapter", version="1")
    shape = SHAPES.get(changes.get("method", ""), lambda record, _: record)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        spec = {
            "schema": "steward.train/1",
            "run": "bench",
            "model": {"path": model},
            "data": {
                "train": _seal(folder, "train", pairs(records, seed=0), data_key, shape),
                "validation": _seal(folder, "validation", pairs(6, seed=1), data_key, shape),
            },
            "output": {"context": context.to_json()},
            "lora": {"rank": 16, "alpha": 32},
            "batch_tokens": 900,
            **changes,
        }
        (folder / "spec.json").write_text(json.dumps(spec))
        said = subprocess.run(
            [sys.executable, "-m", "trainers", "run", "--spec", folder / "spec.json", "--out", folder / "out"],
            input=json.dumps({"data_key": data_key.hex(), "output_key": output_key.hex()}) + "\n",
            capture_output=True,
            text=True,
            check=True,
        ).stdout
    told = [events.decode(line) for line in said.splitlines()]
    checked = next(each for each in told if isinstance(each, events.FitChecked))
    ended = told[-1]
    assert isinstance(ended, events.RunFinished)
    return {
        "memory": [checked.memory_bytes, ended.memory_bytes],
        "seconds": [checked.seconds, ended.seconds],
        "steps": [checked.steps, ended.step],
    }


def run() -> dict:
    """The rows ``fit_memory`` and ``fit_time`` of an ordinary LoRA run; the peer is what the run took."""
    from trainers.bundled import prepare_bundled

    with tempfile.TemporaryDirectory() as scratch:
        model = str(prepare_bundled(Path(os.environ.get("STEWARD_BENCH_CACHE", scratch))).path)
        found = measure(model, SETTINGS["lora"], records=64)
    return {
        f"fit_{name}": {
            "figure": round(told, 1),
            "unit": unit,
            "peer": "what the run took",
            "peer_figure": round(took, 1),
            "ratio": round(told / took, 2),
            "runs": 1,
        }
        for name, unit, (told, took) in (
            ("memory", "MiB", [each / (1 << 20) for each in found["memory"]]),
            ("time", "s", found["seconds"]),
        )
    }


def main(wanted: list[str]) -> None:
    """A line for each setting: foretold, taken, and by how much the first is off."""
    from trainers.bundled import prepare_bundled

    with tempfile.TemporaryDirectory() as scratch:
        model = str(prepare_bundled(Path(os.environ.get("STEWARD_BENCH_CACHE", scratch))).path)
        for name, changes in SETTINGS.items():
            if wanted and name not in wanted:
                continue
            found = measure(model, changes, records=32)
            memory, seconds = found["memory"], found["seconds"]
            print(
                f"{name:20} {memory[0] >> 20:6} of {memory[1] >> 20:6} MiB ({memory[0] / memory[1] - 1:+.0%})"
                f" {seconds[0]:7.1f} of {seconds[1]:7.1f} s ({seconds[0] / seconds[1] - 1:+.0%})",
                flush=True,
            )


if __name__ == "__main__":
    main(sys.argv[1:])
