"""`manage.py import FILE --workspace … --dataset … --as USER`: brings a file in, as the web page does."""

from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from steward.accounts.models import User, Workspace
from steward.audit.actor import Actor, UserError
from steward.datasets import actions
from steward.datasets.importing import import_version
from steward.datasets.intake import iter_chunks, receive_file
from steward.datasets.models import Dataset, DatasetVersion, VersionState

SHOWN_PROBLEMS = 20


class Command(BaseCommand):
    help = "Imports a JSONL, CSV or TSV file as the next version of a dataset; the dataset is made if it is not there."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("file", type=Path)
        parser.add_argument("--workspace", required=True, help="slug of the workspace")
        parser.add_argument("--dataset", required=True, help="name of the dataset")
        parser.add_argument("--as", dest="username", required=True, help="the user who imports")
        parser.add_argument("--workflow", default="", help="workflow of the domain pack; chat data needs none")
        parser.add_argument("--purpose", default="", help="what the data may be used for; needed for a new dataset")
        parser.add_argument("--map", action="append", default=[], metavar="FIELD=COLUMN", help="also subject=COLUMN")

    def handle(self, *args: Any, file: Path, workspace: str, dataset: str, username: str, **options: Any) -> None:
        columns = dict(self._pair(text) for text in options["map"])
        try:
            actor = Actor.of(_find(User, "user", username=username))
            target = _find(Workspace, "workspace", slug=workspace)
            known = Dataset.objects.filter(workspace=target, name=dataset).first() or actions.create_dataset(
                actor=actor, workspace=target, name=dataset, purpose=options["purpose"], workflow=options["workflow"]
            )
            with file.open("rb") as source:
                version = receive_file(
                    actor=actor, dataset=known, filename=file.name, chunks=iter_chunks(source), columns=columns
                )
        except OSError as error:
            raise CommandError(f"{file}: {error.strerror}. Check the path.") from None
        except UserError as error:
            raise CommandError(str(error)) from None
        self._report(import_version(str(version.pk)))

    @staticmethod
    def _pair(text: str) -> tuple[str, str]:
        field, equals, column = text.partition("=")
        if not equals:
            raise CommandError(f"--map wants FIELD=COLUMN, not {text!r}.")
        return field, column

    def _report(self, version: DatasetVersion) -> None:
        if version.state == VersionState.FAILED:
            for problem in version.problems[:SHOWN_PROBLEMS]:
                column = f", column {problem['column']}" if problem["column"] else ""
                self.stderr.write(f"line {problem['line']}{column}: {problem['message']}")
            raise CommandError(f"{version.problem_count} problems; nothing was imported. Mend the file and try again.")
        splits = ", ".join(f"{count} {split}" for split, count in version.split_counts.items())
        self.stdout.write(
            f"{version}: {version.record_count} records of {version.subject_count} subjects ({splits}); "
            f"{version.duplicate_count} duplicates left out. Next: redact it on its page, or "
            f"manage.py dataset redact {str(version.pk)[:8]} --as USER"
        )


def _find(model: Any, what: str, **where: str) -> Any:
    found = model.objects.filter(**where).first()
    if found is None:
        known = ", ".join(str(value) for value in model.objects.values_list(*where, flat=True)[:20])
        raise CommandError(f"There is no {what} {next(iter(where.values()))!r}. Known: {known or 'none yet'}.")
    return found
