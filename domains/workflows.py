"""Workflows: from a dataset to an evaluated model in one step.

A workflow joins a dataset recipe, a mapping of record fields to chat messages, training settings, a metric and gates.
Guarantees that mapping a record either gives all messages or names the field that is missing. Does not train.

Example:
    >>> mapping = MessageMapping("Name the section.", "{text}", "{label}")
    >>> map_record(mapping, {"text": "Penicillin gives me hives.", "label": "ALLERGY"})[-1]
    {'role': 'assistant', 'content': 'ALLERGY'}
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from domains.gates import Gate, read_gate
from domains.metrics import METRICS
from domains.templates import MissingField, fill, placeholders
from domains.toml_table import TomlTable

#: What a recipe may name of its own; `rslora` and `qlora` are settings of `lora` in the trainer's spec. Judged answers
#: and texts with spans come in shapes of their own that no mapping of fields makes, so people choose their methods.
METHODS = ("sft", "dpo", "orpo", "classification")
WAYS = ("lora", "rslora", "dora", "qlora", "full", "prompt")
#: Ways that lay low-rank adapters, and so have their rank, strength and targets.
LOW_RANK = ("lora", "rslora", "dora", "qlora")
#: Methods whose records hold a rejected answer, which the mapping then has a template for.
PAIRED = ("dpo", "orpo")
#: Settings of preference that belong to a method.
_PREFERENCE: dict[str, tuple[str, ...]] = {
    "dpo": ("beta", "label_smoothing"),
    "orpo": ("beta",),
    "kto": ("beta", "desirable_weight", "undesirable_weight"),
}


@dataclass(frozen=True, slots=True)
class MessageMapping:
    """Templates of the system (may be empty), user and assistant message, and of the worse answer (may be empty)."""

    system: str
    user: str
    assistant: str
    rejected: str = ""

    @property
    def fields(self) -> tuple[str, ...]:
        """The record fields that the templates need."""
        templates = (self.system, self.user, self.assistant, self.rejected)
        return tuple(dict.fromkeys(field for template in templates for field in placeholders(template)))


@dataclass(frozen=True, slots=True)
class TrainingRecipe:
    """Training settings; names and meanings are those of the training spec `steward.train/1`, where the ways
    `rslora` and `qlora` are settings of `lora`."""

    method: str
    way: str
    rank: int
    alpha: int
    dropout: float
    targets: tuple[str, ...]
    init: str
    learning_rate: float
    weight_decay: float
    warmup_ratio: float
    schedule: str
    clip_norm: float
    epochs: int
    max_steps: int | None
    batch_tokens: int
    max_length: int
    too_long: str
    evaluate_every: int | None
    checkpoint_every: int | None
    patience: int | None
    seed: int
    precision: str
    packing: str
    prompt_tokens: int = 20
    beta: float = 0.1
    label_smoothing: float = 0.0
    desirable_weight: float = 1.0
    undesirable_weight: float = 1.0
    turns: str = "last"
    best_by: str = "loss"
    average_decay: float | None = None

    def spec_fields(self, method: str = "", way: str = "") -> dict[str, Any]:
        """The part of a training spec that the recipe decides, as JSON values (without model, data and output).

        Args:
            method: in place of the recipe's own; with it come the settings that belong to it, and no others.
            way: likewise.
        """
        method, way = method or self.method, way or self.way
        fields: dict[str, Any] = {"method": method, "way": "lora" if way in LOW_RANK and way != "dora" else way}
        if way in LOW_RANK:
            fields["lora"] = {
                "rank": self.rank,
                "alpha": self.alpha,
                "dropout": self.dropout,
                "targets": list(self.targets),
            }
        if way in ("lora", "rslora"):
            fields["lora"]["init"] = self.init
        if way == "rslora":
            fields["lora"]["is_rank_stabilised"] = True
        if way == "qlora":
            fields["quantise"] = {"form": "nf4"}
        if way == "prompt":
            fields["prompt"] = {"tokens": self.prompt_tokens}
        if method in _PREFERENCE:
            fields["preference"] = {name: getattr(self, name) for name in _PREFERENCE[method]}
        if method == "sft":
            fields["turns"] = self.turns
        return fields | {
            "optimiser": {
                "learning_rate": self.learning_rate,
                "weight_decay": self.weight_decay,
                "warmup_ratio": self.warmup_ratio,
                "schedule": self.schedule,
                "clip_norm": self.clip_norm,
            },
            "epochs": self.epochs,
            "max_steps": self.max_steps,
            "batch_tokens": self.batch_tokens,
            "max_length": self.max_length,
            "too_long": self.too_long,
            "evaluate_every": self.evaluate_every,
            "checkpoint_every": self.checkpoint_every,
            "patience": self.patience,
            "best_by": self.best_by,
            "average_decay": self.average_decay,
            "seed": self.seed,
            "precision": self.precision,
            "packing": self.packing,
        }


@dataclass(frozen=True, slots=True)
class Workflow:
    """A ready way from data to an evaluated model. `records` is how many a synthetic dataset is asked for.

    One that makes no messages of fields (`reads_fields` false) is for records that are conversations already; no
    dataset and no closed list of answers belong to it.
    """

    name: str
    title: str
    description: str
    dataset: str
    base_model: str
    label_schema: str | None
    mapping: MessageMapping
    recipe: TrainingRecipe
    metric: str
    max_new_tokens: int
    records: int
    gates: tuple[Gate, ...]

    @property
    def reads_fields(self) -> bool:
        """Whether its messages are made of a record's fields."""
        return bool(self.mapping.user)


def map_record(mapping: MessageMapping | Workflow, record: Mapping[str, Any]) -> list[dict[str, str]]:
    """The chat messages of one record: system (where the mapping has one), user, assistant.

    Args:
        mapping: the templates, or the workflow that holds them.
        record: field values; fields that no template uses are ignored.

    Raises:
        MissingField: a field that a template names is absent, blank or not a text. The error holds the field's name
            only.
    """
    templates = mapping.mapping if isinstance(mapping, Workflow) else mapping
    for field in templates.fields:
        if not isinstance(record.get(field), str):
            raise MissingField(field)
    parts = (("system", templates.system), ("user", templates.user), ("assistant", templates.assistant))
    return [{"role": role, "content": fill(template, record)} for role, template in parts if template]


def map_rejected(mapping: MessageMapping | Workflow, record: Mapping[str, Any]) -> str:
    """The worse answer of one preference record.

    Raises:
        MissingField: as `map_record`.
    """
    template = (mapping.mapping if isinstance(mapping, Workflow) else mapping).rejected
    for field in placeholders(template):
        if not isinstance(record.get(field), str):
            raise MissingField(field)
    return fill(template, record)


def read_workflow(table: TomlTable, pack_gates: Mapping[str, Gate]) -> Workflow:
    """Reads one file of `workflows/`.

    Args:
        table: the file.
        pack_gates: the pack's gates by name; the workflow picks from them and may set its own thresholds.

    Raises:
        PackError: a key is missing, unknown, of the wrong type or out of range, or names something unknown.
    """
    workflow = Workflow(
        name=table.name("name"),
        title=table.text("title"),
        description=table.text("description"),
        dataset=table.name("dataset"),
        base_model=table.name("base_model"),
        label_schema=table.optional_text("label_schema"),
        mapping=_read_mapping(table.table("messages")),
        recipe=_read_recipe(table.table("recipe")),
        metric=table.text("metric", choices=tuple(METRICS)),
        max_new_tokens=table.integer("max_new_tokens", least=1, most=4096),
        records=table.integer("records", least=30),
        gates=tuple(_read_gate_choice(entry, pack_gates) for entry in table.tables("gates")),
    )
    table.finish()
    if (workflow.recipe.method in PAIRED) > bool(workflow.mapping.rejected):
        raise table.error("messages", f"the method {workflow.recipe.method} needs a template of the rejected answer")
    if workflow.recipe.method == "classification" and workflow.label_schema is None:
        raise table.error("label_schema", "the method classification needs the closed list of its labels")
    return workflow


def read_conversations(table: TomlTable, base_model: str) -> Workflow:
    """Reads `conversations.toml`: the workflow that every pack has for records that are conversations already.

    Args:
        table: the file, which holds its gates in full.
        base_model: what the pack tunes where nobody chooses.

    Raises:
        PackError: as `read_workflow`.
    """
    workflow = Workflow(
        name=table.name("name"),
        title=table.text("title"),
        description=table.text("description"),
        dataset="",
        base_model=base_model,
        label_schema=None,
        mapping=MessageMapping("", "", ""),
        recipe=_read_recipe(table.table("recipe")),
        metric=table.text("metric", choices=tuple(METRICS)),
        max_new_tokens=table.integer("max_new_tokens", least=1, most=4096),
        records=0,
        gates=tuple(read_gate(entry) for entry in table.tables("gates")),
    )
    table.finish()
    return workflow


def _read_mapping(table: TomlTable) -> MessageMapping:
    mapping = MessageMapping(
        table.text("system", ""), table.text("user"), table.text("assistant"), table.text("rejected", "")
    )
    for key in ("system", "user", "assistant", "rejected"):
        try:
            fields = placeholders(getattr(mapping, key))
        except ValueError as error:
            raise table.error(key, str(error)) from None
        if not fields and (key in ("user", "assistant") or (mapping.rejected and key == "rejected")):
            raise table.error(key, "uses no field of the record; write at least one {field}")
    table.finish()
    return mapping


def _read_recipe(table: TomlTable) -> TrainingRecipe:
    recipe = TrainingRecipe(
        method=table.text("method", "sft", choices=METHODS),
        way=table.text("way", "lora", choices=WAYS),
        rank=table.integer("rank", 16, least=1, most=512),
        alpha=table.integer("alpha", 32, least=1, most=4096),
        dropout=table.number("dropout", 0.0, least=0.0, most=0.9),
        targets=table.texts("targets", ("all-linear",)),
        init=table.text("init", "default", choices=("default", "pissa")),
        learning_rate=table.number("learning_rate", least=1e-7, most=1.0),
        weight_decay=table.number("weight_decay", 0.0, least=0.0, most=1.0),
        warmup_ratio=table.number("warmup_ratio", 0.05, least=0.0, most=0.9),
        schedule=table.text("schedule", "cosine", choices=("cosine", "linear", "constant")),
        clip_norm=table.number("clip_norm", 1.0, least=0.0),
        epochs=table.integer("epochs", least=1, most=100),
        max_steps=table.optional_integer("max_steps", least=1),
        batch_tokens=table.integer("batch_tokens", 1024, least=16),
        max_length=table.integer("max_length", 512, least=16),
        too_long=table.text("too_long", "refuse", choices=("refuse", "truncate")),
        evaluate_every=table.optional_integer("evaluate_every", least=1),
        checkpoint_every=table.optional_integer("checkpoint_every", least=1),
        patience=table.optional_integer("patience", least=1),
        seed=table.integer("seed", 20),
        precision=table.text("precision", "auto", choices=("auto", "bf16", "fp16", "fp32")),
        packing=table.text("packing", "auto", choices=("auto", "pack", "bucket")),
        prompt_tokens=table.integer("prompt_tokens", 20, least=1, most=1024),
        beta=table.number("beta", 0.1, least=1e-4, most=100.0),
        label_smoothing=table.number("label_smoothing", 0.0, least=0.0, most=0.49),
        turns=table.text("turns", "last", choices=("last", "all")),
        best_by=table.text("best_by", "loss", choices=("loss", "metric")),
        average_decay=table.number("average_decay", least=0.01, most=0.9999) if table.has("average_decay") else None,
    )
    table.finish()
    return recipe


def _read_gate_choice(table: TomlTable, pack_gates: Mapping[str, Gate]) -> Gate:
    gate = pack_gates[table.text("name", choices=tuple(pack_gates))]
    if table.has("threshold"):
        gate = gate.with_threshold(table.number("threshold"))
    table.finish()
    return gate
