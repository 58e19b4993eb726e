"""The page and the address that show one sealed original."""

from typing import Any

import pytest

from steward.datasets.models import DatasetVersion
from tests.steward.datasets.test_originals import NAME, call_back
from tests.steward.house import House


@pytest.fixture
def reversible(house: House) -> DatasetVersion:
    return call_back(house)


def test_the_pages_show_it_once_and_the_interface_gives_it(
    house: House, reversible: DatasetVersion, browser_of: Any
) -> None:
    address = f"/w/{house.workspace.slug}/datasets/versions/{reversible.pk}/records/1/"
    officer, analyst = browser_of(house.officer), browser_of(house.analyst)
    page = officer.get(address).text
    assert 'name="place" value="0-0"' in page
    assert NAME not in page
    shown = officer.post(f"{address}original/", {"place": "0-0", "reason": "incident"}).text
    assert NAME in shown
    assert "An original is on this screen" in shown
    assert NAME not in officer.get(address).text
    assert "Sealed originals" not in analyst.get(address).text
    assert analyst.post(f"{address}original/", {"place": "0-0", "reason": "incident"}).status_code == 403
    assert officer.post(f"{address}original/", {"place": "x", "reason": "incident"}).status_code == 404
    path = f"/api/v1/versions/{reversible.pk}/records/1/original"
    form = {"slot": 0, "finding": 0, "reason": "incident"}
    given = officer.post(path, form, content_type="application/json")
    assert given.json()["original"].endswith(NAME)
    assert analyst.post(path, form, content_type="application/json").status_code == 403
    assert officer.post(path, form | {"reason": "curious"}, content_type="application/json").status_code == 400
