"""Fine-tunes side by side, in the browser's and in a program's answer."""

from typing import Any

import pytest

from steward.runs.models import FineTune
from tests.steward.house import House, visits
from tests.steward.runs.paper import judged, trained


@pytest.fixture
def lenient(db: None) -> House:
    return House(policy={"missed_per_1000_max": 1000})


@pytest.fixture
def two(lenient: House, base_model: Any) -> tuple[FineTune, FineTune]:
    version = lenient.approved(visits(60))
    first = trained(lenient, version, base_model, "first", epochs=1)
    second = trained(lenient, version, base_model, "second", epochs=3)
    judged(lenient, first, [0.0, 1.0] * 40)
    judged(lenient, second, [1.0, 1.0] * 40)
    return first, second


def test_the_page_overlays_marks_and_judges(lenient: House, browser_of: Any, two: tuple[FineTune, FineTune]) -> None:
    person = browser_of(lenient.analyst)
    address = f"/w/{lenient.workspace.slug}/fine-tunes/compare/"
    assert "Choose runs" in person.get(address).text
    page = person.get(address, {"run": [str(run.pk) for run in two]}).text
    assert page.count("data-source=") == 2
    assert "<mark>3</mark>" in page
    assert "B is better than A" in page
    assert "equal setting" in page
    assert "+0.500" in page


def test_a_wrong_choice_is_explained_and_a_foreign_run_is_not_there(
    lenient: House, browser_of: Any, two: tuple[FineTune, FineTune]
) -> None:
    person = browser_of(lenient.analyst)
    address = f"/w/{lenient.workspace.slug}/fine-tunes/compare/"
    twice = person.get(address, {"run": [str(two[0].pk)] * 2})
    assert (twice.status_code, "2 to 6 different" in twice.text) == (409, True)
    assert person.get(address, {"run": ["nonsense", str(two[0].pk)]}).status_code == 404
    elsewhere = House()
    other = browser_of(elsewhere.analyst)
    foreign = f"/w/{elsewhere.workspace.slug}/fine-tunes/compare/"
    assert other.get(foreign, {"run": [str(run.pk) for run in two]}).status_code == 404


def test_a_program_gets_the_same_comparison(lenient: House, two: tuple[FineTune, FineTune]) -> None:
    from django.test import Client

    from steward.accounts import actions as accounts
    from steward.accounts.models import User
    from tests.steward.house import SYSTEM

    def program(actor: Any) -> Client:
        user = User.objects.get(pk=actor.user_id)
        token = accounts.create_token(actor=SYSTEM, user=user, name="t", scopes=["workspace.view"])[1]
        return Client(headers={"authorization": f"Bearer {token}"})

    query = "&".join(f"id={run.pk}" for run in two)
    found = program(lenient.analyst).get(f"/api/v1/fine-tunes/comparison?{query}").json()
    assert [run["name"] for run in found["runs"]] == ["first", "second"]
    assert found["runs"][0]["score"]["method"] == "bootstrap"
    assert {"path": "epochs", "values": [1, 3], "is_same": False} in found["settings"]
    assert found["pairs"][0]["verdict"] == "better"
    assert found["pairs"][0]["difference"]["estimate"] == 0.5
    assert program(House().analyst).get(f"/api/v1/fine-tunes/comparison?{query}").status_code == 404
    assert program(lenient.analyst).get(f"/api/v1/fine-tunes/comparison?id={two[0].pk}").status_code == 409
