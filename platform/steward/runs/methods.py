"""What may be learnt and what is trained for it: the methods and ways that can be started here, as two tables.

Guarantees that a name in a table is one that the trainer's spec takes (a test compares them), and that whatever differs
between methods is a column here: forms, checks, shards, evaluation and evidence ask the table and know no names. Does
not hold settings; `domains.workflows` has them.

Example:
    >>> METHODS["dpo"].records is Records.PAIRS
    True
    >>> way_of({"way": "lora", "lora": {"is_rank_stabilised": True}}).title
    'rsLoRA'
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any


class Records(StrEnum):
    """What a method needs of every record."""

    ANSWERS = "answers"
    PAIRS = "pairs"
    JUDGED = "judged"
    LABELS = "labels"
    SPANS = "spans"


class Output(StrEnum):
    """What a tuned model gives."""

    TEXT = "text"
    LABEL = "label"
    SPANS = "spans"


@dataclass(frozen=True, slots=True)
class Method:
    """What is learnt.

    `rate` is its usual learning rate as a share of supervised tuning's, `part` the part of the spec that belongs to it.
    `metric` scores answers in place of the workflow's own where the method decides what an answer is, which `output`
    says.
    """

    name: str
    title: str
    hint: str
    records: Records
    rate: float
    excluded_ways: tuple[str, ...] = ()
    metric: str = ""
    part: str = ""
    output: Output = Output.TEXT

    @property
    def is_classifier(self) -> bool:
        """Whether the result chooses from labels with a head of its own, and so writes no words."""
        return self.output is not Output.TEXT


@dataclass(frozen=True, slots=True)
class Way:
    """What is trained. `rate` as for methods, as a share of LoRA's; `parts` of the spec belong to it.

    `yields` is what comes out of it.
    """

    name: str
    title: str
    hint: str
    rate: float
    yields: str
    parts: tuple[str, ...] = ()


METHODS: dict[str, Method] = {
    method.name: method
    for method in (
        Method(
            "sft",
            "Answers (SFT)",
            "Learns to answer as the records do. The usual choice.",
            Records.ANSWERS,
            1.0,
        ),
        Method(
            "dpo",
            "Preferences (DPO)",
            "Learns to prefer the chosen to the rejected answer, without straying far from the base model.",
            Records.PAIRS,
            0.1,
            part="preference",
        ),
        Method(
            "orpo",
            "Preferences (ORPO)",
            "Learns the chosen answer and away from the rejected one at once; needs no reference model.",
            Records.PAIRS,
            0.3,
            part="preference",
        ),
        Method(
            "kto",
            "Judgements (KTO)",
            "Learns from answers that were judged good or bad one by one; no pairs are needed.",
            Records.JUDGED,
            0.1,
            part="preference",
        ),
        Method(
            "classification",
            "Labels (classification)",
            "Learns which label a text has, with a head of its own; it answers with a label and nothing else.",
            Records.LABELS,
            0.5,
            excluded_ways=("prompt",),
            metric="label_match",
            output=Output.LABEL,
        ),
        Method(
            "token-classification",
            "Spans (token classification)",
            "Learns to find labelled stretches of a text, such as drugs and doses; it answers with places and labels.",
            Records.SPANS,
            0.5,
            excluded_ways=("prompt",),
            metric="span_f1",
            output=Output.SPANS,
        ),
    )
}
WAYS: dict[str, Way] = {
    way.name: way
    for way in (
        Way(
            "lora",
            "LoRA",
            "Small matrices beside the frozen weights. The usual choice.",
            1.0,
            "LoRA adapter",
            ("lora",),
        ),
        Way(
            "rslora",
            "rsLoRA",
            "LoRA whose strength does not fade at high ranks.",
            0.5,
            "rank-stabilised LoRA adapter",
            ("lora",),
        ),
        Way(
            "dora",
            "DoRA",
            "LoRA that also learns how large each column of weights is; slower, better at low ranks.",
            1.0,
            "DoRA adapter",
            ("lora",),
        ),
        Way(
            "qlora",
            "QLoRA",
            "LoRA beside a base held in four or eight bits: a large model in little memory. Wants bitsandbytes.",
            1.0,
            "LoRA adapter trained on a quantised base",
            ("lora", "quantise"),
        ),
        Way(
            "full",
            "Full",
            "All weights. Needs many times the memory, and yields a whole model.",
            0.05,
            "fully trained model",
        ),
        Way(
            "prompt",
            "Soft prompt",
            "A few trained vectors before every input; the smallest result, for simple tasks.",
            30.0,
            "soft prompt",
            ("prompt",),
        ),
    )
}


def method_of(recipe: Mapping[str, Any]) -> Method:
    """The method of a recipe that was checked."""
    return METHODS[recipe.get("method", "sft")]


def way_of(recipe: Mapping[str, Any]) -> Way:
    """The way of a recipe that was checked; rank-stabilised LoRA and LoRA on fewer bits are ways of their own."""
    name = recipe.get("way", "lora")
    if name == "lora" and recipe.get("quantise"):
        return WAYS["qlora"]
    is_stabilised = name == "lora" and (recipe.get("lora") or {}).get("is_rank_stabilised")
    return WAYS["rslora" if is_stabilised else name]
