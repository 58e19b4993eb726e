"""Recipes: a workflow's training settings with a person's changes, checked before anything is queued.

A recipe has the settings that belong to its method and way, and no others. Where a change names another method or way
than the workflow's and no learning rate, the workflow's is scaled to what is usual for them (`methods`).
"""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from domains.packs import load_pack
from domains.workflows import TrainingRecipe
from steward.audit.actor import Refused
from steward.catalog.models import BaseModel
from steward.runs.methods import METHODS, WAYS, Method, Records, Way, way_of
from steward.runs.shards import workflow_for
from trainers.spec import LEAST_LENGTH, ParallelSpec, Spec, SpecError, read_spec

#: What a run answers at each evaluation where nobody says otherwise, and what an answer takes at most; it gets the room
#: that the longest reference needs. With the bundled model and six tokens an answer that is half a second of one core,
#: times eleven: under one per cent of a run of ten minutes.
SAMPLE_PROMPTS = 4
SAMPLE_TOKENS = 256
#: What holds of `parallel` where a recipe does not say.
USUAL_PARALLEL = asdict(ParallelSpec())
_DIGEST = "sha256:" + "0" * 64
_CONTEXT = {"workspace": "w", "dataset": "d", "object": "o", "kind": "k", "version": "1"}
_OBJECT = {"path": "p", "context": _CONTEXT, "commitment": "0" * 64}
# What a spec holds beside the recipe; stands in for it while only the recipe is being checked.
_SURROUNDINGS: dict[str, Any] = {
    "schema": "steward.train/1",
    "run": "check",
    "model": {"path": "p", "digest": _DIGEST},
    "data": {"train": _OBJECT, "validation": _OBJECT},
    "output": {"context": _CONTEXT},
}
# Read from the data for every fine-tune anew; what a change says of it is passed over, so that a recipe can be reused.
_FROM_DATA: dict[Records, tuple[str, dict[str, Any]]] = {
    Records.LABELS: ("classification", {"labels": ["one", "other"]}),
    Records.SPANS: ("classification", {"labels": ["one"]}),
}


def merged_recipe(domain: str, workflow: str, changes: Mapping[str, Any], subject: object = None) -> dict[str, Any]:
    """The workflow's recipe with `changes` on top, without what the data decide.

    Args:
        changes: by place in the training spec; `way` may also be `rslora` or `qlora`.

    Raises:
        Refused: no such workflow, method or way, or the result is not a valid spec; every problem is named with its
            path.
    """
    try:
        chosen = workflow_for(domain, workflow)
    except KeyError:
        raise Refused(
            f"The domain {domain} has no workflow {workflow!r}.", code="workflow_unknown", subject=subject
        ) from None
    own = chosen.recipe
    given = {key: value for key, value in changes.items() if key not in ("method", "way")}
    for name, _ in _FROM_DATA.values():
        given.pop(name, None)
    method, way = _chosen(own, changes, subject)
    recipe = own.spec_fields(method.name, way.name)
    recipe["optimiser"]["learning_rate"] = usual_rate(own, method, way)
    recipe["answers"] = {
        "prompts": SAMPLE_PROMPTS,
        "max_new_tokens": min(chosen.max_new_tokens, SAMPLE_TOKENS),
        "metric": method.metric or chosen.metric,
    }
    for key, value in given.items():
        if key in _SURROUNDINGS or key == "start":  # where a run begins is its parent's affair, and read under its key
            raise Refused(f"“{key}” is not part of a recipe.", code="recipe_invalid", subject=subject)
        recipe[key] = (
            {**recipe[key], **value} if isinstance(value, dict) and isinstance(recipe.get(key), dict) else value
        )
    _check(recipe, method, subject)
    return _without_usual_parallel(recipe)


def within_positions(recipe: dict[str, Any], base_model: BaseModel) -> dict[str, Any]:
    """The recipe with records no longer than the base model tells positions apart, a soft prompt before them.

    The longest record is a ceiling: what is longer is left out or cut, as the recipe says, and counted in the run.
    """
    if not base_model.context_length:
        return recipe
    most = base_model.context_length - recipe.get("prompt", {}).get("tokens", 0)
    # Of a soft prompt that leaves no room the trainer says so, before its model is loaded.
    return {**recipe, "max_length": min(recipe["max_length"], max(most, LEAST_LENGTH))}


def _without_usual_parallel(recipe: dict[str, Any]) -> dict[str, Any]:
    """A run by one process says nothing of others, so that a form that names them all makes no other recipe of it."""
    said = {name: value for name, value in recipe.pop("parallel", {}).items() if value != USUAL_PARALLEL[name]}
    return {**recipe, "parallel": said} if said else recipe


def _chosen(own: TrainingRecipe, changes: Mapping[str, Any], subject: object) -> tuple[Method, Way]:
    problems = []
    method, way = changes.get("method") or own.method, changes.get("way") or own.way
    for path, name, known in (("method", method, METHODS), ("way", way, WAYS)):
        if not isinstance(name, str) or name not in known:
            problems.append(f"{path}: must be one of {', '.join(known)}")
    if not problems and way in METHODS[method].excluded_ways:
        problems.append(f"way: {WAYS[way].title} cannot carry what {METHODS[method].title} trains")
    if problems:
        raise Refused(f"The recipe is not valid. {'; '.join(problems)}", code="recipe_invalid", subject=subject)
    return METHODS[method], WAYS["qlora" if way == "lora" and changes.get("quantise") else way]


def usual_rate(own: TrainingRecipe, method: Method, way: Way) -> float:
    """The workflow's learning rate, scaled to another method and way; two digits, at most 1."""
    if (method.name, way.name) == (own.method, own.way):
        return own.learning_rate
    usual = METHODS[own.method].rate * WAYS[own.way].rate
    return min(1.0, float(f"{own.learning_rate * method.rate * way.rate / usual:.1e}"))


def spec_of(recipe: Mapping[str, Any], method: Method) -> Spec:
    """A recipe as the trainer reads it, with stand-ins for model, data and what the data decide.

    Raises:
        SpecError: naming every problem.
    """
    stand_in = dict([_FROM_DATA[method.records]]) if method.records in _FROM_DATA else {}
    return read_spec({**_SURROUNDINGS, **recipe, **stand_in})


def _check(recipe: dict[str, Any], method: Method, subject: object) -> None:
    belonging = {method.part, *way_of(recipe).parts}
    strange = sorted({"lora", "quantise", "prompt", "preference"} & recipe.keys() - belonging)
    if strange:
        problem = f"{', '.join(strange)}: does not belong to this method and way"
        raise Refused(f"The recipe is not valid. {problem}", code="recipe_invalid", subject=subject)
    try:
        spec_of(recipe, method)
    except SpecError as error:
        raise Refused(f"The recipe is not valid. {error}", code="recipe_invalid", subject=subject) from None


def workflow_of(domain: str, dataset_workflow: str, chosen: str = "") -> str:
    """The workflow that a fine-tune follows: the one chosen, else the dataset's own, else that for conversations."""
    return chosen or dataset_workflow or load_pack(domain).conversations.name


def decided(recipe: Mapping[str, Any]) -> dict[str, Any]:
    """What a person decides of a recipe, without what the data do."""
    return {name: value for name, value in recipe.items() if name not in dict(_FROM_DATA.values())}


def flat(recipe: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """A recipe's values by their place in the spec: {"lora": {"rank": 8}} → {"lora.rank": 8}."""
    values: dict[str, Any] = {}
    for key, value in recipe.items():
        values |= flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return values


# What only one method or one way of training needs, or has a value of its own for.
OF_METHOD_OR_WAY = frozenset({"lora", "quantise", "prompt", "preference", "classification", "answers", "turns"})


def with_changes(recipe: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """A run's recipe with changes on top, part by part.

    Where the method or the way is another one, what only the earlier one needs is left out.
    """
    own = {"method": recipe.get("method"), "way": way_of(recipe).name}
    is_other = any(changes.get(name, own[name]) not in (own[name], recipe.get(name)) for name in own)
    changed = {key: value for key, value in recipe.items() if not (is_other and key in OF_METHOD_OR_WAY)}
    for key, value in changes.items():
        before = changed.get(key)
        is_part = isinstance(value, Mapping) and isinstance(before, Mapping)
        changed[key] = {**before, **value} if is_part else value
    return changed


def differences(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[tuple[str, Any, Any]]:
    """(place, value before, value after) of every setting that is not the same; None where there is none."""
    one, other = flat(before), flat(after)
    return [(path, one.get(path), other.get(path)) for path in {**one, **other} if one.get(path) != other.get(path)]
