"""`manage.py sign_in_link NAME`: prints a one-time link for a person, to where Steward is reached."""

from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser

from steward.accounts.links import sign_in_url
from steward.accounts.models import User
from steward.operations.presence import is_supervised, local_address, public_address, read_note


class Command(BaseCommand):
    help = "Prints a link that signs one person in, once, within twelve hours."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("username")
        parser.add_argument(
            "--base-url", help="what the link begins with; without it, the address at which Steward is reached"
        )

    def handle(self, *args: Any, username: str, base_url: str | None, **options: Any) -> None:
        user = User.objects.filter(username=username, is_active=True).first()
        if user is None:
            names = ", ".join(User.objects.filter(is_active=True).values_list("username", flat=True)[:20])
            raise CommandError(f"There is no active user {username!r}. Known: {names or 'nobody yet'}.")
        self.stdout.write(sign_in_url(base_url or public_address() or self._address_here(), user))

    def _address_here(self) -> str:
        """Of the server that runs in this home, else of the one that the settings would start."""
        if is_supervised() and (running := read_note().get("address")):
            return str(running)
        address = local_address(settings.STEWARD_BIND, settings.STEWARD_PORT)
        self.stderr.write(f"Nothing serves this home now; the link is for `manage.py up` at {address}.")
        return address
