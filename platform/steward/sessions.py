"""Sessions that end: after a while without use, and after a working day whatever happens.

Guarantees: a signed-in session that was idle for `SESSION_IDLE_SECONDS`, or is older than `SESSION_ABSOLUTE_SECONDS`,
is destroyed before the view runs. Requests that a page makes on its own (live boards) say so with the header
`Steward-Background: 1` and do not count as use. Does not: handle API tokens, which expire by themselves.

Source: 45 CFR 164.312(a)(2)(iii) automatic log-off; NIST SP 800-63B-4, 2.2.3 reauthentication.
"""

import time
from collections.abc import Callable

from django.conf import settings
from django.contrib.auth import logout
from django.http import HttpRequest, HttpResponse

_SIGNED_IN_AT = "steward_signed_in_at"
_ACTIVE_AT = "steward_active_at"
# Writing the session row on every click would double the database work of a page for no gain in safety.
_WRITE_EVERY_SECONDS = 30


class SessionLimits:
    """Middleware that applies both limits to whoever is signed in."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        if request.user.is_authenticated:
            self._apply(request, int(time.time()))
        return self.get_response(request)

    def _apply(self, request: HttpRequest, now: int) -> None:
        session = request.session
        signed_in_at = session.setdefault(_SIGNED_IN_AT, now)
        active_at = session.setdefault(_ACTIVE_AT, now)
        is_over = now - signed_in_at >= settings.SESSION_ABSOLUTE_SECONDS
        is_idle = now - active_at >= settings.SESSION_IDLE_SECONDS
        if is_over or is_idle:
            logout(request)
        elif request.headers.get("Steward-Background") != "1" and now - active_at >= _WRITE_EVERY_SECONDS:
            session[_ACTIVE_AT] = now
