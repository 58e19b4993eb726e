"""Sessions end after fifteen idle minutes and after eight hours."""

from importlib import import_module
from typing import Any

import pytest
from django.conf import settings
from django.contrib.auth.models import AnonymousUser
from django.http import HttpRequest, HttpResponse
from django.test import RequestFactory

from steward import sessions
from steward.sessions import SessionLimits


class Clock:
    """Says what time it is, and lets tests move it."""

    def __init__(self) -> None:
        self.now = 1_700_000_000

    def time(self) -> float:
        return float(self.now)


class SignedIn:
    is_authenticated = True


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(sessions, "time", clock)

    def sign_out(request: HttpRequest) -> None:
        request.session.flush()
        request.user = AnonymousUser()

    monkeypatch.setattr(sessions, "logout", sign_out)
    return clock


class Browser:
    def __init__(self) -> None:
        self.session: Any = import_module("django.contrib.sessions.backends.signed_cookies").SessionStore()
        self.user: Any = SignedIn()

    def is_still_signed_in(self, **headers: str) -> bool:
        request = RequestFactory().get("/", headers=headers)
        request.session, request.user = self.session, self.user
        SessionLimits(lambda _: HttpResponse())(request)
        self.user = request.user
        return bool(request.user.is_authenticated)


def test_a_session_in_use_goes_on(clock: Clock) -> None:
    browser = Browser()
    for _ in range(20):
        assert browser.is_still_signed_in()
        clock.now += settings.SESSION_IDLE_SECONDS - 60


def test_a_session_left_alone_ends(clock: Clock) -> None:
    browser = Browser()
    assert browser.is_still_signed_in()
    clock.now += settings.SESSION_IDLE_SECONDS
    assert not browser.is_still_signed_in()


def test_what_a_page_asks_by_itself_does_not_count_as_use(clock: Clock) -> None:
    browser = Browser()
    assert browser.is_still_signed_in()
    for _ in range(14):
        clock.now += 60
        assert browser.is_still_signed_in(**{"Steward-Background": "1"})
    clock.now += 60
    assert not browser.is_still_signed_in(**{"Steward-Background": "1"})


def test_eight_hours_are_the_limit_however_busy_the_session(clock: Clock) -> None:
    browser = Browser()
    end = clock.now + settings.SESSION_ABSOLUTE_SECONDS
    while clock.now < end:
        assert browser.is_still_signed_in()
        clock.now += 600
    assert not browser.is_still_signed_in()
