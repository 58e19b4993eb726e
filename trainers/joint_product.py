"""Linear layers that read the same input, and their low-rank adapters, as one product each way.

With W the frozen weights (O, I), A (R, I) and B (O, R) the adapters', all layers below one another, the output of an
input x is ``[x, x A'] [W, B]'`` and the gradient by x, of one by the output g, is ``[g, g B] [W; A]``. So W, A and B
lie in one tensor, A below W and B beside it, and x and g in tensors with room for R more columns. What the adapter adds
is then neither written nor read by itself, and costs no product of its own.

Guarantees: frozen and adapted parts are summed in fp32 and rounded once. Added to numbers already on bf16's grid an
adapter's part would vanish at the beginning of a run, being smaller than half a step of that grid (measured: held-out
loss 5.10 instead of 4.96 after eight steps). Base weights are not doubled: the model's own layers read views.
Does not: join weights that come and go, of a quantised base or of layers spread over processes; there the adapter's
part is made first and the frozen product added to it, to the same effect.

Source: Hu et al. 2021, arXiv:2106.09685 (LoRA).

Example:
    >>> both = product.room(tokens)
    >>> both[:, : product.inputs] = x
    >>> y = product.forth(both)
    >>> by_both = product.room_back(tokens)
    >>> by_both[:, : product.outputs] = by_y
    >>> product.add_grads(both, by_both)
    >>> by_x = product.back(by_both)
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

#: Rows begin at multiples of so many numbers.
_ALIGNED = 32


@dataclass
class JointProduct:
    """Layers that read the same input; R is the sum of their ranks.

    Attributes:
        scaling: of the adapters.
        a_weight: (R, I) the adapters' own A below one another, a_grad where its gradient goes.
        b_weights: (O_i, R_i) B of each layer, b_grads where its gradient goes.
        dtype: of products, and of W, A and B in them.
        whole_weight: gives W (O, I) when a product wants it; None where ``take_over`` gets it, to be joined.
    """

    scaling: float
    a_weight: Tensor
    a_grad: Tensor
    b_weights: list[Tensor]
    b_grads: list[Tensor]
    dtype: torch.dtype
    whole_weight: Callable[[], Tensor] | None
    _a: Tensor = field(init=False)
    _b: Tensor = field(init=False)
    _joined: Tensor | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        if self.whole_weight is None:
            joined = self._empty(self.outputs + self.ranks, self.inputs + self.ranks).zero_()
            self._a, self._b = joined[self.outputs :, : self.inputs], joined[: self.outputs, self.inputs :]
            self._joined = joined
        else:
            self._a = self._empty(self.ranks, self.inputs)
            self._b = self._empty(self.outputs, self.ranks).zero_()

    @property
    def inputs(self) -> int:
        """I."""
        return self.a_weight.shape[1]

    @property
    def ranks(self) -> int:
        """R."""
        return self.a_weight.shape[0]

    @property
    def outputs(self) -> int:
        """O."""
        return sum(each.shape[0] for each in self.b_weights)

    def _empty(self, rows: int, columns: int) -> Tensor:
        width = -(-columns // _ALIGNED) * _ALIGNED
        return torch.empty((rows, width), dtype=self.dtype, device=self.a_weight.device)[:, :columns]

    def take_over(self, weights: list[Tensor]) -> list[Tensor]:
        """Copies the frozen weights, (O_i, I) of each layer, beside the adapters'; returns views in their place."""
        assert self._joined is not None
        places = [self._joined[rows, : self.inputs] for rows, _ in self._blocks()]
        for place, each in zip(places, weights, strict=True):
            place.copy_(each)
        return places

    def refresh(self) -> None:
        """Copies the adapters after they changed."""
        self._a.copy_(self.a_weight)
        for (rows, columns), each in zip(self._blocks(), self.b_weights, strict=True):
            torch.mul(each, self.scaling, out=self._b[rows, columns])

    def _blocks(self) -> list[tuple[slice, slice]]:
        """Where the layers' B are in that of all: rows and columns."""
        places = []
        row = column = 0
        for each in self.b_weights:
            rows, rank = each.shape
            places.append((slice(row, row + rows), slice(column, column + rank)))
            row, column = row + rows, column + rank
        return places

    def room(self, tokens: int) -> Tensor:
        """(T, I + R) of which the caller fills the first I columns."""
        return self._empty(tokens, self.inputs + self.ranks)

    def room_back(self, tokens: int) -> Tensor:
        """(T, O + R) of which the caller fills the first O columns."""
        return self._empty(tokens, self.outputs + self.ranks)

    def forth(self, both: Tensor) -> Tensor:
        """(T, O) of what is in the first columns of ``both`` (T, I + R); the others are filled here."""
        x, low = both.tensor_split([self.inputs], dim=1)
        torch.mm(x, self._a.T, out=low)
        if self._joined is not None:
            return both @ self._joined[: self.outputs].T
        return (low @ self._b.T).addmm_(x, self._weight().T)

    def add_grads(self, both: Tensor, by_both: Tensor) -> None:
        """Adds the gradients of A and B.

        Args:
            both: (T, I + R) as ``forth`` left it.
            by_both: (T, O + R) with the gradient by the output in the first columns; the others are filled here.
        """
        (x, low), (grad, by_low) = (
            each.tensor_split([first], dim=1) for each, first in ((both, self.inputs), (by_both, self.outputs))
        )
        torch.mm(grad, self._b, out=by_low)
        self.a_grad.add_(by_low.T @ x)
        for (rows, columns), each in zip(self._blocks(), self.b_grads, strict=True):
            each.add_(grad[:, rows].T @ low[:, columns], alpha=self.scaling)

    def back(self, by_both: Tensor) -> Tensor:
        """(T, I) gradient by the input, of what ``add_grads`` left."""
        if self._joined is not None:
            return by_both @ self._joined[:, : self.inputs]
        grad, by_low = by_both.tensor_split([self.outputs], dim=1)
        return (by_low @ self._a).addmm_(grad, self._weight())

    def _weight(self) -> Tensor:
        assert self.whole_weight is not None
        return self.whole_weight()
