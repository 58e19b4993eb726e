"""Every address × every role, and every id of another workspace."""

import itertools
import json
from dataclasses import dataclass, field
from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client

from steward.accounts.roles import PERMISSIONS, Permission, Role
from steward.audit.models import OutboxEntry

P = Permission


@dataclass(frozen=True)
class Call:
    """A request, the permission it takes, and its status with and without."""

    method: str
    path: str
    permission: Permission = P.VIEW_WORKSPACE
    granted: int = 200
    refused: int = 403
    body: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.method} {self.path}"

    @property
    def names_an_id(self) -> bool:
        return any("{" in str(text) for text in (self.path, *self.body.values()))


CALLS = [
    Call("GET", "me"),
    Call("GET", "workspaces"),
    Call("GET", "workspaces/{workspace}"),
    Call("GET", "workspaces/{workspace}/workflows"),
    Call("GET", "workspaces/{workspace}/allowance"),
    Call("GET", "workspaces/{workspace}/profile"),
    Call("GET", "workspaces/{workspace}/profile-versions"),
    Call("GET", "workspaces/{workspace}/list-entries"),
    Call("GET", "profile-versions/{profile}"),
    Call("GET", "base-models"),
    Call("GET", "datasets"),
    Call("GET", "datasets/{dataset}"),
    Call("GET", "datasets/{dataset}/versions"),
    Call("GET", "versions/{waiting}"),
    Call("GET", "versions/{waiting}/redactions"),
    Call("GET", "versions/{waiting}/sample", P.VIEW_REDACTED),
    Call("GET", "versions/{waiting}/risk-measurements"),
    # Nothing looks privileged in these rooms: the permission is asked before the record is looked for.
    Call("GET", "versions/{waiting}/privileged", P.APPROVE_DATASET),
    Call("GET", "versions/{waiting}/privileged/{ordinal}", P.APPROVE_DATASET, 404),
    Call("GET", "sample-items/{item}", P.VIEW_REDACTED),
    Call("GET", "fine-tunes"),
    Call("GET", "fine-tunes/{fine_tune}"),
    Call("GET", "fine-tunes/{fine_tune}/measurements"),
    Call("GET", "fine-tunes/{fine_tune}/measurements/{form}"),
    Call("GET", "fine-tunes/{fine_tune}/curves"),
    # No run of these rooms has losses of single records: the permission is asked first.
    Call("GET", "fine-tunes/{fine_tune}/record-losses/{part}", P.VIEW_REDACTED, 409),
    Call("GET", "fine-tunes/{fine_tune}/answers", P.VIEW_REDACTED, 409),
    Call("GET", "fine-tunes/{fine_tune}/events", P.VIEW_LEDGER),
    Call("GET", "models"),
    Call("GET", "models/{model}"),
    Call("GET", "releases"),
    Call("GET", "releases/{release}"),
    Call("GET", "releases/{release}/evidence", P.EXPORT_EVIDENCE, 409),
    Call("GET", "releases/{release}/exports"),
    Call("GET", "exports/{export}"),
    Call("GET", "exports/{export}/content", P.EXPORT_MODEL, 409),
    Call("GET", "models/{model}/compressions"),
    Call("GET", "base-models/imports"),
    Call("GET", "ledger/entries/{entry}", P.VIEW_LEDGER, refused=404),
    Call("GET", "ledger/checkpoint"),
    Call("GET", "ledger/key"),
    Call("POST", "datasets", P.IMPORT_DATA, 201, body={"workspace": "{workspace}", "name": "new", "purpose": "tests"}),
    Call("POST", "datasets/{dataset}/versions", P.IMPORT_DATA, 202),
    Call("POST", "versions/{imported}/redactions", P.REDACT_DATA, 202),
    Call("POST", "versions/{waiting}/sample", P.REVIEW_SAMPLE, 201, body={"size": 2}),
    Call("POST", "sample-items/{item}/verdict", P.REVIEW_SAMPLE, body={"verdict": "clean"}),
    # In these rooms there is nothing to take back, to settle or to measure: the permission is asked first.
    Call("POST", "sample-items/{item}/withdraw", P.REVIEW_SAMPLE, 409),
    Call("POST", "sample-items/{item}/adjudicate", P.REVIEW_SAMPLE, 409, body={"verdict": "clean"}),
    Call(
        "POST",
        "versions/{waiting}/risk-measurements",
        P.REVIEW_SAMPLE,
        409,
        body={"quasi_identifiers": ["age"], "sensitive": ""},
    ),
    Call(
        "POST",
        "versions/{waiting}/privileged/{ordinal}/decision",
        P.APPROVE_DATASET,
        404,
        body={"kind": "released", "reason": "Sent to the other side"},
    ),
    # The shipped profiles seal no original: the permission is asked first.
    Call(
        "POST",
        "versions/{waiting}/records/{ordinal}/original",
        P.REVEAL_RECORD,
        409,
        body={"slot": 0, "finding": 0, "reason": "incident"},
    ),
    # Nobody of that name is in the dataset: the permission is asked first.
    Call(
        "POST",
        "datasets/{dataset}/erasures",
        P.SHRED_SUBJECT,
        409,
        body={"subject": "nobody", "ground": "objection"},
    ),
    Call(
        "POST",
        "workspaces/{workspace}/profile-versions",
        P.MANAGE_POLICY,
        409,  # a proposal waits in these rooms
        body={"overrides": {"PERSON": {"operator": "placeholder"}}, "reason": "names must go"},
    ),
    Call("POST", "profile-versions/{profile}/approve", P.MANAGE_POLICY),
    Call("POST", "profile-versions/{profile}/reject", P.MANAGE_POLICY, body={"reason": "no"}),
    Call(
        "POST",
        "workspaces/{workspace}/list-entries",
        P.REVIEW_SAMPLE,
        201,
        body={"kind": "deny", "entity_type": "PERSON", "phrase": "Quillfeather"},
    ),
    Call("POST", "list-entries/{list_entry}/show", P.MANAGE_POLICY),
    Call("POST", "list-entries/{list_entry}/approve", P.MANAGE_POLICY),
    Call("POST", "list-entries/{list_entry}/reject", P.MANAGE_POLICY),
    Call("POST", "list-entries/{list_entry}/retire", P.MANAGE_POLICY, 409),
    Call("POST", "versions/{reviewed}/approve", P.APPROVE_DATASET),
    Call("POST", "versions/{reviewed}/reject", P.APPROVE_DATASET, body={"reason": "wrong file"}),
    Call(
        "POST",
        "fine-tunes",
        P.START_FINE_TUNE,
        201,
        body={"dataset_version": "{approved}", "base_model": "{base_model}", "name": "run", "changes": {"epochs": 1}},
    ),
    Call("POST", "fine-tunes/{fine_tune}/clones", P.START_FINE_TUNE, 201, body={"changes": {"epochs": 3}}),
    Call(
        "POST",
        "fine-tunes/forecast",
        P.START_FINE_TUNE,
        400,
        body={"dataset_version": "{approved}", "base_model": "{base_model}", "name": "x"},
    ),
    Call("POST", "fine-tunes/{held}/approve", P.APPROVE_DATASET),
    Call(
        "POST",
        "workspaces/{workspace}/allowance",
        P.MANAGE_DEVICES,
        body={"device_hours_per_month": 40, "runs_at_once": None},
    ),
    Call("POST", "fine-tunes/{held}/priority", P.RAISE_PRIORITY, body={"priority": "high"}),
    Call("POST", "fine-tunes/{fine_tune}/cancel", P.START_FINE_TUNE),
    # The permission is asked before the state, which lets none of these three happen here.
    Call("POST", "fine-tunes/{held}/pause", P.START_FINE_TUNE, 409),
    Call("POST", "fine-tunes/{held}/resume", P.START_FINE_TUNE, 409),
    Call("POST", "fine-tunes/{held}/continue", P.START_FINE_TUNE, 409, body={"epochs": 1}),
    Call("POST", "models/{model}/evaluations", P.EVALUATE_MODEL, 202),
    Call(
        "POST",
        "releases",
        P.REQUEST_RELEASE,
        201,
        body={"model_version": "{model}", "audience": "external", "purpose": "Coding"},
    ),
    Call("POST", "models/{model}/compressions", P.EVALUATE_MODEL, 202, body={"ways": ["int8", "wanda-2:4"]}),
    Call(
        "POST",
        "base-models/imports",
        P.REGISTER_MODEL,
        409,
        body={"workspace": "{workspace}", "name": "new", "licence": "MIT", "location": "not-there.gguf"},
    ),
    # In these rooms the release waits for its decision.
    Call("POST", "releases/{release}/exports", P.EXPORT_MODEL, 409, body={"form": "merged"}),
    Call("POST", "releases/{release}/approve", P.APPROVE_RELEASE),
    Call("POST", "releases/{release}/refuse", P.APPROVE_RELEASE, body={"reason": "no"}),
]


def send(client: Client, call: Call, ids: dict[str, Any]) -> Any:
    path = f"/api/v1/{call.path.format(**ids)}"
    if call.method == "GET":
        return client.get(path)
    if call.path.endswith("{dataset}/versions"):
        rows = b'{"prompt": "a", "completion": "b"}\n'
        return client.post(path, {"file": SimpleUploadedFile("new.jsonl", rows)})
    body = {key: value.format(**ids) if isinstance(value, str) else value for key, value in call.body.items()}
    return client.post(path, json.dumps(body), content_type="application/json")


def check_answer(rooms: Any, role: Role, call: Call) -> None:
    response = send(rooms.program(rooms.people[role]), call, rooms.ids)
    expected = call.granted if call.permission in PERMISSIONS[role] else call.refused
    assert response.status_code == expected, (call, response.content)
    if response.status_code >= 400:
        assert response.headers["Content-Type"] == "application/problem+json"


@pytest.mark.parametrize("role", Role)
def test_a_role_may_see_what_its_permissions_say_and_nothing_else(rooms: Any, role: Role) -> None:
    for call in CALLS:
        if call.method == "GET":
            check_answer(rooms, role, call)


@pytest.mark.parametrize("call", [call for call in CALLS if call.method == "POST"], ids=str)
@pytest.mark.parametrize("role", Role)
def test_a_role_may_do_what_its_permissions_say_and_nothing_else(rooms: Any, role: Role, call: Call) -> None:
    check_answer(rooms, role, call)


@pytest.mark.parametrize("call", [call for call in CALLS if call.names_an_id], ids=str)
def test_a_stranger_finds_nothing_at_an_id_of_another_workspace(rooms: Any, call: Call) -> None:
    response = send(rooms.program(rooms.stranger), call, rooms.ids)
    assert response.status_code == 404, response.content
    assert response.json()["code"] == "not_found"
    nowhere = dict.fromkeys(rooms.ids, "00000000-0000-4000-8000-000000000000") | {"ordinal": rooms.ids["ordinal"]}
    missing = send(rooms.program(rooms.stranger), call, nowhere)
    assert call.path == "ledger/entries/{entry}" or missing.json() == response.json()


@pytest.mark.parametrize("path", ["workspaces", "datasets", "fine-tunes", "models", "releases", "ledger/entries"])
def test_a_list_shows_one_s_own_workspaces_only(rooms: Any, path: str) -> None:
    own = rooms.program(rooms.people[Role.ANALYST]).get(f"/api/v1/{path}?limit=200").json()["data"]
    others = rooms.program(rooms.stranger).get(f"/api/v1/{path}?limit=200").json()["data"]
    assert own
    assert all(str(rooms.ids["workspace"]) not in json.dumps(row) for row in others)
    chosen = rooms.program(rooms.stranger).get(f"/api/v1/{path}?workspace={rooms.ids['workspace']}").json()["data"]
    assert path == "workspaces" or chosen == []


def test_every_address_with_an_id_is_in_the_table_above() -> None:
    from steward.api.urls import urlpatterns

    routes = {str(each.pattern) for each in urlpatterns if "<uuid" in str(each.pattern) or "<int" in str(each.pattern)}
    covered = {call.path for call in CALLS}
    shape = lambda path: "/".join("*" if part[0] in "<{" else part for part in path.split("/"))  # noqa: E731
    assert {shape(route) for route in routes} - {"tokens/*"} == {shape(path) for path in covered if "{" in path}


def test_a_token_without_the_scope_may_not_although_its_owner_may(rooms: Any) -> None:
    everybody = rooms.house.user(*Role)
    for permission in {call.permission for call in CALLS if call.method == "POST"}:
        client = rooms.program(everybody, *(str(each) for each in Permission if each is not permission))
        for call in CALLS:
            if call.method == "POST" and call.permission is permission:
                assert send(client, call, rooms.ids).status_code == 403, call


def test_a_token_that_may_not_look_at_workspaces_sees_nothing(rooms: Any) -> None:
    client = rooms.program(rooms.people[Role.COMPLIANCE_OFFICER], str(P.CHAT))
    for call in CALLS:
        if call.path not in ("me", "ledger/key"):
            assert send(client, call, rooms.ids).json()["code"] == "scope_missing", call


def test_nobody_gets_anything_without_signing_in(rooms: Any) -> None:
    for call in CALLS:
        response = send(rooms.client(), call, rooms.ids)
        assert (response.status_code, response.json()["code"]) == (401, "not_authenticated")
        assert response.headers["WWW-Authenticate"] == "Bearer"


def test_a_denied_request_is_in_the_ledger(rooms: Any) -> None:
    before = OutboxEntry.objects.count()
    send(rooms.program(rooms.people[Role.AUDITOR]), CALLS[-2], rooms.ids)
    entries = list(itertools.islice(OutboxEntry.objects.order_by("-sequence"), 1))
    assert OutboxEntry.objects.count() == before + 1
    body = json.loads(bytes(entries[0].body))
    assert (body["action"], body["outcome"], body["object_id"]) == (
        "release.approved",
        "denied",
        str(rooms.ids["release"]),
    )
