"""Preference losses are TRL's, pairs stay together, and a run learns to tell answers apart."""

from pathlib import Path

import pytest
import torch

from trainers import events
from trainers import forward as forwards
from trainers.adapter import ADAPTER
from trainers.base_model import load_tokenizer
from trainers.device import Device
from trainers.dpo import Dpo, Orpo, log_likelihoods
from trainers.encoding import encode, encode_pairs
from trainers.model_folder import check_folder
from trainers.run import load_trained
from trainers.shards import Message, Record
from trainers.spec import PreferenceSpec, load_spec

# peft still asks transformers by the old name.
pytestmark = pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated:FutureWarning")

CPU = Device("cpu", "fp32", "test", 1, 1024)
TALKS = [("one", "yes", "never ever"), ("another", "no", "y"), ("x" * 30, "perhaps", "no")]


def pair(question, chosen, rejected):
    return Record("p", (Message("user", question), Message("assistant", chosen)), rejected)


def pairs_of(kit, count, seed, name):
    """A taste that a tiny model can learn: to whatever is asked, yes rather than no."""
    made = kit.records(count, seed=seed, name=name)
    answer = {"role": "assistant", "content": "yes"}
    return [{**record, "messages": [record["messages"][0], answer], "rejected": "no"} for record in made]


@pytest.fixture
def paired(bench, kit):
    for name, count, seed in (("train", 24, 1), ("validation", 6, 2), ("test", 8, 3)):
        bench.seal(name, pairs_of(kit, count, seed, name[0]))
    return bench


def opened(bench, talks):
    """An adapter that already says something, its forward and the pairs, with the reference of the untouched model."""
    folder = check_folder(Path(bench.model))
    adapter = load_trained(load_spec(bench.spec()), folder, CPU)
    split = encode_pairs([pair(*each) for each in talks], load_tokenizer(folder), 200, "refuse")
    forward = forwards.choose_forward(adapter, "auto")
    whole = forwards.micro_batch(split, list(range(len(split))), "cpu")
    with torch.no_grad():
        split.reference = log_likelihoods(forward.losses(whole), whole).view(2, -1)
        noise = torch.randn(adapter.weights.shape, generator=torch.Generator().manual_seed(1))
        adapter.weights.add_(0.05 * noise)
    forward.refresh()
    return adapter, forward, split


def theirs(bench, adapter, talks, trainer_of, folder):
    """TRL's trainer on an adapter with our weights: its loss on all pairs, and the gradients by our names."""
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import AutoModelForCausalLM

    rows = [
        {
            "prompt": [{"role": "user", "content": question}],
            "chosen": [{"role": "assistant", "content": chosen}],
            "rejected": [{"role": "assistant", "content": rejected}],
        }
        for question, chosen, rejected in talks
    ]
    shared = {
        "output_dir": str(folder),
        "per_device_train_batch_size": len(rows),
        "use_cpu": True,
        "bf16": False,
        "report_to": "none",
        "gradient_checkpointing": False,
    }
    trainer = trainer_of(
        shared,
        model=AutoModelForCausalLM.from_pretrained(bench.model, dtype=torch.float32),
        train_dataset=Dataset.from_list(rows),
        processing_class=load_tokenizer(check_folder(Path(bench.model))),
        peft_config=LoraConfig(r=4, lora_alpha=8, target_modules="all-linear", task_type="CAUSAL_LM"),
    )
    ours = adapter.named(adapter.weights)
    named = {
        name.replace(f".{ADAPTER}.", "."): each for name, each in trainer.model.named_parameters() if each.requires_grad
    }
    assert set(named) == set(ours)
    with torch.no_grad():
        for name, each in named.items():
            each.copy_(ours[name])
    loss = trainer.compute_loss(trainer.model, next(iter(trainer.get_train_dataloader())))
    loss.backward()
    return float(loss.detach()), {name: each.grad for name, each in named.items()}


def compare(method, opened_pairs, found):
    adapter, forward, split = opened_pairs
    batch = forwards.micro_batch(split, list(range(len(split))), "cpu")
    adapter.grads.zero_()
    loss = float(method.learn(forward, batch, 1 / len(split)).sum()) / len(split)
    expected, grads = found
    assert loss == pytest.approx(expected, rel=1e-5)
    for name, grad in adapter.named(adapter.grads).items():
        torch.testing.assert_close(grad, grads[name], rtol=2e-3, atol=1e-5)
    assert method.measure(forward, batch) / len(split) == pytest.approx(expected, rel=1e-5)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("talks", "kind", "smoothing"), [(TALKS, "sigmoid", 0.0), (TALKS[:1], "aot", 0.2)])
def test_dpo_is_trls(talks, kind, smoothing, bench, tmp_path):
    """Smoothed, TRL offers it under a name that sorts the pairs of a batch first; of one pair that changes nothing."""
    from trl import DPOConfig, DPOTrainer

    made = opened(bench, talks)
    found = theirs(
        bench,
        made[0],
        talks,
        lambda shared, **more: DPOTrainer(
            args=DPOConfig(beta=0.3, loss_type=kind, label_smoothing=smoothing, **shared), **more
        ),
        tmp_path,
    )
    compare(Dpo(PreferenceSpec(beta=0.3, label_smoothing=smoothing)), made, found)


@pytest.mark.slow
def test_orpo_is_trls_odds_with_the_chosen_answer_learnt(bench):
    """TRL's ORPO also learns prompts and is marked as unstable; its odds are compared, the rest is the SFT loss."""
    import types

    from trl.experimental.orpo.orpo_trainer import ORPOTrainer

    adapter, forward, split = opened(bench, TALKS)
    batch = forwards.micro_batch(split, [0, 1, 2], "cpu")
    with torch.no_grad():
        sums = log_likelihoods(forward.losses(batch), batch)
        means = sums / torch.bincount(batch.owners)
        shell = types.SimpleNamespace(beta=0.4, accelerator=types.SimpleNamespace(device="cpu"))
        odds = ORPOTrainer.odds_ratio_loss(shell, *means.chunk(2))[0]
        expected = -means[:3] - odds
    found = Orpo(PreferenceSpec(beta=0.4)).learn(forward, batch, 1.0)
    assert found.tolist() == pytest.approx(expected.tolist(), rel=1e-5)
    assert adapter.grads.abs().max() > 0


def test_a_pair_is_one_prompt_with_two_answers_and_refused_as_one(bench):
    tokenizer = load_tokenizer(check_folder(Path(bench.model)))
    long = pair("q", "a", "b" * 200)
    talk = (Message("user", "a"), Message("assistant", "old", 1), Message("user", "b"), Message("assistant", "new"))
    split = encode_pairs([long, Record("r", talk, "worse")], tokenizer, 120, "refuse")
    assert (len(split), split.refused, len(split.rejected)) == (1, 1, 1)
    batch = forwards.micro_batch(split, [0], "cpu")
    assert [tokenizer.decode(batch.targets[batch.owners == side]) for side in (0, 1)] == [
        "new<|end|>\n",
        "worse<|end|>\n",
    ]
    assert list(split.lengths) == [sum(batch.lengths)]
    assert split.supervised_count == len(batch.targets)
    cut = encode_pairs([long], tokenizer, 120, "truncate")
    assert (cut.truncated, cut.side_lengths_of(0)[1]) == (1, 120)
    plain = encode([Record("p", long.messages)], tokenizer, 120, "refuse")
    assert (cut.tokens_of(0), cut.marks_of(0)) == (plain.tokens_of(0), plain.marks_of(0))


@pytest.mark.parametrize(
    "changes",
    [
        {"method": "dpo"},
        {"method": "dpo", "way": "prompt", "prompt": {"tokens": 4}, "preference": {"label_smoothing": 0.1}},
        {"method": "orpo", "way": "full", "optimiser": {"learning_rate": 0.003}},
    ],
    ids=["dpo", "dpo-prompt", "orpo-full"],
)
def test_a_run_learns_to_tell_answers_apart_and_resumes_to_the_same(changes, paired, kit):
    paired.spec(epochs=6, **changes)
    code, said = paired.command("run")
    assert code == 0, said[-1]
    looks, seen = kit.of(events.EvalLoss, said), kit.of(events.PreferenceMeasured, said)
    assert min(look.loss for look in looks) < looks[0].loss
    assert seen[-1].pairs == 6
    assert max(each.margin for each in seen) > seen[0].margin
    if changes["method"] == "dpo" and "way" not in changes:
        # Against itself the untouched model gains nothing: every pair costs log 2.
        assert looks[0].loss == pytest.approx(0.693147, rel=1e-4)
        assert seen[0].margin == pytest.approx(0, abs=1e-4)
    whole = said[-1].adapter_digest
    for name in ("checkpoint.sealed", "adapter.sealed"):
        (paired.out / name).unlink()

    def cancel(event):
        if isinstance(event, events.TrainStep) and event.step == 5:
            raise BrokenPipeError

    assert paired.command("run", on_event=cancel)[0] == 3
    code, said = paired.command("resume")
    assert code == 0, said[-1]
    assert kit.of(events.RunResumed, said)[0].step == 5
    assert said[-1].adapter_digest == whole
    code, said = paired.command("evaluate", "--metric", "exact_match", "--max-new-tokens", "4")
    assert code == 0, said[-1]


def test_running_out_of_memory_does_not_change_what_is_preferred(paired, kit, monkeypatch):
    paired.spec(max_steps=3, method="dpo")
    whole = kit.of(events.TrainStep, paired.command("run")[1])
    losses_of = Dpo._losses

    def short(self, forward, batch):
        if len(batch.tokens) > 300:
            raise MemoryError
        return losses_of(self, forward, batch)

    monkeypatch.setattr(Dpo, "_losses", short)
    paired.out = paired.root / "short"
    code, said = paired.command("run")
    assert code == 0, said[-1]
    assert kit.of(events.MemoryShort, said)
    pieces = kit.of(events.TrainStep, said)
    assert [step.loss for step in pieces] == pytest.approx([step.loss for step in whole], rel=1e-4)
    assert {each.pairs for each in kit.of(events.PreferenceMeasured, said)} == {6}


def test_shards_must_be_of_the_method(bench, paired):
    paired.spec(method="sft")
    assert paired.command("validate")[1][-1].code == "data.invalid"
    paired.seal("train", [{"id": "a", "messages": [{"role": "assistant", "content": "x"}], "rejected": 5}])
    paired.spec(method="dpo")
    code, said = paired.command("validate")
    assert (code, said[-1].code) == (2, "data.invalid")
    assert "rejected must be text" in said[-1].message
