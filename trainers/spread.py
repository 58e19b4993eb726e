"""Layers whose weights lie in slices over the processes, and are whole only while they are used (ZeRO-3, FSDP).

Of each layer a process keeps its slice. Before the layer's forward pass the slices are gathered, behind it the whole is
freed, and so again around its backward pass; of trained weights the gradients are then summed and shared out as well.
Embeddings, the last norm and the head are needed at both ends of a pass and stay whole.

A whole layer is one tensor, of which its parameters are views, and what is freed is the storage below them. Autograd
and ``trainers.llama_layer`` may thus keep the parameters themselves for the way back, and find them filled again then.

Guarantees: losses and gradients are those of the model as it was; where weights are trained in fp32 and multiplied in a
shorter format, matrices travel in that one and everything else in fp32, as autocast would have it.
Does not: work while one process goes through the model and the others do not: passes have to be made by all
(``accompany`` makes one without records), or by the first alone while the others ``follow``. Does not fetch ahead.

Source: Rajbhandari et al. 2020, arXiv:1910.02054 (ZeRO); Zhao et al. 2023, arXiv:2304.11277 (FSDP).

Example:
    >>> spread_frozen(adapter, group)
    >>> forward = choose_forward(adapter, "auto")  # as ever
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from trainers.adapter import Adapter, side_of
from trainers.errors import TrainerError
from trainers.parallel import Group, own_slice, slice_length
from trainers.recomputation import layers_of
from trainers.slices import Range, Slices, even_blocks

Named = list[tuple[str, Any]]


@dataclass
class Region:
    """Parameters of a layer that are gathered at once.

    Attributes:
        part: (n,) this process's slice of them.
        whole: (N,) what the parameters are views of; without storage while nobody uses it.
        parameters: in the order in which they lie there.
        grad: (n,) this process's slice of the sum of their gradients, where they are trained.
    """

    part: Tensor
    whole: Tensor
    parameters: list[Any]
    grad: Tensor | None = None

    @torch.no_grad()
    def fill(self, group: Group) -> None:
        """Gathers the whole."""
        found = group.gather(self.part.to(self.whole.dtype))
        self.whole.untyped_storage().resize_(self.whole.numel() * self.whole.itemsize)
        self.whole.copy_(found[: self.whole.numel()])

    def empty(self) -> None:
        """Frees the whole."""
        self.whole.untyped_storage().resize_(0)

    @torch.no_grad()
    def send_grads(self, group: Group) -> None:
        """Adds this pass's gradients, summed over the processes, to the slice; none count as zero."""
        if self.grad is None:
            return
        found = [torch.zeros(each.shape) if each.grad is None else each.grad for each in self.parameters]
        flat = torch.cat([each.reshape(-1).to(self.grad) for each in found])
        for each in self.parameters:
            each.grad = None
        del found
        self.grad.add_(group.scatter(flat))


@dataclass
class Resident:
    """A piece of what is trained and stays whole: flat views of its weights and gradients, and its place in a part."""

    place: slice
    weights: Tensor
    grads: Tensor


@dataclass
class SpreadLayers:
    """The layers of a model. ``slices`` and ``residents`` where the model itself is trained."""

    group: Group
    regions: list[list[Region]]
    slices: Slices | None = None
    residents: list[Resident] = field(default_factory=list)
    _is_leading: bool = False

    def fetch(self, index: int) -> None:
        """Makes a layer whole; all processes wait here for one another."""
        if self._is_leading:
            self.group.total(float(index + 1))
        for region in self.regions[index]:
            region.fill(self.group)

    def free(self, index: int) -> None:
        """Leaves of a layer the slice alone."""
        for region in self.regions[index]:
            region.empty()

    def finish(self, index: int) -> None:
        """To be called once the gradients of a layer are complete; all processes wait here for one another."""
        self.free(index)
        for region in self.regions[index]:
            region.send_grads(self.group)

    @contextmanager
    def held(self, index: int) -> Iterator[None]:
        """A frozen layer, whole for a while."""
        self.fetch(index)
        try:
            yield
        finally:
            self.free(index)

    def accompany(self, *, is_learning: bool) -> None:
        """Gives the other processes what one pass takes, without making one."""
        for index in range(len(self.regions)):
            self.fetch(index)
            self.free(index)
        for index in reversed(range(len(self.regions) if is_learning else 0)):
            self.fetch(index)
            self.finish(index)

    @contextmanager
    def leading(self) -> Iterator[None]:
        """For the first process: it may go through the model as it likes, while the others ``follow``."""
        self._is_leading = True
        try:
            yield
        finally:
            self._is_leading = False
            self.group.total(0.0)

    def follow(self) -> None:
        """For the others: they give what the first one asks for, until it has done."""
        while number := int(self.group.total(0.0)):
            for region in self.regions[number - 1]:
                self.group.gather(region.part.to(region.whole.dtype))

    def clear_grads(self) -> None:
        """Of what stays whole; the rest is in the adapter's vector."""
        for each in self.residents:
            each.grads.zero_()

    def hook(self, layers: torch.nn.ModuleList) -> None:
        """Fetches and frees around the passes through transformers' own layers."""
        anchor = torch.zeros(1, requires_grad=True)
        for index, layer in enumerate(layers):

            def before(_: Any, inputs: tuple[Any, ...], index: int = index) -> tuple[Any, ...] | None:
                self.fetch(index)
                if not torch.is_grad_enabled():
                    return None
                return (_Entrance.apply(inputs[0], anchor, self, index), *inputs[1:])  # type: ignore[no-untyped-call]

            def behind(_: Any, inputs: tuple[Any, ...], out: Any, index: int = index) -> Any:
                if torch.is_grad_enabled():
                    first, rest = (out[0], out[1:]) if isinstance(out, tuple) else (out, None)
                    first = _Exit.apply(first, self, index)  # type: ignore[no-untyped-call]
                    out = first if rest is None else (first, *rest)
                self.free(index)
                return out

            layer.register_forward_pre_hook(before)
            layer.register_forward_hook(behind)


class _Entrance(torch.autograd.Function):
    """Where a layer begins, and on the way back ends. The anchor makes sure that there is a way back."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, _anchor: Tensor, layers: SpreadLayers, index: int) -> Tensor:
        ctx.fixed = (layers, index)
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None]:
        layers, index = ctx.fixed
        layers.finish(index)
        return grad, None, None, None


class _Exit(torch.autograd.Function):
    """Where a layer ends, and on the way back begins."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, layers: SpreadLayers, index: int) -> Tensor:
        ctx.fixed = (layers, index)
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        layers, index = ctx.fixed
        layers.fetch(index)
        return grad, None, None


#: Gives numbers of a parameter laid flat, from where to where.
Read = Callable[[Tensor, int, int], Tensor]


def own_numbers(parameter: Tensor, begin: int, end: int) -> Tensor:
    """Of a model that was loaded whole."""
    return parameter.data.reshape(-1)[begin:end]


def spread_frozen(adapter: Adapter, group: Group, read: Read = own_numbers) -> None:
    """Spreads the frozen weights of the base's layers.

    Args:
        adapter: laid on the base.
        group: of the processes.
        read: where the weights come from, of which each process takes its part.

    Raises:
        TrainerError: ``parallel.shard``, when the layers are not where transformers keeps them, or share weights.
    """
    layers = _layers(adapter)
    found: list[list[Region]] = []
    for layer in layers:
        frozen = [(name, each) for name, each in layer.named_parameters() if not each.requires_grad]
        found.append([])
        for dtype in sorted({each.dtype for _, each in frozen}, key=str):
            parameters = _in_order([(name, each) for name, each in frozen if each.dtype == dtype])
            found[-1].append(_laid(dtype, _own(parameters, group, dtype, read), parameters))
    adapter.spread = SpreadLayers(group, found)
    adapter.spread.hook(layers)


def spread_trained(adapter: Adapter, group: Group, read: Read = own_numbers) -> None:
    """Spreads a model whose own weights are trained; the adapter's vectors become this process's part of them.

    Args:
        adapter: of the model, with nothing in its vectors yet.
        group: of the processes.
        read: as of ``spread_frozen``.

    Raises:
        TrainerError: as ``spread_frozen``.
    """
    layers = _layers(adapter)
    named = dict(adapter.base.named_parameters())
    places = {id(named[name]): (at, at + shape.numel()) for name, shape, at in adapter.places}
    regions = [_kinds(layer, adapter.autocast) for layer in layers]
    blocks: list[list[Range]] = [[places.pop(id(each)) for each in kind] for kinds in regions for kind, _ in kinds]
    rest = [(named[name], at) for name, _, at in adapter.places if id(named[name]) in places]
    blocks += [block for each, at in rest for block in even_blocks(each.numel(), at)]
    slices = Slices(group, blocks)
    weights = torch.zeros(slices.length, device=adapter.weights.device)
    grads = torch.zeros_like(weights)
    spread = SpreadLayers(group, [], slices)
    free_places = iter(slices.places)
    for kinds in regions:
        spread.regions.append([])
        for parameters, dtype in kinds:
            place = next(free_places)
            weights[place] = _own(parameters, group, torch.float32, read)
            region = _laid(dtype, weights[place], parameters)
            region.grad = grads[place]
            spread.regions[-1].append(region)
    for each, _ in rest:
        each.data, each.grad = each.data.contiguous(), torch.zeros_like(each.data)
        flat, flat_grad = each.data.view(-1), each.grad.view(-1)
        for ((begin, end),) in even_blocks(each.numel()):
            resident = Resident(next(free_places), flat[begin:end], flat_grad[begin:end])
            weights[resident.place] = own_slice(resident.weights, group)
            spread.residents.append(resident)
    adapter.weights, adapter.grads, adapter.spread = weights, grads, spread
    spread.hook(layers)


def _layers(adapter: Adapter) -> torch.nn.ModuleList:
    layers = layers_of(adapter.base)
    if layers is None:
        raise _unfit("this model's layers are not in one list")
    seen = [id(each) for layer in layers for each in layer.parameters()]
    if len(set(seen)) != len(seen):
        raise _unfit("this model's layers share weights")
    return layers


def _unfit(why: str) -> TrainerError:
    return TrainerError("parallel.shard", why, "set parallel.shard to optimiser")


def _in_order(named: Named) -> list[Any]:
    """Matrices that read the same input lie side by side, as own layers want them (``trainers.llama_stack``)."""
    return [each for _, each in sorted(named, key=lambda pair: (pair[1].ndim < 2, side_of(pair[0]), pair[0]))]


def _kinds(layer: Any, autocast: torch.dtype | None) -> list[tuple[list[Any], torch.dtype]]:
    """A layer's trained parameters, apart by the format they are used in."""
    named = list(layer.named_parameters())
    if autocast is None:
        return [(_in_order(named), torch.float32)]
    matrices = [pair for pair in named if pair[1].ndim > 1]
    others = [pair for pair in named if pair[1].ndim < 2]
    kinds = [(_in_order(matrices), autocast), (_in_order(others), torch.float32)]
    return [kind for kind in kinds if kind[0]]


def _own(parameters: list[Any], group: Group, dtype: torch.dtype, read: Read) -> Tensor:
    """This process's slice of parameters that lie one after the other."""
    share = slice_length(sum(each.numel() for each in parameters), group.size)
    part = torch.zeros(share, dtype=dtype, device=parameters[0].device)
    begin = group.rank * share
    at = 0
    for each in parameters:
        first, last = max(begin, at), min(begin + share, at + each.numel())
        if first < last:
            part[first - begin : last - begin] = read(each, first - at, last - at)
        at += each.numel()
    return part


def _laid(dtype: torch.dtype, part: Tensor, parameters: list[Any]) -> Region:
    """Makes parameters views of one tensor without storage."""
    count = sum(each.numel() for each in parameters)
    whole = torch.empty(count, dtype=dtype, device=part.device)
    at = 0
    for each in parameters:
        each.data = whole[at : at + each.numel()].view(each.shape)
        at += each.numel()
    region = Region(part, whole, parameters)
    region.empty()
    return region
