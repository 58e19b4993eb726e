"""Model folders on disk: checked before they are registered, and the bundled model made ready on first use.

Guarantees that nothing of a folder is executed or unpickled while it is looked at (see `trainers.model_folder`), and
that torch is loaded in a process of its own only.
"""

import subprocess
from dataclasses import dataclass
from pathlib import Path

from django.conf import settings

from steward.audit.actor import Refused
from steward.trainer_process import trainer_command, trainer_environment
from trainers import events
from trainers.errors import TrainerError
from trainers.model_folder import check_folder
from trainers.positions import positions_of

PREPARE_SECONDS = 300


@dataclass(frozen=True, slots=True)
class FolderFacts:
    """What was found in a checked folder. `digest` covers all its files; `parameters` counts weights."""

    path: Path
    digest: str
    parameters: int
    context_length: int
    disk_bytes: int


def inspect_folder(path: Path, digest: str | None = None) -> FolderFacts:
    """Checks a model folder: safetensors only, no code, no pickle, headers that tell the truth.

    Args:
        digest: what the folder's digest has to be, None for whatever it is.

    Raises:
        Refused: with every reason, and what to do.
    """
    try:
        folder = check_folder(path, digest)
    except TrainerError as error:
        raise Refused(f"{error}; {error.hint}", code="model_refused") from None
    return FolderFacts(
        path=path,
        digest=folder.digest,
        parameters=folder.parameters,
        context_length=positions_of(folder.config) or 0,
        disk_bytes=sum(each.stat().st_size for each in path.iterdir() if each.is_file()),
    )


def prepare_bundled() -> FolderFacts:
    """Makes the bundled model ready (some ten seconds, once) and returns its facts.

    Raises:
        Refused: the model's package is not installed, or its file is not the known one.
    """
    settings.STEWARD_MODELS.mkdir(parents=True, exist_ok=True, mode=0o700)
    done = subprocess.run(
        trainer_command("bundled", "--cache", str(settings.STEWARD_MODELS)),
        env=trainer_environment(),
        capture_output=True,
        stdin=subprocess.DEVNULL,
        timeout=PREPARE_SECONDS,
        check=False,
    )
    said = [events.decode(line) for line in done.stdout.decode().splitlines()]
    match said[-1:]:
        case [events.ModelPrepared(path=path, digest=digest)]:
            return inspect_folder(Path(path), digest)
        case [events.RunFailed(message=message, hint=hint)]:
            raise Refused(f"{message}; {hint}", code="bundled_unavailable")
    raise Refused("The bundled model could not be prepared. Run `manage.py doctor`.", code="bundled_unavailable")
