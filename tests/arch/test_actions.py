"""All changes go through audited actions, and the doors have no other way in."""

import ast
import importlib
import inspect
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

STEWARD = Path(__file__).resolve().parents[2] / "platform" / "steward"
# Where one file of actions grew too long, a second stands beside it.
ACTIONS = sorted(f"{path.parent.name}.{path.stem}" for path in STEWARD.glob("*/*actions.py"))
DOORS = [door for door in ("web", "console", "api", "openai_api") if (STEWARD / door).exists()]
WRITES = {
    "save", "create", "update", "delete", "bulk_create", "bulk_update", "get_or_create", "update_or_create",
    "asave", "acreate", "aupdate", "adelete", "abulk_create", "aget_or_create", "aupdate_or_create", "raw", "cursor",
}  # fmt: skip


def public_functions(module: ModuleType) -> Iterator[tuple[str, object]]:
    for name, value in vars(module).items():
        if inspect.isfunction(value) and value.__module__ == module.__name__ and not name.startswith("_"):
            yield name, value


@pytest.mark.parametrize("app", ACTIONS)
def test_every_public_action_is_audited(app: str) -> None:
    module = importlib.import_module(f"steward.{app}")
    unaudited = [name for name, function in public_functions(module) if not hasattr(function, "audited_event")]
    assert not unaudited, f"steward.{app}: not @audited: {', '.join(unaudited)}"


@pytest.mark.parametrize("app", ACTIONS)
def test_every_action_takes_its_actor_by_name(app: str) -> None:
    module = importlib.import_module(f"steward.{app}")
    for name, function in public_functions(module):
        parameters = inspect.signature(function).parameters  # type: ignore[arg-type]
        assert "actor" in parameters, f"steward.{app}: {name} has no actor"
        positional = [p.name for p in parameters.values() if p.kind is not inspect.Parameter.KEYWORD_ONLY]
        assert not positional, f"steward.{app}: {name} takes {', '.join(positional)} by position"


@pytest.mark.parametrize("door", DOORS)
def test_a_door_writes_nothing_by_itself(door: str) -> None:
    found = []
    for path in sorted((STEWARD / door).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and is_forbidden(node.func):
                found.append(f"{path.relative_to(STEWARD)}:{node.lineno} .{node.func.attr}()")
    assert not found, "call an action, or look through visible_to(): " + "; ".join(found)


def is_forbidden(function: ast.Attribute) -> bool:
    """A write, or a look that is not limited to what the actor may see."""
    owner = function.value
    if isinstance(owner, ast.Name) and owner.id == "digest":
        return False  # hashlib's update
    if function.attr in WRITES:
        return True
    return function.attr in {"get", "aget"} and isinstance(owner, ast.Attribute) and owner.attr == "objects"


def test_the_check_sees_what_it_should() -> None:
    forbidden = ["row.save()", "Model.objects.create(x=1)", "Model.objects.get(pk=1)", "query.update(x=1)"]
    allowed = ["Model.objects.visible_to(actor).get(pk=1)", "actions.create_dataset(actor=actor)", "mapping.get(1)"]
    for text in forbidden + allowed:
        call = ast.parse(text).body[0].value  # type: ignore[attr-defined]
        assert is_forbidden(call.func) == (text in forbidden), text
