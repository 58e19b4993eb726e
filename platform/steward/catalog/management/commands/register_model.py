"""`manage.py register_model FOLDER --name … --licence …`: makes a local model folder available."""

from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from steward.audit.actor import Actor, UserError
from steward.catalog.actions import register_base_model
from steward.catalog.bundled import bundled_model
from steward.catalog.folders import inspect_folder


class Command(BaseCommand):
    help = (
        "Checks a model folder (safetensors, no code, no pickle) and registers it; --bundled prepares the shipped one."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("folder", type=Path, nargs="?")
        parser.add_argument("--bundled", action="store_true")
        parser.add_argument("--name", default="")
        parser.add_argument("--licence", default="")
        parser.add_argument("--source", default="local folder")

    def handle(
        self, *args: Any, folder: Path | None, bundled: bool, name: str, licence: str, source: str, **options: Any
    ) -> None:
        try:
            if bundled:
                model = bundled_model()
            elif folder is None:
                raise CommandError("Give a model folder, or --bundled.")
            else:
                model = register_base_model(
                    actor=Actor.system("console"),
                    name=name or folder.name,
                    facts=inspect_folder(folder.resolve()),
                    licence=licence,
                    source=source,
                )
        except UserError as error:
            raise CommandError(str(error)) from None
        self.stdout.write(f"{model.name}: {model.parameters:,} parameters, {model.licence}, {model.digest}")
