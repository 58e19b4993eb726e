"""Profiles and lists in the console: proposed by one officer, decided by another, read along by others."""

from typing import Any

import pytest
from django.test import Client
from django.urls import reverse

from steward.accounts.roles import Role
from steward.audit.actor import Actor
from steward.audit.models import OutboxEntry
from steward.profiles.composing import composed
from steward.profiles.models import ListEntry, ProfileVersion


@pytest.fixture
def officer(rooms: Any) -> Client:
    return rooms.browser(rooms.people[Role.COMPLIANCE_OFFICER])


@pytest.fixture
def other(rooms: Any) -> Client:
    return rooms.browser(rooms.house.user(Role.COMPLIANCE_OFFICER))


def form(**changes: str) -> dict[str, str]:
    """The form as a browser sends it, with changes."""
    sent = {}
    for kind, policy in composed("healthcare", {})["entities"].items():
        for name in ("threshold", "operator", "reason", "citation"):
            sent[f"{kind}.{name}"] = str(policy[name])
        if policy["on"]:
            sent[f"{kind}.on"] = "on"
    return {**sent, "reason": "names must go", **changes}


def post(client: Client, name: str, row: Any, data: dict[str, str]) -> str:
    return client.post(reverse(f"admin:{name}", args=[row]), data, follow=True).content.decode()


def test_a_form_becomes_a_version_with_what_differs_and_another_officer_decides(
    rooms: Any, officer: Client, other: Client
) -> None:
    workspace = rooms.ids["workspace"]
    changes = {"PERSON.operator": "placeholder", "AGE.threshold": "0.7"}
    page = post(officer, "redaction_propose", workspace, form(**changes))
    version = ProfileVersion.objects.get()
    assert version.overrides == {"PERSON": {"operator": "placeholder"}, "AGE": {"threshold": 0.7}}
    assert "another officer approves it" in page
    assert "Nothing would change" not in page
    assert "You took part in this yourself" in page
    assert "another officer has to decide" in post(officer, "redaction_version", version.pk, {"decision": "approve"})
    assert "is in force" in post(other, "redaction_version", version.pk, {"decision": "approve"})
    assert "healthcare v1" in other.get(reverse("admin:redaction_workspace", args=[workspace])).content.decode()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, "Nothing would change"),
        ({"PERSON.threshold": "much"}, "of the wrong type"),
        ({"PERSON.threshold": "7"}, "between 0 and 1"),
        ({"PERSON.operator": "burn"}, "unknown operator"),
        ({"PERSON.operator": "mask", "reason": " "}, "Say why"),
    ],
)
def test_what_is_no_profile_is_said_on_the_form(rooms: Any, officer: Client, changes: Any, words: str) -> None:
    assert words in post(officer, "redaction_propose", rooms.ids["workspace"], form(**changes))
    assert not ProfileVersion.objects.exists()


def test_a_phrase_is_shown_on_request_only_and_that_is_recorded(rooms: Any, officer: Client, other: Client) -> None:
    workspace = rooms.ids["workspace"]
    asked = {"phrase": "Agnes <b>Pell</b>", "entity_type": "PERSON", "kind": "deny"}
    page = post(officer, "redaction_workspace", workspace, asked)
    entry = ListEntry.objects.get()
    assert "Pell" not in page
    address = reverse("admin:redaction_entry", args=[entry.pk])
    assert "Pell" not in other.get(address).content.decode()
    before = OutboxEntry.objects.count()
    assert "Agnes &lt;b&gt;Pell" in other.post(address, {"decision": "show"}).content.decode()
    assert OutboxEntry.objects.count() == before + 1
    assert "another officer has to decide" in post(officer, "redaction_entry", entry.pk, {"decision": "approve"})
    assert "in force for new redactions" in post(other, "redaction_entry", entry.pk, {"decision": "approve"})
    assert "no longer in force" in post(other, "redaction_entry", entry.pk, {"decision": "retire"})
    assert other.post(address, {"decision": "burn"}).status_code == 400


def test_an_auditor_reads_profiles_and_no_phrase_and_a_stranger_finds_nothing(rooms: Any, officer: Client) -> None:
    from steward.profiles import actions

    entry = actions.propose_entry(
        actor=Actor.of(rooms.people[Role.REVIEWER]),
        workspace=rooms.house.workspace,
        kind="deny",
        entity_type="PERSON",
        phrase="Agnes Pell",
    )
    auditor, stranger = rooms.browser(rooms.people[Role.AUDITOR]), rooms.browser(rooms.stranger)
    pages = {"redaction_workspace": rooms.ids["workspace"], "redaction_propose": rooms.ids["workspace"]}
    pages["redaction_entry"] = entry.pk
    for name, row in pages.items():
        address = reverse(f"admin:{name}", args=[row])
        assert stranger.get(address).status_code == 404, name
        assert auditor.get(address).status_code == (200 if name == "redaction_workspace" else 404), name
    post(auditor, "redaction_workspace", rooms.ids["workspace"], {"phrase": "x y", "entity_type": "PERSON"})
    assert ListEntry.objects.count() == 1
