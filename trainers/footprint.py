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
from dataclasses import dataclass, fields, replace
from typing import Any, Self

from trainers import batches
from trainers.spec import JUDGED, LABELLED, PAIRED, Spec

MEBIBYTE = 1 << 20
#: A process before its model is there, in main memory; where an accelerator does the work that is no matter. Measured
#: as resident pages of runs of a model of 48 KB: the files of torch's, transformers' and peft's libraries (140 MiB),
#: what these keep outside of the heap (200 MiB), and Python's objects.
PROCESS_BYTES = {"cpu": 480 * MEBIBYTE, "cuda": 0}
#: Of that in the heap, whose holes are counted.
HEAP_OF_PROCESS = 140 * MEBIBYTE
#: What a tokenizer holds for a word of its vocabulary; measured with 49,152 words.
WORD_BYTES = 1200
#: Products in bf16 are compiled for each number of rows and kept, up to ``trainers.process``'s cache of 200. Measured
#: with the bundled model: before the first step, for each step with its new lengths, and for how many until it is full.
COMPILED_BYTES = {"layers": 80 * MEBIBYTE, "pack": 30 * MEBIBYTE, "bucket": 30 * MEBIBYTE}
COMPILED_BYTES_A_STEP, COMPILED_STEPS = 18 * MEBIBYTE, 12
#: What is freed stays with the process (``keep_freed_memory``), and not every hole is of use: so much of what the heap
#: holds at its fullest, after the first steps and after ``HOLED_STEPS``, from where on it stood still. Measured in runs
#: of 2 and of 48 steps; transformers' layers, whose autograd takes and frees in another order, in short ones only.
HOLES = {"layers": (0.09, 0.36), "pack": (0.2, 0.36), "bucket": (0.25, 0.36)}
HOLED_STEPS = 40
#: Logits of supervised positions exist in chunks of ``trainers.head_loss.CHUNK_BYTES`` where they are fp32. An
#: accelerator has them in two precisions and with their gradient; on a CPU they are in the precision of the run, and a
#: few pieces of ``trainers.head_loss.CACHED_BYTES`` are fp32.
CHUNK_BYTES = 64 * MEBIBYTE
CHUNK_COPIES = 2.5
CACHED_BYTES = 6 * MEBIBYTE
#: Source: trainers.block_attention, QUERY_BLOCK.
QUERY_BLOCK = 256
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
    #: How the weights are written, in transformers' word; empty where that is not known.
    stored: str = ""

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
            stored=str(config.get("dtype") or config.get("torch_dtype") or ""),
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
    """Peak memory in bytes, by what causes it.

    ``idle`` are pages of the model's files that nothing reads any more, since their weights were joined or quantised:
    they show as the process's until the system has another use for them.
    """

    process: int
    weights: int
    idle: int
    trained: int
    activations: int
    attention: int
    head: int

    @property
    def total(self) -> int:
        """All of it, as the system counts it."""
        return sum(getattr(self, each.name) for each in fields(self))

    @property
    def held(self) -> int:
        """What has to be there as long as the run lasts."""
        return self.total - self.idle


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
    tokens, pairs = largest_micro_batch(spec, lengths, plan)
    by_layer = _layer_bytes(spec, shape, plan)
    in_backward = tokens * plan.dtype_bytes * (4 * shape.inner + 6 * shape.width)
    # Own layers and the packed attention keep probabilities; a fused kernel (padded batches) keeps none.
    shares = 0 if plan.forward == "bucket" else shape.heads * pairs * plan.dtype_bytes
    if plan.is_recomputed:
        activations = tokens * (shape.layers * shape.width * plan.dtype_bytes + by_layer)
    else:
        activations, shares = tokens * shape.layers * by_layer, shares * shape.layers
    found = Footprint(
        process=PROCESS_BYTES[plan.device],
        weights=_weights_bytes(spec, shape, plan, kept),
        idle=_idle_bytes(spec, shape, plan),
        trained=int(trained * _trained_bytes(spec, plan)) + _spread_grads_bytes(spec, shape),
        activations=activations + in_backward,
        attention=shares,
        # The head has its turn before the way back of a layer begins.
        head=max(0, _head_bytes(spec, shape, plan, tokens) - in_backward),
    )
    return replace(found, process=found.process + _kept_bytes(spec, shape, plan, lengths, found))


def _kept_bytes(spec: Spec, shape: ModelShape, plan: Plan, lengths: Sequence[int], found: Footprint) -> int:
    """What a process keeps between passes: words of the vocabulary, compiled products, holes in its heap."""
    if plan.device != "cpu":
        return 0
    steps = math.ceil(spec.epochs * sum(lengths) / spec.batch_tokens)
    steps = min(steps, spec.max_steps or steps)
    compiled, words = 0, WORD_BYTES * shape.vocabulary
    if plan.dtype_bytes == 2:
        compiled = COMPILED_BYTES[plan.forward] + COMPILED_BYTES_A_STEP * min(steps, COMPILED_STEPS)
    heap = HEAP_OF_PROCESS + words + compiled + found.activations + found.attention + found.head
    if plan.forward == "layers" and spec.quantise is None:
        heap += shape.linear_weights * plan.dtype_bytes
    first, last = HOLES[plan.forward]
    return words + compiled + int(heap * (first + (last - first) * min(1.0, steps / HOLED_STEPS)))


def _is_mapped(spec: Spec, shape: ModelShape, plan: Plan) -> bool:
    """Whether weights are read where they lie in the model's files: as they are written, and by one process whole."""
    is_as_written = shape.stored in ("", {2: "bfloat16", 4: "float32"}[plan.dtype_bytes])
    return plan.device == "cpu" and is_as_written and spec.way != "full" and not _is_spread(spec)


def _idle_bytes(spec: Spec, shape: ModelShape, plan: Plan) -> int:
    """Pages of files whose weights are there a second time."""
    if not _is_mapped(spec, shape, plan):
        return 0
    # Own layers hold all weights of products beside their adapters. Source: trainers.joint_product.
    is_there_twice = spec.quantise is not None or plan.forward == "layers"
    return shape.linear_weights * plan.dtype_bytes if is_there_twice else 0


def _head_bytes(spec: Spec, shape: ModelShape, plan: Plan, tokens: int) -> int:
    """Logits of a chunk; where the head is trained also its gradient, and what a chunk adds to it."""
    if spec.method in LABELLED:
        return 0
    by_weight = shape.vocabulary * shape.width * (4 + plan.dtype_bytes) if spec.way == "full" else 0
    chunk = min(CHUNK_BYTES, 4 * shape.vocabulary * tokens)
    if plan.device != "cpu":
        return int(CHUNK_COPIES * chunk) + by_weight
    return chunk * plan.dtype_bytes // 4 + min(CACHED_BYTES, chunk) + by_weight


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
    # transformers' layers. Norms keep what they read in fp32, the gate what goes in and what comes out.
    norms, numbers = 4 * 2 * shape.width, 3 * shape.inner
    # A fused kernel keeps its output too, and keys and values once for each query that shares them.
    numbers += 4 * queries if plan.forward == "bucket" else queries + 2 * keys
    if spec.way != "prompt":
        # Products keep their inputs only where something in them is trained.
        numbers += 2 * shape.width + queries + shape.inner + 7 * low
    if spec.way == "full":
        # So do norms; and what they give is fp32, as all weights are, beside its copy for a product.
        norms += 4 * 2 * shape.width
    if low and spec.lora.dropout:
        # Each product drops inputs of its own: what is left of them in place of what all read, and a byte of a mask.
        dropped = sum(read for read, _ in shape.linears)
        numbers += dropped - 2 * shape.width - queries - shape.inner
        norms += dropped
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
    """Lengths of the records of each process's micro-batches of an epoch; of very many records, of an even sample."""
    sample = _sampled(lengths)
    schedule = batches.Schedule(sample, spec.batch_tokens, 1, spec.max_steps, spec.seed)
    cut = batches.bucket if plan.forward == "bucket" else batches.pack
    for step in range(schedule.steps):
        for part in batches.shared_out(schedule.batch(step), sample, spec.parallel.size):
            for piece in cut(part, sample, plan.micro_tokens):
                yield [sample[index] for index in piece]


def _sampled(lengths: Sequence[int]) -> list[int]:
    return list(lengths[:: max(1, len(lengths) // MOST_RECORDS)])


def _pairs(spec: Spec, size: int) -> int:
    """Pairs of positions whose probabilities are kept of a record; the two answers of a pair do not see each other.

    A block of queries looks at all keys up to its own end.
    """
    if spec.method in PAIRED:
        return 2 * _causal_pairs(size // 2)
    return _causal_pairs(size)


def _causal_pairs(size: int) -> int:
    whole, rest = divmod(size, QUERY_BLOCK)
    return QUERY_BLOCK**2 * whole * (whole + 1) // 2 + rest * size
