"""`manage.py release request|approve|refuse|evidence ID --as USER`: two people, one digest, one bundle."""

import shutil
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from steward.audit.actor import Actor, UserError
from steward.operations.terminal import actor_named, add_actor, row_visible_to, wait_for
from steward.releases import actions
from steward.releases.bundles import evidence_is_built
from steward.releases.models import Audience, Release
from steward.runs.models import ModelVersion


class Command(BaseCommand):
    help = "Asks for a release, decides on one, or hands out its evidence."

    def add_arguments(self, parser: CommandParser) -> None:
        steps = parser.add_subparsers(dest="step", required=True)
        for step, text in (
            ("request", "ask for the release of a model version"),
            ("approve", "give it; not by who asked, trained or imported"),
            ("refuse", "turn it down"),
            ("evidence", "write the evidence bundle to a file"),
        ):
            command = steps.add_parser(step, help=text)
            command.add_argument("id", help="id of the model version (request) or of the release")
            add_actor(command)
            if step == "request":
                command.add_argument("--purpose", required=True)
                command.add_argument("--audience", choices=Audience.values, default=Audience.INTERNAL)
            if step == "refuse":
                command.add_argument("--reason", required=True)
            if step == "evidence":
                command.add_argument("--to", type=Path, required=True)

    def handle(self, *args: Any, step: str, id: str, username: str, **options: Any) -> None:
        actor = actor_named(username)
        kind, what = (ModelVersion, "model version") if step == "request" else (Release, "release")
        row = row_visible_to(kind.objects, actor, id, what)
        try:
            getattr(self, f"_{step}")(actor, row, options)
        except UserError as error:
            raise CommandError(str(error)) from None

    def _request(self, actor: Actor, model_version: ModelVersion, options: dict[str, Any]) -> None:
        release = actions.request_release(
            actor=actor, model_version=model_version, audience=options["audience"], purpose=options["purpose"]
        )
        self.stdout.write(f"release {release.pk} waits for another person; adapter {release.adapter_digest}")

    def _approve(self, actor: Actor, release: Release, options: dict[str, Any]) -> None:
        release = actions.approve_release(actor=actor, release=release)
        wait_for(release, "Evidence", evidence_is_built)
        self.stdout.write(f"release {release.pk} is given; its evidence bundle is built and verified")

    def _refuse(self, actor: Actor, release: Release, options: dict[str, Any]) -> None:
        actions.refuse_release(actor=actor, release=release, reason=options["reason"])
        self.stdout.write(f"release {release.pk} is refused")

    def _evidence(self, actor: Actor, release: Release, options: dict[str, Any]) -> None:
        shutil.copyfile(actions.export_evidence(actor=actor, release=release), options["to"])
        self.stdout.write(f"evidence written to {options['to']}")
