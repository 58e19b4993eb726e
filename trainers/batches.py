"""Which records meet in which step, and how a step is cut to fit through the model.

Guarantees: the order depends on the seed, the epoch and the lengths alone, so a step number is all the state there is;
how a step is cut (``pack``, ``bucket``) never changes which records it holds.
Does not: mix lengths for speed across steps; the cutting inside a step makes padding rare or absent instead.

Example:
    >>> schedule = Schedule(split.lengths, batch_tokens=2048, epochs=3, max_steps=None, seed=0)
    >>> for group in pack(schedule.batch(0), split.lengths, micro_tokens=1024): ...
"""

from __future__ import annotations

import random
from array import array
from collections.abc import Mapping, Sequence

#: Of all records, or of those of a batch by their index.
Lengths = Sequence[int] | Mapping[int, int]


class Schedule:
    """All steps of a run: each epoch is shuffled anew, then filled into steps of at most ``batch_tokens``.

    Of one epoch it holds the order and where each step begins: a few bytes a record.
    """

    def __init__(
        self, lengths: Sequence[int], batch_tokens: int, epochs: int, max_steps: int | None, seed: int
    ) -> None:
        self._lengths = lengths
        self._batch_tokens = batch_tokens
        self._seed = seed
        self._first_steps = [0]
        self._order, self._starts = array("i"), array("i", [0])
        self._epoch_held = -1
        for epoch in range(epochs):
            if max_steps is not None and self._first_steps[-1] >= max_steps:
                break
            self._lay_out(epoch)
            self._first_steps.append(self._first_steps[-1] + len(self._starts) - 1)
        self.steps = self._first_steps[-1] if max_steps is None else min(self._first_steps[-1], max_steps)

    def _lay_out(self, epoch: int) -> None:
        if self._epoch_held != epoch:
            order = array("i", range(len(self._lengths)))
            random.Random(f"{self._seed}:{epoch}").shuffle(order)  # noqa: S311 - an order, not a secret
            self._order, self._starts = order, fill(order, self._lengths, self._batch_tokens)
            self._epoch_held = epoch

    def batch(self, step: int) -> list[int]:
        """Indices of the records of a step, ``0 <= step < steps``."""
        epoch = next(index for index, first in enumerate(self._first_steps[1:]) if step < first)
        self._lay_out(epoch)
        place = step - self._first_steps[epoch]
        return self._order[self._starts[place] : self._starts[place + 1]].tolist()

    def epoch_at(self, step: int) -> float:
        """Epochs done after ``step`` steps."""
        for epoch, (first, after) in enumerate(zip(self._first_steps, self._first_steps[1:], strict=False)):
            if step <= after:
                return epoch + (step - first) / (after - first)
        return float(len(self._first_steps) - 1)


def fill(order: Sequence[int], lengths: Lengths, budget: int) -> array[int]:
    """Where consecutive groups of at most ``budget`` tokens begin, and the end.

    A longer record is a group of its own.
    """
    starts = array("i", [0])
    used = 0
    for place, index in enumerate(order):
        if place > starts[-1] and used + lengths[index] > budget:
            starts.append(place)
            used = 0
        used += lengths[index]
    starts.append(len(order))
    return starts


def shared_out(batch: list[int], lengths: Lengths, size: int) -> list[list[int]]:
    """The records of a batch for each of ``size`` processes, so that all have about as many tokens.

    The longest record goes to whoever has least so far; equal for all who ask.
    """
    parts: list[list[int]] = [[] for _ in range(size)]
    loads = [0] * size
    for index in sorted(batch, key=lambda each: (-lengths[each], each)):
        least = loads.index(min(loads))
        parts[least].append(index)
        loads[least] += lengths[index]
    return parts


def pack(batch: list[int], lengths: Lengths, micro_tokens: int) -> list[list[int]]:
    """Groups of at most ``micro_tokens`` tokens together (longest first, each into the first group it fits)."""
    groups: list[list[int]] = []
    used: list[int] = []
    for index in sorted(batch, key=lambda each: (-lengths[each], each)):
        place = next((at for at, tokens in enumerate(used) if tokens + lengths[index] <= micro_tokens), len(groups))
        if place == len(groups):
            groups.append([])
            used.append(0)
        groups[place].append(index)
        used[place] += lengths[index]
    return groups


def bucket(batch: list[int], lengths: Lengths, micro_tokens: int) -> list[list[int]]:
    """Groups of like length whose padded size, count times longest, is at most ``micro_tokens``."""
    groups: list[list[int]] = []
    for index in sorted(batch, key=lambda each: (-lengths[each], each)):
        if groups and (len(groups[-1]) + 1) * lengths[groups[-1][0]] <= micro_tokens:
            groups[-1].append(index)
        else:
            groups.append([index])
    return groups
