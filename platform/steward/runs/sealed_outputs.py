"""What a trainer leaves sealed beside the adapter: losses record by record, and what it answered on its way.

Guarantees that a file is opened only with the commitment and the context that the trainer's event named, in a stream.
The texts that stand in such files are never handed on: a person who was shredded since is still in them, so whoever
shows a record reads it anew. Callers are actions.

Example:
    >>> next(record_losses(fine_tune, "held_out"))
    RecordLoss(record_id='17', loss=3.25, units=12, first_loss=None)
"""

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from django.conf import settings

from steward.runs.models import FineTune
from steward.runs.specs import output_context, run_folder
from steward.vault.models import SealedObject
from steward.vault.objects import open_object
from trainers import events
from trainers.spec import SURPLUS_ANSWERS

# By part, the word of the vault's context that the trainer seals it with, and what people call it.
PARTS = {
    "held_out": ("held-out", "Held-out records"),
    "train_records": ("train-records", "Training records"),
}
# Where a run keeps the facts of its files with answers, in the order of their steps.
ANSWERS = "answers"
_FACTS = ("file", "records", "worst", "median", "best", "digest", "sealed_digest", "commitment")
_ANSWER_FACTS = ("step", "file", "answers", "metric", "digest", "sealed_digest", "commitment")


@dataclass(frozen=True, slots=True)
class RecordLoss:
    """One record: its ordinal in the version as text, its mean loss in nats a unit (a supervised token, a pair, …).

    `first_loss` is that of the first pass, where the file has it.
    """

    record_id: str
    loss: float
    units: int
    first_loss: float | None


def part_of(event: events.Event) -> str | None:
    """Which part an event announces, if any."""
    if isinstance(event, events.TrainRecordsMeasured):
        return "train_records"
    return "held_out" if isinstance(event, events.RecordsMeasured) else None


def facts_of(event: events.Event) -> dict[str, Any]:
    """What a run keeps of such an event: counts, losses and digests."""
    return {name: getattr(event, name) for name in _FACTS}


def sealed_output(fine_tune: FineTune, part: str) -> SealedObject | None:
    """The file as an object of the vault, not saved; None where the trainer left none."""
    facts = fine_tune.facts.get(part)
    return None if facts is None or fine_tune.output_key is None else _sealed(fine_tune, PARTS[part][0], facts)


def _sealed(fine_tune: FineTune, kind: str, facts: Mapping[str, Any]) -> SealedObject:
    return SealedObject(
        workspace=fine_tune.workspace,
        key=fine_tune.output_key,
        kind=kind,
        bound_to=output_context(fine_tune)["object"],
        path=str((run_folder(fine_tune) / facts["file"]).relative_to(settings.STEWARD_HOME)),
        plain_bytes=0,
        commitment=bytes.fromhex(facts["commitment"]),
        sealed_sha256=facts["sealed_digest"],
    )


def sealed_outputs(fine_tune: FineTune) -> list[SealedObject]:
    """All of them, to be kept with the run that succeeded."""
    found = [sealed_output(fine_tune, part) for part in PARTS]
    answers = [_sealed_answers(fine_tune, facts) for facts in answers_of(fine_tune)]
    return [*(sealed for sealed in found if sealed is not None), *answers]


def _sealed_answers(fine_tune: FineTune, facts: Mapping[str, Any]) -> SealedObject:
    return _sealed(fine_tune, f"answers-{facts['step']}", facts)


def answers_of(fine_tune: FineTune) -> list[dict[str, Any]]:
    """The facts of the run's files with answers, by step: `step`, `answers`, `metric`, `score` and where they lie."""
    return list(fine_tune.facts.get(ANSWERS, []))


def with_answers(fine_tune: FineTune, event: events.AnswersMeasured) -> list[dict[str, Any]]:
    """The same with one more file; the facts go where the trainer lets the file go."""
    score = event.score if math.isfinite(event.score) else None
    told = {name: getattr(event, name) for name in _ANSWER_FACTS} | {"score": score}
    others = [facts for facts in answers_of(fine_tune) if facts["step"] != event.step]
    ordered = sorted([*others, told], key=lambda facts: facts["step"])
    del ordered[SURPLUS_ANSWERS]
    return ordered


def answer_lines(fine_tune: FineTune, facts: Mapping[str, Any]) -> Iterator[tuple[str, str, float | None, bool]]:
    """(record, answer, score, whether the answer was cut for want of room) of each prompt in one of the files.

    Raises:
        VaultError, OSError: the file is not what the trainer wrote, or is gone.
    """
    with open_object(_sealed_answers(fine_tune, facts)) as file:
        for line in file:
            row = json.loads(line)
            # Files of the first version do not tell what was cut.
            yield row["id"], row["answer"], row.get("score"), row.get("is_cut", False)


def record_losses(fine_tune: FineTune, part: str) -> Iterator[RecordLoss]:
    """The records of a part, worst first.

    Raises:
        VaultError, OSError: the file is not what the trainer wrote, or is gone.
    """
    sealed = sealed_output(fine_tune, part)
    if sealed is None:
        return
    with open_object(sealed) as file:
        for line in file:
            row = json.loads(line)
            loss = row["loss"] if "loss" in row else row["last"]
            yield RecordLoss(row["id"], loss, row["units"], row.get("first"))
