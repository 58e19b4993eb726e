"""Liger's Triton kernels in a model's own layers, in place of norms, gates and rotary turns, while a pass goes on.

liger-kernel knows of each family which of its layers a kernel may stand for, and how the family rounds. What it offers
for a model that is already there also changes transformers for the whole process, for good. So it is let loose once,
what it changed is noted and undone at once, and what belongs to this model's layers is put into them for each pass.

Guarantees: outside of ``in_place`` this model and all of transformers are, attribute by attribute, what they were; no
other model ever meets a kernel, so that the plain way stays what kernels are compared with. ``check`` finds a kernel
that gives other numbers than its layer, forth or back; ``trainers.forward`` then compares whole passes.
Does not: use liger's loss over the whole vocabulary, for ``trainers.head_loss`` looks at supervised positions only.

Source: Hsu et al. 2024, arXiv:2410.10989 (Liger Kernel).

Example:
    >>> kernels = FusedKernels(model)
    >>> kernels.check(nullcontext)
    >>> with kernels.in_place():
    ...     model(input_ids=tokens)
"""

from __future__ import annotations

import functools
import importlib.metadata
import importlib.util
import inspect
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from types import FunctionType, MethodType
from typing import Any

import torch
from torch import Tensor

from trainers.llama_stack import Unsuitable

#: Families of which liger's kernels (0.8.5, run by Triton's interpreter) gave the numbers of transformers' own layers,
#: forth and back; ``tests/trainers/prove_liger.py`` does it again. Others wait until somebody has looked.
FAMILIES = ("gemma", "gemma2", "llama", "mistral", "phi3", "qwen2", "qwen3")
#: By what name transformers' attention calls for its rotary turn.
_ROTARY = "apply_rotary_pos_emb"

#: By how much of its length a layer's output, or a gradient, may differ: single rounding errors and their sums. What a
#: kernel forgets is a tenth of it and more.
_MOST_OFF = {torch.float32: 1e-3, torch.float16: 0.02, torch.bfloat16: 0.05}
#: Positions that ``check`` looks at.
_CHECKED = 48

#: A layer, a class or a module, and names in it with what they stand for.
Change = tuple[Any, dict[str, Any]]


class FusedKernels:
    """What liger puts into the layers of one model.

    Args:
        model: causal, of transformers; adapters may sit in its linear layers.

    Raises:
        Unsuitable: liger-kernel is not installed, or has no kernels that were looked at for this family.
    """

    def __init__(self, model: Any) -> None:
        if importlib.util.find_spec("liger_kernel") is None:
            raise Unsuitable("liger-kernel is not installed")
        if model.config.model_type not in FAMILIES:
            raise Unsuitable("liger's kernels were not looked at for this family")
        from liger_kernel.transformers.monkey_patch import MODEL_TYPE_TO_APPLY_LIGER_FN as known

        self._model, self._written = model, sys.modules[type(model).__module__]
        apply = known[model.config.model_type]
        changes = _noted(model, self._written, lambda: apply(model=model, **_wishes(apply)))
        of_layers = [(where, what) for where, what in changes if isinstance(where, torch.nn.Module)]
        self._norms = [(where, _settled(what)) for where, what in of_layers if "casting_mode" in what]
        self._gates = [(where, what) for where, what in of_layers if type(where).__name__.endswith("MLP")]
        self._rotary: Any = next((what.get(_ROTARY) for where, what in changes if where is self._written), None)
        self._turned = [] if self._rotary is None else _turned(model, self._written, self._rotary)
        self._changes = [*self._norms, *self._gates, *self._turned]
        named = {"norms": self._norms, "gates": self._gates, "rotary turns": self._turned}
        version = importlib.metadata.version("liger-kernel")
        self.reason = f"{', '.join(name for name, found in named.items() if found)} by liger-kernel {version}"

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """The kernels in the model's layers; to be held again where layers are run through once more."""
        kept = [{name: vars(where)[name] for name in what if name in vars(where)} for where, what in self._changes]
        try:
            for where, what in self._changes:
                where.__dict__.update(what)
            yield
        finally:
            for (where, what), before in zip(self._changes, kept, strict=True):
                for name in what:
                    where.__dict__.pop(name, None)
                where.__dict__.update(before)

    def check(self, computing: Callable[[], AbstractContextManager[Any]]) -> None:
        """Looks at one layer of each kind, with and without its kernel, on random numbers, forth and back.

        Passes through a whole model tell little of a kernel's way back: most of a gradient goes around any one layer.

        Args:
            computing: what passes are made in.

        Raises:
            Unsuitable: a kernel's numbers are not the layer's.
        """
        embeddings = self._model.get_input_embeddings().weight
        source = torch.Generator().manual_seed(0)

        def noise(*shape: int) -> Tensor:
            return torch.randn(shape, generator=source).to(embeddings)

        for name, changes in (("norm", self._norms), ("gate", self._gates)):
            for layer in _one_of_each(changes):
                width = layer.weight.shape[0] if name == "norm" else embeddings.shape[1]
                x = noise(1, _CHECKED, width)
                with computing():
                    plain = _outcome(layer, [x], layer)
                    with self.in_place():
                        own = _outcome(layer, [x], layer)
                _compare(name, own, plain)
        for layer in _one_of_each(self._turned):
            heads = (self._model.config.num_attention_heads, self._model.config.num_key_value_heads)
            # As attention has them: positions before heads in memory, heads before positions in the shape.
            q, k = (noise(1, _CHECKED, each, layer.head_dim).transpose(1, 2) for each in heads)
            angles = _angles(self._model, q[:, 0])
            turns = (self._rotary, vars(self._written)[_ROTARY])
            own, plain = (_outcome(functools.partial(each, **angles), [q, k]) for each in turns)
            _compare("rotary turn", own, plain)


def _settled(what: dict[str, Any]) -> dict[str, Any]:
    """liger has two kernels for norms and takes one by the number of rows; what a run uses has to be the one that the
    few rows of a comparison went through."""
    return what | {"row_mode": True}


def _one_of_each(changes: list[Change]) -> list[Any]:
    """A layer of each class and size."""
    kinds = {(type(layer), getattr(getattr(layer, "weight", None), "shape", None)): layer for layer, _ in changes}
    return list(kinds.values())


def _angles(model: Any, x: Tensor) -> dict[str, Tensor]:
    """The cosines and sines that a model turns by, for as many positions as (1, T, …) has."""
    rotary = next(each for each in model.modules() if type(each).__name__.endswith("RotaryEmbedding"))
    cos, sin = rotary(x, torch.arange(x.shape[1], device=x.device)[None])
    return {"cos": cos, "sin": sin}


def _outcome(act: Callable[..., Any], inputs: list[Tensor], layer: torch.nn.Module | None = None) -> list[Tensor]:
    """What comes out, and the gradients of inputs and of a layer's trained weights.

    The gradient that goes in is like the inputs: what a norm takes out of it is what lies in their own direction.
    """
    leaves = [each.clone(memory_format=torch.preserve_format).requires_grad_() for each in inputs]
    trained = [] if layer is None else [each for each in layer.parameters() if each.requires_grad]
    found = act(*leaves)
    outs = list(found) if isinstance(found, tuple) else [found]
    source = torch.Generator().manual_seed(1)
    grads = [each + torch.randn(each.shape, generator=source).to(each) for each in inputs]
    kept = [each.detach().clone() for each in outs]
    grads = [grad.to(out.dtype) for grad, out in zip(grads, outs, strict=True)]
    return [*kept, *torch.autograd.grad(outs, [*leaves, *trained], grads)]


def _compare(name: str, own: list[Tensor], plain: list[Tensor]) -> None:
    most = _MOST_OFF[plain[0].dtype]
    for one, other in zip(own, plain, strict=True):
        length = other.float().norm().clamp_min(torch.finfo(torch.float32).tiny)
        off = float((one.float() - other.float()).norm() / length)
        if not off <= most:
            raise Unsuitable(f"liger's {name} is off by {off:.1e} of its length")


def _wishes(apply: Callable[..., None]) -> dict[str, bool]:
    """What is wanted of liger, of what its function for a family has a switch for."""
    wanted = {
        "rope": True,
        "rms_norm": True,
        "swiglu": True,
        "geglu": True,
        "cross_entropy": False,
        "fused_linear_cross_entropy": False,
    }
    switches = inspect.signature(apply).parameters
    return {name: is_on for name, is_on in wanted.items() if name in switches}


def _noted(model: Any, written: Any, act: Callable[[], None]) -> list[Change]:
    """What an act changes in a model's layers, their classes and the module they are written in; it is undone."""
    layers = list(model.modules())
    places = [*layers, *{type(each) for each in layers}, written, torch.nn.functional]
    before = [dict(vars(each)) for each in places]
    changes = []
    try:
        act()
    finally:
        for where, old in zip(places, before, strict=True):
            what = {name: value for name, value in vars(where).items() if name not in old or old[name] is not value}
            for name in [*what, *(old.keys() - vars(where).keys())]:
                if name in old:
                    setattr(where, name, old[name])
                else:
                    delattr(where, name)
            changes.append((where, what))
    return [(where, what) for where, what in changes if what]


def _turned(model: Any, written: Any, rotary: Callable[..., Any]) -> list[Change]:
    """Attention layers with another rotary turn.

    The layer's code looks the turn up among the names of its module, which all models of the family share; here the
    same code gets names of its own.
    """
    changes: list[Change] = []
    for layer in model.modules():
        forward = type(layer).forward
        if not isinstance(forward, FunctionType) or forward.__globals__ is not vars(written):
            continue
        if _ROTARY not in forward.__code__.co_names:
            continue
        names = {**forward.__globals__, _ROTARY: rotary}
        own = FunctionType(forward.__code__, names, forward.__name__, forward.__defaults__, forward.__closure__)
        own.__kwdefaults__ = forward.__kwdefaults__
        changes.append((layer, {"forward": MethodType(own, layer)}))
    return changes
