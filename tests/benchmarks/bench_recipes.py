"""The packs' recipes on real public sets: base, ours, and TRL's SFTTrainer given the same seconds of training.

Each set is split by subject as the platform does it; all three answer the same held-out prompts, greedily, and are
judged by the workflow's own metric with 95 % intervals. TRL runs with its defaults for CPU (fp32, four records
a step) and the same adapter; it is stopped when it has trained as long as ours did.

Run it: ``python -m tests.benchmarks.bench_recipes DATA_FOLDER [pubmedqa|mts_dialog_sections|contract_nli_evidence …]``.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from compliance.vault import ObjectContext, new_key
from domains import metrics
from domains.datasets import shape_record, split_of
from domains.intervals import bootstrap_interval
from domains.packs import load_pack
from domains.workflows import map_record
from tests.benchmarks.bench_training import PEERS, _seal
from trainers import events

SETS = {
    "pubmedqa": ("healthcare", ["healthcare/pubmedqa.train.jsonl"]),
    "mts_dialog_sections": ("healthcare", ["healthcare/mts_dialog.train.jsonl"]),
    "contract_nli_evidence": ("legal", ["legal/contract_nli.train.jsonl"]),
}
MOST_TESTED = 200


def examples(name: str, data: Path) -> dict[str, list[dict]]:
    """Messages by split, in the workflow's words."""
    domain, files = SETS[name]
    pack = load_pack(domain)
    workflow = pack.workflow(name)
    recipe = pack.dataset(workflow.dataset)
    parts: dict[str, list[dict]] = {"train": [], "validation": [], "test": []}
    for each in files:
        for line in (data / each).read_text().rstrip("\n").split("\n"):  # texts may hold other line ends
            for record in shape_record(recipe, json.loads(line)):
                messages = map_record(workflow, record)
                parts[split_of(recipe, record)].append({"prompt": messages[:-1], "completion": messages[-1:]})
    parts["test"] = parts["test"][:MOST_TESTED]
    return parts


def ours(name: str, model: str, parts: dict[str, list[dict]], folder: Path) -> dict:
    """Train and evaluate as the platform does."""
    workflow = load_pack(SETS[name][0]).workflow(name)
    data_key, output_key = new_key(), new_key()
    context = ObjectContext(workspace="bench", dataset="bench", object="adapter", kind="adapter", version="1")
    spec = {
        "schema": "steward.train/1",
        "run": "bench",
        "model": {"path": model},
        "data": {part: _seal(folder, part, parts[part], data_key) for part in parts},
        "output": {"context": context.to_json()},
        **workflow.recipe.spec_fields(),
    }
    (folder / "spec.json").write_text(json.dumps(spec))
    asked = ["--metric", workflow.metric, "--max-new-tokens", str(workflow.max_new_tokens)]
    told = []
    for command, more in (("run", []), ("evaluate", asked)):
        said = subprocess.run(
            [sys.executable, "-m", "trainers", command, "--spec", folder / "spec.json", "--out", folder / "out", *more],
            input=json.dumps({"data_key": data_key.hex(), "output_key": output_key.hex()}) + "\n",
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        told.append(events.decode(said.splitlines()[-1]))
    ran, judged = told
    assert isinstance(ran, events.RunFinished)
    assert isinstance(judged, events.EvaluateFinished)
    return {"seconds": ran.seconds, "tokens": ran.tokens, "base": judged.base_scores, "tuned": judged.tuned_scores}


def peer(name: str, model: str, parts: dict[str, list[dict]], seconds: float, scratch: str) -> dict:
    """TRL in this process, stopped after so many seconds of training."""
    import torch
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
    from trl import SFTConfig, SFTTrainer

    class Watch(TrainerCallback):
        def on_train_begin(self, args, state, control, **kwargs):
            self.begun = time.monotonic()

        def on_step_end(self, args, state, control, **kwargs):
            control.should_training_stop = time.monotonic() - self.begun >= seconds

    workflow = load_pack(SETS[name][0]).workflow(name)
    tokenizer = AutoTokenizer.from_pretrained(model)
    trainer = SFTTrainer(
        model=AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32),
        args=SFTConfig(
            output_dir=scratch,
            per_device_train_batch_size=4,
            max_length=workflow.recipe.max_length,
            bf16=False,
            use_cpu=True,
            gradient_checkpointing=False,
            report_to="none",
            save_strategy="no",
        ),
        train_dataset=Dataset.from_list(parts["train"]),
        processing_class=tokenizer,
        peft_config=LoraConfig(r=16, lora_alpha=32, target_modules="all-linear", task_type="CAUSAL_LM"),
        callbacks=[Watch()],
    )
    trainer.train()
    tuned = trainer.model.merge_and_unload().to(torch.bfloat16).eval()
    scores = []
    for pair in parts["test"]:
        ids = tokenizer.apply_chat_template(
            pair["prompt"], tokenize=True, add_generation_prompt=True, return_dict=True, return_tensors="pt"
        )
        ids = {key: each[:, -workflow.recipe.max_length :] for key, each in ids.items()}
        out = tuned.generate(**ids, max_new_tokens=workflow.max_new_tokens, do_sample=False)
        answer = tokenizer.decode(out[0, ids["input_ids"].shape[1] :], skip_special_tokens=True)
        scores.append(metrics.score(workflow.metric, answer, pair["completion"][0]["content"]))
    return {"scores": scores, "steps": trainer.state.global_step, "epochs": trainer.state.epoch}


def compare(name: str, data: Path) -> tuple[dict, dict, dict[str, list[dict]]]:
    """What ours and the peer made of one set, and its parts."""
    from trainers.bundled import prepare_bundled

    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        model = str(prepare_bundled(Path(os.environ.get("STEWARD_BENCH_CACHE", scratch))).path)
        parts = examples(name, data)
        mine = ours(name, model, parts, folder)
        (folder / "peer.json").write_text(json.dumps([name, model, parts, mine["seconds"], scratch]))
        said = subprocess.run(
            [sys.executable, "-m", "tests.benchmarks.bench_recipes", "peer", folder / "peer.json"],
            env=PEERS,
            capture_output=True,
            text=True,
            check=True,
        ).stdout
    return mine, json.loads(said.splitlines()[-1]), parts


def run() -> dict:
    """The row ``recipe_pubmedqa``, where the public set lies beside this checkout; otherwise no row."""
    data = Path(__file__).resolve().parents[3] / "shared" / "data"
    if not data.is_dir():
        return {}
    mine, theirs, _ = compare("pubmedqa", data)
    figure, peer_figure = (100 * sum(scores) / len(scores) for scores in (mine["tuned"], theirs["scores"]))
    return {
        "recipe_pubmedqa": {
            "figure": round(figure, 1),
            "unit": "% right",
            "peer": "TRL SFTTrainer, defaults, in as many seconds",
            "peer_figure": round(peer_figure, 1),
            "ratio": round(figure / max(0.1, peer_figure), 2),
            "runs": 1,
        }
    }


def _shown(scores: list[float]) -> str:
    interval = bootstrap_interval(scores)
    return f"{100 * sum(scores) / len(scores):5.1f} % [{100 * interval.low:.1f}, {100 * interval.high:.1f}]"


def main(data: Path, wanted: list[str]) -> None:
    """A line for base, ours and the peer, for each set."""
    for name in wanted or SETS:
        mine, theirs, parts = compare(name, data)
        print(f"{name}: n = {len(parts['test'])}, {len(parts['train'])} records to learn from", flush=True)
        print(f"  base {_shown(mine['base'])}")
        print(f"  ours {_shown(mine['tuned'])}  {mine['tokens']} tokens in {mine['seconds']:.0f} s")
        print(f"  TRL  {_shown(theirs['scores'])}  {theirs['epochs']:.2f} epochs in as many seconds", flush=True)


if __name__ == "__main__":
    if sys.argv[1] == "peer":
        print(json.dumps(peer(*json.loads(Path(sys.argv[2]).read_text()))))
    else:
        main(Path(sys.argv[1]), sys.argv[2:])
