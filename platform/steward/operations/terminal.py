"""What the commands at a terminal share: who acts, which row is meant, and waiting for it."""

import time
from collections.abc import Callable
from typing import Any

from django.core.management.base import CommandError, CommandParser
from rich.console import Console

from steward.accounts.models import User
from steward.audit.actor import Actor
from steward.operations.following import working
from steward.operations.progress import Told


def add_actor(parser: CommandParser) -> None:
    """Adds `--as USER`."""
    parser.add_argument("--as", dest="username", required=True, metavar="USER", help="who acts; their roles decide")


def actor_named(username: str) -> Actor:
    """The active user of that name as an actor. Raises CommandError with the names there are."""
    user = User.objects.filter(username=username, is_active=True).first()
    if user is None:
        known = ", ".join(User.objects.filter(is_active=True).values_list("username", flat=True)[:20])
        raise CommandError(f"There is no active user {username!r}. Known: {known or 'nobody yet'}.")
    return Actor.of(user)


def row_visible_to(queryset: Any, actor: Actor, wanted: str, what: str) -> Any:
    """The one row that the actor may see and whose id starts with `wanted` (eight characters are enough)."""
    found = [row for row in queryset.visible_to(actor) if str(row.pk).startswith(wanted)]
    if len(found) != 1:
        raise CommandError(f"{'No' if not found else 'More than one'} {what} starts with {wanted!r}.")
    return found[0]


def wait_for(
    row: Any,
    what: str,
    is_over: Callable[[Any], bool],
    progress: Callable[[Any], tuple[int, int]] | None = None,
) -> Any:
    """Shows a bar until the queue has brought `row` to where `is_over` holds, and returns the fresh row."""
    with working() as helpers:
        told = Told(Console(), helpers)
        with told.bar(what) as bar:
            while not is_over(row):
                told.check_helpers()
                time.sleep(0.3)
                row = type(row).objects.get(pk=row.pk)
                if progress is not None:
                    bar(*progress(row), "")
    return row
