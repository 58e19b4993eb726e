"""What the resources under `/v1` share: who calls, how often, and one shape of errors.

Guarantees that only tokens open this door (a browser's session does not), that each token is bound in requests a
minute, and that a refusal of any kind is answered as OpenAI's clients expect it. Counts are this web process's own.
"""

import functools
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from django.conf import settings
from django.core.exceptions import RequestDataTooBig
from django.http import HttpRequest, HttpResponseBase, UnreadablePostError
from django.views.decorators.csrf import csrf_exempt
from rest_framework.exceptions import AuthenticationFailed

from compliance.vault import KeyDestroyed
from steward.accounts.bearer import TokenAuthentication
from steward.accounts.models import ApiToken
from steward.audit.actor import Actor, UserError
from steward.openai_api.errors import RequestError, TooMany, answer_of

MINUTE_SECONDS = 60.0
TOKENS_REMEMBERED = 10_000


class Caller:
    """A token and the person it stands for."""

    def __init__(self, token: ApiToken) -> None:
        self.token = token
        self.actor = Actor.of(token.user, token.granted)


View = Callable[..., HttpResponseBase]


def door(method: str) -> Callable[[View], View]:
    """Makes a view of a function that takes the request and its `Caller`."""

    def decorate(view: View) -> View:
        @csrf_exempt
        @functools.wraps(view)
        def handle(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
            try:
                caller = _caller(request)
                _meter.note(str(caller.token.pk))
                if request.method != method:
                    raise RequestError(f"This address takes {method} only.", code="method_not_allowed", status=405)
                if "Transfer-Encoding" in request.headers:  # of which WSGI hands on nothing
                    raise RequestError(
                        "A body in pieces is not read: send its Content-Length.", code="length_required", status=411
                    )
                return view(request, caller, *args, **kwargs)
            except UserError as error:
                return answer_of(error)
            except KeyDestroyed:
                return answer_of(RequestError("The key of this model was destroyed.", code="shredded", status=410))
            except RequestDataTooBig:
                return answer_of(RequestError("The body is too large.", code="body_too_large", status=413))
            except UnreadablePostError:
                return answer_of(RequestError("The body did not arrive.", code="unreadable_body"))

        return handle

    return decorate


def _caller(request: HttpRequest) -> Caller:
    try:
        found = TokenAuthentication().authenticate(request)  # type: ignore[arg-type]
    except AuthenticationFailed:
        found = None
    if found is None:
        raise RequestError(
            "This needs an API token that is not expired or revoked, as `Authorization: Bearer stw_…`.",
            code="invalid_api_key",
            status=401,
        )
    return Caller(found[1])


class _Meter:
    """Requests of each token within the last minute."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._seen: dict[str, deque[float]] = {}

    def note(self, token: str) -> None:
        """Counts a request. Raises TooMany where there were too many before it."""
        now = time.monotonic()
        with self._lock:
            if len(self._seen) > TOKENS_REMEMBERED:
                self._seen = {key: seen for key, seen in self._seen.items() if seen[-1] > now - MINUTE_SECONDS}
            seen = self._seen.setdefault(token, deque())
            while seen and seen[0] <= now - MINUTE_SECONDS:
                seen.popleft()
            if len(seen) >= settings.STEWARD_TOKEN_REQUESTS_PER_MINUTE:
                raise TooMany(
                    f"This token may send {settings.STEWARD_TOKEN_REQUESTS_PER_MINUTE} requests a minute.",
                    retry_seconds=int(seen[0] + MINUTE_SECONDS - now) + 1,
                )
            seen.append(now)


class Slots:
    """Answers under way: in all, and of each token."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._taken: dict[str, int] = {}

    def take(self, token: str) -> None:
        """Takes a slot, to be given back once. Raises TooMany where none is left."""
        with self._lock:
            if self._taken.get(token, 0) >= settings.STEWARD_TOKEN_ANSWERS_AT_ONCE:
                raise TooMany(
                    f"This token may have {settings.STEWARD_TOKEN_ANSWERS_AT_ONCE} answers under way.", retry_seconds=2
                )
            if sum(self._taken.values()) >= settings.STEWARD_ANSWERS_AT_ONCE:
                raise TooMany("Too many answers are under way. Ask again in a moment.", retry_seconds=2, status=503)
            self._taken[token] = self._taken.get(token, 0) + 1

    def give_back(self, token: str) -> None:
        """Frees a slot."""
        with self._lock:
            left = self._taken[token] - 1
            if left:
                self._taken[token] = left
            else:
                del self._taken[token]


_meter = _Meter()
slots = Slots()
