"""How one vector lies over several processes: cut into blocks, each block shared out evenly.

A block is communicated at once, so that no process needs more than one of them whole; it may join ranges that lie apart
in the vector, as the weights of one layer do.

Guarantees: the parts of all processes hold every number of the vector once, for any length and any number of processes;
a part is one vector itself, so that an optimiser, an average and a best state are made of parts as of whole vectors.
Does not: know what the numbers are.

Example:
    >>> slices = Slices(group, even_blocks(adapter.weights.numel()))
    >>> mine = slices.cut(adapter.weights)
    >>> slices.spread(mine, adapter.weights)  # every process holds all of it again
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from trainers.parallel import Group, own_slice, slice_length

#: Numbers of a block: 64 MiB in fp32, enough for a network to run at its full speed.
BLOCK = 1 << 24
#: From where to where in the vector, the end left out.
Range = tuple[int, int]


def even_blocks(count: int, begin: int = 0) -> list[list[Range]]:
    """Blocks of ``count`` numbers that lie side by side from ``begin``."""
    end = begin + count
    return [[(at, min(at + BLOCK, end))] for at in range(begin, end, BLOCK)]


class Slices:
    """This process's part of a vector. ``length`` of the part, padding included.

    Args:
        group: of processes.
        blocks: the ranges of each block; together they cover the vector once.
    """

    def __init__(self, group: Group, blocks: Sequence[Sequence[Range]]) -> None:
        self._group = group
        self._blocks = blocks
        self.places: list[slice] = []
        self.length = self.count = 0
        for block in blocks:
            count = sum(end - begin for begin, end in block)
            share = slice_length(count, group.size)
            self.places.append(slice(self.length, self.length + share))
            self.length += share
            self.count += count

    def cut(self, vector: Tensor) -> Tensor:
        """(length,) this process's part of a vector that it holds whole."""
        part = vector.new_zeros(self.length)
        for index, place in enumerate(self.places):
            part[place] = own_slice(self._joined(vector, index), self._group)
        return part

    def add_up(self, vector: Tensor) -> Tensor:
        """(length,) this process's part of the sum of all processes' vectors."""
        part = vector.new_empty(self.length)
        for index, place in enumerate(self.places):
            part[place] = self._group.scatter(self._joined(vector, index))
        return part

    def spread(self, part: Tensor, vector: Tensor) -> None:
        """Fills a vector from the parts of all processes."""
        for block, place in zip(self._blocks, self.places, strict=True):
            joined = self._group.gather(part[place])
            at = 0
            for begin, end in block:
                vector[begin:end] = joined[at : at + end - begin]
                at += end - begin

    def whole(self, part: Tensor) -> Tensor:
        """(count,) the vector in main memory, in the first process; the others give their parts and get nothing."""
        if self._group.rank:
            for place in self.places:
                self._group.gather(part[place])
            return part.new_empty(0)
        vector = torch.empty(self.count, dtype=part.dtype)
        self.spread(part, vector)
        return vector

    def _joined(self, vector: Tensor, index: int) -> Tensor:
        ranges = [vector[begin:end] for begin, end in self._blocks[index]]
        return ranges[0] if len(ranges) == 1 else torch.cat(ranges)
