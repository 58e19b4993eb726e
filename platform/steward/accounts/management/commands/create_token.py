"""`manage.py create_token NAME --scope SCOPE …`: prints an API token for a person, this once."""

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from steward.accounts.actions import create_token
from steward.accounts.models import User
from steward.accounts.roles import Permission
from steward.accounts.tokens import DEFAULT_LIFETIME_DAYS
from steward.audit.actor import Actor, UserError


class Command(BaseCommand):
    help = "Makes an API token for a person and prints it; it is not stored and cannot be shown again."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("username")
        parser.add_argument(
            "--scope",
            action="append",
            required=True,
            choices=[str(each) for each in Permission],
            help="may be repeated",
        )
        parser.add_argument("--label", default="command line", help="says where the token is used")
        parser.add_argument("--days", type=int, default=DEFAULT_LIFETIME_DAYS, help="1 to 365")

    def handle(self, *args: Any, username: str, scope: list[str], label: str, days: int, **options: Any) -> None:
        user = User.objects.filter(username=username, is_active=True).first()
        if user is None:
            raise CommandError(f"There is no active user {username!r}. `manage.py sign_in_link` lists some.")
        try:
            _, secret = create_token(
                actor=Actor.system("console"), user=user, name=label, scopes=scope, lifetime_days=days
            )
        except UserError as error:
            raise CommandError(str(error)) from error
        self.stdout.write(secret)
