"""Carrying out an action for a page, and saying what came of it."""

from collections.abc import Callable
from typing import TypeVar

from django.contrib import messages
from django.http import HttpRequest

from steward.audit.actor import UserError

R = TypeVar("R")


def attempt(request: HttpRequest, act: Callable[[], R], done: str) -> R | None:
    """Runs `act`. Its refusal is shown to the person in its own words; None then."""
    try:
        result = act()
    except UserError as error:
        messages.error(request, str(error))
        return None
    messages.success(request, done)
    return result
