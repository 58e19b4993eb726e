"""Profile versions and list entries over REST: two officers, as in the console, and no phrase unasked."""

import json
from typing import Any

import pytest
from django.test import Client

from steward.accounts import actions as accounts
from steward.accounts.models import IdempotentRequest
from steward.accounts.roles import Role
from steward.audit.models import OutboxEntry
from steward.datasets.reading import RecordReader
from steward.profiles.models import ListEntry
from tests.steward.house import SYSTEM, House, visits
from tests.steward.rooms import ALL_SCOPES

OVERRIDES = {"PERSON": {"operator": "placeholder", "reversible": True}}


@pytest.fixture
def officers(house: House) -> list[Client]:
    """Programs of two officers and of a reviewer of the house."""
    users = [house.user(Role.COMPLIANCE_OFFICER), house.user(Role.COMPLIANCE_OFFICER), house.user(Role.REVIEWER)]
    tokens = [accounts.create_token(actor=SYSTEM, user=user, name="test", scopes=ALL_SCOPES)[1] for user in users]
    return [Client(headers={"authorization": f"Bearer {token}"}) for token in tokens]


def post(client: Client, path: str, body: Any = None, **headers: str) -> Any:
    return client.post(f"/api/v1/{path}", json.dumps(body or {}), content_type="application/json", headers=headers)


def test_a_version_is_proposed_by_one_officer_and_put_in_force_by_another(house: House, officers: list[Client]) -> None:
    first, second, _ = officers
    here = f"workspaces/{house.workspace.pk}"
    shipped = first.get(f"/api/v1/{here}/profile").json()
    assert (shipped["version"], shipped["entities"]["PERSON"]["operator"]) == (None, "surrogate")
    proposed = post(first, f"{here}/profile-versions", {"overrides": OVERRIDES, "reason": "names must go"})
    assert proposed.status_code == 201, proposed.json()
    version = proposed.json()
    assert {"type": "PERSON", "setting": "reversible", "before": False, "after": True} in version["changes"]
    own = post(first, f"profile-versions/{version['id']}/approve")
    assert (own.status_code, own.json()["code"]) == (403, "same_person")
    assert post(second, f"profile-versions/{version['id']}/approve").json()["state"] == "approved"
    in_force = first.get(f"/api/v1/{here}/profile").json()
    assert (in_force["version"], in_force["digest"]) == (version["id"], version["digest"])
    assert in_force["entities"]["PERSON"]["reversible"] is True
    redacted = house.redacted(visits(1))
    assert str(redacted.redaction.profile_version_id) == version["id"]
    listed = first.get(f"/api/v1/{here}/profile-versions?state=approved").json()["data"]
    assert [each["id"] for each in listed] == [version["id"]]
    assert first.get(f"/api/v1/{here}/profile-versions?state=maybe").status_code == 400


@pytest.mark.parametrize(
    ("body", "status", "where"),
    [
        ({"overrides": {"NOBODY": {"on": False}}, "reason": "x"}, 400, "overrides"),
        ({"overrides": {"PERSON": {"burn": 1}}, "reason": "x"}, 400, "overrides"),
        ({"overrides": {"PERSON": {"threshold": 2}}, "reason": "x"}, 400, "overrides"),
        ({"overrides": OVERRIDES}, 400, "reason"),
        ({"overrides": OVERRIDES, "reason": "x", "base": "../../etc/passwd"}, 400, "base"),
        ({"overrides": {}, "reason": "x"}, 409, ""),
    ],
)
def test_what_is_no_profile_is_refused_field_by_field(
    house: House, officers: list[Client], body: Any, status: int, where: str
) -> None:
    refused = post(officers[0], f"workspaces/{house.workspace.pk}/profile-versions", body)
    assert refused.status_code == status, refused.json()
    assert not where or any(each["field"].startswith(where) for each in refused.json()["errors"])


def test_a_phrase_is_masked_once_a_second_officer_approved_it(house: House, officers: list[Client]) -> None:
    first, second, reviewer = officers
    here = f"workspaces/{house.workspace.pk}/list-entries"
    form = {"kind": "deny", "entity_type": "OTHER_ID", "phrase": "Dressing changed"}
    proposed = post(reviewer, here, form)
    assert proposed.status_code == 201
    entry = proposed.json()
    assert "Dressing" not in json.dumps(entry)
    assert post(reviewer, here, form).json()["code"] == "phrase_known"
    assert post(reviewer, f"list-entries/{entry['id']}/approve").status_code == 403
    assert post(reviewer, f"list-entries/{entry['id']}/show").status_code == 403
    assert post(first, f"list-entries/{entry['id']}/show").json() == {"phrase": "Dressing changed"}
    assert post(first, f"list-entries/{entry['id']}/approve").json()["state"] == "approved"
    version = house.redacted(visits(1))
    (opened,) = RecordReader(version).redacted(version.redaction)
    assert "Dressing" not in opened.payload["messages"][1]["content"]
    assert "Dressing" not in first.get(f"/api/v1/{here}").text
    assert post(second, f"list-entries/{entry['id']}/retire").json()["state"] == "retired"
    listed = first.get(f"/api/v1/{here}?state=retired").json()["data"]
    assert [each["id"] for each in listed] == [entry["id"]]
    actions = [json.loads(bytes(row.body))["action"] for row in OutboxEntry.objects.order_by("sequence")]
    assert {"list_entry.proposed", "list_entry.shown", "list_entry.approved", "list_entry.retired"} <= set(actions)


def test_nothing_of_a_phrase_is_remembered_with_a_key(house: House, officers: list[Client]) -> None:
    form = {"kind": "deny", "entity_type": "PERSON", "phrase": "Quillfeather"}
    here = f"workspaces/{house.workspace.pk}/list-entries"
    entry = post(officers[2], here, form, **{"Idempotency-Key": "k1"}).json()
    post(officers[0], f"list-entries/{entry['id']}/show", **{"Idempotency-Key": "k2"})
    assert not IdempotentRequest.objects.exists()
    assert ListEntry.objects.count() == 1
