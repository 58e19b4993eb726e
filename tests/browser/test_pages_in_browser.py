"""Every page on wide and narrow screens, light and dark; the live curves; the keys."""

import math
import re
from typing import Any

import pytest
from playwright.sync_api import expect

from tests.steward.house import visits

pytestmark = [pytest.mark.browser]


@pytest.fixture
def running(house: Any) -> Any:
    """A fine-tune that has measured ten steps."""
    from steward.catalog.models import BaseModel
    from steward.runs.actions import request_fine_tune

    base = BaseModel.objects.create(
        name="Tiny-1M", path="/nowhere", digest=f"sha256:{'b' * 64}", licence="Apache-2.0", source="made for tests",
        parameters=1_000_000, context_length=2048, disk_bytes=4_000_000,
    )  # fmt: skip
    version = house.approved(visits(12))
    fine_tune = request_fine_tune(actor=house.analyst, version=version, base_model=base, name="first")
    fine_tune.state, fine_tune.steps, fine_tune.attempt = "running", 100, 1
    fine_tune.save()
    measure(fine_tune, 1, 10)
    return fine_tune


def measure(fine_tune: Any, first: int, last: int) -> None:
    from steward.runs.models import Measurement

    Measurement.objects.bulk_create(
        Measurement(
            fine_tune=fine_tune, attempt=1, split=split, step=step, loss=3 * math.exp(-step / 20) + 0.2,
            learning_rate=1e-3, grad_norm=1.0, tokens_per_second=900, memory_bytes=1 << 30, eta_seconds=60,
            event_offset=step,
        )
        for step in range(first, last + 1)
        for split in (("train", "validation") if step % 5 == 0 else ("train",))
    )  # fmt: skip
    fine_tune.step = fine_tune.event_offset = last
    fine_tune.save(update_fields=["step", "event_offset"])


def test_the_curves_grow_while_the_run_goes_on_and_survive_a_reload(house: Any, running: Any, open_as: Any) -> None:
    page = open_as(house.analyst, f"/w/{house.workspace.slug}/fine-tunes/{running.pk}/")
    chart = page.locator("#loss-chart svg[role=img]")
    expect(chart).to_have_attribute("aria-label", re.compile(r"training: .*; held out: "))
    before = page.locator("#loss-chart path.s1").last.get_attribute("d")
    measure(running, 11, 40)
    expect(page.locator("#loss-chart path.s1").last).not_to_have_attribute("d", before)
    expect(page.locator("#run")).to_contain_text("40 of 100")
    page.reload()
    expect(page.locator("#loss-chart circle.d3").first).to_be_attached()
    page.get_by_role("button", name="Log").click()
    chart.focus()
    page.keyboard.press("Home")
    expect(page.locator("#loss-chart .tip")).to_contain_text("step 1")


def test_the_curves_of_two_runs_lie_over_one_another_and_each_grows_with_its_run(
    house: Any, running: Any, open_as: Any
) -> None:
    from steward.runs.actions import request_fine_tune

    version, base = running.dataset_version, running.base_model
    other = request_fine_tune(actor=house.analyst, version=version, base_model=base, name="second")
    other.state, other.steps, other.attempt = "running", 100, 1
    other.save()
    measure(other, 1, 5)
    address = f"/w/{house.workspace.slug}/fine-tunes/compare/?run={running.pk}&run={other.pk}"
    lines = open_as(house.analyst, address).locator("#overlay-chart path.line:not(.faint)")
    expect(lines).to_have_count(2)
    before = [line.get_attribute("d") for line in lines.all()]
    measure(other, 6, 20)
    expect(lines.nth(1)).not_to_have_attribute("d", before[1])


def test_another_workflow_brings_its_settings_the_preview_follows_and_clicks_start_one_run(
    house: Any, running: Any, open_as: Any
) -> None:
    page = open_as(house.analyst, f"/w/{house.workspace.slug}/fine-tunes/new/")
    expect(page.locator("#trainer-spec")).to_contain_text('"method": "sft"')
    page.get_by_label("Epochs").fill("9")
    expect(page.locator("#trainer-spec")).to_contain_text('"epochs": 9')
    page.get_by_label("What is trained").select_option("dora")
    expect(page.locator("#trainer-spec")).to_contain_text('"way": "dora"')
    expect(page.get_by_label("Epochs")).to_have_value("9")
    page.get_by_label("Workflow").select_option("medication_orders")
    expect(page.get_by_label("Epochs")).not_to_have_value("9")
    page.get_by_label("Epochs").fill("none")
    expect(page.locator("#preview")).to_contain_text("Epochs: give a whole number")
    asked: list[str] = []
    page.route("**/fine-tunes/new/", lambda route: asked.append(route.request.method))  # no answer: a slow server
    page.get_by_label("Epochs").fill("1")
    start = page.get_by_role("button", name="Start")
    start.scroll_into_view_if_needed()
    place = start.bounding_box()
    assert place
    for _ in range(3):
        page.mouse.click(place["x"] + 9, place["y"] + 9)
        page.wait_for_timeout(100)
    assert asked == ["POST"]


def test_the_name_follows_the_dataset_version_until_another_is_typed(house: Any, running: Any, open_as: Any) -> None:
    first, second = running.dataset_version, house.approve(house.imported(visits(12)))
    page = open_as(house.analyst, f"/w/{house.workspace.slug}/fine-tunes/new/?version={first.pk}")
    name, version = page.get_by_label("Name"), page.get_by_label("Dataset version")
    expect(name).to_have_value(f"{first.dataset.name} #2")
    version.select_option(str(second.pk))
    expect(name).to_have_value(f"{second.dataset.name} #2")
    expect(page.locator("#preview")).to_contain_text(f"{second.dataset.name} #2")
    name.fill("mine")
    version.select_option(str(first.pk))
    expect(name).to_have_value("mine")


def test_the_workflow_follows_the_dataset_version_until_another_is_chosen(
    house: Any, running: Any, open_as: Any
) -> None:
    talks = running.dataset_version
    rows = [{"text": f"Visit {number}.", "label": "Allergy"} for number in range(70)]
    sections = house.approve(house.imported(rows, house.dataset(workflow="visit_sections")))
    page = open_as(house.analyst, f"/w/{house.workspace.slug}/fine-tunes/new/?version={talks.pk}")
    version, workflow = page.get_by_label("Dataset version"), page.get_by_label("Workflow")
    expect(workflow).to_have_value("conversations")
    version.select_option(str(sections.pk))
    expect(workflow).to_have_value("visit_sections")
    expect(page.locator("#trainer-spec")).to_contain_text('"max_length": 256')
    workflow.select_option("medication_orders")
    version.select_option(str(talks.pk))
    expect(workflow).to_have_value("medication_orders")


@pytest.mark.parametrize(("width", "look"), [(1440, "light"), (390, "dark")])
def test_no_page_breaks_out_of_its_frame(house: Any, running: Any, open_as: Any, width: int, look: str) -> None:
    running.name = "N" * 120
    running.save()
    version = running.dataset_version
    slug = house.workspace.slug
    page = open_as(house.analyst, f"/w/{slug}/", width=width, look=look)
    paths = ["", "datasets/", "datasets/new/", f"datasets/{version.dataset_id}/", f"datasets/versions/{version.pk}/"]
    paths += [f"datasets/versions/{version.pk}/{part}" for part in ("records/", "records/1/", "review/")]
    paths += ["fine-tunes/", "fine-tunes/new/", f"fine-tunes/{running.pk}/", "models/", "ledger/"]
    paths += [f"fine-tunes/{running.pk}/records/", "fine-tunes/compare/", f"fine-tunes/compare/?run={running.pk}"]
    root = page.url.split("/w/")[0]
    for path in paths:
        page.goto(f"{root}/w/{slug}/{path}")
        assert page.locator("h1").count() == 1, path
        assert page.evaluate("document.documentElement.scrollWidth") <= width, path


def test_the_look_is_kept_and_the_keys_lead_on(house: Any, open_as: Any) -> None:
    page = open_as(house.analyst, f"/w/{house.workspace.slug}/")
    ground = "getComputedStyle(document.body.parentElement).backgroundColor"
    light = page.evaluate(ground)
    page.keyboard.press("t")
    assert page.evaluate(ground) != light
    page.keyboard.press("g")
    page.keyboard.press("d")
    page.wait_for_url(re.compile("/datasets/$"))
    assert page.evaluate(ground) != light
    page.keyboard.press("?")
    expect(page.get_by_role("dialog")).to_be_visible()
