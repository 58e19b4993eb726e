"""Liger's kernels are in a model's layers for as long as a pass goes on, and are used only where they give its numbers.

liger-kernel needs Triton, which no CPU build of torch brings; a stand-in does here what liger does to transformers and
to a model, with kernels written in torch that can be told to be wrong. ``prove_liger.py`` runs the real ones.
"""

import importlib.machinery
import inspect
import sys
from collections import Counter
from pathlib import Path
from types import MethodType, ModuleType, SimpleNamespace

import pytest
import torch

from tests.trainers.passes import check_equal, losses_and_grads, varlen_by_masks
from trainers import forward as ways
from trainers.adapter import lay_full, lay_lora
from trainers.base_model import load_base
from trainers.device import Device
from trainers.fused_kernels import FusedKernels
from trainers.head_loss import Head
from trainers.llama_stack import LlamaStack, Unsuitable
from trainers.model_folder import check_folder
from trainers.spec import LoraSpec

# peft still asks transformers by the old name.
pytestmark = pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated:FutureWarning")

CPU = Device("cpu", "fp32", "test", 1, 1024)
FAMILIES = {"llama": "Llama", "qwen2": "Qwen2", "mistral": "Mistral", "gemma": "Gemma", "qwen3": "Qwen3"}


class StandIn:
    """What a test is told of the kernels, and tells them: ``calls`` of each, ``fault`` for one that is wrong."""

    def __init__(self):
        self.calls = Counter()
        self.fault = ""

    def seen(self, kernel):
        self.calls[kernel] += 1
        if self.fault == f"{kernel} breaks":
            raise AssertionError("a kernel that does not compile")


def kernels_of(told):
    """A norm, a gate and a rotary turn with backward passes of their own."""

    class Norm(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x, weight, eps):
            inverse = torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + eps)
            ctx.save_for_backward(x, weight, inverse)
            return x * inverse * weight

        @staticmethod
        def backward(ctx, grad):
            told.seen("norm back")
            x, weight, inverse = ctx.saved_tensors
            by, normed = grad * weight, x * inverse
            mean = 0 if told.fault == "norm forgets its length" else (by * normed).mean(-1, keepdim=True)
            by_weight = (grad * normed).flatten(0, -2).sum(0) * (told.fault != "norm loses its weight's gradient")
            return inverse * (by - normed * mean), by_weight, None

    class Gate(torch.autograd.Function):
        @staticmethod
        def forward(ctx, gate, up, act):
            ctx.save_for_backward(gate, up)
            ctx.act = act
            return act(gate) * up

        @staticmethod
        def backward(ctx, grad):
            gate, up = ctx.saved_tensors
            with torch.enable_grad():
                leaf = gate.detach().requires_grad_()
                acted = ctx.act(leaf)
            (by_gate,) = torch.autograd.grad(acted, leaf, grad * up)
            return by_gate * (told.fault != "gate loses its gradient"), grad * acted.detach(), None

    def norm(self, x):
        told.seen("norm")
        assert self.row_mode is True
        offset = self.offset + (told.fault == "norm is off by one")
        return Norm.apply(x, self.weight + offset, self.variance_epsilon)

    def gated(act):
        def mlp(self, x):
            told.seen("gate")
            return self.down_proj(Gate.apply(self.gate_proj(x), self.up_proj(x), act))

        return mlp

    class Rotary(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x, cos, sin):
            ctx.save_for_backward(cos, sin)
            a, b = x.chunk(2, -1)
            return x * cos + torch.cat((-b, a), -1) * sin

        @staticmethod
        def backward(ctx, grad):
            cos, sin = ctx.saved_tensors
            a, b = grad.chunk(2, -1)
            sign = -1 if told.fault == "rotary turns its gradient back" else 1
            return grad * cos + torch.cat((b, -a), -1) * sin * sign, None, None

    def rotary(q, k, cos, sin, unsqueeze_dim=1):
        told.seen("rotary")
        cos, sin = cos.unsqueeze(unsqueeze_dim), sin.unsqueeze(unsqueeze_dim)
        sin = -sin if told.fault == "rotary turns back" else sin
        return Rotary.apply(q, cos, sin), Rotary.apply(k, cos, sin)

    return norm, gated, rotary


def applied(told, family):
    """As liger's function for a family: changes the family's module for the whole process, and the model's layers."""
    norm, gated, rotary = kernels_of(told)
    offset = 1.0 if family == "Gemma" else 0.0
    gate = "geglu" if family == "Gemma" else "swiglu"

    def apply(rope=True, cross_entropy=False, fused_linear_cross_entropy=True, rms_norm=True, model=None, **gates):
        written = sys.modules[type(model).__module__]
        assert (rope, rms_norm, gates) == (True, True, {gate: True})
        if cross_entropy:
            torch.nn.functional.cross_entropy = None
        if fused_linear_cross_entropy:
            model.forward = None
        written.apply_rotary_pos_emb = rotary
        setattr(written, f"{family}RMSNorm", type("LigerRMSNorm", (torch.nn.Module,), {"forward": norm}))
        setattr(written, f"{family}MLP", None)
        getattr(written, f"{family}Attention").is_ligers = True
        for each in model.modules():
            if type(each).__name__.endswith("RMSNorm"):
                each.offset, each.casting_mode, each.row_mode = offset, "llama", None
                each.variance_epsilon = getattr(each, "variance_epsilon", None) or each.eps
                each.__dict__["forward"] = MethodType(norm, each)
            elif type(each).__name__.endswith("MLP"):
                each.__dict__["forward"] = MethodType(gated(each.act_fn), each)

    switches = ["rope", "cross_entropy", "fused_linear_cross_entropy", "rms_norm", gate, "model"]
    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    apply.__signature__ = inspect.Signature([inspect.Parameter(each, kind, default=None) for each in switches])
    return apply


@pytest.fixture
def liger(tmp_path, monkeypatch):
    told = StandIn()
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "liger_kernel-0.0.dist-info").mkdir()
    (tmp_path / "liger_kernel-0.0.dist-info" / "METADATA").write_text("Name: liger-kernel\nVersion: 0.0\n")
    for name in ("liger_kernel", "liger_kernel.transformers", "liger_kernel.transformers.monkey_patch"):
        module = ModuleType(name)
        module.__spec__ = importlib.machinery.ModuleSpec(name, None)
        monkeypatch.setitem(sys.modules, name, module)
    known = {kind: applied(told, family) for kind, family in FAMILIES.items()}
    module.MODEL_TYPE_TO_APPLY_LIGER_FN = known
    return told


@pytest.fixture
def accelerator(monkeypatch):
    """A CPU that passes for an accelerator, up to the flash kernel, which torch's plain attention stands for."""
    from torch.nn.attention import varlen

    monkeypatch.setattr(varlen, "varlen_attn", varlen_by_masks)
    monkeypatch.setattr(ways, "_has_flash", lambda _: True)


def laid(folder, way="lora"):
    base = load_base(check_folder(Path(folder)), CPU).eval()
    if way == "full":
        return lay_full(base)
    adapter = lay_lora(base, LoraSpec(rank=4, alpha=8), seed=0, is_decomposed=way == "dora")
    source = torch.Generator().manual_seed(1)
    adapter.weights.add_(torch.randn(adapter.weights.shape, generator=source) * 0.05)
    return adapter


def state(model):
    """Every attribute of a model's layers, of their classes, of the module they are written in, and torch's losses."""
    layers = list(model.modules())
    written = sys.modules[type(model).__module__]
    places = [*layers, *dict.fromkeys(type(each) for each in layers), written, torch.nn.functional]
    # What it was, not only what it is equal to.
    return [{name: id(value) for name, value in vars(each).items()} for each in places]


@pytest.mark.parametrize("kind", FAMILIES)
def test_kernels_are_in_the_layers_of_one_model_while_a_pass_goes_on(kind, kit, tmp_path, liger):
    folder = kit.make_model(tmp_path / "model", kind)
    adapter, other = laid(folder), laid(folder)
    # Once beforehand: transformers remembers what a class can be set to.
    losses_and_grads(ways.PackedForward(adapter, Head.of(adapter), ""), adapter)
    before = state(adapter.base)
    kernels = FusedKernels(adapter.base)
    assert kernels.reason == "norms, gates, rotary turns by liger-kernel 0.0"
    assert state(adapter.base) == before
    with kernels.in_place():
        assert state(adapter.base) != before
        losses_and_grads(ways.BucketForward(other, Head.of(other), ""), other)
    losses_and_grads(ways.BucketForward(adapter, Head.of(adapter), ""), adapter)
    assert not liger.calls, "another model, or this one outside of its pass, met a kernel"
    fused = ways.PackedForward(adapter, Head.of(adapter), "", "blocks", kernels)
    losses_and_grads(fused, adapter)
    assert (liger.calls["norm"], liger.calls["gate"], liger.calls["rotary"]) == (9 if kind == "qwen3" else 5, 2, 2)
    assert state(adapter.base) == before
    check_equal(adapter, fused)


@pytest.mark.parametrize("way", ["dora", "full"])
def test_kernels_serve_the_ways_that_own_layers_do_not_know(way, tiny_model, liger):
    adapter = laid(tiny_model, way)
    check_equal(adapter, ways.PackedForward(adapter, Head.of(adapter), "", "blocks", FusedKernels(adapter.base)))
    assert liger.calls["norm"]


def test_layers_that_are_run_through_once_more_have_the_kernels_again(tiny_model, liger):
    adapter = laid(tiny_model)
    fused = ways.PackedForward(adapter, Head.of(adapter), "", "blocks", FusedKernels(adapter.base))
    expected = losses_and_grads(fused, adapter)
    once = liger.calls["gate"]
    fused.recompute()
    before = state(adapter.base)
    for found, wanted in zip(losses_and_grads(fused, adapter), expected, strict=True):
        torch.testing.assert_close(found, wanted)
    assert liger.calls["gate"] == 3 * once
    assert state(adapter.base) == before


def test_a_pass_that_breaks_off_leaves_no_kernel_behind(tiny_model, liger):
    adapter = laid(tiny_model)
    losses_and_grads(ways.PackedForward(adapter, Head.of(adapter), ""), adapter)
    before = state(adapter.base)
    liger.fault = "gate breaks"
    fused = ways.PackedForward(adapter, Head.of(adapter), "", "blocks", FusedKernels(adapter.base))
    with pytest.raises(AssertionError, match="does not compile"):
        losses_and_grads(fused, adapter)
    assert state(adapter.base) == before


@pytest.mark.parametrize("kind", FAMILIES)
def test_on_an_accelerator_kernels_are_taken_and_named_and_never_compared_with_themselves(
    kind, kit, tmp_path, liger, accelerator, monkeypatch
):
    adapter = laid(kit.make_model(tmp_path / "model", kind))
    plain, asked = ways.own_losses, []

    def without_kernels(*arguments):
        before = liger.calls.copy()
        losses = plain(*arguments)
        assert liger.calls == before
        asked.append(losses)
        return losses

    monkeypatch.setattr(ways, "own_losses", without_kernels)
    taken = ways.choose_forward(adapter, "auto")
    assert asked
    assert "flash kernel, norms, gates, rotary turns by liger-kernel 0.0; differs by" in taken.reason
    assert liger.calls["norm"]
    check_equal(adapter, taken)


@pytest.mark.parametrize(
    ("fault", "why"),
    [
        ("norm breaks", "fused not possible (AssertionError)"),
        ("norm back breaks", "fused not possible (AssertionError)"),
        ("norm is off by one", "liger's norm is off by"),
        ("norm forgets its length", "liger's norm is off by"),
        ("norm loses its weight's gradient", "liger's norm is off by"),
        ("gate loses its gradient", "liger's gate is off by"),
        ("rotary turns back", "liger's rotary turn is off by"),
        ("rotary turns its gradient back", "liger's rotary turn is off by"),
    ],
)
def test_a_kernel_that_breaks_or_gives_other_numbers_is_not_taken(fault, why, tiny_model, liger, accelerator):
    adapter = laid(tiny_model, "full")
    losses_and_grads(ways.PackedForward(adapter, Head.of(adapter), ""), adapter)
    before = state(adapter.base)
    liger.fault = fault
    taken = ways.choose_forward(adapter, "auto")
    assert liger.calls
    assert taken.reason.startswith("packed through the model's own layers, attention by torch's flash kernel; differs")
    assert why in taken.reason
    assert state(adapter.base) == before
    assert not adapter.grads.any(), "what broke off left a gradient"
    liger.calls.clear()
    check_equal(adapter, taken)
    assert not liger.calls


def test_whole_passes_are_compared_too(tiny_model, liger, accelerator, monkeypatch):
    monkeypatch.setattr(FusedKernels, "check", lambda *_: None)
    liger.fault = "norm is off by one"
    taken = ways.choose_forward(laid(tiny_model), "auto")
    assert "; fused differ by" in taken.reason
    assert "liger" not in taken.reason


def test_without_liger_the_flash_way_says_so(tiny_model, accelerator, monkeypatch):
    monkeypatch.setitem(sys.modules, "liger_kernel", None)
    adapter = laid(tiny_model)
    taken = ways.choose_forward(adapter, "auto")
    assert taken.reason.endswith("; liger-kernel is not installed")
    check_equal(adapter, taken)


def test_a_liger_that_does_not_load_is_passed_over(tiny_model, liger, accelerator, monkeypatch):
    monkeypatch.setitem(sys.modules, "liger_kernel.transformers.monkey_patch", None)
    taken = ways.choose_forward(laid(tiny_model), "auto")
    assert taken.reason.endswith("; fused not possible (ModuleNotFoundError)")


def test_a_family_that_nobody_has_looked_at_gets_no_kernel(kit, tmp_path, liger):
    adapter = laid(kit.make_model(tmp_path / "model", "olmo2"))
    with pytest.raises(Unsuitable, match="not looked at for this family"):
        FusedKernels(adapter.base)
    assert not liger.calls


def test_layers_that_are_spread_over_processes_get_no_kernel(tiny_model, liger):
    adapter = laid(tiny_model)
    adapter.spread = SimpleNamespace()
    with pytest.raises(Unsuitable, match="layers are spread"):
        ways._fused(adapter, Head.of(adapter))


def test_a_cpu_never_meets_a_kernel(tiny_model, liger):
    taken = ways.choose_forward(laid(tiny_model), "auto")
    assert isinstance(taken, LlamaStack)
    assert not liger.calls
    assert "liger" not in taken.reason
