"""Fine-tuning speed against TRL's SFTTrainer as it comes: same model, same pairs, same adapter, one after the other.

The pairs are drawn by seed: prompts and answers of words from one sentence, with log-normal lengths (prompts 20 to 600
words, median 122; answers 3 to 120 words, median 20). TRL runs with its defaults for CPU (fp32, four records a step);
ours runs as ``python -m trainers run`` does. Both report the loss on held-out pairs, so that speed is not bought with
quality. Tokens are those of the real records in both cases; loading and tokenising are not counted.

Run it: ``make bench``, or ``python tests/benchmarks/bench_training.py``.
"""

import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from compliance.vault import ObjectContext, new_key, seal_writer
from trainers import events
from trainers.process import QUIET

LEARNING_RATE = 2e-4
RANK, ALPHA = 16, 32
PEER = "TRL SFTTrainer, defaults (fp32, 4 records a step)"
SENTENCE = (
    "the patient was found to have a significant reduction in blood pressure after treatment with study results "
    "showing that mean values were lower than control group baseline"
)


def pairs(count: int, seed: int) -> list[dict]:
    """Prompt and completion in TRL's conversational form."""
    source, words = random.Random(seed), SENTENCE.split()

    def text(middle: float, least: int, most: int) -> int:
        return int(min(most, max(least, source.lognormvariate(middle, 0.7))))

    made = []
    for _ in range(count):
        sizes = text(4.8, 20, 600), text(3.0, 3, 120)
        prompt, answer = (" ".join(source.choice(words) for _ in range(size)) for size in sizes)
        made.append(
            {
                "prompt": [{"role": "user", "content": prompt}],
                "completion": [{"role": "assistant", "content": answer}],
            }
        )
    return made


def peer(model: str, train: list[dict], held_out: list[dict], scratch: str) -> dict:
    """TRL in this process."""
    import torch
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl import SFTConfig, SFTTrainer

    tokenizer = AutoTokenizer.from_pretrained(model)
    trainer = SFTTrainer(
        model=AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32),
        args=SFTConfig(
            output_dir=scratch,
            num_train_epochs=1,
            per_device_train_batch_size=4,
            learning_rate=LEARNING_RATE,
            max_length=1024,
            bf16=False,
            use_cpu=True,
            gradient_checkpointing=False,
            logging_steps=1,
            report_to="none",
            save_strategy="no",
        ),
        train_dataset=Dataset.from_list(train),
        processing_class=tokenizer,
        peft_config=LoraConfig(r=RANK, lora_alpha=ALPHA, target_modules="all-linear", task_type="CAUSAL_LM"),
    )
    begun = time.perf_counter()
    trainer.train()
    seconds = time.perf_counter() - begun

    def ids(messages: list[dict], **more: bool) -> list[int]:
        return list(tokenizer.apply_chat_template(messages, tokenize=True, return_dict=True, **more)["input_ids"])

    tokens = sum(len(ids(pair["prompt"] + pair["completion"])) for pair in train)
    loss, count = 0.0, 0
    for pair in held_out:
        whole, known = ids(pair["prompt"] + pair["completion"]), len(ids(pair["prompt"], add_generation_prompt=True))
        with torch.no_grad():
            logits = trainer.model(input_ids=torch.tensor([whole])).logits[0, known - 1 : -1].float()
        loss += float(torch.nn.functional.cross_entropy(logits, torch.tensor(whole[known:]), reduction="sum"))
        count += len(whole) - known
    return {"seconds": seconds, "tokens": tokens, "held_out_loss": loss / count}


def _seal(
    folder: Path, name: str, some: list[dict], key: bytes, shape: Callable[[dict, int], dict] = lambda record, _: record
) -> dict:
    context = ObjectContext(workspace="bench", dataset="bench", object=name, kind="shard", version="1")
    path = folder / f"{name}.sealed"
    with path.open("wb") as sink, seal_writer(sink, key, context) as writer:
        for index, pair in enumerate(some):
            record = shape({"id": f"{name}{index}", "messages": pair["prompt"] + pair["completion"]}, index)
            writer.write(json.dumps(record).encode() + b"\n")
    return {"path": str(path), "context": context.to_json(), "commitment": writer.commitment.hex()}


def ours(model: str, train: list[dict], held_out: list[dict], folder: Path) -> dict:
    """The trainer as the platform starts it: sealed shards, keys over stdin, events read from stdout."""
    data_key, output_key = new_key(), new_key()
    context = ObjectContext(workspace="bench", dataset="bench", object="adapter", kind="adapter", version="1")
    spec = {
        "schema": "steward.train/1",
        "run": "bench",
        "model": {"path": model},
        "data": {
            "train": _seal(folder, "train", train, data_key),
            "validation": _seal(folder, "validation", held_out, data_key),
        },
        "output": {"context": context.to_json()},
        "lora": {"rank": RANK, "alpha": ALPHA},
        "optimiser": {"learning_rate": LEARNING_RATE, "schedule": "linear", "warmup_ratio": 0.0},
        # As many steps as the peer makes with four records each.
        "batch_tokens": 900,
        "evaluate_every": 1000,
    }
    path = folder / "spec.json"
    path.write_text(json.dumps(spec))
    said = subprocess.run(
        [sys.executable, "-m", "trainers", "run", "--spec", str(path), "--out", str(folder / "out")],
        input=json.dumps({"data_key": data_key.hex(), "output_key": output_key.hex()}) + "\n",
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    told = [events.decode(line) for line in said.splitlines()]
    steps = [event for event in told if isinstance(event, events.TrainStep)]
    before = [0, *(step.tokens for step in steps)]
    seconds = sum(
        (step.tokens - earlier) / step.tokens_per_second for step, earlier in zip(steps, before, strict=False)
    )
    return {
        "seconds": seconds,
        "tokens": steps[-1].tokens,
        "held_out_loss": told[-1].best_loss,
        "peak_bytes": told[-1].memory_bytes,
        "steps": len(steps),
        "way": next(event.packing_reason for event in told if isinstance(event, events.RunStarted)),
    }


def run() -> dict:
    """The row ``training``: figure, peer's figure and ratio; pairs of [ours, peer's] for the rest."""
    from trainers.bundled import prepare_bundled

    train, held_out = pairs(32, seed=0), pairs(12, seed=1)
    threads = os.environ.get("OMP_NUM_THREADS", str(min(2, os.cpu_count() or 1)))
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        model = str(prepare_bundled(Path(os.environ.get("STEWARD_BENCH_CACHE", scratch))).path)
        mine = ours(model, train, held_out, folder)
        (folder / "pairs.json").write_text(json.dumps([model, train, held_out, scratch]))
        said = subprocess.run(
            [sys.executable, __file__, "peer", str(folder / "pairs.json")],
            env=os.environ | QUIET | {"OMP_NUM_THREADS": threads},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
    theirs = json.loads(said.splitlines()[-1])
    figure, peer_figure = (each["tokens"] / each["seconds"] for each in (mine, theirs))
    row = {
        "figure": round(figure, 1),
        "unit": "tokens/s",
        "peer": PEER,
        "peer_figure": round(peer_figure, 1),
        "ratio": round(figure / peer_figure, 2),
        "runs": 1,
        "tokens": [mine["tokens"], theirs["tokens"]],
        "held_out_loss": [round(mine["held_out_loss"], 4), round(theirs["held_out_loss"], 4)],
        "peak_bytes": [mine["peak_bytes"], theirs["peak_bytes"]],
        "steps": mine["steps"],
        "threads": int(threads),
        "way": mine["way"],
    }
    return {"training": row}


@pytest.mark.bench
@pytest.mark.slow
def test_training_is_at_least_two_and_a_half_times_the_peer_at_no_worse_a_loss():
    found = run()["training"]
    print(json.dumps(found, indent=2))
    assert found["tokens"][0] == found["tokens"][1]
    assert found["ratio"] >= 2.5
    assert found["held_out_loss"][0] <= found["held_out_loss"][1] + 0.1


def _peer_command(path: str) -> None:
    import resource

    found = peer(*json.loads(Path(path).read_text()))
    found["peak_bytes"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps(found))


if __name__ == "__main__":
    if sys.argv[1:2] == ["peer"]:
        _peer_command(sys.argv[2])
    else:
        print(json.dumps(run(), indent=2))
