"""The answers of a run in a browser: an open page grows with the run, and its chart with it."""

from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests.steward.house import House, visits
from tests.steward.runs.paper import base_model, dispatched, finish, leave_answers

pytestmark = [pytest.mark.browser, pytest.mark.slow]
LONG = "The dressing was changed and the wound cleaned; it shows no sign of an infection. " * 4


@pytest.fixture
def running(house: House) -> Any:
    from steward.datasets.models import RedactedRecord

    fine_tune = dispatched(house, house.approved(visits(60)), base_model())
    held_out = RedactedRecord.objects.filter(
        run=fine_tune.dataset_version.redaction, record__subject__split="validation"
    )
    asked = [str(ordinal) for ordinal in held_out.values_list("ordinal", flat=True)[:3]]
    leave_answers(fine_tune, 0, dict.fromkeys(asked, LONG), score=0.0)
    leave_answers(fine_tune, 4, dict.fromkeys(asked, "It was dressed."), score=0.25)
    return fine_tune, asked


@pytest.mark.parametrize(("width", "look"), [(1440, "light"), (390, "dark")])
def test_an_open_page_grows_with_the_run(
    house: House, running: Any, open_as: Callable[..., Page], width: int, look: str
) -> None:
    fine_tune, asked = running
    page = open_as(house.analyst, f"/w/{house.workspace.slug}/fine-tunes/{fine_tune.pk}/", width, look)
    page.get_by_role("link", name="Sample answers").click()
    page.get_by_role("button", name="Show the answers").click()
    expect(page.locator("table.answers")).to_have_count(3)
    expect(page.locator("#answer-scores svg")).to_be_visible()
    reader = page.locator(f"#answers-{asked[1]}")
    reader.focus()
    reader.evaluate("box => { box.scrollLeft = box.scrollWidth; }")
    page.locator(f"#prompt-{asked[0]}").evaluate("box => { box.scrollTop = 7; }")
    was_down = page.locator(f"#prompt-{asked[0]}").evaluate("box => box.scrollTop")
    leave_answers(fine_tune, 8, dict.fromkeys(asked, "Dressing changed, I am sure."), score=0.75)
    expect(page.locator("table.answers").first.locator("th").nth(1)).to_have_text("Step 8 0.75")
    # Who was reading the oldest answers still is, with the keyboard there.
    expect(reader).to_be_focused()
    assert reader.evaluate("box => box.scrollWidth - box.clientWidth - box.scrollLeft") <= 1
    assert page.locator(f"#prompt-{asked[0]}").evaluate("box => box.scrollTop") == was_down
    expect(page.locator("#answer-scores .line")).to_have_count(1)
    expect(page.locator("#answer-scores circle[r='3']")).to_have_count(3)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    finish(house, fine_tune)
    expect(page.get_by_text("grows while it runs")).to_have_count(0)
    expect(page.locator("table.answers").first).to_contain_text("I am sure")
