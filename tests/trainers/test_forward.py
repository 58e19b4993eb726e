"""The fast ways through a model give the plain way's losses and gradients, and step aside where they would not."""

import weakref
from pathlib import Path

import pytest
import torch

from tests.trainers.passes import check_equal, varlen_by_masks
from trainers import forward as ways
from trainers import llama_layer
from trainers.adapter import lay_lora
from trainers.base_model import load_base
from trainers.block_attention import QUERY_BLOCK, attend, attend_backward
from trainers.device import Device
from trainers.head_loss import Head
from trainers.llama_stack import ROWS, LlamaStack, Unsuitable
from trainers.model_folder import check_folder
from trainers.spec import LoraSpec

# peft still asks transformers by the old name.
pytestmark = pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated:FutureWarning")

CPU = Device("cpu", "fp32", "test", 1, 1024)


def laid(folder, lora=None):
    adapter = lay_lora(load_base(check_folder(Path(folder)), CPU), lora or LoraSpec(rank=4, alpha=8), seed=0)
    source = torch.Generator().manual_seed(1)
    adapter.weights.add_(torch.randn(adapter.weights.shape, generator=source) * 0.05)
    return adapter


@pytest.mark.parametrize(
    ("kind", "changes", "expected"),
    [
        ("llama", {}, "LlamaStack"),
        ("qwen2", {}, "LlamaStack"),
        ("mistral", {"sliding_window": None}, "LlamaStack"),
        ("qwen3", {}, "PackedForward"),
        ("mistral", {"sliding_window": 64}, "PackedForward"),
        ("mistral", {"sliding_window": 4}, "BucketForward"),
        ("gemma2", {"query_pre_attn_scalar": 8}, "BucketForward"),
    ],
)
def test_the_way_taken_equals_the_padded_one(kind, changes, expected, kit, tmp_path):
    adapter = laid(kit.make_model(tmp_path, kind, **changes))
    taken = ways.choose_forward(adapter, "auto")
    assert type(taken).__name__ == expected, taken.reason
    check_equal(adapter, taken)


def test_own_layers_leave_the_models_own_answers_as_they_were(tiny_model):
    adapter = laid(tiny_model)
    tokens = torch.arange(2, 40)[None]
    with torch.no_grad():
        before = adapter.base(tokens).logits
        LlamaStack(adapter, Head.of(adapter))
        torch.testing.assert_close(adapter.base(tokens).logits, before)


def test_summing_inside_the_product_equals_peft_and_keeps_small_parts(tiny_model):
    adapter = laid(tiny_model)
    layer = adapter.base.model.layers[0].mlp.up_proj
    x = torch.randn(3, 5, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(layer(x), type(layer).forward(layer, x))
        with adapter.model.disable_adapter():
            torch.testing.assert_close(layer(x), layer.base_layer(x))
        adapter.weights.mul_(0.02)
        exact = (layer(x) - layer.base_layer(x)).flatten()
        layer.base_layer.bfloat16()
        before = layer.base_layer(x.bfloat16()).float()
        kept, lost = (
            torch.dot((one(x.bfloat16()).float() - before).flatten(), exact) / exact.dot(exact)
            for one in (layer, lambda each: type(layer).forward(layer, each))
        )
    assert abs(kept - 1) < abs(lost - 1)


def test_dropout_and_partial_targets_take_the_general_way(tiny_model):
    adapter = laid(tiny_model, LoraSpec(rank=4, alpha=8, targets=("q_proj", "v_proj")))
    with pytest.raises(Unsuitable):
        LlamaStack(adapter, Head.of(adapter))
    assert isinstance(ways.choose_forward(adapter, "auto"), ways.PackedForward)
    dropping = laid(tiny_model, LoraSpec(rank=4, alpha=8, dropout=0.1))
    dropping.model.train()
    assert isinstance(ways.choose_forward(dropping, "auto"), ways.PackedForward)
    assert dropping.model.training


def test_a_way_that_lets_sequences_see_each_other_is_not_taken(tiny_model, monkeypatch):
    from trainers import packed_attention

    def leaky(q, k, v, lengths):
        return attend(q, k, v, [sum(lengths)])

    for place in (llama_layer, packed_attention):
        monkeypatch.setattr(place, "attend", leaky)
    taken = ways.choose_forward(laid(tiny_model), "auto")
    assert isinstance(taken, ways.BucketForward)
    assert "differ by" in taken.reason


def test_a_way_whose_gradient_points_elsewhere_is_not_taken(tiny_model, monkeypatch):
    from trainers import packed_attention

    def turned(grad, *rest):
        return tuple(each.flip(0) for each in attend_backward(grad, *rest))

    monkeypatch.setattr(llama_layer, "attend_backward", turned)
    monkeypatch.setattr(packed_attention, "attend_backward", turned)
    taken = ways.choose_forward(laid(tiny_model), "auto")
    assert isinstance(taken, ways.BucketForward)
    assert "gradients by" in taken.reason


@pytest.mark.parametrize(("kind", "changes"), [("qwen3", {}), ("mistral", {"sliding_window": 4}), ("llama", {})])
def test_the_flash_kernel_is_asked_for_what_the_padded_way_computes(kind, changes, kit, tmp_path, monkeypatch):
    from torch.nn.attention import varlen

    monkeypatch.setattr(varlen, "varlen_attn", varlen_by_masks)  # the kernel itself wants an accelerator
    adapter = laid(kit.make_model(tmp_path, kind, **changes))
    flash = ways.PackedForward(adapter, Head.of(adapter), "", "flash")
    check_equal(adapter, flash)


@pytest.mark.parametrize("lengths", [[5], [1, 7, 2], [QUERY_BLOCK + 3, 4], [64, 32, 33], [2 * QUERY_BLOCK]])
def test_block_attention_equals_masked_attention(lengths):
    torch.manual_seed(0)
    total, kv_heads, groups, size = sum(lengths), 2, 3, 4
    q, grad = torch.randn(2, total, kv_heads, groups, size).unbind()
    k, v = torch.randn(2, total, kv_heads, size).unbind()
    for each in (q, k, v):
        each.requires_grad_()
    owner = torch.repeat_interleave(torch.arange(len(lengths)), torch.tensor(lengths))
    mask = (owner[:, None] == owner) & torch.ones(total, total, dtype=torch.bool).tril()
    expected = torch.nn.functional.scaled_dot_product_attention(
        q.permute(1, 2, 0, 3), k.transpose(0, 1)[:, None], v.transpose(0, 1)[:, None], mask, scale=1.0
    ).permute(2, 0, 1, 3)
    expected.backward(grad)
    with torch.no_grad():
        out, saved = attend(q, k, v, lengths)
        found = attend_backward(grad, saved)
    torch.testing.assert_close(out, expected)
    for one, other in zip(found, (q.grad, k.grad, v.grad), strict=True):
        torch.testing.assert_close(one, other)


def test_what_fills_up_a_row_of_scores_leaves_no_bit_behind():
    """The columns behind a sequence are of whatever lies there: another sequence, or the end of the batch."""
    torch.manual_seed(0)
    lengths = [7, 40, QUERY_BLOCK + 5]
    q, grad = torch.randn(2, sum(lengths), 2, 3, 4).bfloat16().unbind()
    k, v = torch.randn(2, sum(lengths), 2, 4).bfloat16().unbind()
    out, saved = attend(q, k, v, lengths)
    whole = (out, *attend_backward(grad, saved))
    start = 0
    for length in lengths:
        own = slice(start, start + length)
        alone, saved = attend(q[own], k[own], v[own], [length])
        parts = (alone, *attend_backward(grad[own], saved))
        for together, apart in zip(whole, parts, strict=True):
            assert torch.equal(together[own], apart)
        start += length


def test_layers_that_are_run_through_again_keep_no_probabilities(kit, tmp_path, monkeypatch):
    from trainers import packed_attention

    adapter = laid(kit.make_model(tmp_path, "qwen3"))
    packed = ways.PackedForward(adapter, Head.of(adapter), "")
    packed.recompute()
    kept = []

    def watched(*asked):
        out, saved = attend(*asked)
        kept.extend(weakref.ref(each) for each in (saved.q, saved.k, saved.v, *saved.shares))
        return out, saved

    monkeypatch.setattr(packed_attention, "attend", watched)
    losses = packed.losses(ways._random_batch(adapter))
    assert kept
    assert not any(each() is not None for each in kept)
    losses.sum().backward()
    assert adapter.grads.abs().max() > 0


def test_of_the_last_layer_only_what_somebody_reads_is_computed(tiny_model, monkeypatch):
    """Seen at the gated half, which has no other use for the rest: as many rows as are supervised, and a few more."""
    adapter = laid(tiny_model)
    stack = LlamaStack(adapter, Head.of(adapter))
    batch = ways._random_batch(adapter)
    assert len(batch.rows) < ROWS < len(batch.tokens)
    seen = []
    half = llama_layer._mlp_half
    monkeypatch.setattr(llama_layer, "_mlp_half", lambda x, *rest: (seen.append(len(x)), half(x, *rest))[1])
    stack.losses(batch).sum().backward()
    assert seen == [len(batch.tokens)] * (adapter.base.config.num_hidden_layers - 1) + [ROWS]
