"""What the pages say before and after a launch: the run that is cloned, and the trainer's command with its whole spec.

Guarantees that the shown spec is the one that was written, letter by letter, once there is one, and that the digest of
its settings is the same before. Does not hold keys: those go over stdin.

Example:
    >>> command_of(fine_tune)["trainer_command"]
    'python -m trainers run --spec …/spec.json --out …'
"""

import json
import shlex
import uuid
from collections.abc import Mapping
from typing import Any

from django.http import Http404

from compliance.canonical import sha256_digest
from steward.runs.models import FineTune
from steward.runs.specs import planned_spec, run_folder, settings_digest, written_spec
from steward.web.pages import WorkspaceRequest, row_or_404


def clone_source(request: WorkspaceRequest, given: Mapping[str, str]) -> FineTune | None:
    """The run that `clone` names, None without one. Raises Http404 for one that is not there."""
    if not given.get("clone"):
        return None
    try:
        pk = uuid.UUID(given["clone"])
    except ValueError:
        raise Http404 from None
    return row_or_404(request, FineTune.objects.all(), pk)


def shown_command(spec: Mapping[str, Any], folder: str = "", text: str = "") -> dict[str, str]:
    """What `part_command.html` shows.

    Args:
        folder: where spec and output of a run lie; empty for one that is not dispatched.
        text: the spec as it was written; empty likewise.
    """
    paths = (f"{folder}/spec.json", folder) if folder else ("spec.json", "RUN")
    return {
        "trainer_command": shlex.join(["python", "-m", "trainers", "run", "--spec", paths[0], "--out", paths[1]]),
        "spec_title": "Spec as it was written" if text else "Spec",
        "spec": text or json.dumps(spec, indent=1),
        "settings_digest": settings_digest(spec),
        "spec_digest": sha256_digest(text.encode()) if text else "",
    }


def command_of(fine_tune: FineTune) -> dict[str, str]:
    """The same of a run: its own spec, or what it will be."""
    text = written_spec(fine_tune)
    if text is None:
        return shown_command(planned_spec(fine_tune.dataset_version, fine_tune.base_model, fine_tune.recipe))
    return shown_command(json.loads(text), str(run_folder(fine_tune)), text)
