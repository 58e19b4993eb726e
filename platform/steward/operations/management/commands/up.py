"""`manage.py up`: everything under one supervisor, until Ctrl-C."""

from typing import Any

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import BaseCommand, CommandError, CommandParser

from steward.embedded import EmbeddedDatabaseError
from steward.operations.supervisor import CannotStart, Supervisor


class Command(BaseCommand):
    help = "Runs database, web server, worker and sealer until Ctrl-C."
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--port", type=int, default=settings.STEWARD_PORT, help="TCP port of the web server")
        parser.add_argument("--threads", type=int, default=24, help="requests served at the same time")

        parser.add_argument(
            "--no-links", action="store_true", help="print no sign-in links, e.g. because output is logged"
        )

    def handle(self, *args: Any, port: int, threads: int, no_links: bool, **options: Any) -> None:
        supervisor = Supervisor(
            address=settings.STEWARD_BIND, port=port, threads=threads, say=self._say, shows_links=not no_links
        )
        try:
            supervisor.run()
        except (CannotStart, EmbeddedDatabaseError, ImproperlyConfigured) as error:
            raise CommandError(str(error)) from error

    def _say(self, line: str) -> None:
        self.stdout.write(line)
        self.stdout.flush()
