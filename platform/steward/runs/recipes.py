"""Recipes: a workflow's training settings with a person's changes, checked before anything is queued."""

from collections.abc import Mapping
from typing import Any

from steward.audit.actor import Refused
from steward.runs.shards import workflow_for
from trainers.spec import SpecError, read_spec

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
# What the platform can hand to a trainer and take back from it; the trainer by itself can do more.
_SERVED = {"method": ("sft",), "way": ("lora",)}


def merged_recipe(domain: str, workflow: str, changes: dict[str, Any], subject: object = None) -> dict[str, Any]:
    """The workflow's recipe with `changes` on top.

    Raises:
        Refused: no such workflow, or the result is not a valid spec; every problem is named with its path.
    """
    try:
        recipe = workflow_for(domain, workflow).recipe.spec_fields()
    except KeyError:
        raise Refused(
            f"The domain {domain} has no workflow {workflow!r}.", code="workflow_unknown", subject=subject
        ) from None
    for key, value in changes.items():
        if key in _SURROUNDINGS:
            raise Refused(f"“{key}” is not part of a recipe.", code="recipe_invalid", subject=subject)
        recipe[key] = (
            {**recipe[key], **value} if isinstance(value, dict) and isinstance(recipe.get(key), dict) else value
        )
    for key, served in _SERVED.items():
        if recipe.get(key, served[0]) not in served:
            raise Refused(
                f"{key}: fine-tunes started here are {' or '.join(served)}; `python -m trainers run` can do more.",
                code="recipe_invalid",
                subject=subject,
            )
    try:
        read_spec({**_SURROUNDINGS, **recipe})
    except SpecError as error:
        raise Refused(f"The recipe is not valid. {error}", code="recipe_invalid", subject=subject) from None
    return recipe


def flat(recipe: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """A recipe's values by their place in the spec: {"lora": {"rank": 8}} → {"lora.rank": 8}."""
    values: dict[str, Any] = {}
    for key, value in recipe.items():
        values |= flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return values


# What only one method or one way of training needs.
OF_METHOD_OR_WAY = frozenset({"lora", "quantise", "prompt", "preference", "classification"})


def with_changes(recipe: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """A run's recipe with changes on top, part by part.

    Where the method or the way is another one, what only the earlier one needs is left out.
    """
    is_other = any(changes.get(name, recipe.get(name)) != recipe.get(name) for name in ("method", "way"))
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
