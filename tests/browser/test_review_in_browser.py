"""The review desk by hand: words are marked with keys and mouse, verdicts are taken back, corrections are proposed."""

from typing import Any

import pytest
from playwright.sync_api import expect

from steward.accounts.roles import Role
from tests.steward.house import visits

pytestmark = [pytest.mark.browser]
WORD_BOX = """(word) => {
  const texts = document.createTreeWalker([...document.querySelectorAll(".record")].at(-1), NodeFilter.SHOW_TEXT);
  while (texts.nextNode()) {
    const at = texts.currentNode.data.indexOf(word);
    if (at < 0) continue;
    const range = document.createRange();
    range.setStart(texts.currentNode, at);
    range.setEnd(texts.currentNode, at + word.length);
    return range.getBoundingClientRect().toJSON();
  }
}"""


def at_desk(house: Any, open_as: Any, version: Any, actor: Any) -> Any:
    page = open_as(actor, f"/w/{house.workspace.slug}/datasets/versions/{version.pk}/review/")
    expect(page.get_by_role("heading", name="Does anything identify a person?")).to_be_visible()
    page.wait_for_load_state()  # the keys work once the page's scripts have run
    return page


def test_words_are_marked_by_key_and_by_mouse_and_become_sealed_examples(house: Any, open_as: Any) -> None:
    from steward.datasets.actions import draw_sample
    from steward.datasets.models import SpanLabel
    from steward.datasets.reading import RecordReader
    from steward.datasets.spans import open_phrase

    version = house.redacted(visits(6))
    draw_sample(actor=house.reviewer, run=version.redaction)
    page = at_desk(house, open_as, version, house.reviewer)
    page.keyboard.press("s")
    expect(page.locator("#palette")).to_be_visible()
    page.keyboard.press("End")  # no key of the span mode: nothing happens
    word = page.evaluate("getSelection().toString()")
    for _ in range(60):  # from word to word, to the second text of the record
        if word == "Dressing":
            break
        page.keyboard.press("ArrowRight")
        word = page.evaluate("getSelection().toString()")
    page.keyboard.press("Shift+ArrowRight")
    assert page.evaluate("getSelection().toString()") == "Dressing changed"
    page.keyboard.press("4")
    expect(page.locator(".mark-chip")).to_have_text("missed: Dressing changed · organization ✕")
    page.keyboard.press("Escape")
    box = page.evaluate(WORD_BOX, "plan")
    page.mouse.dblclick(box["x"] + 4, box["y"] + 6)  # selects the word at the pointer
    page.locator("#palette [data-type=DATE]").click()
    expect(page.locator(".mark-chip")).to_have_count(2)
    page.keyboard.press("Backspace")
    expect(page.locator(".mark-chip")).to_have_count(1)
    masked = page.locator(".record .found").first
    masked.click()
    expect(masked).to_have_class("found kind-person wrong")
    page.keyboard.press("x")
    expect(page.get_by_text("1 of 5 reviewed")).to_be_visible()
    labels = {label.fault: label for label in SpanLabel.objects.select_related("redacted")}
    assert {(each.fault, each.entity_type) for each in labels.values()} == {
        ("missed", "ORGANIZATION"),
        ("overmasked", "PERSON"),
    }
    assert open_phrase(labels["missed"], version) == "Dressing changed"
    raw = RecordReader(version).raw_one(labels["overmasked"].redacted.ordinal)
    assert open_phrase(labels["overmasked"], version) in raw.payload["messages"][0]["content"]


def test_a_verdict_is_taken_back_and_a_record_left_for_later(house: Any, open_as: Any) -> None:
    from steward.datasets.actions import draw_sample

    version = house.redacted(visits(6))
    draw_sample(actor=house.reviewer, run=version.redaction)
    page = at_desk(house, open_as, version, house.reviewer)
    first = page.locator(".record").all_text_contents()
    page.keyboard.press("ArrowRight")
    expect(page.locator(".record").last).not_to_have_text(first[-1])
    page.keyboard.press("ArrowLeft")
    expect(page.locator(".record").last).to_have_text(first[-1])
    page.keyboard.press("a")
    expect(page.get_by_text("1 of 5 reviewed")).to_be_visible()
    page.keyboard.press("Backspace")
    expect(page.get_by_text("0 of 5 reviewed")).to_be_visible()
    assert page.locator(".record").all_text_contents() == first


def test_a_correction_becomes_a_phrase_in_force_and_shows_in_the_next_redaction(house: Any, open_as: Any) -> None:
    from steward.datasets.actions import draw_sample, review_item
    from steward.datasets.comparing import compare_runs
    from steward.datasets.models import RedactionRun, SampleItem, SpanFault, Verdict
    from steward.datasets.reading import RecordReader
    from steward.datasets.redacting import redact_version
    from steward.datasets.spans import MarkedSpan
    from steward.datasets.texts import slots

    version = house.redacted(visits(6))
    first = version.redaction
    draw_sample(actor=house.reviewer, run=first)
    item = SampleItem.objects.filter(run=first).select_related("redacted").first()
    answer = slots(next(RecordReader(version).redacted(first, ordinals=[item.redacted.ordinal])).payload)[1]
    start = answer.index("Dressing")
    span = MarkedSpan(SpanFault.MISSED, 1, start, start + len("Dressing"), "PERSON")
    review_item(actor=house.reviewer, item=item, verdict=Verdict.MISSED, spans=[span])

    corrections = open_as(house.officer, f"/w/{house.workspace.slug}/datasets/versions/{version.pk}/")
    corrections.goto(corrections.url + "corrections/")
    expect(corrections.get_by_role("heading", name="What the reviewers corrected")).to_be_visible()
    for waiting in SampleItem.objects.filter(run=first, verdict=""):
        review_item(actor=house.reviewer, item=waiting, verdict=Verdict.CLEAN)
    page = open_as(house.reviewer, f"/w/{house.workspace.slug}/datasets/versions/{version.pk}/corrections/")
    page.get_by_role("button", name="Propose to always mask").click()
    expect(page.get_by_text("Proposed. An officer decides on it in the console.")).to_be_visible()

    other = house.person(Role.COMPLIANCE_OFFICER)
    console = open_as(other, f"/console/redaction/{house.workspace.pk}/")
    console.get_by_role("link", name="Always mask").click()
    console.get_by_role("button", name="Show the phrase").click()
    expect(console.locator(".c-secret")).to_have_text("Dressing")
    console.get_by_role("button", name="Put it in force").click()
    expect(console.get_by_text("The phrase is in force")).to_be_visible()

    analyst = open_as(house.analyst, f"/w/{house.workspace.slug}/datasets/versions/{version.pk}/")
    expect(analyst.get_by_text("The profile in force has changed since")).to_be_visible()
    analyst.on("dialog", lambda dialog: dialog.accept())
    analyst.get_by_role("button", name="Redact again").click()
    expect(analyst.get_by_role("heading", name="Redaction is running")).to_be_visible()
    run = redact_version(str(RedactionRun.objects.filter(version=version).first().pk))
    compare_runs(str(first.pk), str(run.pk))
    analyst.reload()
    analyst.get_by_role("link", name="What changed").click()
    expect(analyst.get_by_text("6 of 6 records are redacted differently")).to_be_visible()
    expect(analyst.locator(".change").first).to_contain_text("profile.deny")
