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

from domains.gates import Gate
from domains.metrics import METRICS
from domains.templates import MissingField, fill, placeholders
from domains.toml_table import TomlTable


@dataclass(frozen=True, slots=True)
class MessageMapping:
    """Templates of the system (may be empty), user and assistant message."""

    system: str
    user: str
    assistant: str

    @property
    def fields(self) -> tuple[str, ...]:
        """The record fields that the three templates need."""
        used = (*placeholders(self.system), *placeholders(self.user), *placeholders(self.assistant))
        return tuple(dict.fromkeys(used))


@dataclass(frozen=True, slots=True)
class TrainingRecipe:
    """Training settings; the names and meanings are those of the training spec `steward.train/1`."""

    method: str
    way: str
    rank: int
    alpha: int
    dropout: float
    targets: tuple[str, ...]
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

    def spec_fields(self) -> dict[str, Any]:
        """The part of a training spec that the recipe decides, as JSON values (without model, data and output)."""
        return {
            "method": self.method,
            "way": self.way,
            "lora": {
                "rank": self.rank,
                "alpha": self.alpha,
                "dropout": self.dropout,
                "targets": list(self.targets),
            },
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
            "seed": self.seed,
            "precision": self.precision,
            "packing": self.packing,
        }


@dataclass(frozen=True, slots=True)
class Workflow:
    """A ready way from data to an evaluated model. `records` is how many a synthetic dataset is asked for."""

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
    return workflow


def _read_mapping(table: TomlTable) -> MessageMapping:
    mapping = MessageMapping(table.text("system", ""), table.text("user"), table.text("assistant"))
    for key in ("system", "user", "assistant"):
        try:
            fields = placeholders(getattr(mapping, key))
        except ValueError as error:
            raise table.error(key, str(error)) from None
        if key != "system" and not fields:
            raise table.error(key, "uses no field of the record; write at least one {field}")
    table.finish()
    return mapping


def _read_recipe(table: TomlTable) -> TrainingRecipe:
    recipe = TrainingRecipe(
        method=table.text("method", "sft", choices=("sft",)),
        way=table.text("way", "lora", choices=("lora",)),
        rank=table.integer("rank", 16, least=1, most=512),
        alpha=table.integer("alpha", 32, least=1, most=4096),
        dropout=table.number("dropout", 0.0, least=0.0, most=0.9),
        targets=table.texts("targets", ("all-linear",)),
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
        precision=table.text("precision", "auto", choices=("auto", "bf16", "fp32")),
        packing=table.text("packing", "auto", choices=("auto", "pack", "bucket")),
    )
    table.finish()
    return recipe


def _read_gate_choice(table: TomlTable, pack_gates: Mapping[str, Gate]) -> Gate:
    gate = pack_gates[table.text("name", choices=tuple(pack_gates))]
    if table.has("threshold"):
        gate = gate.with_threshold(table.number("threshold"))
    table.finish()
    return gate
