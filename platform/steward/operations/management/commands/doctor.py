"""`manage.py doctor`: names each problem, its cause and the next command."""

import contextlib
import dataclasses
import json
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandParser

from steward import embedded
from steward.operations.diagnosis import Finding, Level, diagnose, diagnose_database

_MARKS = {Level.OK: "ok     ", Level.NOTICE: "note   ", Level.PROBLEM: "PROBLEM"}


class Command(BaseCommand):
    help = "Looks at everything Steward needs; exit status 1 if something is wrong."
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--json", action="store_true", help="print a JSON list instead of text")
        parser.add_argument("--port", type=int, default=settings.STEWARD_PORT, help="port the web server would use")

    def handle(self, *args: Any, port: int, **options: Any) -> None:
        findings = [*diagnose(port=port), *self._database()]
        if options["json"]:
            self.stdout.write(json.dumps([dataclasses.asdict(finding) for finding in findings], indent=1))
        else:
            for finding in findings:
                self.stdout.write(f"{_MARKS[finding.level]} {finding.subject:15} {finding.what}")
                if finding.next_command:
                    self.stdout.write(f"{'':8}{'':15} -> {finding.next_command}")
        if any(finding.level is Level.PROBLEM for finding in findings):
            raise SystemExit(1)

    def _database(self) -> list[Finding]:
        with contextlib.ExitStack() as stack:
            if not settings.STEWARD_DATABASE_URL:
                try:
                    stack.enter_context(embedded.hold(settings.STEWARD_POSTGRES))
                except embedded.EmbeddedDatabaseError as error:
                    next_command = "or name another server in DATABASE_URL"
                    return [Finding("database", Level.PROBLEM, f"embedded: {error}", next_command)]
            return diagnose_database()
