"""What a run will need, from shapes and lengths alone: memory by cause, and arithmetic.

Guarantees: importing this loads neither torch nor Django, so a form in a browser and a trainer on its machine say the
same; every byte counted has a name, so a person sees what to change.
Does not: know how fast a machine is (``trainers.fit`` times it), nor count what an allocator wastes.

Example:
    >>> shape = ModelShape.of(config, parameters=134_515_008)
    >>> footprint(spec, shape, lengths=[120, 640], plan=Plan("cpu", "layers", 2, 1024, False)).total
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from typing import Any, Self

from trainers import batches
from trainers.spec import JUDGED, LABELLED, PAIRED, Spec

MEBIBYTE = 1 << 20
#: What Python, torch, transformers and a tokenizer hold before a model is there, and what compiled products and the
#: allocator's gaps come to in a run of some length (measured); on an accelerator that is main memory, and no matter.
PROCESS_BYTES = {"cpu": 900 * MEBIBYTE, "cuda": 0}
#: Logits of supervised positions exist in chunks, in two precisions and with their gradient; where a model does more
#: than a product, in more copies of smaller chunks. Source: trainers.head_loss, CHUNK_BYTES.
HEAD_BYTES = int(2.5 * 64 * MEBIBYTE)
#: While the result is packed it is there so often in pieces too large for what passes left free: its file, the archive.
ARCHIVE_COPIES = 2
#: Of more records than this an even sample is looked at.
MOST_RECORDS = 100_000
#: Evaluations of a run whose spec leaves it open.
EVALUATIONS = 10
LEAST_TRAINED_PER_HELD_OUT = 3
#: Passes forth that a pass forth and back is worth, as the interval above has it.
FORTH_AND_BACK = 3


@dataclass(frozen=True)
class ModelShape:
    """Sizes of a decoder. ``parameters`` are all weights, a shared embedding counted once."""

    parameters: int
    width: int
    inner: int
    layers: int
    heads: int
    kv_heads: int
    head: int
    vocabulary: int

    @classmethod
    def of(cls, config: dict[str, Any], parameters: int) -> Self:
        """From ``config.json``; sizes that a family leaves out follow the usual conventions.

        Raises:
            KeyError: the hidden size, the number of layers or that of heads is not named.
        """

        def size(*names: str) -> int:
            found = next((config[name] for name in names if config.get(name)), None)
            if not isinstance(found, int):
                raise KeyError(names[0])
            return found

        width, heads = size("hidden_size", "n_embd", "d_model"), size("num_attention_heads", "n_head", "num_heads")
        return cls(
            parameters=parameters,
            width=width,
            inner=int(config.get("intermediate_size") or config.get("n_inner") or 4 * width),
            layers=size("num_hidden_layers", "n_layer", "num_layers"),
            heads=heads,
            kv_heads=int(config.get("num_key_value_heads") or heads),
            head=int(config.get("head_dim") or width // heads),
            vocabulary=int(config.get("vocab_size") or 0),
        )

    @property
    def linears(self) -> list[tuple[int, int]]:
        """Inputs and outputs of a layer's products: query, key, value, out, gate, up, down."""
        queries, keys = self.heads * self.head, self.kv_heads * self.head
        attention = [(self.width, queries), (self.width, keys), (self.width, keys), (queries, self.width)]
        return [*attention, (self.width, self.inner), (self.width, self.inner), (self.inner, self.width)]

    @property
    def linear_weights(self) -> int:
        """Weights of all layers' products; the head is not among them."""
        return self.layers * sum(read * wrote for read, wrote in self.linears)

    def trained(self, spec: Spec) -> int:
        """How many numbers a spec's way trains."""
        if spec.way == "full":
            return self.parameters
        if spec.way == "prompt":
            return spec.prompt.tokens * self.width
        low_rank = self.layers * sum(spec.lora.rank * (read + wrote) for read, wrote in self.linears)
        lengths = self.layers * sum(wrote for _, wrote in self.linears) if spec.way == "dora" else 0
        return low_rank + lengths


@dataclass(frozen=True)
class Plan:
    """How a machine would go about it.

    ``forward`` is ``layers`` (``trainers.llama_layer``), ``pack`` or ``bucket`` (transformers' own layers);
    ``dtype_bytes`` of activations and frozen weights; with ``is_recomputed`` a layer keeps its input only and is run
    through once more on the way back.
    """

    device: str
    forward: str
    dtype_bytes: int
    micro_tokens: int
    is_recomputed: bool


@dataclass(frozen=True)
class Footprint:
    """Peak memory in bytes, by what causes it."""

    process: int
    weights: int
    trained: int
    activations: int
    attention: int
    head: int

    @property
    def total(self) -> int:
        """All of it."""
        return sum(getattr(self, each.name) for each in fields(self))


@dataclass(frozen=True)
class Work:
    """What goes through the model in a whole run.

    Attributes:
        steps: of the schedule.
        tokens: of all steps, and of all processes.
        own_tokens: of those, what one process learns from: of each step the largest share, for which the others wait.
        forth_tokens: of one process's passes that nothing is learnt from: evaluations, the last look at each held-out
            record, and what the untouched model reads.
        evaluations: so many.
        passes: what one process does, in tokens that go forth once.
    """

    steps: int
    tokens: int
    own_tokens: int
    forth_tokens: int
    evaluations: int
    passes: int


def footprint(spec: Spec, shape: ModelShape, lengths: Sequence[int], plan: Plan) -> Footprint:
    """The peak of a run.

    Args:
        spec: of the run.
        shape: of the base model.
        lengths: tokens of each training record, of both answers where records are pairs.
        plan: device, precision and how steps are cut.
    """
    trained = shape.trained(spec)
    kept = 4 if spec.way == "full" else plan.dtype_bytes
    tokens, squares = largest_micro_batch(spec, lengths, plan)
    by_layer = _layer_bytes(spec, shape, plan)
    in_backward = tokens * plan.dtype_bytes * (4 * shape.inner + 6 * shape.width)
    # Own layers and the packed attention keep probabilities; a fused kernel (padded batches) keeps none.
    shares = 0 if plan.forward == "bucket" else shape.heads * squares * plan.dtype_bytes
    if plan.is_recomputed:
        activations = tokens * (shape.layers * shape.width * plan.dtype_bytes + by_layer)
    else:
        activations, shares = tokens * shape.layers * by_layer, shares * shape.layers
    activations, head = activations + in_backward, _head_bytes(spec, shape, plan)
    return Footprint(
        process=PROCESS_BYTES[plan.device],
        weights=_weights_bytes(spec, shape, plan, kept),
        trained=int(trained * _trained_bytes(spec, plan)) + _spread_grads_bytes(spec, shape),
        activations=activations,
        attention=shares,
        head=head,
    )


def _head_bytes(spec: Spec, shape: ModelShape, plan: Plan) -> int:
    """Logits of a chunk; where the head is trained also its gradient, and what a chunk adds to it."""
    if spec.method in LABELLED:
        return 0
    by_weight = shape.vocabulary * shape.width * (4 + plan.dtype_bytes) if spec.way == "full" else 0
    return HEAD_BYTES + by_weight


#: Bytes a quantised weight takes, its scales included. Source: Dettmers et al. 2023, arXiv:2305.14314, section 3
#: (4.5 bits with a scale for 64 weights), and 2022, arXiv:2208.07339 (8 bits, a scale a row).
QUANTISED_BYTES = {"nf4": 4.5 / 8, "int8": 1.01}


def _weights_bytes(spec: Spec, shape: ModelShape, plan: Plan, kept: int) -> int:
    """The model as one process holds it and multiplies with it."""
    if not _is_spread(spec):
        return _frozen_bytes(spec, shape, kept) + _cast_copies(spec, shape, plan)
    layers = shape.linear_weights
    # What is no layer stays whole, and so does a layer while it is used; the next one arrives beside it.
    whole = (shape.parameters - layers) * (kept + plan.dtype_bytes * (spec.way == "full" and plan.dtype_bytes < 4))
    return whole + layers * kept // spec.parallel.size + 3 * layers // shape.layers * plan.dtype_bytes


def _is_spread(spec: Spec) -> bool:
    return spec.parallel.shard == "weights" and spec.parallel.size > 1


def _spread_grads_bytes(spec: Spec, shape: ModelShape) -> int:
    """Gradients of a layer before they are shared out, and those of what is no layer, in fp32."""
    if not _is_spread(spec) or spec.way != "full":
        return 0
    layers = shape.linear_weights
    return 4 * (shape.parameters - layers + 3 * layers // shape.layers)


def _frozen_bytes(spec: Spec, shape: ModelShape, kept: int) -> int:
    """The base as it is held; only products are quantised, embeddings and norms never."""
    if spec.quantise is None:
        return shape.parameters * kept
    rest = shape.parameters - shape.linear_weights
    return int(shape.linear_weights * QUANTISED_BYTES[spec.quantise.form]) + rest * kept


def _trained_bytes(spec: Spec, plan: Plan) -> float:
    """What each trained number costs: itself, gradient, two moments, the best state and what is in hand, in fp32.

    Of a full fine-tune the number itself is one of the weights; own layers hold a copy to compute with. With
    ``parallel.shard`` a process has its part of all but weights and gradients (of these two as well where layers are
    spread and trained), and a part of the weights and of the sum of gradients.
    """
    holders = spec.parallel.holders
    own = 4 * (spec.way != "full") + plan.dtype_bytes * (plan.forward == "layers")
    state = 3 * 4 + 4 * (spec.average_decay is not None)
    in_hand = max(4 / holders, _bytes_at_the_end(spec, plan))
    if _is_spread(spec) and spec.way == "full":
        return own + (4 + state) / holders + in_hand
    return own + 4 + (state + 8 * (holders > 1)) / holders + in_hand


def _bytes_at_the_end(spec: Spec, plan: Plan) -> int:
    """What a trained number costs in main memory when no update is in hand any more.

    The first process, whose need this is, packs the result, which it first puts together where it lies in parts; for a
    checkpoint it does that as well, one vector at a time.
    """
    if plan.device != "cpu":
        return 0
    shipped = plan.dtype_bytes if spec.way == "full" else 4
    return ARCHIVE_COPIES * shipped + 4 * (spec.parallel.holders > 1)


def _cast_copies(spec: Spec, shape: ModelShape, plan: Plan) -> int:
    """Full training multiplies copies of its fp32 weights where the device has a shorter format."""
    return shape.parameters * plan.dtype_bytes if spec.way == "full" and plan.dtype_bytes < 4 else 0


def _layer_bytes(spec: Spec, shape: ModelShape, plan: Plan) -> int:
    """What one token leaves behind in one layer for the way back."""
    queries, keys = shape.heads * shape.head, shape.kv_heads * shape.head
    low = spec.lora.rank if spec.way in ("lora", "dora") else 0
    if plan.forward == "layers":
        # Source: LlamaLayer.forward, ctx.kept and ctx.kept_mlp.
        numbers = 4 * shape.width + 2 * queries + 2 * keys + 3 * shape.inner + 7 * low
        return numbers * plan.dtype_bytes
    # transformers' layers: norms keep fp32 copies, rotation and gate what went in and what came out; products keep
    # their inputs only where something in them is trained.
    norms = 2 * shape.width * (4 + plan.dtype_bytes)
    numbers = 2 * queries + 3 * keys + 3 * shape.inner
    if spec.way != "prompt":
        norms += 2 * shape.width * plan.dtype_bytes
        numbers += 2 * queries + shape.width + shape.inner + 7 * low
    if spec.way == "dora":
        numbers += sum(wrote for _, wrote in shape.linears)
    return norms + numbers * plan.dtype_bytes


def largest_micro_batch(spec: Spec, lengths: Sequence[int], plan: Plan) -> tuple[int, int]:
    """Tokens and attended pairs of the micro-batch that needs most, over a first epoch cut as it will be.

    Of judged records only the answer's half is run through to be learnt from.
    """
    most = (0, 0)
    for sizes in _pieces(spec, lengths, plan):
        if spec.method in JUDGED:
            sizes = [-(-size // 2) for size in sizes]
        tokens = max(sizes) * len(sizes) if plan.forward == "bucket" else sum(sizes)
        pairs = sum(_pairs(spec, size) for size in sizes)
        # A pair of positions costs about a thousandth of what a token does.
        most = max(most, (tokens, pairs), key=lambda each: each[0] + each[1] / 1000)
    return most


def work(spec: Spec, lengths: Sequence[int], held_out: Sequence[int]) -> Work:
    """How much goes through the model in all; lengths as in ``footprint``."""
    whole = batches.Schedule(list(lengths), spec.batch_tokens, spec.epochs, None, spec.seed).steps
    steps = whole if spec.max_steps is None else min(whole, spec.max_steps)
    tokens, held_out_tokens = sum(lengths), sum(held_out)
    evaluations = 1 + math.ceil(steps / evaluation_interval(spec, steps, tokens, held_out_tokens))
    # The untouched model reads everything once where a method measures against it.
    needs_reference = spec.method in ("dpo", *JUDGED)
    learnt = int(tokens * spec.epochs * steps / max(1, whole))
    size = spec.parallel.size
    # Source: trainers.loop, which shares steps and the untouched model's look, and evaluations of answers alone.
    evaluated = held_out_tokens * evaluations / (size if spec.method == "sft" else 1)
    # At the end each held-out record is measured by itself, by the shipped state and the first process.
    forth = round(evaluated + (tokens + held_out_tokens) * needs_reference / size) + held_out_tokens
    own = round(learnt * _largest_share(spec, lengths))
    passes = round(own * _passes_a_token(spec)) + forth
    return Work(steps, learnt, own, forth, evaluations, passes)


def _largest_share(spec: Spec, lengths: Sequence[int]) -> float:
    """Of a step's tokens, as the process learns that has most of them: records are whole, so shares differ."""
    if spec.parallel.size == 1:
        return 1.0
    sample = _sampled(lengths)
    schedule = batches.Schedule(sample, spec.batch_tokens, 1, spec.max_steps, spec.seed)
    largest = whole = 0
    for step in range(schedule.steps):
        parts = batches.shared_out(schedule.batch(step), sample, spec.parallel.size)
        loads = [sum(sample[index] for index in part) for part in parts]
        largest, whole = largest + max(loads), whole + sum(loads)
    return largest / max(1, whole)


def _passes_a_token(spec: Spec) -> float:
    """What learning from a token costs, in passes forth. The way back is two: gradients of inputs, and of weights.

    Of a judged record the answer's half is learnt from, and the other half, which tells the drift, is only read.
    """
    return (FORTH_AND_BACK + 1) / 2 if spec.method in JUDGED else FORTH_AND_BACK


def evaluation_interval(spec: Spec, steps: int, tokens: int, held_out_tokens: int) -> int:
    """Steps between evaluations.

    Where the spec leaves it open: a tenth of all steps, and more when the held-out split is large, so that evaluations
    cost at most about an eighth of the time.
    """
    if spec.evaluate_every is not None:
        return spec.evaluate_every
    apart = held_out_tokens * LEAST_TRAINED_PER_HELD_OUT / min(spec.batch_tokens, max(1, tokens))
    return max(1, math.ceil(steps / EVALUATIONS), int(apart))


def _pieces(spec: Spec, lengths: Sequence[int], plan: Plan) -> Iterator[list[int]]:
    """Lengths of the records of each micro-batch of an epoch; of very many records, of an even sample."""
    sample = _sampled(lengths)
    schedule = batches.Schedule(sample, spec.batch_tokens, 1, spec.max_steps, spec.seed)
    cut = batches.bucket if plan.forward == "bucket" else batches.pack
    for step in range(schedule.steps):
        for piece in cut(schedule.batch(step), sample, plan.micro_tokens):
            yield [sample[index] for index in piece]


def _sampled(lengths: Sequence[int]) -> list[int]:
    return list(lengths[:: max(1, len(lengths) // MOST_RECORDS)])


def _pairs(spec: Spec, size: int) -> int:
    """Squared length of a record; the two answers of a pair do not see each other."""
    return size * size // 2 if spec.method in PAIRED else size * size
