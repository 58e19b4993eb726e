"""The training spec of a fine-tune, as `trainers` expects it: everything but the keys."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from django.conf import settings

from compliance.canonical import sha256_digest
from steward.catalog.models import BaseModel
from steward.datasets.models import DatasetVersion
from steward.runs.models import FineTune
from steward.vault.models import SealedObject
from steward.vault.objects import object_path
from trainers.spec import read_spec


def run_folder(fine_tune: FineTune) -> Path:
    """Where the trainer of this fine-tune works. Holds ciphertext, the spec and events; no text of any record."""
    return Path(settings.STEWARD_RUNS, str(fine_tune.pk))


def checkpoint_of(fine_tune: FineTune) -> Path:
    """Where a trainer leaves what another one goes on from; it need not be there."""
    return run_folder(fine_tune) / "checkpoint.sealed"


def discard_checkpoint(fine_tune: FineTune) -> None:
    """Removes what a trainer would have gone on from. The run is over and its key destroyed, so none ever will."""
    for left in run_folder(fine_tune).glob("checkpoint*"):
        left.unlink(missing_ok=True)


def object_spec(sealed: SealedObject) -> dict[str, Any]:
    """How the spec names a sealed object."""
    return {
        "path": str(object_path(sealed)),
        "context": sealed.context.to_json(),
        "commitment": bytes(sealed.commitment).hex(),
    }


def output_context(fine_tune: FineTune) -> dict[str, str]:
    """What the adapter is bound to. The trainer derives checkpoint and predictions from it by their kind."""
    return {
        "workspace": str(fine_tune.workspace_id),
        "dataset": "none",
        "object": str(fine_tune.pk),
        "kind": "adapter",
        "version": "1",
    }


def build_spec(
    fine_tune: FineTune, shards: dict[str, SealedObject], start: SealedObject | None = None
) -> dict[str, Any]:
    """The whole spec, checked against the trainer's own reader.

    Args:
        shards: sealed objects by split: train and validation, and test where the run evaluates.
        start: what the run goes on from, sealed with the key of the shards.

    Raises:
        trainers.spec.SpecError: the recipe does not make a valid spec; names every problem.
    """
    spec = {
        "schema": "steward.train/1",
        "run": str(fine_tune.pk),
        "model": {"path": fine_tune.base_model.path, "digest": fine_tune.base_model.digest},
        "data": {split: object_spec(sealed) for split, sealed in shards.items()},
        "output": {"context": output_context(fine_tune)},
        **({} if start is None else {"start": object_spec(start)}),
        **fine_tune.recipe,
    }
    read_spec(spec)
    return spec


def write_spec(folder: Path, name: str, spec: dict[str, Any]) -> Path:
    """Writes a spec atomically into the run's folder and returns its path."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    path = folder / name
    staging = folder / f".{name}.partial"
    staging.write_text(json.dumps(spec, indent=1))
    os.replace(staging, path)
    return path


def planned_spec(version: DatasetVersion, base_model: BaseModel, recipe: Mapping[str, Any]) -> dict[str, Any]:
    """The spec of a run that is not dispatched yet. Words in capitals stand for what is made only then."""
    context = {"workspace": str(version.workspace_id), "dataset": str(version.dataset_id), "object": "OBJECT"}
    data = {
        split: {
            "path": f"{split.upper()}.sealed",
            "context": {**context, "kind": f"shard-{split}", "version": "1"},
            "commitment": "0" * 64,
        }
        for split in ("train", "validation")
    }
    output = {**context, "dataset": "none", "object": "RUN", "kind": "adapter", "version": "1"}
    return {
        "schema": "steward.train/1",
        "run": "RUN",
        "model": {"path": base_model.path, "digest": base_model.digest},
        "data": data,
        "output": {"context": output},
        **recipe,
    }


def settings_digest(spec: Mapping[str, Any]) -> str:
    """Names what a spec asks for: all of it but what belongs to one run alone (its id and its sealed files).

    Equal for the planned spec, the one that the worker writes, and a second run with the same settings.
    """
    settled = {key: value for key, value in spec.items() if key not in ("run", "data", "output", "start")}
    return sha256_digest(json.dumps(settled, sort_keys=True, separators=(",", ":")).encode())


def written_spec(fine_tune: FineTune) -> str | None:
    """The spec as the worker wrote it, letter by letter; None before the run is dispatched."""
    path = run_folder(fine_tune) / "spec.json"
    return path.read_text() if path.is_file() else None
