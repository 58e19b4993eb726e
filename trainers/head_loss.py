"""Loss of chosen positions only, through the language-model head in chunks.

Where a model's output is one product of states and the head's weights, that product is written out here, forth and
back. Of others (soft-capped logits, scaled ones, a head with a bias or with an adapter) each chunk of states goes
through all that the model itself does behind its body, and once more on the way back. Which it is is seen by numbers:
with states so large that a cap would show.

Guarantees: logits of at most ``CHUNK_BYTES`` exist at any time, forward and backward, in a few copies; the loss is
summed in fp32, and so is the gradient of a head that is trained. Where the head is frozen each logit is made once: the
gradient by the states is linear in that of each loss, so it is taken on the way forth and multiplied on the way back.
Does not: serve models whose output comes of more than the last states; they are refused.

Example:
    >>> head = Head.of(adapter)
    >>> losses = head.losses(hidden[rows], targets)  # (S,) one for each supervised token
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from trainers.adapter import Adapter
from trainers.errors import TrainerError

CHUNK_BYTES = 64 << 20
#: On a CPU, of a chunk's logits so much at a time becomes fp32: what stays in a core's cache is not written to memory
#: between one pass and the next.
CACHED_BYTES = 2 << 20
#: What a model does behind its product leaves copies of a chunk behind, so its chunks are smaller by this.
TAIL_COPIES = 4
#: Logits that no cap leaves as they are; the usual caps are 20 to 50.
LARGE_LOGIT = 200.0
TRIAL_TOKENS = 9


def _chunks(rows: int, vocabulary: int) -> Iterator[slice]:
    size = max(1, CHUNK_BYTES // (4 * vocabulary))
    for first in range(0, max(1, rows), size):
        yield slice(first, min(first + size, rows))


class _HeadLoss(torch.autograd.Function):
    """The product is made in the precision of ``hidden``, whatever the weights are held in."""

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, targets: Tensor, is_learnt_from: bool) -> Tensor:
        losses = torch.empty(hidden.shape[0], dtype=torch.float32, device=hidden.device)
        by_hidden, used = torch.empty_like(hidden), weight.to(hidden.dtype)
        for part in _chunks(hidden.shape[0], weight.shape[0]):
            logits = hidden[part] @ used.T
            losses[part] = _losses(logits, targets[part], gradient=logits if is_learnt_from else None)
            if is_learnt_from:
                torch.mm(logits, used, out=by_hidden[part])
        ctx.save_for_backward(by_hidden, *((hidden, weight, targets) if ctx.needs_input_grad[1] else ()))
        return losses

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor | None, None, None]:
        """Args: ``grad`` (S,) by the losses. Returns those by states (S, D) and, where wanted, by weights (V, D)."""
        by_hidden, *trained = ctx.saved_tensors
        by_weight = _by_weight(grad, *trained) if trained else None
        return (by_hidden * grad[:, None]).to(by_hidden.dtype), by_weight, None, None


def _by_weight(grad: Tensor, hidden: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
    """(V, D) in the precision of the weights; logits are made once more."""
    by_weight, used = torch.zeros_like(weight), weight.to(hidden.dtype)
    for part in _chunks(hidden.shape[0], weight.shape[0]):
        logits = hidden[part] @ used.T
        _losses(logits, targets[part], gradient=logits)
        by_weight.add_(logits.T @ (hidden[part] * grad[part, None]).to(hidden.dtype))
    return by_weight


def _losses(logits: Tensor, targets: Tensor, gradient: Tensor | None) -> Tensor:
    """(S,) fp32, of (S, V) logits; ``gradient`` takes that of each row's loss by its logits, and may be their place."""
    size = len(logits) if logits.is_cuda else max(1, CACHED_BYTES // (4 * logits.shape[1]))
    losses = []
    for at in range(0, len(logits), size):
        wanted = targets[at : at + size, None]
        likelihoods = torch.log_softmax(logits[at : at + size].float(), -1)
        losses.append(-likelihoods.gather(1, wanted)[:, 0])
        if gradient is not None:
            likelihoods.exp_().scatter_add_(1, wanted, torch.full_like(wanted, -1.0, dtype=torch.float32))
            gradient[at : at + size] = likelihoods
    return torch.cat(losses) if losses else logits.new_empty(0, dtype=torch.float32)


def token_losses(hidden: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
    """Negative log-likelihood of each target, by the product of states and weights.

    Args:
        hidden: (S, D) what the head reads, for the supervised positions.
        weight: (V, D) of the head; gets a gradient where it wants one.
        targets: (S,) token ids.

    Returns:
        (S,) fp32.
    """
    is_learnt_from = torch.is_grad_enabled() and hidden.requires_grad
    losses: Tensor = _HeadLoss.apply(hidden, weight, targets, is_learnt_from)  # type: ignore[no-untyped-call]
    return losses


def logit_losses(logits: Tensor, targets: Tensor) -> Tensor:
    """(S,) fp32 negative log-likelihoods from (S, V) logits."""
    return torch.nn.functional.cross_entropy(logits.float(), targets, reduction="none")


class Head:
    """From the last states of a model to the losses of tokens.

    Args:
        adapter: with its model in place.
        kind: what the model's body gives, as a class of transformers.
        is_product: whether the model's output is the product of states and the head's weights and nothing else.
    """

    def __init__(self, adapter: Adapter, kind: Any, *, is_product: bool) -> None:
        self._adapter, self._kind, self._is_product = adapter, kind, is_product

    @classmethod
    def of(cls, adapter: Adapter) -> Head:
        """The head of a model, which is asked about a few random tokens; to be called without dropout.

        Raises:
            TrainerError: ``model.head``, when the model's output cannot be made of its last states; ``model.range``,
                when it is not finite.
        """
        base = adapter.base
        source = torch.Generator().manual_seed(0)
        tokens = torch.randint(0, base.get_input_embeddings().weight.shape[0], (1, TRIAL_TOKENS), generator=source)
        tokens = tokens.to(adapter.weights.device)
        with torch.no_grad():
            with adapter.computing():
                out = base.get_decoder()(input_ids=tokens, use_cache=False)
                wanted = base(input_ids=tokens, use_cache=False).logits[0].float()
            if not wanted.isfinite().all():
                raise TrainerError(
                    "model.range",
                    f"what this model says is not finite in {str(adapter.dtype).removeprefix('torch.')}",
                    "set precision to fp32; where it is not finite there either, the weights are broken",
                )
            head = cls(adapter, type(out), is_product=False)
            states = out.last_hidden_state[0]
            if not head._is_near(head._by_tail(states), wanted):
                raise TrainerError(
                    "model.head",
                    "what this model says does not come of its last states alone",
                    "choose another base model",
                )
            linear = base.get_output_embeddings()
            if type(linear) is torch.nn.Linear and getattr(linear, "bias", None) is None:
                large = states * max(1.0, LARGE_LOGIT / max(1e-3, float(wanted.abs().max())))
                head._is_product = all(
                    head._is_near(head._by_product(each), head._by_tail(each)) for each in (states, large)
                )
        return head

    def losses(self, hidden: Tensor, targets: Tensor) -> Tensor:
        """As ``token_losses``, by whatever the model does behind its body; its own weights get their gradients."""
        linear = self._adapter.base.get_output_embeddings()
        if self._is_product:
            return token_losses(hidden.to(self._adapter.dtype), linear.weight, targets)
        parts = _chunks(hidden.shape[0], TAIL_COPIES * linear.weight.shape[0])
        return torch.cat([self._again(hidden[part], targets[part]) for part in parts])

    def _again(self, hidden: Tensor, targets: Tensor) -> Tensor:
        """Losses of a chunk, of which the states alone are kept for the way back."""

        def look(hidden: Tensor) -> Tensor:
            return logit_losses(self._by_tail(hidden), targets)

        if not torch.is_grad_enabled():
            return look(hidden)
        losses: Tensor = checkpoint(look, hidden, use_reentrant=False)
        return losses

    def _by_product(self, hidden: Tensor) -> Tensor:
        dtype = self._adapter.dtype
        product: Tensor = hidden.to(dtype) @ self._adapter.base.get_output_embeddings().weight.to(dtype).T
        return product.float()

    def _by_tail(self, hidden: Tensor) -> Tensor:
        """(S, V) what the model makes of given states."""
        base = self._adapter.base
        tokens = torch.zeros((1, hidden.shape[0]), dtype=torch.int64, device=hidden.device)
        with _answered(base.get_decoder(), self._kind(last_hidden_state=hidden[None])), self._adapter.computing():
            logits: Tensor = base(input_ids=tokens, use_cache=False).logits[0]
        return logits.float()

    def _is_near(self, found: Tensor, wanted: Tensor) -> bool:
        """Equal but for how a product of that precision rounds."""
        most = 1e-4 if self._adapter.dtype == torch.float32 else 2e-2
        return bool((found - wanted).abs().max() <= most * wanted.abs().max())


@contextmanager
def _answered(body: Any, answer: Any) -> Iterator[None]:
    """A body that gives what it is told, whatever it is asked."""
    kept = vars(body).get("forward")
    body.forward = lambda *_, **__: answer
    try:
        yield
    finally:
        if kept is None:
            del body.forward
        else:
            body.forward = kept
