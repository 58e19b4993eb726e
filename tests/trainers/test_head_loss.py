"""Losses through the head in chunks are transformers' own, whatever a model does behind its body, and stay small."""

from pathlib import Path

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from trainers import forward as ways
from trainers import head_loss
from trainers.adapter import lay_full, lay_lora
from trainers.base_model import load_base
from trainers.device import Device
from trainers.errors import TrainerError
from trainers.head_loss import Head, token_losses
from trainers.llama_stack import LlamaStack
from trainers.model_folder import check_folder
from trainers.spec import LoraSpec

pytestmark = pytest.mark.filterwarnings(
    # peft still asks transformers by the old name, and warns of an adapter on a head that shares its weights.
    "ignore:.is_gradient_checkpointing. is deprecated:FutureWarning",
    "ignore:Model has .tie_word_embeddings=True.:UserWarning",
    # Of GPT-2, whose layers are written the other way round.
    "ignore:fan_in_fan_out is set to False:UserWarning",
)

CPU = Device("cpu", "fp32", "test", 1, 1024)
#: Kind, what differs from the usual tiny model, and whether its output is one product.
MODELS = {
    "llama": ("llama", {}, True),
    "untied": ("llama", {"tie_word_embeddings": False}, True),
    "qwen2": ("qwen2", {}, True),
    "gpt2": ("gpt2", {}, True),
    "gemma2, capped": ("gemma2", {"query_pre_attn_scalar": 8, "final_logit_softcapping": 0.7}, False),
    "gemma2, capped far out": ("gemma2", {"query_pre_attn_scalar": 8, "final_logit_softcapping": 50.0}, False),
    "gemma2, capped and untied": (
        "gemma2",
        {"query_pre_attn_scalar": 8, "final_logit_softcapping": 0.7, "tie_word_embeddings": False},
        False,
    ),
    "gemma2, not capped": ("gemma2", {"query_pre_attn_scalar": 8, "final_logit_softcapping": None}, True),
    "granite, scaled": ("granite", {"logits_scaling": 4.0}, False),
    "cohere, scaled": ("cohere", {"logit_scale": 0.25}, False),
    "gptj, biased": ("gptj", {"rotary_dim": 4}, False),
}
TRAINED = {
    "layers": lambda model: lay_lora(model, LoraSpec(rank=4, alpha=8), seed=0),
    "all": lambda model: lay_full(model),
}


@pytest.fixture(scope="module")
def folders(kit, tmp_path_factory):
    root = tmp_path_factory.mktemp("heads")
    return {name: kit.make_model(root / name, kind, **more) for name, (kind, more, _) in MODELS.items()}


@pytest.fixture(autouse=True)
def few_rows(monkeypatch):
    """Chunks of three rows of a product, of which two become fp32 at a time, and of one row of anything else."""
    monkeypatch.setattr(head_loss, "CHUNK_BYTES", 4 * 260 * 3)
    monkeypatch.setattr(head_loss, "CACHED_BYTES", 4 * 260 * 2)


def laid(folder, lay):
    adapter = lay(load_base(check_folder(Path(folder)), CPU))
    noise = torch.randn(adapter.weights.shape, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        adapter.weights.add_(0.05 * noise)
    return adapter


def batch():
    tokens = torch.randint(2, 250, (33,), generator=torch.Generator().manual_seed(2))
    lengths = [9, 3, 21]
    rows = torch.tensor([each for start, end in ((0, 9), (9, 12), (12, 33)) for each in range(start, end - 1)])
    owners = torch.repeat_interleave(torch.arange(3), torch.tensor([8, 2, 20]))
    return ways.MicroBatch(tokens, lengths, rows, tokens[rows + 1], owners)


def look(forward, adapter):
    adapter.clear_grads()
    forward.refresh()
    total = forward.losses(batch()).sum()
    total.backward()
    return total.detach(), adapter.grads.clone()


def told_by_transformers(adapter):
    """The summed loss as the model computes it from labels, sequence by sequence, and its gradient."""
    adapter.clear_grads()
    total = sum(
        adapter.base(input_ids=each[None], labels=each[None]).loss * (len(each) - 1)
        for each in torch.split(batch().tokens, batch().lengths)
    )
    total.backward()
    return total.detach(), adapter.grads.clone()


def assert_equal(found, wanted):
    torch.testing.assert_close(found[0], wanted[0], rtol=1e-5, atol=1e-4)
    torch.testing.assert_close(found[1], wanted[1], rtol=2e-3, atol=2e-4)
    assert wanted[1].abs().max() > 0


@pytest.mark.parametrize("trained", TRAINED)
@pytest.mark.parametrize("name", MODELS)
def test_losses_and_gradients_are_those_that_transformers_computes_from_labels(name, trained, folders):
    adapter = laid(folders[name], TRAINED[trained])
    wanted = told_by_transformers(adapter)
    for packing in ("auto", "bucket"):
        assert_equal(look(ways.choose_forward(adapter, packing), adapter), wanted)


@pytest.mark.parametrize("name", ["untied", "gemma2, capped and untied"])
def test_an_adapter_on_the_head_gets_its_gradient(name, folders):
    names = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj", "lm_head")
    adapter = laid(folders[name], lambda model: lay_lora(model, LoraSpec(rank=4, alpha=8, targets=names), seed=0))
    wanted = told_by_transformers(adapter)
    own = {name: each for name, each in adapter.named(wanted[1]).items() if "lm_head" in name}
    assert len(own) == 2
    assert all(each.abs().max() > 0 for each in own.values())
    for packing in ("auto", "bucket"):
        forward = ways.choose_forward(adapter, packing)
        assert_equal(look(forward, adapter), wanted)
    if name == "untied":
        assert_equal(look(LlamaStack(adapter, Head.of(adapter)), adapter), wanted)


@pytest.mark.parametrize("name", MODELS)
def test_a_product_is_taken_for_one_and_nothing_else_is(name, folders):
    head = Head.of(laid(folders[name], TRAINED["layers"]))
    assert head._is_product is MODELS[name][2]


@pytest.mark.parametrize("packing", ["auto", "bucket"])
def test_a_head_that_leaves_something_out_is_not_relied_on(packing, folders, monkeypatch):
    monkeypatch.setattr(Head, "losses", lambda head, hidden, targets: token_losses(hidden, weight, targets))
    adapter = laid(folders["granite, scaled"], TRAINED["layers"])
    weight = adapter.base.lm_head.weight
    with pytest.raises(TrainerError) as caught:
        ways.choose_forward(adapter, packing)
    assert caught.value.code == "model.forward"


def test_a_model_whose_output_comes_of_more_than_its_last_states_is_refused(folders):
    adapter = laid(folders["llama"], TRAINED["layers"])
    forward = adapter.base.forward

    def more(input_ids, **rest):
        out = forward(input_ids=input_ids, **rest)
        out.logits = out.logits + input_ids[..., None]
        return out

    adapter.base.forward = more
    with pytest.raises(TrainerError) as caught:
        ways.choose_forward(adapter, "auto")
    assert caught.value.code == "model.head"


class Largest(TorchDispatchMode):
    """Remembers the most rows of logits that any tensor held; weights and their gradients from the side are none."""

    def __init__(self, weight):
        super().__init__()
        (self.vocabulary, self.width), self.rows = weight.shape, 0

    def __torch_dispatch__(self, function, types, arguments=(), named=None):
        out = function(*arguments, **(named or {}))
        for each in tree_leaves(out):
            is_logits = isinstance(each, torch.Tensor) and each.ndim and each.shape[-1] == self.vocabulary
            if is_logits and each.shape != (self.width, self.vocabulary):
                self.rows = max(self.rows, each.numel() // self.vocabulary)
        return out


@pytest.mark.parametrize("trained", TRAINED)
@pytest.mark.parametrize(
    ("name", "packing", "most"),
    [
        ("llama", "auto", 3),
        ("llama", "bucket", 3),
        ("qwen2", "pack", 3),
        ("gemma2, capped", "bucket", 1),
        ("granite, scaled", "auto", 1),
    ],
)
def test_no_more_logits_exist_at_a_time_than_a_chunk_holds(name, packing, most, trained, folders):
    adapter = laid(folders[name], TRAINED[trained])
    forward = ways.choose_forward(adapter, packing)
    weight = adapter.base.get_output_embeddings().weight
    with Largest(weight) as seen:
        losses = forward.losses(batch())
        losses.sum().backward()
    assert len(losses) == 30
    assert seen.rows == most
    with Largest(weight) as whole:
        ways.own_losses(adapter, batch())
    assert whole.rows == 3 * 21


def test_head_loss_in_chunks_equals_cross_entropy():
    torch.manual_seed(0)
    hidden, weight = torch.randn(10, 8, requires_grad=True), torch.randn(260, 8, requires_grad=True)
    targets, share = torch.randint(0, 260, (10,)), torch.rand(10)
    expected = torch.nn.functional.cross_entropy(hidden @ weight.T, targets, reduction="none")
    wanted = torch.autograd.grad((expected * share).sum(), (hidden, weight))
    found = token_losses(hidden, weight, targets)
    torch.testing.assert_close(found, expected)
    for one, other in zip(torch.autograd.grad((found * share).sum(), (hidden, weight)), wanted, strict=True):
        torch.testing.assert_close(one, other)


def test_the_gradient_of_a_head_is_summed_in_fp32_where_products_are_made_in_sixteen_bits():
    torch.manual_seed(0)
    hidden, weight = torch.randn(600, 8).bfloat16(), torch.randn(260, 8, requires_grad=True)
    targets = torch.randint(0, 260, (600,))
    (found,) = torch.autograd.grad(token_losses(hidden, weight, targets).sum(), weight)
    exact = torch.nn.functional.cross_entropy(hidden.float() @ weight.bfloat16().float().T, targets, reduction="sum")
    (wanted,) = torch.autograd.grad(exact, weight)
    assert found.dtype == torch.float32
    assert (found - wanted).abs().max() < 0.02 * wanted.abs().max()
