"""What is trained of a model, by four ways, held as one flat vector.

``lora`` and ``dora`` lay low-rank adapters on its linear layers (peft's layers), ``prompt`` puts trained vectors before
every input (``trainers.soft_prompt``), ``full`` trains the model's own weights.

Guarantees: all trainable numbers and their gradients are views into two vectors, so optimiser, clipping, checkpoint
and digest each deal with one tensor; a model just laid out answers as its base does.
Does not: touch the base weights, except for ``full``, whose trained weights they are, and for adapters that begin as a
part of the base, which is taken out of it while they are trained.

Example:
    >>> adapter = lay(model, spec)
    >>> adapter.weights.numel()
    4884480
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from trainers.label_head import lay_head, name_of
from trainers.lora_linear import sum_inside
from trainers.soft_prompt import lay_prompt
from trainers.spans import tags_of
from trainers.spec import TAGGED, LoraSpec, Spec
from trainers.targets import refused, targeted

if TYPE_CHECKING:
    from trainers.spread import SpreadLayers

ADAPTER = "default"
#: peft's name for the singular parts, by so many iterations; the whole decomposition takes five times as long.
PISSA = "pissa_niter_16"


@dataclass
class Adapter:
    """A model and what is trained of it.

    Attributes:
        model: peft's model, or the causal model itself where the way is not peft's.
        weights: (P,) every trainable number, fp32 in training; the parameters of ``model`` are views into it.
        grads: (P,) their gradients, likewise.
        places: name of each parameter (as in the shipped file), its shape and its place in the vector.
        settings: peft's, or None for a fully trained model.
        prefix: ids that stand for a soft prompt, to be put before every input that is meant to see it.
        has_dropout: whether inputs of adapters are dropped at random in training, which only peft's own layers do.
            Dropouts of the base stay off in every way.
        labels: names of the classes, or tags, where a head for them is trained too.
        are_tags: whether they are tags of tokens.
        origin: (P,) where adapters began that were taken out of the base, else None.
        spread: layers that are whole only while they are used; where those are trained, ``weights`` and ``grads`` are
            this process's part of the vectors (``trainers.spread``).
        autocast: what matrix products are made in where the weights themselves are held in fp32, else None.
    """

    model: Any
    weights: Tensor
    grads: Tensor
    places: list[tuple[str, torch.Size, int]]
    settings: dict[str, Any] | None
    prefix: tuple[int, ...] = ()
    has_dropout: bool = False
    labels: tuple[str, ...] = ()
    are_tags: bool = False
    autocast: torch.dtype | None = None
    origin: Tensor | None = None
    spread: SpreadLayers | None = None

    @property
    def count(self) -> int:
        """How many numbers are trained, in all processes together."""
        return sum(shape.numel() for _, shape, _ in self.places)

    @property
    def base(self) -> Any:
        """The causal model, with adapters in its linear layers where the way has them."""
        return self.model.get_base_model() if self.is_low_rank else self.model

    @property
    def is_low_rank(self) -> bool:
        """Whether the trained numbers sit in peft's layers, with a part that begins as nothing."""
        return self.settings is not None and not self.prefix

    @property
    def dtype(self) -> torch.dtype:
        """What the model computes in."""
        kept: torch.dtype = self.base.get_input_embeddings().weight.dtype
        return self.autocast or kept

    def named(self, vector: Tensor) -> dict[str, Tensor]:
        """A flat vector cut into named tensors."""
        return {name: vector[at : at + shape.numel()].view(shape) for name, shape, at in self.places}

    def shipped(self, vector: Tensor) -> tuple[dict[str, Tensor], dict[str, Any] | None]:
        """Named tensors and peft's settings of what a flat vector is to the base as it was.

        An adapter that began as a part of the base is what it has become less what it was: two adapters side by side.
        """
        if self.origin is None or self.settings is None:
            return self.named(vector), self.settings
        rank, alpha = self.settings["r"], self.settings["lora_alpha"]
        # Twice rank and alpha scale as before, but under rank stabilisation, where B makes up for it.
        scale = 2**-0.5 if self.settings["use_rslora"] else 1.0
        tensors = {}
        for (name, now), begun in zip(self.named(vector).items(), self.named(self.origin).values(), strict=True):
            if "lora_A" in name:
                now = torch.cat([now, begun])
            elif "lora_B" in name:
                now = torch.cat([now, -begun], dim=1) * scale
            tensors[name] = now
        return tensors, self.settings | {"r": 2 * rank, "lora_alpha": 2 * alpha, "init_lora_weights": True}

    def clear_grads(self) -> None:
        """Begins gradients anew."""
        self.grads.zero_()
        if self.spread is not None:
            self.spread.clear_grads()

    def computing(self) -> AbstractContextManager[Any]:
        """What forward passes are to be made in."""
        if self.autocast is None:
            return nullcontext()
        return torch.autocast(self.weights.device.type, dtype=self.autocast)

    def switched_off(self) -> AbstractContextManager[Any]:
        """The base without peft's layers; other ways have no switch."""
        return self.model.disable_adapter() if self.is_low_rank else nullcontext()

    @contextmanager
    def holding(self, vector: Tensor) -> Iterator[None]:
        """Puts other weights in for a while, for example the best ones."""
        kept = self.weights.detach().clone()
        with torch.no_grad():
            self.weights.copy_(vector)
        try:
            yield
        finally:
            with torch.no_grad():
                self.weights.copy_(kept)


def lay(model: Any, spec: Spec, *, is_spread: bool = False) -> Adapter:
    """Makes what the spec's way trains; drawn from the seed.

    Args:
        model: the base.
        spec: of the run.
        is_spread: leaves the model's own weights, where they are trained, as they are for ``trainers.spread``.

    Raises:
        TrainerError: ``model.targets``, when no layer of the model has one of the names.
    """
    labels = spec.classification.labels if spec.classification is not None else ()
    are_tags = spec.method in TAGGED
    if are_tags:
        labels = tags_of(labels)
    if spec.way == "full":
        return lay_full(model, labels, spec.seed, are_tags=are_tags, is_spread=is_spread)
    if spec.way == "prompt":
        prompt, settings = lay_prompt(model, spec.prompt.tokens, spec.seed)
        trained = [("prompt_embeddings", prompt.vectors)]
        return _flatten(model, trained, settings, prefix=prompt.ids)
    is_decomposed = spec.way == "dora"
    return lay_lora(model, spec.lora, spec.seed, is_decomposed=is_decomposed, labels=labels, are_tags=are_tags)


def lay_shipped(model: Any, spec: Spec) -> Adapter:
    """Makes room on a model for what a run of this spec ships.

    Raises:
        TrainerError: as ``lay``.
    """
    lora = spec.lora
    if spec.way == "lora" and lora.init == "pissa":
        lora = replace(lora, rank=2 * lora.rank, alpha=2 * lora.alpha, init="default")
    return lay(model, replace(spec, lora=lora))


def lay_full(
    model: Any, labels: tuple[str, ...] = (), seed: int = 0, *, are_tags: bool = False, is_spread: bool = False
) -> Adapter:
    """All weights of a model, in the precision it was loaded in; a classifier's own head in place of the words'."""
    model.requires_grad_(True)
    trained = list(model.named_parameters())
    if labels:
        head, words = model.get_output_embeddings().weight, model.get_input_embeddings().weight
        head.requires_grad_(head is words)
        trained = [(name, each) for name, each in trained if each is not head or head is words]
        laid = lay_head(model, labels, seed, are_tags=are_tags).to(words.dtype)
        trained += [(f"{name_of(model)}.{name}", each) for name, each in laid.named_parameters()]
    if is_spread:
        nothing = trained[0][1].new_empty(0)
        return Adapter(model, nothing, nothing, _places(trained), None, labels=labels, are_tags=are_tags)
    return _flatten(model, trained, None, labels=labels, are_tags=are_tags)


def lay_lora(
    model: Any,
    lora: LoraSpec,
    seed: int,
    *,
    is_decomposed: bool = False,
    labels: tuple[str, ...] = (),
    are_tags: bool = False,
) -> Adapter:
    """Puts low-rank layers on a model that answers as before: B is zero, or what A and B give is taken from the base.

    Args:
        model: the base, frozen.
        lora: rank, scaling and places.
        seed: of the draw.
        is_decomposed: DoRA, which also trains the length of each row. Source: Liu et al. 2024, arXiv:2402.09353.
        labels: of a classifier, whose head is trained in full.
        are_tags: whether it labels tokens.

    Raises:
        TrainerError: ``model.targets``, when a name is of no layer, or of one that takes no adapter; as ``lay_head``.
    """
    from peft import LoraConfig, get_peft_model

    targets = targeted(model, lora.targets)
    config = LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=targets,
        use_rslora=lora.is_rank_stabilised,
        use_dora=is_decomposed,
        init_lora_weights=PISSA if lora.init == "pissa" else True,
        task_type="CAUSAL_LM",
    )
    torch.manual_seed(seed)
    try:
        laid = get_peft_model(model, config, adapter_name=ADAPTER)
    except ValueError:  # what it says is not ours
        raise refused(f"peft lays no such adapter on {', '.join(lora.targets)}") from None
    if config.target_parameters:
        raise refused(f"peft takes some of {', '.join(lora.targets)} for experts held in one weight")
    laid.train = functools.partial(_train_adapters, laid)
    sum_inside(laid, ADAPTER)
    if labels:
        lay_head(laid.get_base_model(), labels, seed, are_tags=are_tags)
    trained = [(_shipped(name), each) for name, each in laid.named_parameters() if each.requires_grad]
    trained.sort(key=lambda pair: (*_order(pair[0]), pair[0]))
    settings = laid.peft_config[ADAPTER].to_dict()
    # Where peft looked for experts it leaves a set, which would be written as the text of one.
    settings |= {"target_modules": sorted(settings["target_modules"]), "target_parameters": None}
    if labels:
        kind, head = "TOKEN_CLS" if are_tags else "SEQ_CLS", name_of(laid.get_base_model())
        settings |= {"task_type": kind, "modules_to_save": [head]}
    adapter = _flatten(laid, trained, settings, has_dropout=lora.dropout > 0, labels=labels, are_tags=are_tags)
    if lora.init == "pissa":
        adapter.origin = adapter.weights.clone()
    return adapter


def _train_adapters(laid: Any, mode: bool = True) -> Any:
    """``train`` of a peft model whose adapters alone drop inputs: packed attention knows no dropout of the base."""
    from peft.tuners.lora import LoraLayer

    type(laid).train(laid, False)
    laid.training = mode
    for each in laid.modules() if mode else ():
        if isinstance(each, LoraLayer):
            each.training = True
            each.lora_dropout.train()
    return laid


def _shipped(name: str) -> str:
    """A parameter's name as peft writes it into a file."""
    return name.replace(f"lora_magnitude_vector.{ADAPTER}.weight", "lora_magnitude_vector").replace(f".{ADAPTER}.", ".")


def _order(name: str) -> tuple[str, int, str, int]:
    """Layers one after the other; within one, all A before all B; query, key, value and gate, up side by side.

    Layers that read the same input thereby have their A matrices in one piece, which one product can use.
    """
    prefix, _, rest = name.partition(".layers.")
    number, _, tail = rest.partition(".")
    kind = next((word for word in ("B", "magnitude") if f"lora_{word}" in tail), "A")
    return prefix, int(number) if number.isdecimal() else -1, kind, side_of(name)


def side_of(name: str) -> int:
    """Place of a linear layer among those of its decoder layer, in the order in which they are used."""
    sides = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
    return next((index for index, side in enumerate(sides) if f".{side}." in name), len(sides))


def _flatten(model: Any, trained: list[tuple[str, Any]], settings: dict[str, Any] | None, **facts: Any) -> Adapter:
    """Moves parameters into one vector, in their order, and makes them views of it."""
    device, dtype = trained[0][1].device, torch.float32 if settings is not None else trained[0][1].dtype
    count = sum(each.numel() for _, each in trained)
    weights = torch.empty(count, dtype=dtype, device=device)
    grads = torch.zeros(count, dtype=dtype, device=device)
    places = _places(trained)
    for (_, each), (_, shape, at) in zip(trained, places, strict=True):
        end = at + shape.numel()
        weights[at:end] = each.data.reshape(-1)
        each.data = weights[at:end].view(shape)
        each.grad = grads[at:end].view(shape)
    return Adapter(model, weights, grads, places, settings, **facts)


def _places(trained: list[tuple[str, Any]]) -> list[tuple[str, torch.Size, int]]:
    places = []
    at = 0
    for name, each in trained:
        places.append((name, each.shape, at))
        at += each.numel()
    return places
