"""Walls: who is not signed in, and who belongs to another workspace."""

import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse

from steward.datasets.models import DatasetVersion
from steward.web.urls import _workspace
from tests.steward.house import House, visits

PATHS = [pattern.name for pattern in _workspace]
ARGUMENTS = {
    "form": "csv",
    "part": "held_out",
    "ordinal": 1,
    "index": 0,
    "item": uuid.UUID(int=1),
    "span": uuid.UUID(int=1),
}


@pytest.fixture(scope="module")
def houses(django_db_setup: None, django_db_blocker: Any) -> Iterator[tuple[House, DatasetVersion, House]]:
    """A house with a reviewed version in it, and another whose people have no business there."""
    from django.db import transaction

    outer = transaction.atomic()
    outer._from_testcase = True  # as in Django's own TestCase: actions open a transaction that must be the outermost
    with django_db_blocker.unblock(), outer:
        ours, theirs = House(), House()
        yield ours, ours.reviewed(visits(6)), theirs
        transaction.set_rollback(True)


def address(name: str, slug: str, pk: object) -> str:
    pattern = next(each for each in _workspace if each.name == name)
    names = pattern.pattern.converters
    return reverse(
        f"web:{name}", kwargs={"slug": slug} | {each: pk if each == "pk" else ARGUMENTS[each] for each in names}
    )


@pytest.mark.django_db
def test_who_was_signed_out_meanwhile_comes_back_to_the_page_of_the_form(client: Client) -> None:
    for before, after in (("http://testserver/w/ward/?x=1", "/w/ward/%3Fx%3D1"), ("http://testserver.example/", "/")):
        sent = client.post("/w/ward/datasets/new/", headers={"referer": before})
        assert sent.url == f"/sign-in/?next={after}"


@pytest.mark.django_db
def test_strangers_are_asked_to_sign_in_wherever_they_knock(client: Client) -> None:
    for name in PATHS:
        url = address(name, "ward", uuid.UUID(int=2))
        for answer in (client.get(url), client.post(url)):
            assert answer.status_code == 405 or answer.url.startswith("/sign-in/"), name


def test_another_workspace_does_not_exist(houses: Any, browser_of: Any) -> None:
    ours, version, theirs = houses
    stranger = browser_of(theirs.analyst)
    for name in PATHS:
        url = address(name, ours.workspace.slug, version.pk)
        codes = {stranger.get(url).status_code, stranger.post(url).status_code}
        assert 404 in codes, name
        assert codes <= {404, 405}, name


def test_ids_of_another_workspace_are_not_found_under_ones_own(houses: Any, browser_of: Any) -> None:
    _, version, theirs = houses
    people = [browser_of(theirs.analyst), browser_of(theirs.officer)]
    for pattern in _workspace:
        if "pk" not in pattern.pattern.converters:
            continue
        pk = version.dataset_id if pattern.name in {"dataset", "upload"} else version.pk
        url = address(pattern.name, theirs.workspace.slug, pk)
        codes = {answer.status_code for person in people for answer in (person.get(url), person.post(url))}
        assert 404 in codes, pattern.name
        assert codes <= {403, 404, 405}, pattern.name


def test_a_page_that_asks_by_itself_is_told_to_sign_in_again(client: Client, houses: Any) -> None:
    answer = client.get(f"/w/{houses[0].workspace.slug}/", headers={"HX-Request": "true"})
    assert answer.status_code == 401
    assert answer["HX-Redirect"] == "/sign-in/"


def test_pages_are_kept_by_no_cache_and_run_no_foreign_script(houses: Any, browser_of: Any) -> None:
    answer = browser_of(houses[0].analyst).get(f"/w/{houses[0].workspace.slug}/")
    assert "no-store" in answer["Cache-Control"]
    assert "script-src 'self'" in answer["Content-Security-Policy"]
    assert "<script>" not in answer.text
    assert " style=" not in answer.text


def test_an_auditor_sees_the_ledger_and_no_record(houses: Any, browser_of: Any) -> None:
    ours, version, _ = houses
    auditor = browser_of(ours.auditor)
    assert auditor.get(f"/w/{ours.workspace.slug}/ledger/").status_code == 200
    for name in ("records", "review"):
        assert auditor.get(address(name, ours.workspace.slug, version.pk)).status_code == 403
    assert auditor.get(address("record", ours.workspace.slug, version.pk)).status_code == 403
