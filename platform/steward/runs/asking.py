"""Asking a trainer process one thing about a finished run: to evaluate it, to export it, to compress it.

Guarantees that keys go over stdin only, that the process ends with this one's interest (a closed pipe cancels it), that
one which is killed or told to stop is started again a few times, and that one which finds the run's folder held waits
for its turn. What a process said that did not come to its end is forgotten: whoever listens hears of one process only.
Does not interpret what it says.

Example:
    *said, ended = ask_trainer(model_version, "export", spec, key, ["--format", "merged"], holder=export.pk)
"""

import contextlib
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from django.db import transaction

from steward.datasets.models import Split
from steward.runs.dispatch import devices_of
from steward.runs.launchers.devices import device_environment
from steward.runs.models import FineTune, ModelVersion
from steward.runs.processes import key_line
from steward.runs.shards import workflow_for, write_shard
from steward.runs.specs import build_spec, run_folder, write_spec
from steward.trainer_process import trainer_command, trainer_environment
from steward.vault.keys import make_key, open_key
from steward.vault.models import DataKey, KeyLevel
from steward.vault.objects import destroy_with_key
from trainers import events

MAX_STARTS = 4
PAUSE_SECONDS = 5.0
# Source: trainers.process, what a trainer says when another one works in its folder.
FOLDER_BUSY = "output.busy"


#: Gets all that a process has said so far, whenever it says something; nothing at all when it is about to begin.
Heard = Callable[[Sequence[events.Event]], None]


class TrainerFailed(Exception):
    """The process ended without doing what it was asked."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class Work(Protocol):
    """A row of ours that remembers the key of the shards its job works with."""

    pk: Any
    shard_key: DataKey | None


@contextmanager
def shards_of(work: Work, model_version: ModelVersion, splits: list[Split]) -> Iterator[tuple[DataKey, Path]]:
    """The records of some splits sealed anew under a fresh key, and a spec that names them; destroyed afterwards.

    Args:
        work: the row that asks; what a killed try of it left is destroyed first.

    Raises:
        TrainerFailed: a split has no readable record.
    """
    fine_tune = model_version.fine_tune
    version = fine_tune.dataset_version
    name = f"{type(work).__name__.lower()}-{work.pk}.json"
    workflow = workflow_for(model_version.workspace.domain, fine_tune.workflow)
    with transaction.atomic():
        if work.shard_key is not None and work.shard_key.wrapped is not None:
            destroy_with_key(work.shard_key)  # of a worker that was killed
        key = make_key(model_version.workspace, KeyLevel.RUN, version.dataset.key)
        work.shard_key = key
        type(work).objects.filter(pk=work.pk).update(shard_key=key)  # type: ignore[attr-defined]
        shards = {split: write_shard(version, workflow, fine_tune.method, split, key) for split in splits}
        for shard in shards.values():
            shard.sealed.save(force_insert=True)
    try:
        if not all(shard.records for shard in shards.values()):
            raise TrainerFailed("split_empty", "The version has no readable held-out records; there is nothing to ask.")
        named = {str(split): shard.sealed for split, shard in shards.items()}
        named.setdefault("train", named["validation"])
        yield key, write_spec(run_folder(fine_tune), name, build_spec(fine_tune, named))
    finally:
        with transaction.atomic():
            destroy_with_key(key)
        (run_folder(fine_tune) / name).unlink(missing_ok=True)


def ask_trainer(
    model_version: ModelVersion,
    command: str,
    spec: Path,
    key: DataKey,
    arguments: list[str],
    holder: uuid.UUID,
    heard: Heard = lambda _: None,
) -> list[events.Event]:
    """All that the process said which came to its end; the last event says how.

    Args:
        holder: the row that asks; the process sees the devices that were given to it.
        heard: listens while it works. A process that is started again begins anew, with nothing said.

    Raises:
        TrainerFailed: it was killed again and again, or the folder stayed busy.
    """
    for _ in range(MAX_STARTS):
        heard([])
        said = _asked_once(
            model_version.fine_tune, command, spec, key, model_version.adapter.key, arguments, heard, holder
        )
        if said and not _is_to_be_asked_again(said[-1]):
            return said
        time.sleep(PAUSE_SECONDS)
    raise TrainerFailed("trainer_killed", "The process was killed again and again. Is memory or disk short? Ask again.")


def _is_to_be_asked_again(ended: events.Event) -> bool:
    is_busy = isinstance(ended, events.RunFailed) and ended.code == FOLDER_BUSY
    return is_busy or isinstance(ended, events.RunCancelled)


def _asked_once(
    fine_tune: FineTune,
    command: str,
    spec: Path,
    key: DataKey,
    output_key: DataKey,
    arguments: list[str],
    heard: Heard,
    holder: uuid.UUID,
) -> list[events.Event]:
    """What one process said; nothing where it was killed."""
    folder = run_folder(fine_tune)
    argv = trainer_command(command, "--spec", str(spec), "--out", str(folder), *arguments)
    environment = trainer_environment(device_environment(devices_of(holder)))
    said: list[events.Event] = []
    with (
        open(folder / "trainer.log", "ab") as log,
        subprocess.Popen(
            argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, env=environment, cwd=folder
        ) as process,
    ):
        assert process.stdin is not None
        assert process.stdout is not None
        with contextlib.suppress(BrokenPipeError):  # it ended at once; its last event says why
            process.stdin.write(key_line(open_key(key), open_key(output_key)))
            process.stdin.close()
        for line in process.stdout:
            if line.endswith(b"\n"):  # the last one of a killed process may be cut off
                said.append(events.decode(line.decode()))
                heard(said)
    return said if process.returncode is not None and process.returncode >= 0 else []
