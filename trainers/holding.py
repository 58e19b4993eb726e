"""Who of several processes holds what of the trained numbers, their gradients and their optimiser's state.

``Holding`` is the plain way: everything everywhere. With ``parallel.shard`` each process updates its part of the vector
alone, and holds of moments, average and best state that part: ``Sliced`` where the weights themselves are whole in each
process, ``Spread`` where they are not.

Guarantees: all three make the same updates up to the order of additions; ``whole`` and ``cut`` turn parts into the
vector of one process and back, so checkpoints and results do not tell by how many they were made.
Does not: hold moments, average and best state themselves; it says how long they are.

Source: Rajbhandari et al. 2020, arXiv:1910.02054, section 5 (gradients and optimiser state in parts).

Example:
    >>> holding = choose_holding(adapter, group, spec.parallel)
    >>> optimiser = AdamW(holding.mine, spec.optimiser)
    >>> optimiser.step(holding.summed_grads(), step, rate)
    >>> holding.publish()
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import torch
from torch import Tensor

from trainers.adapter import Adapter
from trainers.parallel import Group, await_first, awaited
from trainers.slices import Slices, even_blocks
from trainers.spec import ParallelSpec
from trainers.spread import Resident
from trainers.tensor_file import Later

T = TypeVar("T")


class Holding:
    """Everything in every process. ``mine`` is what this process updates."""

    #: Whether work has to be done by all processes in step: then none saves or leaves alone.
    is_shared = False

    def __init__(self, adapter: Adapter, group: Group) -> None:
        self.adapter, self.group = adapter, group
        self.mine = adapter.weights

    def summed_grads(self) -> Tensor:
        """This process's part of the gradients, summed over the processes."""
        self.group.add(self.adapter.grads)
        return self.adapter.grads

    def norm(self, part: Tensor) -> float:
        """Length of the vector that this is a part of."""
        return float(torch.linalg.vector_norm(part))

    def publish(self) -> None:
        """To be called once ``mine`` has changed, so that all compute with it."""

    def whole(self, part: Tensor) -> Tensor:
        """The vector, in the first process; the others give their parts and must not use what they get."""
        return part

    def later(self, part: Tensor) -> Tensor | Later:
        """``whole`` for a file, made when its turn comes; the others call ``whole`` at the same time."""
        return part

    def cut(self, vector: Tensor) -> Tensor:
        """This process's part of a whole vector."""
        return vector

    @contextmanager
    def having(self, part: Tensor) -> Iterator[None]:
        """Has all compute with other weights for a while."""
        kept = self.mine.detach().clone()
        self.put(part)
        try:
            yield
        finally:
            self.put(kept)

    @torch.no_grad()
    def put(self, part: Tensor) -> None:
        """Has all compute with other weights from now on."""
        self.mine.copy_(part)
        self.publish()

    def by_first(self, work: Callable[[], T]) -> T | None:
        """What the first process alone does with the model; the others lend it their slices of layers meanwhile."""
        spread = self.adapter.spread
        if self.group.rank:
            if spread is not None:
                spread.follow()
            return None
        if spread is None:
            return work()
        with spread.leading():
            return work()

    def by_first_however_long(self, work: Callable[[Callable[[], None]], T], check: Callable[[], None]) -> T | None:
        """As ``by_first``, and no other process's patience ends meanwhile.

        Args:
            work: is given what it has to call again and again, at least every few minutes.
            check: is called each time.
        """
        # Who lends slices of layers is asked for the next one before long.
        if self.group.size == 1 or self.adapter.spread is not None:
            return self.by_first(lambda: work(check))
        if self.group.rank:
            await_first(self.group)
            return None
        with awaited(self.group, check) as go_on:
            return work(go_on)

    def accompany(self, *, is_learning: bool) -> None:
        """Lends the others what a pass takes, where a process has none of its own to make."""
        if self.adapter.spread is not None:
            self.adapter.spread.accompany(is_learning=is_learning)


class Sliced(Holding):
    """Weights and gradients in every process, all else in parts."""

    is_shared = True

    def __init__(self, adapter: Adapter, group: Group) -> None:
        super().__init__(adapter, group)
        self._slices = Slices(group, even_blocks(adapter.weights.numel()))
        self.mine = self._slices.cut(adapter.weights.detach())

    def summed_grads(self) -> Tensor:
        """See ``Holding``."""
        return self._slices.add_up(self.adapter.grads)

    def norm(self, part: Tensor) -> float:
        """See ``Holding``; padding is zero."""
        return math.sqrt(self.group.total(super().norm(part) ** 2))

    @torch.no_grad()
    def publish(self) -> None:
        """See ``Holding``."""
        self._slices.spread(self.mine, self.adapter.weights)

    def whole(self, part: Tensor) -> Tensor:
        """See ``Holding``."""
        return self._slices.whole(part)

    def later(self, part: Tensor) -> Tensor | Later:
        """See ``Holding``."""
        return Later(torch.Size((self._slices.count,)), part.dtype, lambda: self.whole(part))

    def cut(self, vector: Tensor) -> Tensor:
        """See ``Holding``."""
        return self._slices.cut(vector)


class Spread(Sliced):
    """Layers in parts, gradients too as soon as a layer's are there; what is no layer stays whole."""

    def __init__(self, adapter: Adapter, group: Group, slices: Slices, residents: list[Resident]) -> None:
        Holding.__init__(self, adapter, group)
        self._slices, self._residents = slices, residents

    def summed_grads(self) -> Tensor:
        """See ``Holding``."""
        for each in self._residents:
            self.adapter.grads[each.place] = self.group.scatter(each.grads)
        return self.adapter.grads

    @torch.no_grad()
    def publish(self) -> None:
        """See ``Holding``; layers are fetched as they are used."""
        for each in self._residents:
            each.weights.copy_(self.group.gather(self.mine[each.place])[: each.weights.numel()])


def choose_holding(adapter: Adapter, group: Group, settings: ParallelSpec) -> Holding:
    """What a spec asks for; a process by itself holds everything."""
    if group.size == 1 or settings.shard == "none":
        return Holding(adapter, group)
    if adapter.spread is not None and adapter.spread.slices is not None:
        return Spread(adapter, group, adapter.spread.slices, adapter.spread.residents)
    return Sliced(adapter, group)
