"""A real Chromium in front of a real server.

Guarantees that a test fails if the page breaks the content policy, a script throws, or something is fetched from
anywhere but the server under test.
"""

import os
import shutil
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]
# Playwright's own loop runs in the thread of the test, where Django would refuse the database.
os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"] = "1"


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    """The installed Chromium."""
    path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if path is None:
        pytest.fail("No Chromium is installed. Install it (Debian: apt-get install chromium) and run the tests again.")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def house(transactional_db: None) -> Any:
    """A workspace with people in it, whose changes are really committed."""
    from tests.steward.house import House

    return House(policy={"sample_size_min": 5, "missed_per_1000_max": 1000})


@pytest.fixture
def open_as(chromium: Browser, live_server: Any) -> Iterator[Callable[..., Page]]:
    """`open_as(actor, "/path/", width=390, look="dark")`: a page, signed in by a one-time link."""
    complaints: list[str] = []
    contexts = []

    def complain(text: str) -> None:
        if "responded with a status of 4" not in text:  # a refusal in words, which a test may be about
            complaints.append(text)

    def open_page(actor: Any, path: str, width: int = 1280, look: str = "light") -> Page:
        from steward.accounts.actions import create_sign_in_link
        from steward.accounts.models import User
        from steward.audit.actor import Actor

        context = chromium.new_context(viewport={"width": width, "height": 900}, color_scheme=look)  # type: ignore[arg-type]
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(15_000)
        page.on("console", lambda message: message.type == "error" and complain(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on(
            "request", lambda each: each.url.startswith(live_server.url) or complaints.append(f"fetched {each.url}")
        )
        user = User.objects.get(pk=actor.user_id)
        token = create_sign_in_link(actor=Actor.system("tests"), user=user)
        page.goto(f"{live_server.url}/sign-in/link/{token}/")
        page.get_by_role("button", name="Sign in").click()
        page.goto(f"{live_server.url}{path}")
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert not complaints
