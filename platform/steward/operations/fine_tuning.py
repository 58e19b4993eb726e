"""Following a fine-tune at a terminal: what the commands that start, resume and continue one have in common.

Guarantees that a command ends when nothing more will happen by itself: the fine-tune is judged, failed, was cancelled,
was paused, or waits for a person.
"""

import json
from collections.abc import Callable
from typing import Any

from django.core.management.base import CommandError

from steward.assurance.models import Evaluation, EvaluationState
from steward.operations.terminal import wait_for
from steward.runs.following import ADVICE
from steward.runs.left_out import left_out
from steward.runs.models import FineTune, ModelVersion, RunState

Say = Callable[[str], Any]


def follow(fine_tune: FineTune, say: Say) -> None:
    """Waits until it is trained and judged, and says how it went.

    Raises:
        CommandError: it failed or was cancelled, or its evaluation failed.
    """
    if fine_tune.state == RunState.AWAITING_APPROVAL:
        say(f"{fine_tune.pk} waits for an officer's approval, as this workspace's policy wants.")
        return
    fine_tune = wait_for(
        fine_tune, "Fine-tune", lambda f: f.is_over or f.state == RunState.PAUSED, lambda f: (f.step, f.steps)
    )
    if fine_tune.state == RunState.PAUSED:
        tell_paused(fine_tune, say)
        return
    if fine_tune.state != RunState.SUCCEEDED:
        raise CommandError(f"The fine-tune {fine_tune.get_state_display().lower()}: {fine_tune.failure}")
    say(
        f"{fine_tune.tokens:,} tokens in {fine_tune.train_seconds:.0f} s; held-out loss {fine_tune.best_loss:.4f} "
        f"at step {fine_tune.best_step} of {fine_tune.steps}"
    )
    for sentence in left_out(fine_tune):
        say(sentence)
    for advice in fine_tune.facts.get(ADVICE, {}).values():
        say(f"{advice['message']}; {advice['hint']}")
    _tell_evaluation(fine_tune.model_version, say)


def tell_paused(fine_tune: FineTune, say: Say) -> None:
    """Says where it stands, why if nobody asked for it, and how it goes on."""
    place = f"after step {fine_tune.step} of {fine_tune.steps}" if fine_tune.step else "before its first step"
    if fine_tune.failure:
        say(fine_tune.failure)
    say(f"{fine_tune.pk} is paused {place}. Next: manage.py run resume {str(fine_tune.pk)[:8]} --as USER")


def _tell_evaluation(model_version: ModelVersion, say: Say) -> None:
    evaluation = Evaluation.objects.filter(model_version=model_version).latest("created_at")
    evaluation = wait_for(
        evaluation,
        "Evaluation",
        lambda e: e.state == EvaluationState.FAILED or e.gate_results.exists(),
        lambda e: (e.done_count, e.total_count),
    )
    if evaluation.state != EvaluationState.DONE:
        raise CommandError(f"The evaluation failed: {evaluation.failure}")
    for who in ("base", "tuned", "gain"):
        score, low, high = (100 * getattr(evaluation, f"{who}_{part}") for part in ("score", "low", "high"))
        say(f"{who:5} {score:5.1f} % [{low:.1f}, {high:.1f}]  {evaluation.metric}, n={evaluation.record_count}")
    if evaluation.shortened_count:
        say(f"{evaluation.shortened_count} of {evaluation.record_count} prompts were cut to max_length for both")
    for gate in evaluation.gate_results.all():
        say(f"gate “{gate.title}”: {gate.get_state_display().lower()} ({gate.figure})")
    say(f"model version {model_version.pk}")


def changes_of(pairs: list[str]) -> dict[str, Any]:
    """What `--set` asks for: `a.b=1` as {"a": {"b": 1}}. Raises CommandError for no pair, or a contradiction."""
    changes: dict[str, Any] = {}
    for pair in pairs:
        key, equals, text = pair.partition("=")
        try:
            value = json.loads(text)
        except json.JSONDecodeError:
            value = text
        if not equals:
            raise CommandError(f"--set wants KEY=VALUE, not {pair!r}.")
        *path, last = key.split(".")
        place = changes
        for part in path:
            place = place.setdefault(part, {})
            if not isinstance(place, dict):
                raise CommandError(f"--set {pair}: another --set gives {part} a value of its own.")
        place[last] = value
    return changes
