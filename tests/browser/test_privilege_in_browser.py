"""Privileged records by keyboard: choose, say why, send, and the next one comes."""

from typing import Any

import pytest
from playwright.sync_api import expect

from tests.steward.datasets.test_privilege import letters

pytestmark = [pytest.mark.browser]


def test_an_officer_decides_on_each_record_without_a_mouse(transactional_db: None, open_as: Any) -> None:
    from steward.datasets.models import PrivilegeDecision
    from tests.steward.house import House

    firm = House("legal", policy={"sample_size_min": 1, "missed_per_1000_max": 1000})
    version = firm.redacted(letters(4, privileged=2))
    here = f"/w/{firm.workspace.slug}/datasets/versions/{version.pk}/"
    page = open_as(firm.officer, here)
    page.get_by_role("link", name="Decide on 2 records").click()
    page.get_by_role("link", name="No. 1").click()
    expect(page.locator(".passage")).to_have_count(1)
    page.wait_for_load_state()
    page.keyboard.press("ArrowRight")
    expect(page.get_by_role("heading", name="Is record 2 privileged?")).to_be_visible()
    page.wait_for_load_state()
    page.keyboard.press("ArrowLeft")
    expect(page.get_by_role("heading", name="Is record 1 privileged?")).to_be_visible()
    page.wait_for_load_state()
    page.keyboard.press("w")
    expect(page.locator("#reason")).to_be_focused()
    page.keyboard.press("Escape")
    page.keyboard.press("r")
    page.keyboard.type("Sent to the other side")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="Is record 2 privileged?")).to_be_visible()
    page.wait_for_load_state()
    page.keyboard.press("w")
    page.keyboard.type("Advice")
    page.keyboard.press("Enter")
    expect(page.get_by_text("1 record released, 1 withheld for good")).to_be_visible()
    kinds = PrivilegeDecision.objects.order_by("decided_at").values_list("kind", "reason")
    assert list(kinds) == [("released", "Sent to the other side"), ("withheld", "Advice")]


@pytest.mark.parametrize("look", ["light", "dark"])
def test_the_pages_fit_a_narrow_screen(transactional_db: None, open_as: Any, look: str) -> None:
    from tests.steward.house import House

    firm = House("legal", policy={"sample_size_min": 1, "missed_per_1000_max": 1000})
    version = firm.redacted(letters(4, privileged=2))
    here = f"/w/{firm.workspace.slug}/datasets/versions/{version.pk}/"
    for path in ("", "privileged/", "privileged/1/"):
        page = open_as(firm.officer, here + path, width=390, look=look)
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
