"""Layers that get adapters, by family: what is asked for is trained, shipped, merged, or refused before training."""

import io
import json
import tarfile

import pytest
import torch

from trainers import events

GPT2 = {"n_embd": 32, "n_layer": 2, "n_head": 4}
EXPERTS = {"num_local_experts": 4, "num_experts_per_tok": 2}


def _answers_of_shipped_and_released(bench):
    """Logits of the adapter by plain peft on the plain base, and of the merged folder by plain transformers."""
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    content = {
        "shipped": bench.opened("adapter.sealed", "adapter"),
        "released": (bench.out / "merged.tar").read_bytes(),
    }
    for name, archive in content.items():
        with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
            tar.extractall(bench.root / name, filter="data")
    base = AutoModelForCausalLM.from_pretrained(bench.model, dtype=torch.float32)
    models = (
        PeftModel.from_pretrained(base, bench.root / "shipped"),
        AutoModelForCausalLM.from_pretrained(bench.root / "released", dtype=torch.float32),
    )
    with torch.no_grad():
        return [each.eval()(input_ids=torch.tensor([[5, 60, 7, 80, 9]])).logits for each in models]


@pytest.mark.parametrize(
    ("kind", "sizes", "changes"),
    [
        ("mixtral", EXPERTS, {}),
        ("mixtral", EXPERTS, {"way": "dora"}),
        ("gpt2", GPT2, {"way": "dora"}),
        # GPT-2's own configuration drops a tenth of its attention, which packed sequences have no way to.
        ("gpt2", GPT2, {"lora": {"rank": 4, "alpha": 8, "dropout": 0.1}}),
    ],
)
def test_a_family_of_another_build_is_trained_shipped_and_merged_alike(kind, sizes, changes, bench, kit):
    bench.model = kit.make_model(bench.root / kind, kind, **sizes)
    bench.spec(epochs=2, **changes)
    code, said = bench.command("run")
    assert code == 0, said[-1]
    losses = [each.loss for each in kit.of(events.EvalLoss, said)]
    assert losses[-1] < losses[0]
    code, said = bench.command("export", "--plain")
    assert code == 0, said[-1]
    shipped, released = _answers_of_shipped_and_released(bench)
    torch.testing.assert_close(shipped, released, rtol=1e-4, atol=1e-4)
    settings = json.loads((bench.root / "shipped" / "adapter_config.json").read_text())
    assert settings["target_parameters"] is None


@pytest.mark.parametrize(
    ("targets", "word"),
    [
        (["q_proj", "c_attn"], "c_attn"),
        (["q_proj", "all-linear"], "all-linear"),
        (["embed_tokens"], "no linear layer"),
        (["q_proj", "norm"], "no linear layer"),
        (["lm_head"], "embedding"),
    ],
)
def test_a_target_that_would_not_be_trained_or_not_be_merged_is_refused_by_name(targets, word, bench):
    bench.spec(lora={"rank": 4, "alpha": 8, "targets": targets})
    code, said = bench.command("run")
    assert (code, said[-1].code) == (2, "model.targets")
    assert word in said[-1].message


@pytest.mark.filterwarnings("ignore:fan_in_fan_out", "ignore::FutureWarning")
def test_dropout_of_adapters_leaves_those_of_the_base_off(bench, kit):
    from transformers import AutoModelForCausalLM

    from trainers.adapter import lay_lora
    from trainers.spec import LoraSpec

    kit.make_model(bench.root / "gpt2", "gpt2", **GPT2)
    base = AutoModelForCausalLM.from_pretrained(bench.root / "gpt2")
    model = lay_lora(base, LoraSpec(rank=4, dropout=0.1), seed=0).model
    for mode in (True, False):
        model.train(mode)
        dropping = {
            name for name, each in model.named_modules() if isinstance(each, torch.nn.Dropout) and each.training
        }
        assert bool(dropping) == mode
        assert all("lora_dropout" in name for name in dropping)
