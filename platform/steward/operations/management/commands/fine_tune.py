"""`manage.py fine_tune VERSION --as USER [--set epochs=2]`: trains and evaluates, and tells how it went."""

import json
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from steward.assurance.models import Evaluation, EvaluationState
from steward.audit.actor import UserError
from steward.catalog.bundled import bundled_model
from steward.catalog.models import BaseModel
from steward.datasets.models import DatasetVersion
from steward.operations.terminal import actor_named, add_actor, row_visible_to, wait_for
from steward.runs import actions
from steward.runs.claims import Priority
from steward.runs.methods import METHODS, WAYS
from steward.runs.models import RunState


class Command(BaseCommand):
    help = "Fine-tunes a base model on an approved dataset version and evaluates it against the base."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("version", help="id of the dataset version, eight characters are enough")
        add_actor(parser)
        parser.add_argument("--name", default="")
        parser.add_argument("--base-model", default="", help="a registered model; by default the bundled one")
        parser.add_argument("--workflow", default="", help="by default the dataset's own")
        parser.add_argument("--method", choices=list(METHODS), help="what is learnt; by default the workflow's own")
        parser.add_argument("--way", choices=list(WAYS), help="what is trained; by default the workflow's own")
        parser.add_argument("--priority", choices=[name.lower() for name in Priority.names], default="normal")
        parser.add_argument(
            "--set",
            action="append",
            default=[],
            metavar="KEY=JSON",
            help="change the recipe, e.g. optimiser.learning_rate=5e-4",
        )

    def handle(self, *args: Any, version: str, username: str, name: str, **options: Any) -> None:
        actor = actor_named(username)
        row = row_visible_to(DatasetVersion.objects, actor, version, "dataset version")
        try:
            fine_tune = actions.request_fine_tune(
                actor=actor,
                version=row,
                base_model=self._base_model(options["base_model"]),
                name=name or f"{row} fine-tune",
                workflow=options["workflow"],
                priority=Priority[options["priority"].upper()],
                changes=_changes(options["set"])
                | {option: options[option] for option in ("method", "way") if options[option]},
            )
        except UserError as error:
            raise CommandError(str(error)) from None
        if fine_tune.state == RunState.AWAITING_APPROVAL:
            self.stdout.write(f"{fine_tune.pk} waits for an officer's approval, as this workspace's policy wants.")
            return
        fine_tune = wait_for(fine_tune, "Fine-tune", lambda f: f.is_over, lambda f: (f.step, f.steps))
        if fine_tune.state != RunState.SUCCEEDED:
            raise CommandError(f"The fine-tune {fine_tune.get_state_display().lower()}: {fine_tune.failure}")
        self.stdout.write(
            f"{fine_tune.tokens:,} tokens in {fine_tune.train_seconds:.0f} s; held-out loss {fine_tune.best_loss:.4f} "
            f"at step {fine_tune.best_step} of {fine_tune.steps}"
        )
        self._tell_evaluation(fine_tune.model_version)

    @staticmethod
    def _base_model(name: str) -> BaseModel:
        if not name:
            return bundled_model()
        found = BaseModel.objects.filter(name=name).first()
        if found is None:
            raise CommandError(f"No base model {name!r} is registered; see manage.py register_model.")
        return found

    def _tell_evaluation(self, model_version: Any) -> None:
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
            self.stdout.write(
                f"{who:5} {score:5.1f} % [{low:.1f}, {high:.1f}]  {evaluation.metric}, n={evaluation.record_count}"
            )
        for gate in evaluation.gate_results.all():
            self.stdout.write(f"gate “{gate.title}”: {gate.get_state_display().lower()} ({gate.figure})")
        self.stdout.write(f"model version {model_version.pk}")


def _changes(pairs: list[str]) -> dict[str, Any]:
    """`a.b=1` as {"a": {"b": 1}}."""
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
        place[last] = value
    return changes
