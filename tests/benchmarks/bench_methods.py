"""Every method and way on the bundled model and real public records: does the held-out loss fall, does a killed run end
in the same adapter, and does the exported model answer as the trained one?

Each case is trained twice as ``python -m trainers run``: once undisturbed, once killed (SIGKILL) right after a
checkpoint chosen by seed and taken up again. Answers and labels are section codes of MTS-Dialog, the worse answer of a
pair is another record's, spans are those of the presidio-research sentences.

Run it: ``python -m tests.benchmarks.bench_methods DATA_FOLDER [CASE …]``. Not part of ``make bench``: it compares us
with ourselves.
"""

import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from compliance.vault import ObjectContext, new_key, seal_writer
from trainers import events
from trainers.process import QUIET

TRAINED, HELD_OUT = 96, 24
LONGEST = 700
ASK = "Which section of the note does this belong to? Answer with its code.\n\n"
Line = dict[str, Any]


@dataclass(frozen=True)
class Case:
    """A part of the spec, whose records it takes and whether its result can be merged."""

    lines: Callable[[Path], list[Line]]
    spec: dict[str, Any] = field(default_factory=dict)
    is_merged: bool = True
    rate: float = 5e-4


def dialogues(data: Path) -> Iterator[tuple[str, str]]:
    """Dialogue and section code."""
    with (data / "healthcare" / "mts_dialog.train.jsonl").open() as file:
        for record in map(json.loads, file):
            if len(record["dialogue"]) <= LONGEST:
                yield record["dialogue"], record["section_header"]


def _chat(dialogue: str, code: str) -> Line:
    return {"messages": [{"role": "user", "content": ASK + dialogue}, {"role": "assistant", "content": code}]}


def answers(data: Path) -> list[Line]:
    """Lines of supervised tuning and of classification."""
    return [_chat(*each) for each in dialogues(data)]


def pairs(data: Path) -> list[Line]:
    """The right code is preferred to another record's."""
    return [line | {"rejected": wrong} for line, wrong in _with_wrong(data)]


def judged(data: Path) -> list[Line]:
    """Every other answer is a wrong one, and judged so."""
    made = []
    for place, (line, wrong) in enumerate(_with_wrong(data)):
        if place % 2:
            line["messages"][-1]["content"] = wrong
        made.append(line | {"label": not place % 2})
    return made


def _with_wrong(data: Path) -> Iterator[tuple[Line, str]]:
    source, known = random.Random(0), list(dialogues(data))
    codes = sorted({code for _, code in known})
    for dialogue, code in known:
        yield _chat(dialogue, code), source.choice([each for each in codes if each != code])


def spans(data: Path) -> list[Line]:
    """Sentences with the spans of what identifies a person in them."""
    with (data / "pii" / "presidio-v2.gold.jsonl").open() as file:
        return [
            {
                "text": record["text"],
                "spans": [{"start": s["start"], "end": s["end"], "label": s["type"]} for s in record["gold"]],
            }
            for record in map(json.loads, file)
            if record["gold"] and len(record["text"]) <= LONGEST
        ]


CASES = {
    "sft lora": Case(answers),
    "sft lora pissa": Case(answers, {"lora": {"init": "pissa"}}),
    "sft rslora": Case(answers, {"lora": {"is_rank_stabilised": True, "alpha": 16}}),
    "sft dora": Case(answers, {"way": "dora"}),
    "sft qlora nf4": Case(answers, {"quantise": {"form": "nf4"}}),
    "sft qlora int8": Case(answers, {"quantise": {"form": "int8"}}),
    "sft full": Case(answers, {"way": "full"}, rate=3e-5),
    "sft prompt": Case(answers, {"way": "prompt"}, is_merged=False, rate=2e-2),
    "dpo lora": Case(pairs, {"method": "dpo"}, rate=1e-4),
    "orpo lora": Case(pairs, {"method": "orpo"}),
    "kto lora": Case(judged, {"method": "kto"}, rate=1e-4),
    "classification lora": Case(answers, {"method": "classification"}),
    "token classification lora": Case(spans, {"method": "token-classification"}),
    "dpo full": Case(pairs, {"method": "dpo", "way": "full"}, rate=5e-6),
    "classification full": Case(answers, {"method": "classification", "way": "full"}, rate=3e-5),
    "classification qlora nf4": Case(answers, {"method": "classification", "quantise": {"form": "nf4"}}),
}


def _seal(folder: Path, name: str, lines: list[Line], key: bytes) -> dict[str, Any]:
    context = ObjectContext(workspace="bench", dataset="bench", object=name, kind="shard", version="1")
    path = folder / f"{name}.sealed"
    with path.open("wb") as sink, seal_writer(sink, key, context) as writer:
        for index, line in enumerate(lines):
            writer.write(json.dumps({"id": f"{name}{index}", **line}).encode() + b"\n")
    return {"path": str(path), "context": context.to_json(), "commitment": writer.commitment.hex()}


class Failed(Exception):
    """A command did not succeed."""


@dataclass
class Trial:
    """One case laid out in a folder."""

    folder: Path
    keys: str

    def said(self, command: str, out: str, *more: str) -> list[events.Event]:
        """All that a command says; it has to succeed."""
        told = list(self._run(command, out, *more))
        if isinstance(told[-1], events.RunFailed):
            raise Failed(f"{command}: {told[-1].code}: {told[-1].message}")
        return told

    def killed_behind(self, step: int, out: str) -> None:
        """Starts the run and kills it once the checkpoint of a step is written."""
        for event in self._run("run", out):
            if isinstance(event, events.CheckpointSaved) and event.step == step:
                self._process.kill()

    def _run(self, command: str, out: str, *more: str) -> Iterator[events.Event]:
        self._process = subprocess.Popen(
            [
                *(sys.executable, "-m", "trainers", command),
                *("--spec", self.folder / "spec.json", "--out", self.folder / out, *more),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=os.environ | QUIET,
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(self.keys)
        self._process.stdin.close()
        yield from map(events.decode, self._process.stdout)
        self._process.wait()


def lay(case: Case, data: Path, model: str, folder: Path) -> Trial:
    """The case's spec, its sealed shards and keys."""
    lines = case.lines(data)
    random.Random(1).shuffle(lines)
    parts = {"train": lines[:TRAINED], "validation": lines[TRAINED : TRAINED + HELD_OUT]}
    data_key, output_key = new_key(), new_key()
    context = ObjectContext(workspace="bench", dataset="bench", object="adapter", kind="adapter", version="1")
    spec = {
        "schema": "steward.train/1",
        "run": "bench",
        "model": {"path": model},
        "data": {name: _seal(folder, name, some, data_key) for name, some in parts.items()},
        "output": {"context": context.to_json()},
        "optimiser": {"learning_rate": case.rate},
        "batch_tokens": 1200,
        "max_steps": 12,
        "evaluate_every": 3,
        "checkpoint_every": 1,
        **case.spec,
    }
    if spec.get("method", "").endswith("classification"):
        named = {span["label"] for line in lines for span in line.get("spans", ())}
        named |= {line["messages"][-1]["content"] for line in lines if "messages" in line}
        spec["classification"] = {"labels": sorted(named)}
    (folder / "spec.json").write_text(json.dumps(spec))
    return Trial(folder, json.dumps({"data_key": data_key.hex(), "output_key": output_key.hex()}) + "\n")


def measure(name: str, data: Path, model: str) -> Line:
    """What became of one case."""
    case = CASES[name]
    with tempfile.TemporaryDirectory() as scratch:
        trial = lay(case, data, model, Path(scratch))
        begun = time.monotonic()
        told = trial.said("run", "whole")
        seconds = time.monotonic() - begun
        losses = [event.loss for event in told if isinstance(event, events.EvalLoss)]
        ran = told[-1]
        assert isinstance(ran, events.RunFinished)
        step = random.Random(name).randint(1, ran.step - 1)
        trial.killed_behind(step, "killed")
        again = trial.said("resume", "killed")[-1]
        assert isinstance(again, events.RunFinished)
        offered = trial.said("export", "whole") if case.is_merged else []
        parity = next((each for each in reversed(offered) if isinstance(each, events.ExportMeasured)), None)
    return {
        "losses": losses,
        "best_step": ran.best_step,
        "killed_behind": step,
        "is_same": again.adapter_digest == ran.adapter_digest,
        "parity": parity,
        "seconds": seconds,
        "memory_bytes": ran.memory_bytes,
    }


def main(data: Path, wanted: list[str]) -> None:
    """A line for each case; exits with 1 where a loss did not fall or a resumed run ended elsewhere."""
    from trainers.bundled import prepare_bundled

    is_good = True
    with tempfile.TemporaryDirectory() as scratch:
        model = str(prepare_bundled(Path(os.environ.get("STEWARD_BENCH_CACHE", scratch))).path)
        for name in wanted or CASES:
            try:
                found = measure(name, data, model)
            except Failed as why:
                print(f"{name:26} FAILED {why}", flush=True)
                is_good = False
                continue
            first, best = found["losses"][0], min(found["losses"])
            is_good = is_good and best < first and found["is_same"]
            parity = "none"
            if (at := found["parity"]) is not None:
                parity = f"{at.precision}: {100 * at.agreement:.1f} % the same, {at.divergence:.5f} nats"
                parity += f", loss {at.loss_difference:+.3f}"
            print(
                f"{name:26} held-out loss {first:.3f} → {best:.3f} (step {found['best_step']}), "
                f"killed behind step {found['killed_behind']}: {'same' if found['is_same'] else 'OTHER'} digest, "
                f"export {parity}, {found['seconds']:.0f} s, {found['memory_bytes'] / 1e9:.1f} GB",
                flush=True,
            )
    sys.exit(0 if is_good else 1)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
