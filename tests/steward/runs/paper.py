"""Fine-tunes that nobody trained: dispatched and finished through actions, with files as a trainer would leave them.

Example: `trained(house, version, base, name="second", seed=8)` is a run that succeeded.
"""

import hashlib
import json
from typing import Any

from compliance.vault import ObjectContext
from steward.assurance import actions as assurance
from steward.assurance.judgement import Judgement
from steward.assurance.models import Evaluation
from steward.catalog.models import BaseModel
from steward.runs import actions as runs
from steward.runs import following
from steward.runs.models import FineTune
from steward.runs.specs import output_context, run_folder
from steward.vault.keys import make_key, open_key
from steward.vault.models import KeyLevel
from steward.vault.objects import ObjectWriter
from trainers import events
from trainers.sealed import Written, write_sealed


def base_model() -> BaseModel:
    """A base model nobody will load."""
    return BaseModel.objects.create(
        name="Tiny-1M", path="/nowhere", digest=f"sha256:{'b' * 64}", licence="Apache-2.0", source="made for tests",
        parameters=1_000_000, context_length=2048, disk_bytes=4_000_000,
    )  # fmt: skip


def dispatched(house: Any, version: Any, base: Any, name: str = "try", **changes: Any) -> FineTune:
    """A run whose shards and spec are written and whose trainer never starts."""
    fine_tune = runs.request_fine_tune(
        actor=house.analyst, version=version, base_model=base, name=name, changes=changes
    )
    return runs.dispatch_fine_tune(actor=house.analyst, fine_tune=fine_tune)


def seal(fine_tune: FineTune, file: str, kind: str, content: bytes) -> Written:
    """Leaves a sealed file where and how a trainer would."""
    context = ObjectContext(**{**output_context(fine_tune), "kind": kind})
    assert fine_tune.output_key is not None
    return write_sealed(run_folder(fine_tune) / file, content, open_key(fine_tune.output_key), context)


def say(fine_tune: FineTune, *said: events.Event) -> None:
    """Has the platform read what a trainer would say."""
    folder = run_folder(fine_tune)
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / "events.jsonl", "a") as file:
        file.writelines(events.encode(event) + "\n" for event in said)
    following._apply_new_events(fine_tune)


def leave_losses(fine_tune: FineTune, losses: dict[str, float]) -> None:
    """The held-out losses of records, worst first, as `trainers.record_losses` writes them."""
    worst_first = sorted(losses.items(), key=lambda pair: -pair[1])
    lines = [{"id": record, "loss": loss, "units": 3, "text": "as the trainer read it"} for record, loss in worst_first]
    content = b"".join(json.dumps(line).encode() + b"\n" for line in lines)
    written = seal(fine_tune, "held_out.sealed", "held-out", content)
    values = [loss for _, loss in worst_first]
    digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
    middle = values[len(values) // 2]
    say(
        fine_tune,
        events.RecordsMeasured(
            str(fine_tune.pk), "held_out.sealed", len(lines), values[0], middle, values[-1], digest,
            written.sealed_digest, written.commitment,
        ),
    )  # fmt: skip


def leave_train_losses(fine_tune: FineTune, losses: dict[str, tuple[float, float]]) -> None:
    """The losses of training records when they were first and last met, as `trainers.record_losses` writes them."""
    worst_first = sorted(losses.items(), key=lambda pair: -pair[1][1])
    lines = [{"id": record, "first": first, "last": last, "units": 3} for record, (first, last) in worst_first]
    content = b"".join(json.dumps(line).encode() + b"\n" for line in lines)
    written = seal(fine_tune, "train_records.sealed", "train-records", content)
    values = [last for _, (_, last) in worst_first]
    digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
    said = events.TrainRecordsMeasured(
        str(fine_tune.pk), "train_records.sealed", len(lines), values[0], values[len(values) // 2], values[-1], digest,
        written.sealed_digest, written.commitment,
    )  # fmt: skip
    say(fine_tune, said)


def leave_answers(fine_tune: FineTune, step: int, answers: dict[str, str], score: float = 0.5) -> None:
    """An evaluation after `step` and what was answered by record, as `trainers.loop` and `trainers.answers` tell it.

    Before the first step no answer came to its end.
    """
    lines = [
        {"id": record, "prompt": "as it read it", "reference": "as it read it", "answer": text, "score": score}
        | {"is_cut": not step}
        for record, text in answers.items()
    ]
    content = b"".join(json.dumps(line).encode() + b"\n" for line in lines)
    file = f"answers-{step:08d}.sealed"
    written = seal(fine_tune, file, f"answers-{step}", content)
    digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
    say(fine_tune, events.EvalLoss(str(fine_tune.pk), step, 2.0 / (step + 1), best=bool(step)))
    said = events.AnswersMeasured(
        str(fine_tune.pk), step, file, len(lines), "label_match", score, digest, written.sealed_digest,
        written.commitment,
    )  # fmt: skip
    say(fine_tune, said)


def finish(house: Any, fine_tune: FineTune) -> FineTune:
    """Ends a run well, with an adapter of nothing."""
    content = fine_tune.pk.bytes
    written = seal(fine_tune, "adapter.sealed", "adapter", content)
    finished = events.RunFinished(
        run=str(fine_tune.pk), adapter_digest=f"sha256:{hashlib.sha256(content).hexdigest()}",
        sealed_digest=written.sealed_digest, commitment=written.commitment, adapter_bytes=len(content), step=4,
        best_step=3, best_loss=0.5, stopped_early=False, seconds=12.5, tokens=3600, flops=7_200_000_000,
        memory_bytes=1 << 30,
    )  # fmt: skip
    return runs.finish_fine_tune(actor=house.analyst, fine_tune=fine_tune, finished=finished)


def trained(house: Any, version: Any, base: Any, name: str = "try", **changes: Any) -> FineTune:
    """A run that succeeded."""
    return finish(house, dispatched(house, version, base, name, **changes))


def judged(
    house: Any, fine_tune: FineTune, tuned: list[float], ids: list[str] | None = None, parts: Any = None
) -> Evaluation:
    """The evaluation of a run with these scores, the base having none right."""
    evaluation = fine_tune.model_version.evaluations.get()
    with ObjectWriter(fine_tune.workspace, fine_tune.model_version.adapter.key, "predictions") as writer:
        writer.write(b"{}")
    finished = events.EvaluateFinished(
        run="r", metric=evaluation.metric, ids=ids or [str(place) for place in range(len(tuned))],
        base_scores=[0.0] * len(tuned), tuned_scores=tuned, base_mean=0.0, tuned_mean=sum(tuned) / len(tuned),
        base_loss=2.0, tuned_loss=0.5, refused=0, predictions_digest="", sealed_digest="", commitment="", seconds=1.0,
    )  # fmt: skip
    return assurance.finish_evaluation(
        actor=house.analyst,
        evaluation=evaluation,
        finished=finished,
        judgement=Judgement(finished.base_scores, finished.tuned_scores, parts=parts or {}),
        predictions=writer.sealed,
        key=make_key(fine_tune.workspace, KeyLevel.RUN),
    )
