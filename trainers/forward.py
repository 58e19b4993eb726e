"""From a few records to the loss of each of their supervised tokens, by the fastest way the model allows.

Three ways, each tried on a few random tokens against the model's own output on padded sequences before it is relied on:
``layers`` (packed, ``trainers.llama_layer``), ``pack`` (packed, the model's own layers with an attention function that
keeps sequences apart, on an accelerator torch's flash kernel and, where installed, liger's for the rest of a layer),
``bucket`` (padded, layers as transformers have them).
All stop at the last states, of which the supervised ones go through the head in chunks (``trainers.head_loss``).

Guarantees: a way whose losses differ from those of the model's own output by more than ``TOLERANCE``, or whose gradient
points elsewhere, is not taken, and the reason says so; a model of which none can be taken is refused. Does not: time
the ways; packed ones were measured faster wherever they apply.

Example:
    >>> forward = choose_forward(adapter, "auto")
    >>> losses = forward.losses(micro_batch(split, [3, 7], device="cpu"))  # (S,)
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from trainers.adapter import Adapter
from trainers.encoding import Split
from trainers.errors import Cancelled, TrainerError
from trainers.fused_kernels import FusedKernels
from trainers.head_loss import Head, logit_losses
from trainers.llama_stack import LlamaStack, Unsuitable
from trainers.recomputation import recompute_layers

#: Mean difference of token losses, in nats, between a way and the model's own output in bf16; in fp16 a quarter, in
#: fp32 a two-hundredth of it. Random tokens far from anything learnt: bf16 alone makes some 0.05 there, a neighbour
#: that shines through makes whole nats.
TOLERANCE = 0.2
#: One less the cosine between two ways' gradients; bf16 alone makes some 0.002 on the bundled model.
MOST_TURNED = 0.05


@dataclass
class MicroBatch:
    """What goes through the model at once.

    Attributes:
        tokens: (T,) ids of all sequences one after the other.
        lengths: of the sequences; sum T.
        rows: (S,) positions in ``tokens`` whose next token is supervised.
        targets: (S,) those next tokens.
        owners: (S,) which sequence each belongs to, counted within this batch.
        reference: of pairs, (sequences,) the untouched model's log-likelihood of each answer, where it was computed.
        are_good: (records,) of judged answers, whether each is a good one.

    Of pairs, all chosen answers come first, then the rejected ones in the same order. Of classification records, rows
    are the last positions and targets the labels' numbers; of texts with spans, rows are the tokens with a tag and
    targets the tags.
    """

    tokens: Tensor
    lengths: list[int]
    rows: Tensor
    targets: Tensor
    owners: Tensor
    reference: Tensor | None = None
    are_good: Tensor | None = None

    @property
    def positions(self) -> Tensor:
        """(T,) place of each token in its own sequence."""
        return torch.cat([torch.arange(length) for length in self.lengths]).to(self.tokens.device)


def micro_batch(split: Split, indices: list[int], device: str) -> MicroBatch:
    """Puts records of a split behind each other."""
    sides = zip(*(split.sequences_of(index) for index in indices), strict=True)
    sequences = [sequence for side in sides for sequence in side]
    tokens, marks = (torch.from_numpy(np.concatenate(part)) for part in zip(*sequences, strict=True))
    lengths = [len(each) for each, _ in sequences]
    owners = torch.repeat_interleave(torch.arange(len(lengths)), torch.tensor(lengths))
    # The first token of a sequence is never marked, so the position before a marked one is of the same sequence.
    marked = torch.nonzero(marks)[:, 0]
    parts = (tokens, marked - 1, tokens[marked], owners[marked])
    if split.labels is not None:
        ends = torch.tensor(lengths).cumsum(0) - 1
        parts = (tokens, ends, torch.tensor([split.labels[index] for index in indices]), torch.arange(len(lengths)))
    if split.tags is not None:
        tags = torch.cat([torch.tensor(split.tags_at(index), dtype=torch.int64) for index in indices])
        parts = (tokens, marked, tags[marked], owners[marked])
    tokens, rows, targets, owners = (each.to(device) for each in parts)
    reference = None if split.reference is None else split.reference[:, indices].reshape(-1).to(device)
    are_good = None
    if split.are_good is not None:
        are_good = torch.tensor([bool(split.are_good[index]) for index in indices], device=device)
    return MicroBatch(tokens, lengths, rows, targets, owners, reference, are_good)


def ends_batch(sequences: list[list[int]], device: str) -> MicroBatch:
    """Whole sequences of which only the last position is looked at."""
    tokens = torch.cat([torch.tensor(each, dtype=torch.int64) for each in sequences])
    lengths = [len(each) for each in sequences]
    ends = torch.tensor(lengths).cumsum(0) - 1
    order = torch.arange(len(lengths))
    tokens, ends, order = (each.to(device) for each in (tokens, ends, order))
    return MicroBatch(tokens, lengths, ends, torch.zeros_like(order), order)


def tokens_batch(sequences: list[list[int]], device: str) -> MicroBatch:
    """Whole sequences of which every position is looked at."""
    batch = ends_batch(sequences, device)
    batch.rows = torch.arange(len(batch.tokens), device=device)
    batch.owners = torch.repeat_interleave(batch.owners, torch.tensor(batch.lengths, device=device))
    batch.targets = torch.zeros_like(batch.rows)
    return batch


class Forward(Protocol):
    """A way through the model. ``name`` is ``pack`` or ``bucket``, ``kind`` as in ``trainers.footprint.Plan``."""

    name: str
    kind: str
    reason: str

    def losses(self, batch: MicroBatch) -> Tensor:
        """(S,) fp32 loss of each supervised token, with a graph where gradients are on."""

    def hidden(self, batch: MicroBatch) -> Tensor:
        """(S, D) what the head reads at the rows of a batch."""

    def refresh(self) -> None:
        """To be called after the adapter's weights changed."""

    def recompute(self) -> None:
        """From now on each layer keeps its input only, see ``trainers.recomputation``."""


#: A sum over the records of a batch, by one pass through the model.
Look = Callable[[Forward, MicroBatch], float]
#: Takes a look at all records of a step or a split; the mean a record.
Mean = Callable[[Look], float]


class PackedForward:
    """The model's own layers on packed sequences."""

    name = kind = "pack"

    def __init__(
        self,
        adapter: Adapter,
        head: Head,
        reason: str,
        attention: str = "blocks",
        kernels: FusedKernels | None = None,
    ) -> None:
        from trainers.packed_attention import register

        self._adapter, self._head = adapter, head
        self._attention = register(attention)
        self._kernels = kernels.in_place if kernels is not None else nullcontext
        self.reason = reason

    def refresh(self) -> None:
        """Nothing is copied here."""

    def recompute(self) -> None:
        """See ``Forward``."""
        recompute_layers(self._adapter.base, self._apart)

    def losses(self, batch: MicroBatch) -> Tensor:
        """See ``Forward``."""
        return self._head.losses(self.hidden(batch), batch.targets)

    def hidden(self, batch: MicroBatch) -> Tensor:
        """See ``Forward``."""
        with self._apart(), self._adapter.computing():
            out = self._adapter.base.get_decoder()(
                input_ids=batch.tokens[None],
                position_ids=batch.positions[None],
                use_cache=False,
                packed_lengths=batch.lengths,
            )
        states: Tensor = out.last_hidden_state[0]
        return states[batch.rows]

    @contextmanager
    def _apart(self) -> Iterator[None]:
        """The attention that keeps sequences apart, and fused kernels; outside of a pass the model has its own."""
        base = self._adapter.base
        kept = base.config._attn_implementation
        base.set_attn_implementation(self._attention)
        try:
            with self._kernels():
                yield
        finally:
            base.set_attn_implementation(kept)


class BucketForward:
    """The model's body as it is, on sequences padded at their right."""

    name = kind = "bucket"

    def __init__(self, adapter: Adapter, head: Head, reason: str) -> None:
        self._adapter, self._head = adapter, head
        self.reason = reason

    def refresh(self) -> None:
        """Nothing is copied here."""

    def recompute(self) -> None:
        """See ``Forward``."""
        recompute_layers(self._adapter.base)

    def losses(self, batch: MicroBatch) -> Tensor:
        """See ``Forward``."""
        return self._head.losses(self.hidden(batch), batch.targets)

    def hidden(self, batch: MicroBatch) -> Tensor:
        """See ``Forward``."""
        return _padded(self._adapter, self._adapter.base.get_decoder(), batch, "last_hidden_state")[batch.rows]


def own_losses(adapter: Adapter, batch: MicroBatch) -> Tensor:
    """(S,) by what the model itself says on padded sequences, logits of all positions at once; for a few tokens."""
    return logit_losses(_padded(adapter, adapter.base, batch, "logits")[batch.rows], batch.targets)


def _padded(adapter: Adapter, model: Any, batch: MicroBatch, wanted: str) -> Tensor:
    """(T, …) one output of a model on padded sequences, padding taken out again."""
    width = max(batch.lengths)
    mask = torch.arange(width)[None] < torch.tensor(batch.lengths)[:, None]
    mask = mask.to(batch.tokens.device)
    padded = torch.zeros(mask.shape, dtype=torch.int64, device=batch.tokens.device)
    padded[mask] = batch.tokens
    with adapter.computing():
        out = model(input_ids=padded, attention_mask=mask.long(), use_cache=False)
    found: Tensor = getattr(out, wanted)[mask]
    return found


def choose_forward(adapter: Adapter, packing: str) -> Forward:
    """The fastest way that gives the losses and gradients of the model's own output.

    Args:
        adapter: with its model in place.
        packing: ``auto``, ``pack`` (refuses to pad) or ``bucket``.

    Raises:
        TrainerError: ``spec.packing``, when packing is demanded and the model does not allow it; ``model.forward``,
            when the padded way is not the model's own output either; ``model.head``.
    """
    with _undisturbed(adapter):
        head = Head.of(adapter)
        trial = _Trial(adapter)
        reasons: list[str] = []
        for make in () if packing == "bucket" else _ways(adapter):
            try:
                candidate: Forward = make(adapter, head)
                differs = trial.of(candidate)
            except Unsuitable as why:
                reasons.append(str(why))
                continue
            except (TrainerError, Cancelled, MemoryError):
                raise
            except Exception as fault:  # noqa: BLE001 - kernels fail in ways of their own, and there is another way
                reasons.append(f"{make.__name__[1:]} not possible ({type(fault).__name__})")
                continue
            if differs.is_little:
                said = f"{candidate.reason}; differs by {differs.nats:.1e} nats from the padded way"
                candidate.reason = "; ".join([said, *reasons])
                return candidate
            reasons.append(f"{make.__name__[1:]} differ by {differs}")
        if packing == "pack":
            said = "; ".join(reasons)
            raise TrainerError("spec.packing", f"this model cannot be packed: {said}", "set packing to auto")
        plain = BucketForward(adapter, head, "; ".join(reasons) or "the spec says so")
        differs = trial.of(plain)
        if not differs.is_little:
            raise TrainerError(
                "model.forward",
                f"losses made here differ from the model's own by {differs}",
                "set precision to fp32, or choose another base model",
            )
        return plain


def _layers(adapter: Adapter, head: Head) -> Forward:
    if not adapter.is_low_rank:
        raise Unsuitable("own layers know low-rank adapters only")
    if adapter.has_dropout:
        raise Unsuitable("own layers know no dropout")
    return LlamaStack(adapter, head)


def _ways(adapter: Adapter) -> tuple[Callable[[Adapter, Head], Forward], ...]:
    """What makes the packed ways, the fastest first; two of them want CUDA and sixteen bits."""
    return (*((_fused, _flash) if _has_flash(adapter) else ()), _layers, _packed)


def _has_flash(adapter: Adapter) -> bool:
    dtype = adapter.autocast or adapter.dtype
    return adapter.weights.device.type == "cuda" and dtype != torch.float32


def _fused(adapter: Adapter, head: Head) -> Forward:
    """Between the products an accelerator mostly reads and writes activations, which fused kernels do once."""
    if adapter.spread is not None:
        # All processes have to make the same passes, and each finds by itself what is installed with it.
        raise Unsuitable("liger's kernels are not tried where layers are spread")
    kernels = FusedKernels(adapter.base)
    kernels.check(adapter.computing)
    return PackedForward(adapter, head, f"{_BY_FLASH}, {kernels.reason}", "flash", kernels)


def _flash(adapter: Adapter, head: Head) -> Forward:
    """On an accelerator one kernel for all sequences is far ahead of blocks one after the other."""
    return PackedForward(adapter, head, _BY_FLASH, "flash")


def _packed(adapter: Adapter, head: Head) -> Forward:
    return PackedForward(adapter, head, "packed through the model's own layers")


_BY_FLASH = "packed through the model's own layers, attention by torch's flash kernel"


def tolerance_of(dtype: torch.dtype) -> float:
    """What two ways through a model in that precision may differ by, in nats."""
    return {torch.bfloat16: TOLERANCE, torch.float16: TOLERANCE / 4}.get(dtype, TOLERANCE / 200)


@contextmanager
def _undisturbed(adapter: Adapter) -> Iterator[None]:
    """Without dropout, under which no two passes are alike."""
    adapter.model.eval()
    try:
        yield
    finally:
        adapter.model.train(adapter.has_dropout)


def _nudged(adapter: Adapter) -> AbstractContextManager[None]:
    """Small random weights in a low-rank adapter for a while, so that its part shows in a comparison."""
    if not adapter.is_low_rank:
        return nullcontext()
    source = torch.Generator().manual_seed(0)
    noise = torch.randn(adapter.weights.shape, generator=source).to(adapter.weights.device)
    return adapter.holding(adapter.weights + 0.01 * noise)


@dataclass(frozen=True)
class _Difference:
    """Between two ways: of token losses on the mean, and one less the cosine between the gradients."""

    nats: float
    turned: float
    most_nats: float

    @property
    def is_little(self) -> bool:
        return self.nats <= self.most_nats and self.turned <= MOST_TURNED

    def __str__(self) -> str:
        return f"{self.nats:.1e} nats, gradients by {self.turned:.1e}"


class _Trial:
    """Ways held against the model's own output, on a few random tokens and with a small adapter in place."""

    def __init__(self, adapter: Adapter) -> None:
        self._adapter = adapter
        self._batch = _random_batch(adapter)
        with _nudged(adapter):
            self._wanted = self._look(lambda: own_losses(adapter, self._batch))

    def of(self, way: Forward) -> _Difference:
        """How far a way is from it."""
        with _nudged(self._adapter):
            way.refresh()
            losses, grads = self._look(lambda: way.losses(self._batch))
        way.refresh()
        nats = float((losses - self._wanted[0]).abs().mean())
        turned = 1 - float(torch.cosine_similarity(grads, self._wanted[1], dim=0))
        return _Difference(nats, turned, tolerance_of(self._adapter.dtype))

    def _look(self, losses_of: Callable[[], Tensor]) -> tuple[Tensor, Tensor]:
        self._adapter.clear_grads()
        losses = losses_of()
        losses.sum().backward()  # type: ignore[no-untyped-call]
        grads = self._adapter.grads.clone()
        self._adapter.clear_grads()
        return losses.detach(), grads


def _random_batch(adapter: Adapter) -> MicroBatch:
    source = torch.Generator().manual_seed(0)
    vocabulary, device = adapter.base.get_input_embeddings().weight.shape[0], adapter.weights.device
    prefix = torch.tensor(adapter.prefix, dtype=torch.int64)
    sequences = [
        torch.cat([prefix, torch.randint(0, vocabulary, (length,), generator=source)]) for length in (17, 5, 40)
    ]
    lengths = [len(each) for each in sequences]
    asked = [(0, 3), (0, 15), (1, 1), (1, 3), (2, 0), (2, 8), (2, 38)]
    rows = torch.tensor([sum(lengths[:owner]) + len(prefix) + place for owner, place in asked], device=device)
    owners = torch.tensor([owner for owner, _ in asked], device=device)
    tokens = torch.cat(sequences).to(device)
    return MicroBatch(tokens, lengths, rows, tokens[rows + 1], owners)
