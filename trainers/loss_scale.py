"""By what gradients are multiplied on their way through fp16, whose numbers end at 65,504 and at 6e-8.

Guarantees: the scale is a power of two, so that it changes no digit of a gradient; it is part of a run's state, and all
that is clipped, told or learnt is without it; processes that learn together see one norm and so keep one scale.
Does not: help where the way forth leaves fp16's range; a loss that is not finite counts against the run at once.

Source: Micikevicius et al. 2018, arXiv:1710.03740, section 3.2; numbers and rule of torch.amp.GradScaler.

Example:
    >>> state.loss_scale = scale_for("fp16", state.loss_scale)
    >>> method.learn(forward, batch, share=factor(state) / units)
"""

from __future__ import annotations

from torch import Tensor

from trainers.checkpoint import State

FIRST = 2.0**16
GROWTH_STEPS = 2000
#: Below it fewer gradients would be told from nothing than without any scale.
LEAST = 1.0


def scale_for(precision: str, kept: float | None = None) -> float | None:
    """The scale to go on with, None where a precision wants none; ``kept`` is that of a checkpoint."""
    return (kept or FIRST) if precision == "fp16" else None


def factor(state: State) -> float:
    """What losses are to be multiplied by before their way back."""
    return 1.0 if state.loss_scale is None else state.loss_scale


def unscale(grads: Tensor, state: State) -> Tensor:
    """Takes the scale out of gradients, in place."""
    return grads if state.loss_scale is None else grads.mul_(1 / state.loss_scale)


def raise_scale(state: State) -> None:
    """Doubles the scale after so many good updates in a row."""
    if state.loss_scale is None:
        return
    state.good_steps += 1
    if state.good_steps == GROWTH_STEPS:
        state.loss_scale *= 2
        state.good_steps = 0


def lower_scale(state: State) -> bool:
    """Halves the scale after a gradient that was not finite; False where there is no less, or none."""
    state.good_steps = 0
    if state.loss_scale is None or state.loss_scale <= LEAST:
        return False
    state.loss_scale /= 2
    return True
