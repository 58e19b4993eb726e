"""A base in four or eight bits trains what peft and bitsandbytes would, and goes through every later step."""

import io
import tarfile
from pathlib import Path

import pytest
import torch

from trainers import events, quantised
from trainers import forward as forwards
from trainers.adapter import _shipped, lay
from trainers.archive import pack
from trainers.base_model import load_base, load_tokenizer
from trainers.device import Device
from trainers.fields import SpecError
from trainers.flops import Flops
from trainers.llama_stack import LlamaStack
from trainers.model_folder import check_folder
from trainers.run import load_trained
from trainers.spec import load_spec

# peft still asks transformers by the old name; bitsandbytes still asks torch by one.
pytestmark = [
    pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated:FutureWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]

CPU = Device("cpu", "fp32", "test", 1, 1024)
FORMS = {
    "nf4": {"quantise": {"form": "nf4", "is_double": False}},
    "nf4-double": {"quantise": {"form": "nf4"}},
    "nf4-bf16": {"quantise": {"form": "nf4", "compute": "bf16"}},
    "int8": {"quantise": {"form": "int8"}},
    "nf4-dora": {"quantise": {"form": "nf4"}, "way": "dora"},
}


def settings_of(form):
    """What somebody would write who uses transformers alone."""
    from transformers import BitsAndBytesConfig

    if form == "int8":
        return BitsAndBytesConfig(load_in_8bit=True)
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=form != "nf4",
        bnb_4bit_compute_dtype=torch.bfloat16 if form == "nf4-bf16" else torch.float32,
    )


def theirs(folder, archive, place, form):
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        tar.extractall(place, filter="data")
    base = AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, quantization_config=settings_of(form), device_map={"": "cpu"}
    )
    # Out of training bitsandbytes lays weights out anew and rounds the blocks' scales.
    return PeftModel.from_pretrained(base, place, is_trainable=True).train()


@pytest.fixture(scope="module")
def blocks_model(tmp_path_factory, kit):
    """As the tiny model, but with rows of whole blocks, as every released model has them."""
    return kit.make_model(tmp_path_factory.mktemp("blocks"), hidden_size=64, intermediate_size=128, head_dim=16)


@pytest.fixture
def bench(bench, blocks_model):
    bench.model = blocks_model
    return bench


@pytest.mark.parametrize("form", FORMS)
def test_losses_and_gradients_equal_those_of_peft_and_bitsandbytes(form, bench, tmp_path):
    spec = load_spec(bench.spec(**FORMS[form]))
    folder = check_folder(Path(bench.model))
    adapter = load_trained(spec, folder, CPU)
    with torch.no_grad():
        adapter.weights.add_(0.02 * torch.randn(adapter.weights.shape, generator=torch.Generator().manual_seed(1)))
    archive = pack(adapter, adapter.weights, folder, "card", load_tokenizer(folder))
    other = theirs(bench.model, archive, tmp_path / "shipped", form)
    source = torch.Generator().manual_seed(3)
    sequences = [torch.randint(2, 250, (length,), generator=source) for length in (11, 4, 23)]
    joined = torch.cat(sequences)
    rows = torch.cat([torch.arange(0, 10), torch.arange(11, 14), torch.arange(15, 37)])
    owners = torch.repeat_interleave(torch.arange(3), torch.tensor([10, 3, 22]))
    batch = forwards.MicroBatch(joined, [11, 4, 23], rows, joined[rows + 1], owners)

    # Eight-bit activations and bf16 products are rounded step by step, and padding moves a few over a step.
    loose = form in ("int8", "nf4-bf16")
    forward = forwards.choose_forward(adapter, "bucket" if loose else "auto")
    assert isinstance(forward, LlamaStack) is (form in ("nf4", "nf4-double")), forward.reason
    forward.refresh()
    total = forward.losses(batch).sum()
    total.backward()
    expected = sum(other(input_ids=each[None], labels=each[None]).loss * (len(each) - 1) for each in sequences)
    expected.backward()
    torch.testing.assert_close(total, expected, rtol=2e-3 if loose else 1e-5, atol=1e-5)
    found = adapter.named(adapter.grads)
    wanted = {_shipped(name): each.grad for name, each in other.named_parameters() if each.requires_grad}
    assert set(found) == set(wanted)
    for name, grad in wanted.items():
        if loose:
            assert (found[name] - grad).norm() <= 0.05 * grad.norm() + 1e-4, name
        else:
            torch.testing.assert_close(found[name], grad, rtol=2e-3, atol=2e-4, msg=lambda text, name=name: name + text)


@pytest.mark.parametrize("form", ["nf4", "int8"])
def test_numbers_of_a_layer_are_near_the_base_and_stay_so_once_it_answered(form, bench):
    spec = load_spec(bench.spec(**FORMS[form]))
    folder = check_folder(Path(bench.model))
    plain, model = load_base(folder, CPU), load_base(folder, CPU, quantise=spec.quantise)
    layer = model.model.layers[1].mlp.down_proj
    before = quantised.weight_of(layer).clone()
    with torch.no_grad():
        model(torch.arange(2, 40)[None])
    assert torch.equal(quantised.weight_of(layer), before)
    kept = plain.model.layers[1].mlp.down_proj.weight
    assert 0 < (before - kept).abs().max() < (0.16 if form == "nf4" else 0.01) * kept.abs().max()
    assert quantised.shape_of(layer) == kept.shape
    assert Flops.of(lay(model, spec)) == Flops.of(lay(plain, spec))


@pytest.mark.parametrize("form", ["nf4-double", "int8", "nf4-dora"])
def test_a_quantised_run_learns_resumes_to_the_same_and_is_judged_and_exported(form, bench, kit):
    bench.spec(epochs=4, **FORMS[form])
    code, said = bench.command("run")
    assert code == 0, said[-1]
    looks = kit.of(events.EvalLoss, said)
    assert min(look.loss for look in looks) < looks[0].loss - 0.05
    whole = said[-1].adapter_digest
    for name in ("checkpoint.sealed", "adapter.sealed"):
        (bench.out / name).unlink()

    def cancel(event):
        if isinstance(event, events.TrainStep) and event.step == 5:
            raise BrokenPipeError

    assert bench.command("run", on_event=cancel)[0] == 3
    code, said = bench.command("resume")
    assert code == 0, said[-1]
    assert said[-1].adapter_digest == whole

    code, said = bench.command("evaluate", "--metric", "exact_match", "--max-new-tokens", "4")
    assert code == 0, said[-1]
    assert said[-1].tuned_loss < said[-1].base_loss
    code, said = bench.command("export")
    assert code == 0, said[-1]
    assert said[-1].agreement == 1.0
    assert said[-1].divergence == pytest.approx(0, abs=1e-3 if form == "int8" else 1e-5)


def test_a_merged_export_of_a_quantised_run_is_a_plain_model(bench, tmp_path):
    from transformers import AutoModelForCausalLM

    bench.spec(max_steps=2, **FORMS["nf4"])
    assert bench.command("run")[0] == 0
    code, said = bench.command("export", "--format", "gguf-f16")
    assert code == 0, said[-1]
    assert said[-1].agreement == 1.0
    code, said = bench.command("export")
    assert code == 0, said[-1]
    with tarfile.open(fileobj=io.BytesIO(bench.opened(said[-1].file, "merged"))) as tar:
        tar.extractall(tmp_path / "merged", filter="data")
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "merged")
    layer = model.model.layers[0].mlp.up_proj.weight
    assert (layer.shape, layer.dtype) == ((128, 64), torch.float32)
    assert "nf4" in (tmp_path / "merged" / "README.md").read_text()


def test_without_the_part_that_quantises_the_refusal_names_the_extra(bench, monkeypatch):
    bench.spec(**FORMS["nf4"])
    monkeypatch.setattr(quantised.importlib.util, "find_spec", lambda _name: None)
    for command in ("run", "validate"):
        code, said = bench.command(command)
        assert (code, said[-1].code) == (2, "machine.quantise")
        assert "quantise" in said[-1].hint


def test_rows_that_bitsandbytes_gives_back_wrongly_on_a_cpu_are_refused(bench, tiny_model):
    bench.spec(model={"path": str(tiny_model)}, **FORMS["nf4"])
    code, said = bench.command("run")
    assert (code, said[-1].code) == (2, "model.quantise")
    bench.spec(model={"path": str(tiny_model)}, max_steps=1, **FORMS["int8"])
    assert bench.command("run")[0] == 0


def test_what_is_trained_itself_is_not_quantised(bench):
    with pytest.raises(SpecError, match="quantise"):
        load_spec(bench.spec(way="full", quantise={}))
