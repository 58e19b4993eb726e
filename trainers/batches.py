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

#: Of all records, or of those of a batch by their index.
Lengths = list[int] | dict[int, int]


class Schedule:
    """All steps of a run: each epoch is shuffled anew, then filled into steps of at most ``batch_tokens``."""

    def __init__(self, lengths: list[int], batch_tokens: int, epochs: int, max_steps: int | None, seed: int) -> None:
        self._lengths = lengths
        self._batch_tokens = batch_tokens
        self._seed = seed
        self._first_steps = [0]
        self._cached: tuple[int, list[list[int]]] = (-1, [])
        for epoch in range(epochs):
            if max_steps is not None and self._first_steps[-1] >= max_steps:
                break
            self._first_steps.append(self._first_steps[-1] + len(self._epoch(epoch)))
        self.steps = self._first_steps[-1] if max_steps is None else min(self._first_steps[-1], max_steps)

    def _epoch(self, epoch: int) -> list[list[int]]:
        if self._cached[0] != epoch:
            order = list(range(len(self._lengths)))
            random.Random(f"{self._seed}:{epoch}").shuffle(order)  # noqa: S311 - an order, not a secret
            self._cached = (epoch, fill(order, self._lengths, self._batch_tokens))
        return self._cached[1]

    def batch(self, step: int) -> list[int]:
        """Indices of the records of a step, ``0 <= step < steps``."""
        epoch = next(index for index, first in enumerate(self._first_steps[1:]) if step < first)
        return self._epoch(epoch)[step - self._first_steps[epoch]]

    def epoch_at(self, step: int) -> float:
        """Epochs done after ``step`` steps."""
        for epoch, (first, after) in enumerate(zip(self._first_steps, self._first_steps[1:], strict=False)):
            if step <= after:
                return epoch + (step - first) / (after - first)
        return float(len(self._first_steps) - 1)


def fill(order: list[int], lengths: list[int], budget: int) -> list[list[int]]:
    """Consecutive groups of at most ``budget`` tokens; a longer record is a group of its own."""
    groups: list[list[int]] = []
    used = 0
    for index in order:
        if not groups or used + lengths[index] > budget:
            groups.append([])
            used = 0
        groups[-1].append(index)
        used += lengths[index]
    return groups


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
