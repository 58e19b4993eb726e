"""Linear layers in which every token of a batch may have an adapter of its own.

All tokens go through the frozen weights once. The low-rank factors of the adapters at hand lie side by side: one
product gives every token the low part of each adapter, a mask keeps its own, a second product brings it back up.

Guarantees: a token sees its own adapter and nothing of another's, be that one not a number; without an adapter it
gets the base's own output. The sum is rounded once, as in training (``trainers.lora_linear``).
Does not: handle layers that are not plain linear ones; ``trainers.adapter_file`` refuses an adapter that wants one.

Shapes: T tokens of all rows, r the ranks of all adapters at hand together.
Source: Hu et al. 2021, arXiv:2106.09685 (LoRA); Liu et al. 2024, arXiv:2402.09353 (DoRA); Chen et al. 2023,
arXiv:2310.18547 (several adapters in one batch).

Example:
    >>> layers = RowLayers(model)
    >>> layers.choose([first, None, second], [1, 12, 1])  # adapters of three rows and how many tokens each has
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import linear

#: Sets of adapters whose factors are kept side by side; a batch changes its set whenever a row joins or leaves.
STACKS_KEPT = 2


@dataclass
class Factors:
    """One adapter's part of one layer, ready to be used.

    Attributes:
        low: (rank, in).
        high: (out, rank), scaled already.
        lengths: (out,) of DoRA, by what each output is multiplied, else None.
    """

    low: Tensor
    high: Tensor
    lengths: Tensor | None = None


class LowRank:
    """All factors of one adapter, by the path of their layer. Compared by identity."""

    def __init__(self, factors: dict[str, Factors]) -> None:
        self.factors = factors


@dataclass
class _Stack:
    """Factors of several adapters in one layer. ``ranks`` says for each column whose it is."""

    low: Tensor
    high: Tensor
    lengths: Tensor | None
    ranks: tuple[int, ...]


@dataclass
class _Chosen:
    """What the tokens under way use: (T,) number of each one's adapter among those at hand, -1 for none."""

    numbers: Tensor
    stacks: dict[str, _Stack]
    count: int
    foreign: dict[tuple[int, ...], Tensor | None] = field(default_factory=dict)

    def mask(self, ranks: tuple[int, ...]) -> Tensor | None:
        """(T, r) which low parts are another adapter's; None where no token has such."""
        if ranks not in self.foreign:
            owners = torch.repeat_interleave(torch.arange(len(ranks)), torch.tensor(ranks)).to(self.numbers.device)
            foreign = self.numbers[:, None] != owners[None]
            self.foreign[ranks] = foreign if bool(foreign.any()) else None
        return self.foreign[ranks]


class RowLayers:
    """The linear layers of a model below its head, taught to ask which adapter a token has."""

    def __init__(self, model: Any) -> None:
        self._chosen: _Chosen | None = None
        self._kept: dict[tuple[int, ...], tuple[list[LowRank], dict[str, _Stack]]] = {}
        head = model.get_output_embeddings()
        self.layers: dict[str, torch.nn.Linear] = {}
        for path, module in model.named_modules():
            if type(module) is torch.nn.Linear and module is not head:
                self.layers[path] = module
                module.forward = functools.partial(self._forward, path, module)  # type: ignore[method-assign]

    def choose(self, adapters: list[LowRank | None], counts: list[int]) -> None:
        """Says which adapter the tokens of the next pass have: the first ``counts[0]`` the first one, and so on."""
        present = list({id(each): each for each in adapters if each is not None}.values())
        if not present:
            self._chosen = None
            return
        order = {id(each): number for number, each in enumerate(self._stacked(present))}
        numbers = torch.tensor([-1 if each is None else order[id(each)] for each in adapters])
        device = next(iter(self.layers.values())).weight.device
        spread = torch.repeat_interleave(numbers, torch.tensor(counts)).to(device)
        stacks = self._kept[tuple(sorted(order))][1]
        self._chosen = _Chosen(spread, stacks, len(order))

    def forget(self, adapter: LowRank) -> None:
        """Drops what is kept of an adapter that is not served any longer."""
        self._kept = {key: kept for key, kept in self._kept.items() if id(adapter) not in key}
        self._chosen = None

    def _stacked(self, present: list[LowRank]) -> list[LowRank]:
        key = tuple(sorted(id(each) for each in present))
        if key not in self._kept:
            while len(self._kept) >= STACKS_KEPT:
                del self._kept[next(iter(self._kept))]
            paths = {path for each in present for path in each.factors}
            self._kept[key] = (present, {path: _side_by_side(present, path) for path in paths})
        else:
            self._kept[key] = self._kept.pop(key)
        return self._kept[key][0]

    def _forward(self, path: str, module: torch.nn.Linear, x: Tensor) -> Tensor:
        chosen = self._chosen
        stack = None if chosen is None else chosen.stacks.get(path)
        if chosen is None or stack is None:
            return linear(x, module.weight, module.bias)
        flat = x.reshape(-1, x.shape[-1])
        low = flat @ stack.low.T
        foreign = chosen.mask(stack.ranks)
        if foreign is not None:
            low.masked_fill_(foreign, 0)
        out = torch.addmm(low @ stack.high.T, flat, module.weight.T)
        if stack.lengths is not None:
            out = out * stack.lengths[chosen.numbers]
        if module.bias is not None:
            out = out + module.bias
        return out.view(*x.shape[:-1], out.shape[-1])


def _side_by_side(present: list[LowRank], path: str) -> _Stack:
    parts = [each.factors.get(path) for each in present]
    found = [part for part in parts if part is not None]
    lengths = None
    if any(part.lengths is not None for part in found):
        # Row -1, the last one, is for tokens without an adapter.
        ones = torch.ones(found[0].high.shape[0], dtype=found[0].high.dtype, device=found[0].high.device)
        rows = [ones if part is None or part.lengths is None else part.lengths for part in parts]
        lengths = torch.stack([*rows, ones])
    ranks = tuple(0 if part is None else part.low.shape[0] for part in parts)
    low = torch.cat([part.low for part in found])
    return _Stack(low, torch.cat([part.high for part in found], dim=1), lengths, ranks)
