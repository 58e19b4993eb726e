"""The settings of a fine-tune as a form: which there are, what they mean, and how typed text becomes a recipe's values.

Guarantees that every field names its place in the training spec, that a form has the fields of its method and way, and
of what the installation can do, and no others, and that text which is no such value is refused with the field's name.
Does not know ranges: the trainer's own reader of the spec does, and says which it allows.

Example:
    >>> changes_of({"epochs": "3", "optimiser.learning_rate": "1e-4"})
    {'epochs': 3, 'optimiser': {'learning_rate': 0.0001}}
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from steward.audit.actor import Refused
from steward.runs.recipes import USUAL_PARALLEL, decided, flat
from trainers.spec import SHARDS


@dataclass(frozen=True, slots=True)
class Field:
    """One setting. `path` is its place in the spec; `choices` makes it a selection; an optional one may stay empty.

    `usual` is what holds where a recipe does not have it; such a one is only shown where it can be used.
    """

    path: str
    title: str
    hint: str
    kind: type = int
    choices: tuple[str, ...] = ()
    is_optional: bool = False
    is_basic: bool = False
    usual: Any = None

    @property
    def part(self) -> str:
        """The part of the spec that it comes and goes with; empty for one that every method and way has."""
        part = self.path.partition(".")[0]
        is_general = part == self.path != "turns" or part in ("optimiser", "answers")
        return "" if is_general else part

    def read(self, text: str) -> Any:
        """The value that a text stands for. Raises ValueError for one that is none."""
        return None if self.is_optional and not text.strip() else self.kind(text.strip())


FIELDS = (
    Field("epochs", "Epochs", "passes over the training records", is_basic=True),
    Field("optimiser.learning_rate", "Learning rate", "at its highest, after the warm-up", float, is_basic=True),
    Field("lora.rank", "Rank", "size of the adapter; more learns more and costs more", is_basic=True),
    Field("lora.alpha", "Alpha", "strength of the adapter, often twice the rank", is_basic=True),
    Field("quantise.form", "Bits of the base", "nf4: four, int8: eight", str, ("nf4", "int8"), is_basic=True),
    Field("prompt.tokens", "Vectors", "trained ones before every input; 10 to 100 are usual", is_basic=True),
    Field(
        "preference.beta",
        "Beta",
        "DPO, KTO: how dear it is to stray from the base model; ORPO: weight of the rejected answer",
        float,
        is_basic=True,
    ),
    Field(
        "preference.desirable_weight",
        "Weight of good answers",
        "where one kind is rarer, give it more: counts times weights should be about equal",
        float,
        is_basic=True,
    ),
    Field("preference.undesirable_weight", "Weight of bad answers", "", float, is_basic=True),
    Field(
        "preference.label_smoothing",
        "Doubt",
        "share of pairs believed to be the wrong way round, below 0.5",
        float,
    ),
    Field("batch_tokens", "Batch", "tokens in one step", is_basic=True),
    Field("max_length", "Longest record", "tokens", is_basic=True),
    Field(
        "turns", "Turns", "of a conversation that are learnt, where its messages have no weight", str, ("last", "all")
    ),
    Field("too_long", "Longer records", "are counted either way", str, ("refuse", "truncate")),
    Field("max_steps", "At most", "steps; empty: no limit", is_optional=True),
    Field("optimiser.schedule", "Schedule", "of the learning rate", str, ("cosine", "linear", "constant")),
    Field("optimiser.warmup_ratio", "Warm-up", "share of all steps", float),
    Field("optimiser.weight_decay", "Weight decay", "", float),
    Field("optimiser.clip_norm", "Clip", "norm of the gradient; 0: off", float),
    Field(
        "lora.init",
        "Adapter begins",
        "default: as nothing; pissa: as the base's largest parts, which learns more in few steps and starts slower",
        str,
        ("default", "pissa"),
    ),
    Field("lora.dropout", "Dropout", "of the adapter's inputs", float),
    Field("evaluate_every", "Held-out loss every", "steps; empty: automatic", is_optional=True),
    Field("checkpoint_every", "Checkpoint every", "steps; empty: automatic", is_optional=True),
    Field("patience", "Patience", "evaluations without gain before it stops; empty: never", is_optional=True),
    Field("best_by", "Best state", "by held-out loss, or by the score of the sample answers", str, ("loss", "metric")),
    Field("average_decay", "Average", "of the weights, for example 0.99; empty: none", float, is_optional=True),
    Field("answers.prompts", "Sample answers", "held-out prompts answered at each evaluation; 0: none"),
    Field("answers.max_new_tokens", "Longest answer", "of the samples, tokens"),
    Field(
        "parallel.processes",
        "Processes",
        "learn each batch together, a device each; of several machines: on each",
        usual=USUAL_PARALLEL["processes"],
    ),
    Field(
        "parallel.nodes",
        "Machines",
        "of the cluster, taken all at once; what they tell each other is encrypted",
        usual=USUAL_PARALLEL["nodes"],
    ),
    Field(
        "parallel.shard",
        "Held in parts",
        "by several processes, each a part: of the optimiser's state, or of the model's layers as well",
        str,
        SHARDS,
        usual=USUAL_PARALLEL["shard"],
    ),
    Field(
        "precision",
        "Precision",
        "auto: bf16 where the machine has it, else fp16 on a GPU",
        str,
        ("auto", "bf16", "fp16", "fp32"),
    ),
    Field("packing", "Packing", "several records in one row", str, ("auto", "pack", "bucket")),
    Field("seed", "Seed", "same seed, same order"),
)


def shown_values(recipe: Mapping[str, Any], usable: Collection[str] = ()) -> list[tuple[Field, Any]]:
    """Each field that belongs to a recipe with its value in it, None where it is left open.

    Args:
        recipe: the settings.
        usable: places that a recipe may leave out, and that this installation can use.
    """
    values = [(field, _at(recipe, field.path)) for field in FIELDS]
    values = [(field, field.usual if value is None and field.path in usable else value) for field, value in values]
    return [(field, value) for field, value in values if value is not None or not field.part]


def further_values(recipe: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """(place, value) of what a recipe says beside the fields of the form: what was set by a command or over REST."""
    shown = {"method", "way", "lora.is_rank_stabilised", *(field.path for field in FIELDS)}
    values = flat(decided(recipe)).items()
    said = [(path, ", ".join(map(str, value)) if isinstance(value, list) else value) for path, value in values]
    return [(path, value) for path, value in said if path not in shown and value is not None]


def _at(recipe: Mapping[str, Any], path: str) -> Any:
    value: Any = recipe
    for part in path.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return value


def typed(values: Iterable[tuple[Field, Any]], given: Mapping[str, str]) -> dict[str, str]:
    """What somebody wrote into a form that showed `values`: the texts that say something else, by place."""
    return {field.path: given[field.path] for field, value in values if _is_other(field, value, given.get(field.path))}


def _is_other(field: Field, value: Any, text: str | None) -> bool:
    if text is None:
        return False
    try:
        return bool(field.read(text) != value)
    except ValueError:
        return True


def changes_of(given: Mapping[str, str]) -> dict[str, Any]:
    """What a submitted form changes, by place in the spec, method and way among it. Fields it did not hold stay.

    Raises:
        Refused: naming every field whose text is no such value.
    """
    changes: dict[str, Any] = {name: given[name] for name in ("method", "way") if given.get(name)}
    problems = []
    for field in FIELDS:
        if field.path not in given:
            continue
        try:
            value = field.read(given[field.path])
        except ValueError:
            problems.append(f"{field.title}: give {'a whole number' if field.kind is int else 'a number'}")
            continue
        place = changes
        *parents, name = field.path.split(".")
        for parent in parents:
            place = place.setdefault(parent, {})
        place[name] = value
    if problems:
        raise Refused("; ".join(problems) + ".", code="recipe_invalid")
    return changes
