"""`manage.py sign_in_link NAME`: prints a one-time link for a person."""

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from steward.accounts.links import sign_in_url
from steward.accounts.models import User


class Command(BaseCommand):
    help = "Prints a link that signs one person in, once, within twelve hours."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("username")
        parser.add_argument("--base-url", default="http://127.0.0.1:8000")

    def handle(self, *args: Any, username: str, base_url: str, **options: Any) -> None:
        user = User.objects.filter(username=username, is_active=True).first()
        if user is None:
            names = ", ".join(User.objects.filter(is_active=True).values_list("username", flat=True)[:20])
            raise CommandError(f"There is no active user {username!r}. Known: {names or 'nobody yet'}.")
        self.stdout.write(sign_in_url(base_url, user))
