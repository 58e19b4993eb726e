"""Losses and gradients of judged answers are TRL's, however a step is cut, and a run learns from verdicts."""

from pathlib import Path

import pytest
import torch

from trainers import events
from trainers import forward as forwards
from trainers.adapter import ADAPTER
from trainers.base_model import load_tokenizer
from trainers.device import Device
from trainers.dpo import log_likelihoods
from trainers.encoding import encode, encode_judged
from trainers.kto import Kto, one_side
from trainers.model_folder import check_folder
from trainers.run import load_trained
from trainers.shards import Message, Record
from trainers.spec import PreferenceSpec, load_spec

# peft still asks transformers by the old name.
pytestmark = pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated:FutureWarning")

CPU = Device("cpu", "fp32", "test", 1, 1024)
TALKS = [("one", "yes", True), ("another", "never ever", False), ("x" * 30, "perhaps", True), ("q", "no", False)]


def judged(question, answer, is_good):
    return Record("r", (Message("user", question), Message("assistant", answer)), is_good=is_good)


def opened(bench):
    folder = check_folder(Path(bench.model))
    adapter = load_trained(load_spec(bench.spec()), folder, CPU)
    split = encode_judged([judged(*each) for each in TALKS], load_tokenizer(folder), 200, "refuse")
    forward = forwards.choose_forward(adapter, "auto")
    whole = forwards.micro_batch(split, list(range(len(split))), "cpu")
    with torch.no_grad():
        split.reference = log_likelihoods(forward.losses(whole), whole).view(2, -1)
        adapter.weights.add_(0.05 * torch.randn(adapter.weights.shape, generator=torch.Generator().manual_seed(4)))
    forward.refresh()
    return adapter, forward, split


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_kto_is_trls(bench, tmp_path):
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import AutoModelForCausalLM
    from trl import KTOConfig, KTOTrainer

    adapter, forward, split = opened(bench)
    rows = [
        {
            "prompt": [{"role": "user", "content": question}],
            "completion": [{"role": "assistant", "content": answer}],
            "label": is_good,
        }
        for question, answer, is_good in TALKS
    ]
    trainer = KTOTrainer(
        args=KTOConfig(
            output_dir=str(tmp_path),
            beta=0.3,
            desirable_weight=1.0,
            undesirable_weight=0.7,
            per_device_train_batch_size=len(rows),
            use_cpu=True,
            bf16=False,
            report_to="none",
            gradient_checkpointing=False,
        ),
        model=AutoModelForCausalLM.from_pretrained(bench.model, dtype=torch.float32),
        train_dataset=Dataset.from_list(rows),
        processing_class=load_tokenizer(check_folder(Path(bench.model))),
        peft_config=LoraConfig(r=4, lora_alpha=8, target_modules="all-linear", task_type="CAUSAL_LM"),
    )
    named = {
        name.replace(f".{ADAPTER}.", "."): each for name, each in trainer.model.named_parameters() if each.requires_grad
    }
    with torch.no_grad():
        for name, each in adapter.named(adapter.weights).items():
            named[name].copy_(each)
    expected = trainer.compute_loss(trainer.model, next(iter(trainer.get_train_dataloader())))
    expected.backward()

    method = Kto(PreferenceSpec(beta=0.3, undesirable_weight=0.7))
    batch = forwards.micro_batch(split, [0, 1, 2, 3], "cpu")
    method.survey(lambda look: look(forward, batch) / 4)
    assert method.baseline > 0.01
    assert method.baseline == pytest.approx(trainer._metrics["train"]["kl"][-1], rel=1e-4, abs=1e-6)
    assert float(method.learn(forward, batch, 1 / 4).sum()) / 4 == pytest.approx(float(expected.detach()), rel=1e-5)
    for name, grad in adapter.named(adapter.grads).items():
        torch.testing.assert_close(grad, named[name].grad, rtol=2e-3, atol=1e-5)


def test_one_side_of_a_batch_is_the_batch_of_that_side(bench):
    adapter, forward, split = opened(bench)
    both = forwards.micro_batch(split, [2, 0], "cpu")
    with torch.no_grad():
        whole = log_likelihoods(forward.losses(both), both).view(2, -1)
        for is_second in (False, True):
            side = one_side(both, is_second=is_second)
            torch.testing.assert_close(log_likelihoods(forward.losses(side), side), whole[int(is_second)])
    assert adapter.grads.abs().max() == 0


def test_beside_each_answer_stands_the_one_before_it(bench):
    tokenizer = load_tokenizer(check_folder(Path(bench.model)))
    long = judged("b" * 300, "y", True)
    split = encode_judged([judged("a", "x", True), long, judged("c", "z", False)], tokenizer, 100, "refuse")
    assert (len(split), split.refused, list(split.are_good)) == (2, 1, [1, 0])
    plain = [encode([judged(question, answer, True)], tokenizer, 100, "refuse") for question, answer in ("az", "cx")]
    for index, other in enumerate(plain):
        for found, expected in zip(split.sequences_of(index)[1], other.sequences_of(0)[0], strict=True):
            assert found.tolist() == expected.tolist()


def verdicts(kit, count, seed, name):
    """A taste that a tiny model can learn: yes is good, no is bad, whatever was asked."""
    made = kit.records(count, seed=seed, name=name)
    return [record | {"label": record["messages"][1]["content"] == "yes"} for record in made]


def test_a_run_learns_from_verdicts_in_any_pieces_and_resumes_to_the_same(bench, kit, tmp_path):
    for name, count, seed in (("train", 24, 1), ("validation", 6, 2), ("test", 8, 3)):
        bench.seal(name, verdicts(kit, count, seed, name[0]))
    bench.spec(epochs=6, method="kto")
    code, said = bench.command("run")
    assert code == 0, said[-1]
    looks, seen = kit.of(events.EvalLoss, said), kit.of(events.JudgementsMeasured, said)
    # Against itself the untouched model gains nothing: every answer costs a half.
    assert looks[0].loss == pytest.approx(0.5, abs=1e-4)
    assert min(look.loss for look in looks) < 0.49
    assert (seen[0].good + seen[0].bad, seen[0].baseline) == (6, pytest.approx(0, abs=1e-3))
    assert max(each.good_gain - each.bad_gain for each in seen) > 0.1
    whole = said[-1].adapter_digest
    steps = kit.of(events.TrainStep, said)

    bench.out = tmp_path / "pieces"
    bench.spec(epochs=6, method="kto", micro_tokens=120)
    code, said = bench.command("run")
    assert code == 0, said[-1]
    cut = kit.of(events.TrainStep, said)
    assert [step.loss for step in cut[:6]] == pytest.approx([step.loss for step in steps[:6]], rel=1e-3)

    bench.out = tmp_path / "stopped"
    bench.spec(epochs=6, method="kto")

    def cancel(event):
        if isinstance(event, events.TrainStep) and event.step == 5:
            raise BrokenPipeError

    assert bench.command("run", on_event=cancel)[0] == 3
    code, said = bench.command("resume")
    assert code == 0, said[-1]
    assert said[-1].adapter_digest == whole
    code, said = bench.command("evaluate", "--metric", "exact_match", "--max-new-tokens", "4")
    assert code == 0, said[-1]
    (told,) = kit.of(events.JudgementsCompared, said)
    verdict_of = {record["id"]: record["label"] for record in verdicts(kit, 8, 3, "t")}
    assert dict(zip(told.ids, told.are_good, strict=True)) == verdict_of
    assert 0 < len(said[-1].ids) < 8
    assert {verdict_of[each] for each in said[-1].ids} == {True}
    gains = [after - before for before, after in zip(told.base_likelihoods, told.tuned_likelihoods, strict=True)]
    good, bad = (
        [gain for gain, is_good in zip(gains, told.are_good, strict=True) if is_good is side] for side in (True, False)
    )
    assert sum(good) / len(good) > sum(bad) / len(bad)
    assert min(told.tokens) > 0
    assert max(told.base_likelihoods) < 0


def test_without_one_good_answer_there_is_nothing_to_judge_by(bench, kit):
    for name in ("train", "validation"):
        bench.seal(name, verdicts(kit, 6, 1, name[0]))
    bench.seal("test", [record | {"label": False} for record in verdicts(kit, 3, 3, "t")])
    bench.spec(method="kto", max_steps=1)
    assert bench.command("run")[0] == 0
    code, said = bench.command("evaluate", "--metric", "exact_match")
    assert (code, said[-1].code) == (2, "evaluate.no_reference")


@pytest.mark.slow
def test_a_model_tuned_on_verdicts_is_compressed_and_healed(bench, kit):
    for name, count, seed in (("train", 12, 1), ("validation", 6, 2), ("test", 8, 3)):
        bench.seal(name, verdicts(kit, count, seed, name[0]))
    bench.spec(method="kto", max_steps=1)
    assert bench.command("run")[0] == 0
    code, said = bench.command("compress", "--ways", "wanda-50+heal", "--heal-steps", "2", "--metric", "exact_match")
    assert code == 0, said[-1]
    rows = kit.of(events.CompressionMeasured, said)
    good = sum(record["label"] for record in verdicts(kit, 8, 3, "t"))
    assert [row.scored for row in rows] == [good, good]


def test_a_verdict_is_true_or_false(bench, kit):
    bench.seal("train", [*verdicts(kit, 2, 1, "t"), kit.records(1)[0], kit.records(1)[0] | {"label": 1}])
    bench.spec(method="kto")
    code, said = bench.command("validate")
    assert (code, said[-1].code) == (2, "data.invalid")
    assert "train line 3: label" in said[-1].message
    assert "train line 4: label" in said[-1].message
