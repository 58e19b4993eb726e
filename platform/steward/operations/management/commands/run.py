"""`manage.py run pause|resume|continue|cancel FINE_TUNE --as USER`: what is done with a fine-tune that was started."""

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from steward.audit.actor import Actor, UserError
from steward.operations.fine_tuning import changes_of, follow, tell_paused
from steward.operations.terminal import actor_named, add_actor, row_visible_to, wait_for
from steward.runs import actions
from steward.runs.models import FineTune, RunState


class Command(BaseCommand):
    help = "Pauses, resumes, continues or cancels a fine-tune."

    def add_arguments(self, parser: CommandParser) -> None:
        steps = parser.add_subparsers(dest="step", required=True)
        for step, text in (
            ("pause", "free its device within seconds; what it learnt is kept"),
            ("resume", "go on where it was paused, and wait for its end"),
            ("continue", "train on from the result of a finished one, as a new fine-tune, and wait for its end"),
            ("cancel", "stop it; what it learnt is given up"),
        ):
            command = steps.add_parser(step, help=text)
            command.add_argument("fine_tune", help="id of the fine-tune, eight characters are enough")
            add_actor(command)
            if step == "continue":
                command.add_argument("--epochs", type=int, required=True, help="more passes over the training records")
                command.add_argument("--name", default="")
                command.add_argument("--set", action="append", default=[], metavar="KEY=JSON", help="change the recipe")

    def handle(self, *args: Any, step: str, fine_tune: str, username: str, **options: Any) -> None:
        actor = actor_named(username)
        row = row_visible_to(FineTune.objects.select_related("workspace"), actor, fine_tune, "fine-tune")
        try:
            getattr(self, f"_{step}")(actor, row, options)
        except UserError as error:
            raise CommandError(str(error)) from None

    def _pause(self, actor: Actor, fine_tune: FineTune, options: dict[str, Any]) -> None:
        paused = actions.pause_fine_tune(actor=actor, fine_tune=fine_tune)
        paused = wait_for(paused, "Pausing", lambda f: f.state != RunState.PAUSING)
        if paused.state != RunState.PAUSED:  # it came to its end, or was cancelled, in the meantime
            raise CommandError(f"The fine-tune is not paused: it is {paused.get_state_display().lower()}.")
        tell_paused(paused, self.stdout.write)

    def _resume(self, actor: Actor, fine_tune: FineTune, options: dict[str, Any]) -> None:
        follow(actions.resume_fine_tune(actor=actor, fine_tune=fine_tune), self.stdout.write)

    def _continue(self, actor: Actor, fine_tune: FineTune, options: dict[str, Any]) -> None:
        child = actions.continue_fine_tune(
            actor=actor,
            parent=fine_tune,
            epochs=options["epochs"],
            name=options["name"],
            changes=changes_of(options["set"]),
        )
        self.stdout.write(f"fine-tune {child.pk} goes on from {fine_tune.pk}")
        follow(child, self.stdout.write)

    def _cancel(self, actor: Actor, fine_tune: FineTune, options: dict[str, Any]) -> None:
        cancelled = actions.cancel_fine_tune(actor=actor, fine_tune=fine_tune)
        cancelled = wait_for(cancelled, "Stopping", lambda f: f.is_over)
        self.stdout.write(f"{cancelled.pk} is {cancelled.get_state_display().lower()}")
