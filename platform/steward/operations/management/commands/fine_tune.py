"""`manage.py fine_tune VERSION --as USER [--set epochs=2]`: trains and evaluates, and tells how it went."""

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from steward.audit.actor import UserError
from steward.catalog.bundled import bundled_model
from steward.catalog.models import BaseModel
from steward.datasets.models import DatasetVersion
from steward.operations.fine_tuning import changes_of, follow
from steward.operations.terminal import actor_named, add_actor, row_visible_to
from steward.runs import actions
from steward.runs.claims import Priority
from steward.runs.methods import METHODS, WAYS


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
                changes=changes_of(options["set"])
                | {option: options[option] for option in ("method", "way") if options[option]},
            )
        except UserError as error:
            raise CommandError(str(error)) from None
        self.stdout.write(f"fine-tune {fine_tune.pk}")
        follow(fine_tune, self.stdout.write)

    @staticmethod
    def _base_model(name: str) -> BaseModel:
        if not name:
            return bundled_model()
        found = BaseModel.objects.filter(name=name).first()
        if found is None:
            raise CommandError(f"No base model {name!r} is registered; see manage.py register_model.")
        return found
