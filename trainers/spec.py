"""The training spec: what one run is asked to do, as JSON without secrets.

Guarantees: a spec that reads is complete and within bounds; every problem is reported at once with its path; unknown
keys are refused; ``spec.schema.json`` equals ``json_schema()`` (a test compares them); importing this module loads
neither torch nor Django.
Does not: hold keys (they come over stdin), nor check that paths exist or that the model suits the machine
(``python -m trainers validate`` does).

Example:
    >>> spec = read_spec(json.loads(Path("spec.json").read_text()))
    >>> spec.lora.rank
    16
"""

# ruff: noqa: RUF009 - declared() and part() return dataclasses.field, nothing is shared between instances.
from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from domains.metrics import METRICS
from trainers.fields import (
    Choice,
    Flag,
    Maybe,
    Number,
    Part,
    Several,
    SpecError,
    Text,
    Whole,
    declared,
    part,
    read,
    schema_of,
)

__all__ = ["Spec", "SpecError", "identity", "json_schema", "load_spec", "read_spec"]

SCHEMA = "steward.train/1"
MAX_SPEC_BYTES = 1 << 20
#: Of the files with answers that a run makes on its way, how many stay: the first and the last ones.
ANSWERS_KEPT = 32
#: Those that do not, of all in their order.
SURPLUS_ANSWERS = slice(1, 1 - ANSWERS_KEPT)
#: The shortest ``max_length``.
LEAST_LENGTH = 8
#: Methods whose records hold two answers.
PAIRED = ("dpo", "orpo")
#: Methods whose records hold one answer and a verdict.
JUDGED = ("kto",)
#: Methods whose records are texts with spans.
TAGGED = ("token-classification",)
#: Methods that train a head of their own for named labels.
LABELLED = ("classification", *TAGGED)

SHARDS = ("none", "optimiser", "weights")
#: What products are made in; ``auto`` is what the machine does well (``trainers.device``).
PRECISIONS = ("auto", "bf16", "fp16", "fp32")

_TOKEN = Text(r"[A-Za-z0-9][A-Za-z0-9._:/@+-]{0,199}", "a short token without spaces")
_PATH = Text(r"[^\x00]{1,4096}", "a path")
_DIGEST = Text(r"sha256:[0-9a-f]{64}", "sha256: and 64 hexadecimal digits")
_HEX32 = Text(r"[0-9a-f]{64}", "64 hexadecimal digits")


@dataclass(frozen=True)
class ContextSpec:
    """What a vault object is bound to; the same five words it was sealed with."""

    workspace: str = declared(_TOKEN)
    dataset: str = declared(_TOKEN)
    object: str = declared(_TOKEN)
    kind: str = declared(_TOKEN)
    version: str = declared(_TOKEN)


@dataclass(frozen=True)
class ObjectSpec:
    """A vault object to read: where it lies, what it is bound to and the commitment to its key."""

    path: str = declared(_PATH)
    context: ContextSpec = part(ContextSpec)
    commitment: str = declared(_HEX32)


@dataclass(frozen=True)
class DataSpec:
    """The shards; ``test`` is read by ``evaluate`` only."""

    train: ObjectSpec = part(ObjectSpec)
    validation: ObjectSpec = part(ObjectSpec)
    test: ObjectSpec | None = declared(Maybe(Part(ObjectSpec)), None)


@dataclass(frozen=True)
class ModelSpec:
    """The folder of the base model and, where it is pinned, the digest of its files."""

    path: str = declared(_PATH)
    digest: str | None = declared(Maybe(_DIGEST), None)


@dataclass(frozen=True)
class OutputSpec:
    """What the sealed adapter is bound to (checkpoint and predictions: the same, with their own ``kind``)."""

    context: ContextSpec = part(ContextSpec)


@dataclass(frozen=True)
class LoraSpec:
    """Low-rank adapters. Source: Hu et al. 2021, arXiv:2106.09685.

    ``init`` says where they begin: ``default`` draws A and leaves B zero; ``pissa`` gives them the largest singular
    parts of each weight, which the frozen base then lacks (Meng et al. 2024, arXiv:2404.02948). Such an adapter is
    shipped as a plain one of twice the rank, for the base as it was.
    """

    rank: int = declared(Whole(1, 1024), 16)
    alpha: int = declared(Whole(1, 4096), 32)
    dropout: float = declared(Number(minimum=0.0, below=1.0), 0.0)
    targets: tuple[str, ...] = declared(Several(Text(r"[A-Za-z0-9_.-]{1,100}", "a layer name"), 64), ("all-linear",))
    is_rank_stabilised: bool = declared(Flag(), False)
    init: str = declared(Choice(("default", "pissa")), "default")


@dataclass(frozen=True)
class QuantiseSpec:
    """The base held in fewer bits while adapters on it are trained. Source: Dettmers et al. 2023, arXiv:2305.14314
    (``nf4``; ``is_double`` quantises the scales as well), and 2022, arXiv:2208.07339 (``int8``).

    ``compute`` is what products with ``nf4`` weights are made in; ``auto`` is the run's precision.
    """

    form: str = declared(Choice(("nf4", "int8")), "nf4")
    is_double: bool = declared(Flag(), True)
    compute: str = declared(Choice(PRECISIONS), "auto")


@dataclass(frozen=True)
class PromptSpec:
    """Prompt tuning: how many trained vectors stand before every input."""

    tokens: int = declared(Whole(1, 1024), 20)


@dataclass(frozen=True)
class PreferenceSpec:
    """DPO, ORPO and KTO. ``beta`` is the temperature of DPO and KTO or ORPO's weight of the odds; smoothing is DPO's
    alone, and the weights of good and bad answers are KTO's.
    """

    beta: float = declared(Number(above=0.0, maximum=100.0), 0.1)
    label_smoothing: float = declared(Number(minimum=0.0, below=0.5), 0.0)
    desirable_weight: float = declared(Number(minimum=0.0, maximum=100.0), 1.0)
    undesirable_weight: float = declared(Number(minimum=0.0, maximum=100.0), 1.0)


@dataclass(frozen=True)
class ClassificationSpec:
    """The labels; each record's last message is one of them, letter by letter. Of tokens: the types of spans."""

    labels: tuple[str, ...] = declared(
        Several(Text(r"\S(?:[^\n]{0,198}\S)?", "a label of at most 200 characters"), 1000)
    )


@dataclass(frozen=True)
class AnswersSpec:
    """What is answered at each evaluation: the first ``prompts`` held-out ones, greedily; the texts are left sealed.

    Answers have the room that the longest of their references needs, at most ``max_new_tokens``. ``metric``, one of the
    packs', scores each answer against its reference.
    """

    prompts: int = declared(Whole(0, 4096), 0)
    max_new_tokens: int = declared(Whole(1, 4096), 32)
    metric: str | None = declared(Maybe(_TOKEN), None)


@dataclass(frozen=True)
class ParallelSpec:
    """Processes that learn each batch together, one device each. Changes speed, not the result beyond rounding.

    ``processes`` is how many on each machine, ``nodes`` how many machines. ``shard`` says what each process holds only
    its part of: ``optimiser`` the moments, the average and the best state of what is trained (ZeRO-2); ``weights`` also
    the layers of the model, which are whole only while they are used (ZeRO-3, FSDP; not of a quantised base). With one
    process there is nothing to share.
    """

    kind: str = declared(Choice(("data",)), "data")
    processes: int = declared(Whole(1, 1024), 1)
    nodes: int = declared(Whole(1, 256), 1)
    shard: str = declared(Choice(SHARDS), "none")

    @property
    def holders(self) -> int:
        """Among how many processes the optimiser's state lies."""
        return 1 if self.shard == "none" else self.size

    @property
    def size(self) -> int:
        """Processes on all machines together."""
        return self.processes * self.nodes


@dataclass(frozen=True)
class OptimiserSpec:
    """AdamW on what is trained, in fp32. ``clip_norm`` 0 clips nothing.

    ``warmup_ratio`` is a share of all steps; ``warmup_steps`` instead does not move when a run is made longer.
    """

    learning_rate: float = declared(Number(above=0.0, maximum=1.0), 2e-4)
    weight_decay: float = declared(Number(minimum=0.0, maximum=1.0), 0.0)
    warmup_ratio: float = declared(Number(minimum=0.0, maximum=1.0), 0.03)
    warmup_steps: int | None = declared(Maybe(Whole(0, 10_000_000)), None)
    schedule: str = declared(Choice(("cosine", "linear", "constant")), "cosine")
    clip_norm: float = declared(Number(minimum=0.0, maximum=1e6), 1.0)


@dataclass(frozen=True)
class Spec:
    """One run.

    ``method`` says what is learnt: answers (``sft``), to prefer one answer to another (``dpo``, ``orpo``), from
    verdicts on single ones (``kto``), which of a few labels a prompt has (``classification``) or which of its tokens
    belong to what (``token-classification``; these two want the part ``classification`` and no soft prompt).
    ``way`` says what is trained: low-rank adapters (``lora``, ``dora``, both as ``lora`` describes them), all weights
    (``full``) or vectors before the input (``prompt``). With ``quantise`` the frozen base is held in 4 or 8 bits.
    ``turns`` of the assistant are learnt as far as they carry no weight of their own: the last one, or all.
    ``batch_tokens`` is what one optimiser step sees at most (a longer record is a batch of its own); ``micro_tokens``
    is what goes through the model at once and changes memory and speed, not the result beyond rounding; ``recompute``
    likewise: layers may keep their inputs only, which ``auto`` does where the run would not fit otherwise.
    ``start`` is the sealed result of an earlier run of the same base, method and way, under the data key: training goes
    on from it with a new optimiser and schedule, and ships it if nothing better comes of it.
    ``evaluate_every`` and ``checkpoint_every`` count optimiser steps; null evaluates ten times a run, respectively
    checkpoints at each evaluation. ``patience`` counts evaluations without a better held-out loss.
    ``best_by`` the ``metric`` of ``answers`` keeps the state that scores highest, of equals the one of lower loss.
    ``average_decay`` keeps a moving average of what is trained, which is then evaluated, kept as the best and shipped.
    ``keep_checkpoints`` is how many of the last states stay, and the best one's beside them where it is more than one.

    A finished run goes on where its spec asks for more ``epochs``. It then equals a run that was asked for them from
    the beginning where the rate does not depend on the length (``schedule`` constant, with ``warmup_steps`` or without
    warm-up) and ``evaluate_every`` divides the steps made; else the rest follows the longer schedule from there.
    """

    schema: str = declared(Choice((SCHEMA,)))
    run: str = declared(_TOKEN)
    model: ModelSpec = part(ModelSpec)
    data: DataSpec = part(DataSpec)
    output: OutputSpec = part(OutputSpec)
    start: ObjectSpec | None = declared(Maybe(Part(ObjectSpec)), None)
    method: str = declared(Choice(("sft", *PAIRED, *JUDGED, *LABELLED)), "sft")
    way: str = declared(Choice(("lora", "dora", "full", "prompt")), "lora")
    lora: LoraSpec = part(LoraSpec, is_required=False)
    quantise: QuantiseSpec | None = declared(Maybe(Part(QuantiseSpec)), None)
    prompt: PromptSpec = part(PromptSpec, is_required=False)
    preference: PreferenceSpec = part(PreferenceSpec, is_required=False)
    classification: ClassificationSpec | None = declared(Maybe(Part(ClassificationSpec)), None)
    optimiser: OptimiserSpec = part(OptimiserSpec, is_required=False)
    parallel: ParallelSpec = part(ParallelSpec, is_required=False)
    epochs: int = declared(Whole(1, 1000), 1)
    max_steps: int | None = declared(Maybe(Whole(1, 10_000_000)), None)
    batch_tokens: int = declared(Whole(1, 10_000_000), 2048)
    micro_tokens: int | None = declared(Maybe(Whole(1, 10_000_000)), None)
    max_length: int = declared(Whole(LEAST_LENGTH, 1_048_576), 1024)
    turns: str = declared(Choice(("last", "all")), "last")
    too_long: str = declared(Choice(("refuse", "truncate")), "refuse")
    evaluate_every: int | None = declared(Maybe(Whole(1, 10_000_000)), None)
    checkpoint_every: int | None = declared(Maybe(Whole(1, 10_000_000)), None)
    patience: int | None = declared(Maybe(Whole(1, 10_000)), None)
    best_by: str = declared(Choice(("loss", "metric")), "loss")
    answers: AnswersSpec = part(AnswersSpec, is_required=False)
    average_decay: float | None = declared(Maybe(Number(above=0.0, below=1.0)), None)
    keep_checkpoints: int = declared(Whole(1, 1000), 1)
    seed: int = declared(Whole(0, 2**32 - 1), 0)
    precision: str = declared(Choice(PRECISIONS), "auto")
    packing: str = declared(Choice(("auto", "pack", "bucket")), "auto")
    recompute: str = declared(Choice(("auto", "always", "never")), "auto")


def read_spec(document: Any) -> Spec:
    """The spec in a parsed JSON document.

    Raises:
        SpecError: with every problem found.
    """
    spec = read(Spec, document)
    problems = []
    if (spec.method in LABELLED) != (spec.classification is not None):
        problems.append(f"classification: goes with the methods {' and '.join(LABELLED)}, and they with it")
    if spec.method in LABELLED and spec.way == "prompt":
        problems.append("way: a soft prompt does not carry the head that classification trains")
    if spec.answers.metric is not None and spec.answers.metric not in METRICS:
        problems.append(f"answers.metric: must be one of {', '.join(sorted(METRICS))}")
    if spec.best_by == "metric" and (spec.answers.metric is None or not spec.answers.prompts):
        problems.append("best_by: wants answers.metric and at least one of answers.prompts")
    if spec.lora.init == "pissa" and (spec.way == "dora" or spec.quantise is not None):
        problems.append("lora.init: pissa goes with way lora on a base that is not quantised")
    if spec.quantise is not None and spec.parallel.shard == "weights":
        problems.append("parallel.shard: a quantised base is not spread; optimiser goes with it")
    if spec.quantise is not None and spec.way == "full":
        problems.append("quantise: weights that are trained themselves are not quantised")
    labels = spec.classification.labels if spec.classification is not None else ()
    if len(set(labels)) != len(labels) or (spec.method == "classification" and len(labels) == 1):
        problems.append("classification.labels: must be at least two (of tokens one), each named once")
    if problems:
        raise SpecError(problems)
    return spec


def load_spec(path: Path) -> Spec:
    """The spec in a JSON file of at most ``MAX_SPEC_BYTES``.

    Raises:
        SpecError: not JSON, not UTF-8, too large, a key twice, or not a spec.
        OSError: the file cannot be read.
    """
    raw = path.read_bytes()[: MAX_SPEC_BYTES + 1]
    if len(raw) > MAX_SPEC_BYTES:
        raise SpecError([f"{path}: larger than {MAX_SPEC_BYTES} bytes"])
    try:
        document = json.loads(raw, object_pairs_hook=_without_doubles)
    except SpecError:
        raise
    except json.JSONDecodeError as fault:
        raise SpecError([f"{path}: not JSON: {fault.msg} (line {fault.lineno}, column {fault.colno})"]) from None
    except UnicodeDecodeError:
        raise SpecError([f"{path}: not UTF-8"]) from None
    except RecursionError:
        raise SpecError([f"{path}: nested too deeply"]) from None
    except ValueError:
        raise SpecError([f"{path}: a number of thousands of digits"]) from None
    return read_spec(document)


def _without_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    document = dict(pairs)
    if len(document) != len(pairs):
        raise SpecError(["document: a key appears twice in one object"])
    return document


def identity(spec: Spec) -> str:
    """A digest of all that decides the result of a step; two specs of one identity may share a checkpoint.

    Left out: how long to go on (``epochs``, ``max_steps``, ``patience``), how often to look, the micro-batch and where
    files lie. A run may therefore be continued with more epochs; its schedule then follows the new length. A setting
    that came after the first version is left out where it stands at its default, so that older checkpoints stay good.
    What is answered on the way counts only where it decides which state is best.
    """
    facts = asdict(spec)
    if spec.best_by == "loss":
        del facts["answers"]
    for name, default in LATER.items():
        place, _, key = name.rpartition(".")
        held = facts.get(place, {}) if place else facts
        if key in held and held[key] == default:
            del held[key]
    for name in HOW_LONG:
        del facts[name]
    del facts["model"]["path"], facts["data"]["test"]
    for sealed in (facts["data"]["train"], facts["data"]["validation"], facts.get("start")):
        if sealed is not None:
            del sealed["path"]
    text = json.dumps(facts, sort_keys=True, separators=(",", ":"))
    return "sha256:" + hashlib.sha256(text.encode()).hexdigest()


#: Settings that the first version did not have, with what they are when nobody sets them.
LATER: dict[str, Any] = {
    "prompt": asdict(PromptSpec()),
    "preference": asdict(PreferenceSpec()),
    "classification": None,
    "quantise": None,
    "optimiser.warmup_steps": None,
    "lora.init": "default",
    "preference.desirable_weight": 1.0,
    "preference.undesirable_weight": 1.0,
    "best_by": "loss",
    "turns": "last",
    "average_decay": None,
    "start": None,
}
#: Settings that may differ between a run and its continuation.
HOW_LONG = (
    "recompute",
    "epochs",
    "max_steps",
    "patience",
    "evaluate_every",
    "checkpoint_every",
    "keep_checkpoints",
    "micro_tokens",
    "parallel",
)


def json_schema() -> dict[str, Any]:
    """The published JSON schema of the spec (draft 2020-12)."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Steward training spec",
        **schema_of(Spec),
        "if": {"properties": {"method": {"enum": list(LABELLED)}}, "required": ["method"]},
        "then": {
            "required": ["classification"],
            "properties": {
                "classification": {"type": "object", "properties": {"labels": {"uniqueItems": True}}},
                "way": {"enum": ["lora", "dora", "full"]},
            },
            "if": {"properties": {"method": {"const": "classification"}}},
            "then": {"properties": {"classification": {"properties": {"labels": {"minItems": 2}}}}},
        },
        "else": {"properties": {"classification": {"type": "null"}}},
    }
