"""The import job: judges, copies and converts a base model in a process of its own, then registers it.

Guarantees that a killed job can run again from the start, that what is refused leaves no folder, and that torch and
other people's files are never loaded here.
"""

import os
import shutil
import subprocess
from pathlib import Path

from django.conf import settings

from steward.audit.actor import Actor, UserError
from steward.catalog import import_actions
from steward.catalog.folders import inspect_folder
from steward.catalog.intake import intake
from steward.catalog.models import ImportKind, ImportState, ModelImport
from steward.recovery import CONNECTION_LOST, unforeseen
from steward.trainer_process import trainer_command, trainer_environment
from trainers import events

WORKER = Actor.system("worker")
IMPORT_SECONDS = 6 * 3600
#: What a process that asks a hub may know besides: how to get out of the house.
_OUTWARD = ("HTTPS_PROXY", "https_proxy", "NO_PROXY", "no_proxy", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE")


def import_model(import_id: str) -> ModelImport:
    """Carries an import out; does nothing if it is over."""
    asked = ModelImport.objects.select_related("workspace").get(pk=import_id)
    if asked.state != ImportState.RUNNING:
        return asked
    target = Path(settings.STEWARD_MODELS, str(asked.pk))
    _clear(target)  # of a try that was killed before it was registered
    try:
        found = _ask_trainer(asked, target)
        if isinstance(found, events.RunFailed):
            message = f"{found.message}; {found.hint}".replace(str(settings.STEWARD_HOME), "…")
            return _fail(asked, target, found.code, message)
        import_actions.finish_import(actor=WORKER, asked=asked, facts=inspect_folder(target, found.digest), found=found)
    except CONNECTION_LOST:
        raise
    except (UserError, OSError, subprocess.TimeoutExpired) as error:
        return _fail(asked, target, getattr(error, "code", type(error).__name__), str(error))
    except Exception as error:
        _fail(asked, target, type(error).__name__, unforeseen(error))
        raise
    return ModelImport.objects.get(pk=asked.pk)


def _fail(asked: ModelImport, target: Path, code: str, message: str) -> ModelImport:
    _clear(target)
    return import_actions.fail_import(actor=WORKER, asked=asked, code=str(code), message=message)


def _clear(target: Path) -> None:
    """Takes away the folder, and what a trainer that was killed left of it beside: whole copies of a model."""
    for each in (target, *target.parent.glob(f".{target.name}.*")):
        shutil.rmtree(each, ignore_errors=True)


def _ask_trainer(asked: ModelImport, target: Path) -> events.ModelImported | events.RunFailed:
    settings.STEWARD_MODELS.mkdir(parents=True, exist_ok=True, mode=0o700)
    environment = trainer_environment()
    if asked.kind == ImportKind.HUB:
        command = trainer_command("download", asked.location, "--revision", asked.revision, "--allow-network")
        environment |= {name: os.environ[name] for name in _OUTWARD if name in os.environ}
        environment |= {"HF_ENDPOINT": settings.STEWARD_HUB, "HF_HOME": str(settings.STEWARD_MODELS / ".hub")}
    else:
        command = trainer_command("import", str(intake() / asked.location))
    command += ["--to", str(target), "--max-bytes", str(settings.STEWARD_MODEL_GIB << 30)]
    done = subprocess.run(
        command, env=environment, capture_output=True, stdin=subprocess.DEVNULL, timeout=IMPORT_SECONDS, check=False
    )
    said = [events.decode(line) for line in done.stdout.decode().splitlines()]
    if said and isinstance(said[-1], events.ModelImported | events.RunFailed):
        return said[-1]
    return events.RunFailed("-", "trainer_killed", "the process ended without a word", "is memory short? ask again")
