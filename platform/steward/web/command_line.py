"""The command that does what a filled-in form would do.

Guarantees that it is quoted for a POSIX shell and names only settings that differ from the workflow's recipe. Holds no
secret: keys never stand on a command line.

Example:
    >>> fine_tune_command("ana", {"version": "0b2c…", "workflow": "visit_sections"}, "smollm2", {}, {"epochs": 3})
    'python manage.py fine_tune 0b2c… --as ana … --set epochs=3'
"""

import json
import shlex
from collections.abc import Iterator, Mapping
from typing import Any

from steward.runs.claims import Priority


def fine_tune_command(
    username: str, form: Mapping[str, str], base_model: str, recipe: Mapping[str, Any], changes: Mapping[str, Any]
) -> str:
    """The `manage.py fine_tune` that equals a form.

    Args:
        form: the form's `version`, `name`, `workflow` and `priority`.
        base_model: name of the base model; empty for the bundled one.
        recipe: the settings that workflow, method and way bring with them.
        changes: what the form says, by place in the spec; `method` and `way` where they are not the workflow's own.
    """
    words = ["python", "manage.py", "fine_tune", form.get("version", "")[:8] or "VERSION", "--as", username]
    for option, value in (("--name", form.get("name", "")), ("--base-model", base_model)):
        words += [option, value] if value else []
    words += ["--workflow", form.get("workflow", "")]
    for option in ("method", "way"):
        words += [f"--{option}", str(changes[option])] if option in changes else []
    priority = form.get("priority", "")
    if priority in map(str, Priority.values) and int(priority) != Priority.NORMAL:
        words += ["--priority", Priority(int(priority)).name.lower()]
    settings = {name: value for name, value in changes.items() if name not in ("method", "way")}
    for path, value in _differences(recipe, settings):
        words += ["--set", f"{path}={json.dumps(value)}"]
    return shlex.join(words)


def _differences(recipe: Mapping[str, Any], changes: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """(place, value) of each change that is one."""
    for key, value in changes.items():
        if isinstance(value, Mapping):
            yield from _differences(recipe.get(key) or {}, value, f"{prefix}{key}.")
        elif recipe.get(key) != value:
            yield f"{prefix}{key}", value
