"""The first half of the way of the data, by hand, in a browser: from a file to an approved version."""

import re
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import expect

from tests.steward.house import lines, visits

pytestmark = [pytest.mark.browser]


def test_a_file_becomes_an_approved_version(house: Any, open_as: Any, tmp_path: Path) -> None:
    from steward.datasets.importing import import_version
    from steward.datasets.models import DatasetVersion, RedactionRun
    from steward.datasets.redacting import redact_version

    page = open_as(house.analyst, f"/w/{house.workspace.slug}/")
    page.get_by_role("link", name="New dataset").first.click()
    page.get_by_label("Name", exact=True).fill("Visits")
    page.get_by_label("What may the data be used for?").fill("coding")
    page.get_by_text("Chat", exact=True).click()
    page.get_by_role("button", name="Make the dataset").click()

    file = tmp_path / "visits.jsonl"
    file.write_bytes(lines(visits(24)))
    page.set_input_files("#file", file)
    expect(page.get_by_label("Person the row is about")).to_have_value("patient_id")
    page.get_by_role("button", name="Import", exact=True).click()
    page.wait_for_url(re.compile("/versions/"))
    expect(page.get_by_text("Reading the file")).to_be_visible()
    version = DatasetVersion.objects.get()
    import_version(str(version.pk))
    expect(page.get_by_role("heading", name="Next: redact")).to_be_visible()  # without a reload

    page.get_by_role("button", name="Redact").click()
    expect(page.get_by_role("heading", name="Redaction is running")).to_be_visible()
    redact_version(str(RedactionRun.objects.get().pk))
    expect(page.get_by_role("heading", name="Next: review a sample")).to_be_visible()

    page.get_by_role("button", name="Draw the sample").click()
    expect(page.get_by_role("heading", name="Does anything identify a person?")).to_be_visible()
    page.wait_for_load_state()  # the keys work once the page's scripts have run
    for number in range(1, 6):
        page.keyboard.press("a")
        expect(page.get_by_text(f"{number} of 5 reviewed")).to_be_visible()
    expect(page.get_by_text("Every record of the sample has a verdict")).to_be_visible()

    officer = open_as(house.officer, f"/w/{house.workspace.slug}/datasets/versions/{version.pk}/")
    officer.get_by_role("button", name="Approve").click()
    expect(officer.get_by_text("is approved and can be trained on")).to_be_visible()


def test_a_file_chosen_before_the_script_arrived_is_read_all_the_same(house: Any, open_as: Any, tmp_path: Path) -> None:
    dataset = house.dataset()
    page = open_as(house.analyst, f"/w/{house.workspace.slug}/")
    held: list[Any] = []
    page.route("**/web/upload*.js", lambda route: held.append(route))
    page.goto(f"{page.url}datasets/{dataset.pk}/", wait_until="commit")
    file = tmp_path / "visits.jsonl"
    file.write_bytes(lines(visits(2)))
    page.set_input_files("#file", file)
    expect(page.get_by_label("Person the row is about")).to_be_hidden()
    held[0].continue_()
    expect(page.get_by_label("Person the row is about")).to_have_value("patient_id")


def test_an_upload_that_is_refused_says_why_on_the_page(house: Any, open_as: Any, tmp_path: Path) -> None:
    dataset = house.dataset(workflow="visit_sections")
    page = open_as(house.analyst, f"/w/{house.workspace.slug}/datasets/{dataset.pk}/")
    file = tmp_path / "notes.csv"
    file.write_text('note,"what, kind"\n"He said ""no"", twice",ROS\n')
    page.set_input_files("#file", file)
    expect(page.get_by_label("Field “text”")).to_be_visible()
    options = page.get_by_label("Field “text”").locator("option").all_text_contents()
    assert options == ["choose a column", "note", "what, kind"]
    page.get_by_label("Field “text”").select_option("note")
    page.get_by_role("button", name="Import", exact=True).click()
    expect(page.locator("#upload-problem")).to_contain_text("needs the fields label")


def test_a_miss_is_counted_by_key(house: Any, open_as: Any) -> None:
    from steward.datasets.models import SampleItem

    version = house.redacted(visits(6))
    page = open_as(house.reviewer, f"/w/{house.workspace.slug}/datasets/versions/{version.pk}/")
    page.get_by_role("button", name="Draw the sample").click()
    expect(page.get_by_role("heading", name="Does anything identify a person?")).to_be_visible()
    page.wait_for_load_state()  # the keys work once the page's scripts have run
    page.keyboard.press("x")
    page.keyboard.type("3")
    page.keyboard.press("Enter")
    expect(page.get_by_text("1 of 5 reviewed")).to_be_visible()
    assert SampleItem.objects.get(verdict="missed").missed_count == 3


def test_raw_text_is_compared_side_by_side_and_in_one_text(house: Any, open_as: Any) -> None:
    version = house.redacted(visits(3))
    page = open_as(house.analyst, f"/w/{house.workspace.slug}/datasets/versions/{version.pk}/records/1/")
    page.get_by_role("button", name="Show the raw text").click()
    expect(page.get_by_text("Raw text is on this screen")).to_be_visible()
    page.get_by_role("button", name="In one text").click()
    expect(page.locator("del.found").first).to_contain_text("Quackenbush")
    expect(page.locator("ins.found").first).to_be_visible()
