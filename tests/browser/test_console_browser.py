"""The console and the interface's description in a real browser, under the house's content policy."""

from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from steward.api.schema_generator import Generator
from tests.steward.house import visits

pytestmark = pytest.mark.browser


@pytest.mark.parametrize(("width", "look"), [(1440, "light"), (390, "dark")])
def test_an_officer_finds_a_version_and_approves_it(
    house: Any, open_as: Callable[..., Page], width: int, look: str
) -> None:
    version = house.reviewed(visits(12))
    page = open_as(house.officer, "/console/", width=width, look=look)
    if width < 800:
        page.get_by_role("button", name="Menu").click()
    page.get_by_role("link", name="Approvals").click()
    page.get_by_role("link", name=str(version)).click()
    expect(page.get_by_role("heading", name="Residual risk")).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
    page.get_by_role("button", name="Approve the version").click()
    expect(page.get_by_text(f"{version} is approved.")).to_be_visible()
    version.refresh_from_db()
    assert version.state == "approved"


def test_the_look_is_switched_and_kept(house: Any, open_as: Callable[..., Page]) -> None:
    page = open_as(house.auditor, "/console/audit/ledgerentry/", width=1440)
    ground = "getComputedStyle(document.body).backgroundColor"
    light = page.evaluate(ground)
    page.get_by_role("button", name="Light or dark").click()
    dark = page.evaluate(ground)
    page.reload()
    assert page.evaluate(ground) == dark != light


def test_the_filter_opens_and_filters(house: Any, open_as: Callable[..., Page]) -> None:
    house.imported(visits(3))
    page = open_as(house.auditor, "/console/datasets/datasetversion/", width=1440)
    page.get_by_text("Filter").click()
    page.get_by_role("link", name="Approved").click()
    expect(page.get_by_text("Nothing fits the search or the filter.")).to_be_visible()
    page.get_by_role("link", name="Show all").click()
    expect(page.get_by_role("cell", name=house.workspace.name)).to_be_visible()


@pytest.mark.parametrize("look", ["light", "dark"])
def test_the_description_of_the_interface_is_drawn(house: Any, open_as: Callable[..., Page], look: str) -> None:
    page = open_as(house.analyst, "/api/v1/docs", look=look)
    paths = Generator().get_schema(public=True)["paths"]
    expect(page.locator(".opblock")).to_have_count(sum(len(methods) for methods in paths.values()))
    page.locator(".opblock", has_text="/api/v1/releases/{release_id}/evidence").get_by_role("button").first.click()
    expect(page.get_by_text("The evidence bundle;")).to_be_visible()
