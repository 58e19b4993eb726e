"""Each way trains what peft and transformers would, ships what they load, and starts from the base's answers."""

import io
import tarfile
from pathlib import Path

import pytest
import torch

from trainers import events
from trainers import forward as forwards
from trainers.adapter import _shipped, lay
from trainers.archive import load, pack
from trainers.base_model import load_base, load_tokenizer
from trainers.device import Device
from trainers.errors import TrainerError
from trainers.model_folder import check_folder
from trainers.run import load_trained
from trainers.spec import load_spec

# peft still asks transformers by the old name.
pytestmark = pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated:FutureWarning")

CPU = Device("cpu", "fp32", "test", 1, 1024)
WAYS = {
    "lora": {"way": "lora"},
    "rslora": {"way": "lora", "lora": {"rank": 4, "alpha": 8, "is_rank_stabilised": True}},
    "pissa": {"way": "lora", "lora": {"rank": 4, "alpha": 8, "init": "pissa"}},
    "dora": {"way": "dora"},
    "prompt": {"way": "prompt", "prompt": {"tokens": 5}},
    "full": {"way": "full", "optimiser": {"learning_rate": 0.003}},
}


def reference(folder, archive, place, way):
    """The shipped archive as peft or transformers alone load it, ready to train."""
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        tar.extractall(place, filter="data")
    if way == "full":
        return AutoModelForCausalLM.from_pretrained(place, dtype=torch.float32)
    base = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    # peft will not say that a loaded soft prompt is trainable, though it is one.
    model = PeftModel.from_pretrained(base, place, is_trainable=way != "prompt")
    if way == "prompt":
        model.prompt_encoder.requires_grad_(True)
    return model


def sequences(vocabulary):
    source = torch.Generator().manual_seed(3)
    return [torch.randint(2, vocabulary, (length,), generator=source) for length in (11, 4, 23)]


def batch_of(adapter, tokens):
    """Every token learnt that has one before it, behind the prefix of a soft prompt."""
    prefix = torch.tensor(adapter.prefix, dtype=torch.int64)
    whole = [torch.cat([prefix, each]) for each in tokens]
    starts = [sum(len(each) for each in whole[:index]) for index in range(len(whole))]
    places = [torch.arange(max(len(prefix), 1) - 1, len(each) - 1) for each in whole]
    rows = torch.cat([place + start for place, start in zip(places, starts, strict=True)])
    owners = torch.repeat_interleave(torch.arange(3), torch.tensor([len(place) for place in places]))
    joined = torch.cat(whole)
    return forwards.MicroBatch(joined, [len(each) for each in whole], rows, joined[rows + 1], owners)


def named_grads(model, way):
    """Gradients of a peft model by the names of its files."""
    if way == "prompt":
        return {"prompt_embeddings": model.prompt_encoder["default"].embedding.weight.grad}
    return {_shipped(name): each.grad for name, each in model.named_parameters() if each.requires_grad}


@pytest.mark.parametrize("packing", ["auto", "bucket"])
@pytest.mark.parametrize("way", [way for way in WAYS if way != "pissa"])
def test_losses_and_gradients_equal_those_of_peft_and_transformers(way, packing, bench, tmp_path):
    spec = load_spec(bench.spec(**WAYS[way]))
    folder = check_folder(Path(bench.model))
    adapter = load_trained(spec, folder, CPU)
    noise = torch.randn(adapter.weights.shape, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        adapter.weights.add_(0.02 * noise)
    archive = pack(adapter, adapter.weights, folder, "card", load_tokenizer(folder))
    other = reference(bench.model, archive, tmp_path / "shipped", way)
    tokens = sequences(250)

    forward = forwards.choose_forward(adapter, packing)
    forward.refresh()
    total = forward.losses(batch_of(adapter, tokens)).sum()
    total.backward()
    # transformers gives a mean; peft's soft prompt lets it predict the first token too.
    counts = [len(each) - (not adapter.prefix) for each in tokens]
    expected = sum(
        other(input_ids=each[None], labels=each[None]).loss * count for each, count in zip(tokens, counts, strict=True)
    )
    expected.backward()
    torch.testing.assert_close(total, expected, rtol=1e-5, atol=1e-5)
    found = adapter.named(adapter.grads)
    wanted = named_grads(other, way)
    assert set(found) == set(wanted)
    for name, grad in wanted.items():
        torch.testing.assert_close(found[name], grad, rtol=2e-3, atol=2e-4, msg=lambda text, name=name: name + text)


@pytest.mark.parametrize("is_stabilised", [False, True])
def test_pissa_is_pefts_and_ships_as_a_plain_adapter_of_the_untouched_base(is_stabilised, bench, tmp_path):
    from peft import LoraConfig, PeftModel, get_peft_model
    from safetensors.torch import load_file
    from transformers import AutoModelForCausalLM

    asked = {"rank": 4, "alpha": 8, "init": "pissa", "is_rank_stabilised": is_stabilised}
    spec = load_spec(bench.spec(lora=asked))
    folder = check_folder(Path(bench.model))
    adapter = load_trained(spec, folder, CPU)
    config = LoraConfig(
        r=4,
        lora_alpha=8,
        target_modules="all-linear",
        init_lora_weights="pissa_niter_16",
        use_rslora=is_stabilised,
        task_type="CAUSAL_LM",
    )
    torch.manual_seed(spec.seed)
    other = get_peft_model(AutoModelForCausalLM.from_pretrained(bench.model, dtype=torch.float32), config)
    other.peft_config["default"].init_lora_weights = True
    other.save_pretrained(tmp_path / "begun")
    other.peft_config["default"].init_lora_weights = "pissa_niter_16"
    named = {_shipped(name): each for name, each in other.named_parameters() if each.requires_grad}
    for name, each in adapter.named(adapter.weights).items():
        torch.testing.assert_close(each, named[name].data)
    moved = adapter.weights + 0.02 * torch.randn(adapter.weights.shape, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        adapter.weights.copy_(moved)
        for name, each in adapter.named(moved).items():
            named[name].copy_(each)
    tokens = sequences(250)
    forward = forwards.choose_forward(adapter, "auto")
    forward.refresh()
    total = forward.losses(batch_of(adapter, tokens)).sum()
    total.backward()
    expected = sum(other(input_ids=each[None], labels=each[None]).loss * (len(each) - 1) for each in tokens)
    expected.backward()
    torch.testing.assert_close(total, expected, rtol=1e-5, atol=1e-5)
    for name, grad in adapter.named(adapter.grads).items():
        torch.testing.assert_close(grad, named[name].grad, rtol=2e-3, atol=2e-4)

    other.save_pretrained(tmp_path / "converted", path_initial_model_for_weight_conversion=str(tmp_path / "begun"))
    archive = pack(adapter, adapter.weights, folder, "card", load_tokenizer(folder))
    plain = reference(bench.model, archive, tmp_path / "shipped", "lora")
    theirs = load_file(tmp_path / "converted" / "adapter_model.safetensors")
    ours = load_file(tmp_path / "shipped" / "adapter_model.safetensors")
    assert {name: each.shape for name, each in ours.items()} == {name: each.shape for name, each in theirs.items()}
    if not is_stabilised:
        for name, each in theirs.items():
            torch.testing.assert_close(ours[name], each)
    base = AutoModelForCausalLM.from_pretrained(bench.model, dtype=torch.float32)
    converted = PeftModel.from_pretrained(base, tmp_path / "converted")
    with torch.no_grad():
        for each in tokens:
            wanted = other(each[None]).logits
            torch.testing.assert_close(plain(each[None]).logits, wanted, rtol=1e-4, atol=1e-4)
            torch.testing.assert_close(converted(each[None]).logits, wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("way", WAYS)
def test_the_way_begins_at_the_base(way, bench):
    from transformers import AutoModelForCausalLM

    spec = load_spec(bench.spec(**WAYS[way]))
    folder = check_folder(Path(bench.model))
    adapter = load_trained(spec, folder, CPU)
    tokens = torch.arange(2, 40)[None]
    with torch.no_grad():
        expected = AutoModelForCausalLM.from_pretrained(bench.model, dtype=torch.float32)(tokens).logits
        torch.testing.assert_close(adapter.base(tokens).logits, expected)
    assert adapter.weights.dtype == torch.float32


@pytest.mark.parametrize("way", WAYS)
def test_a_run_by_any_way_learns_resumes_and_is_judged_against_its_base(way, bench, kit, tmp_path):
    bench.spec(epochs=6, **WAYS[way])
    code, said = bench.command("run")
    assert code == 0, said[-1]
    looks = kit.of(events.EvalLoss, said)
    assert min(look.loss for look in looks) < looks[0].loss - 0.05
    whole = said[-1].adapter_digest

    bench.out = tmp_path / "second"
    bench.spec(epochs=3, **WAYS[way])
    assert bench.command("run")[0] == 0
    bench.spec(epochs=6, **WAYS[way])
    code, said = bench.command("resume")
    assert code == 0, said[-1]
    assert kit.of(events.RunResumed, said)[0].step > 0

    bench.out = tmp_path / "out"
    code, said = bench.command("evaluate", "--metric", "exact_match", "--max-new-tokens", "4")
    assert code == 0, said[-1]
    assert said[-1].tuned_loss < said[-1].base_loss
    bench.spec(max_steps=1)
    bench.out = tmp_path / "other"
    assert bench.command("run")[1][-1].adapter_digest != whole
    plain = bench.command("evaluate", "--metric", "exact_match", "--max-new-tokens", "4")[1][-1]
    assert plain.base_scores == said[-1].base_scores
    assert plain.base_loss == pytest.approx(said[-1].base_loss, rel=1e-5)


@pytest.mark.parametrize("way", [way for way in WAYS if way != "prompt"])
def test_the_merged_export_of_a_way_answers_as_it_was_trained(way, bench):
    bench.spec(epochs=3, **WAYS[way])
    assert bench.command("run")[0] == 0
    code, said = bench.command("export")
    assert code == 0, said[-1]
    assert said[-1].agreement == 1.0
    assert said[-1].divergence == pytest.approx(0, abs=1e-5)


def test_a_soft_prompt_is_not_merged(bench):
    bench.spec(max_steps=1, **WAYS["prompt"])
    assert bench.command("run")[0] == 0
    code, said = bench.command("export")
    assert (code, said[-1].code) == (2, "export.way")


def test_full_training_keeps_fp32_weights_and_multiplies_in_bf16(bench):
    spec = load_spec(bench.spec(**WAYS["full"]))
    half = Device("cpu", "bf16", "test", 1, 1024)
    folder = check_folder(Path(bench.model))
    adapter = load_trained(spec, folder, half)
    assert (adapter.weights.dtype, adapter.dtype) == (torch.float32, torch.bfloat16)
    forward = forwards.choose_forward(adapter, "auto")
    assert isinstance(forward, forwards.PackedForward), forward.reason
    forward.losses(batch_of(adapter, sequences(250))).sum().backward()
    assert adapter.grads.abs().max() > 0
    archive = pack(adapter, adapter.weights, folder, "card", load_tokenizer(folder))
    shipped = lay(load_base(folder, half), spec)
    load(shipped, archive)
    assert shipped.weights.dtype == torch.bfloat16
    torch.testing.assert_close(shipped.weights, adapter.weights.bfloat16())


def test_a_soft_prompt_in_fp32_does_not_hide_that_its_model_is_in_bf16(bench):
    half = Device("cpu", "bf16", "test", 1, 1024)
    adapter = load_trained(load_spec(bench.spec(**WAYS["prompt"])), check_folder(Path(bench.model)), half)
    assert (adapter.weights.dtype, adapter.dtype) == (torch.float32, torch.bfloat16)
    assert isinstance(forwards.choose_forward(adapter, "auto"), forwards.PackedForward)


def test_weights_of_another_way_are_refused(bench):
    folder = check_folder(Path(bench.model))
    prompt = load_trained(load_spec(bench.spec(**WAYS["prompt"])), folder, CPU)
    archive = pack(prompt, prompt.weights, folder, "card", load_tokenizer(folder))
    full = load_trained(load_spec(bench.spec(**WAYS["full"])), folder, CPU)
    with pytest.raises(TrainerError) as caught:
        load(full, archive)
    assert caught.value.code == "adapter.other"
