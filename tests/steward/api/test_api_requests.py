"""Tokens, idempotency keys, cursor pages and the one shape of errors."""

import json
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client
from django.utils import timezone

from steward.accounts import actions as accounts
from steward.accounts.models import ApiToken, IdempotentRequest
from steward.accounts.roles import Permission, Role
from steward.api.schema_generator import Generator
from steward.audit.actor import Actor
from steward.datasets.models import Dataset, DatasetVersion

NEW = {"name": "once", "purpose": "tests"}


def post(client: Client, path: str, body: Any, **headers: str) -> Any:
    text = body if isinstance(body, str | bytes) else json.dumps(body)
    return client.post(f"/api/v1/{path}", text, content_type="application/json", headers=headers)


@pytest.fixture
def analyst(rooms: Any) -> Client:
    return rooms.program(rooms.people[Role.ANALYST])


# --- tokens


def test_a_token_is_kept_as_a_digest_only(rooms: Any) -> None:
    secret = rooms.token(rooms.people[Role.ANALYST], "workspace.view")
    row = ApiToken.objects.latest("created")
    assert secret.startswith("stw_")
    assert secret not in (row.digest, row.token_key)
    assert all(secret not in str(value) for value in vars(row).values())


@pytest.mark.parametrize("end", ["expiry", "revoked", "inactive"])
def test_a_token_that_has_ended_opens_nothing(rooms: Any, end: str) -> None:
    user = rooms.people[Role.ANALYST]
    client = rooms.program(user, "workspace.view")
    assert client.get("/api/v1/me").status_code == 200
    token = ApiToken.objects.filter(user=user).latest("created")
    if end == "revoked":
        accounts.revoke_token(actor=Actor.of(user), token=token)
    elif end == "expiry":
        ApiToken.objects.filter(pk=token.pk).update(expiry=timezone.now() - timedelta(seconds=1))
    else:
        type(user).objects.filter(pk=user.pk).update(is_active=False)
    response = client.get("/api/v1/me")
    assert (response.status_code, response.json()["code"]) == (401, "token_invalid")
    assert ApiToken.objects.filter(pk=token.pk).exists()  # the ledger speaks of it


@pytest.mark.parametrize(
    "header", ["Bearer", "Bearer a b", "Bearer stw_wrong", "Bearer \u00fc", "Bearer " + "x" * 5000]
)
def test_a_bad_token_is_refused(rooms: Any, header: str) -> None:
    response = rooms.client().get("/api/v1/me", headers={"authorization": header})
    assert (response.status_code, response.json()["code"]) == (401, "token_invalid")


def test_a_token_is_made_by_a_person_who_is_signed_in_and_shown_once(rooms: Any) -> None:
    browser = rooms.browser(rooms.people[Role.ANALYST])
    made = post(browser, "tokens", {"name": "nightly", "scopes": ["workspace.view"], "lifetime_days": 365})
    assert made.status_code == 201
    assert made.headers["Cache-Control"] == "no-store"
    secret = made.json()["token"]
    program = rooms.client(headers={"authorization": f"Bearer {secret}"})
    assert program.get("/api/v1/me").json()["scopes"] == ["workspace.view"]
    listed = browser.get("/api/v1/tokens").json()["data"]
    assert listed[0]["name"] == "nightly"
    assert secret not in json.dumps(listed)


def test_a_token_makes_no_tokens_and_revokes_only_itself(rooms: Any, analyst: Client) -> None:
    user = rooms.people[Role.ANALYST]
    assert post(analyst, "tokens", {"name": "more", "scopes": ["workspace.view"]}).status_code == 403
    assert analyst.get("/api/v1/tokens").status_code == 403
    program = rooms.program(user, "workspace.view")
    newest, *others = ApiToken.objects.filter(user=user).order_by("-created")
    assert program.delete(f"/api/v1/tokens/{others[0].pk}").status_code == 403
    assert program.delete(f"/api/v1/tokens/{newest.pk}").status_code == 204
    assert program.get("/api/v1/me").status_code == 401


def test_another_person_s_token_is_not_there(rooms: Any) -> None:
    rooms.token(rooms.people[Role.ANALYST])
    token = ApiToken.objects.filter(user=rooms.people[Role.ANALYST]).latest("created")
    assert rooms.browser(rooms.stranger).delete(f"/api/v1/tokens/{token.pk}").status_code == 404


@pytest.mark.parametrize(
    ("body", "fields"),
    [
        ({}, {"name", "scopes"}),
        ({"name": "x", "scopes": []}, {"scopes"}),
        ({"name": "x", "scopes": ["everything"], "lifetime_days": 366}, {"scopes.0", "lifetime_days"}),
        ({"name": "", "scopes": "workspace.view", "lifetime_days": 0}, {"name", "scopes", "lifetime_days"}),
    ],
)
def test_every_field_that_is_wrong_is_listed(rooms: Any, body: dict[str, Any], fields: set[str]) -> None:
    response = post(rooms.browser(rooms.people[Role.ANALYST]), "tokens", body)
    assert response.status_code == 400
    assert {error["field"] for error in response.json()["errors"]} == fields


def test_a_session_needs_its_csrf_token(rooms: Any) -> None:
    browser = Client(enforce_csrf_checks=True)
    browser.force_login(rooms.people[Role.ANALYST], backend="django.contrib.auth.backends.ModelBackend")
    response = post(browser, "tokens", {"name": "x", "scopes": ["workspace.view"]})
    assert (response.status_code, response.json()["code"]) == (403, "csrf_failed")


# --- idempotency


def test_a_repeated_request_has_one_effect_and_the_same_answer(rooms: Any, analyst: Client) -> None:
    body = {**NEW, "workspace": str(rooms.ids["workspace"])}
    first = post(analyst, "datasets", body, **{"Idempotency-Key": "k1"})
    second = post(analyst, "datasets", dict(reversed(body.items())), **{"Idempotency-Key": "k1"})
    assert (first.status_code, second.status_code) == (201, 201)
    assert first.json() == second.json()
    assert ("Idempotent-Replayed" in first.headers, second.headers["Idempotent-Replayed"]) == (False, "true")
    assert Dataset.objects.filter(name="once").count() == 1


def test_another_request_with_the_same_key_is_refused(rooms: Any, analyst: Client) -> None:
    body = {**NEW, "workspace": str(rooms.ids["workspace"])}
    post(analyst, "datasets", body, **{"Idempotency-Key": "k1"})
    for path, other in (("datasets", {**body, "name": "twice"}), (f"models/{rooms.ids['model']}/evaluations", {})):
        response = post(analyst, path, other, **{"Idempotency-Key": "k1"})
        assert (response.status_code, response.json()["code"]) == (409, "idempotency_key_reused")
    assert not Dataset.objects.filter(name="twice").exists()


def test_a_key_belongs_to_its_token(rooms: Any, analyst: Client) -> None:
    body = {**NEW, "workspace": str(rooms.ids["workspace"])}
    post(analyst, "datasets", body, **{"Idempotency-Key": "k1"})
    other = rooms.program(rooms.people[Role.ANALYST], "workspace.view", "datasets.import")
    response = post(other, "datasets", body, **{"Idempotency-Key": "k1"})
    assert (response.status_code, response.json()["code"]) == (409, "name_taken")


def test_a_request_without_effect_frees_its_key(rooms: Any, analyst: Client) -> None:
    body = {**NEW, "workspace": str(rooms.ids["workspace"])}
    assert post(analyst, "datasets", {**body, "name": ""}, **{"Idempotency-Key": "k1"}).status_code == 400
    assert post(analyst, "datasets", body, **{"Idempotency-Key": "k1"}).status_code == 201


def test_a_request_that_still_runs_is_not_run_again(rooms: Any, analyst: Client) -> None:
    body = {**NEW, "workspace": str(rooms.ids["workspace"])}
    post(analyst, "datasets", body, **{"Idempotency-Key": "k1"})
    IdempotentRequest.objects.update(status=None, answer=None)
    response = post(analyst, "datasets", body, **{"Idempotency-Key": "k1"})
    assert (response.status_code, response.json()["code"]) == (409, "idempotency_in_progress")
    IdempotentRequest.objects.update(started_at=timezone.now() - timedelta(minutes=11))
    assert post(analyst, "datasets", body, **{"Idempotency-Key": "k1"}).json()["code"] == "name_taken"  # it ran


@pytest.mark.parametrize("key", ["", "x" * 256, "a\tb"])
def test_a_bad_key_is_refused(rooms: Any, analyst: Client, key: str) -> None:
    response = post(analyst, "datasets", NEW, **{"Idempotency-Key": key})
    assert response.json()["errors"][0]["field"] == "Idempotency-Key"


@pytest.mark.parametrize("profile", ["../../etc/passwd", "/etc/hostname", "unknown", ""])
def test_a_profile_is_named_and_never_a_path(rooms: Any, analyst: Client, profile: str) -> None:
    response = post(analyst, f"versions/{rooms.ids['imported']}/redactions", {"profile": profile})
    assert response.json()["errors"][0]["field"] == "profile"


def test_every_post_takes_a_key_but_those_whose_answer_must_not_be_kept() -> None:
    from steward.api.urls import urlpatterns

    views = {each.callback.view_class for each in urlpatterns if hasattr(each.callback, "view_class")}
    plain = {view.__name__ for view in views if "post" in vars(view) and not hasattr(view.post, "is_idempotent")}
    # A forecast changes nothing, so there is nothing to repeat; a person is erased once, and no digest of a
    # request that names them is to stay.
    once = {"FineTuneForecast", "DatasetErasures"}
    assert plain == {"Tokens", "RecordOriginal", "ListEntries", "EntryPhrase"} | once


# --- uploads


def test_an_upload_is_sealed_and_queued_and_a_repeated_one_noticed(rooms: Any, analyst: Client) -> None:
    path = f"/api/v1/datasets/{rooms.ids['dataset']}/versions"

    def send(**fields: str) -> Any:
        rows = b'{"q": "why?", "completion": "because", "who": "p1"}\n'
        return analyst.post(path, {"file": SimpleUploadedFile("f.jsonl", rows), **fields})

    unmapped = send()
    assert (unmapped.status_code, unmapped.json()["code"]) == (409, "shape_unknown")
    rows = b'{"prompt": "why?", "completion": "because", "who": "p1"}\n'
    form = {"file": SimpleUploadedFile("f.jsonl", rows), "columns": '{"subject": "who"}'}
    taken = analyst.post(path, form)
    assert (taken.status_code, taken.json()["state"]) == (202, "importing")
    assert DatasetVersion.objects.get(pk=taken.json()["id"]).mapping["subject"] == "who"
    again = analyst.post(path, {"file": SimpleUploadedFile("f.jsonl", rows), "columns": '{"subject": "who"}'})
    assert (again.status_code, again.json()["code"]) == (409, "duplicate_upload")


@pytest.mark.parametrize(
    "form",
    [
        {},
        {"other": SimpleUploadedFile("f.jsonl", b"{}")},
        {"file": SimpleUploadedFile("f.jsonl", b'{"prompt":"a","completion":"b"}\n'), "columns": "[1]"},
        {"file": SimpleUploadedFile("f.jsonl", b'{"prompt":"a","completion":"b"}\n'), "columns": "{"},
        {"file": SimpleUploadedFile("f.jsonl", b"")},
        {"file": SimpleUploadedFile("f.jsonl", b"\x00\x01\x02")},
    ],
)
def test_a_bad_upload_leaves_nothing(rooms: Any, analyst: Client, form: dict[str, Any], settings: Any) -> None:
    before = set(settings.STEWARD_OBJECTS.rglob("*.*"))
    response = analyst.post(f"/api/v1/datasets/{rooms.ids['dataset']}/versions", form)
    assert response.status_code in (400, 409)
    assert set(settings.STEWARD_OBJECTS.rglob("*.*")) == before


# --- pages


@pytest.mark.parametrize("limit", [1, 2, 50])
def test_pages_neither_repeat_nor_skip_a_row(rooms: Any, analyst: Client, limit: int) -> None:
    for path in ("datasets", "ledger/entries", f"versions/{rooms.ids['waiting']}/sample"):
        whole = analyst.get(f"/api/v1/{path}?limit=200").json()["data"]
        found, address = [], f"/api/v1/{path}?limit={limit}"
        while address and len(found) < 12:
            page = analyst.get(address).json()
            assert page["has_more"] == (page["next"] is not None)
            assert len(page["data"]) <= limit
            found += page["data"]
            address = page["next"]
        assert found == whole[: len(found)]
        assert address or len(found) == len(whole)


def test_a_row_that_comes_in_between_disturbs_no_page(rooms: Any, analyst: Client) -> None:
    first = analyst.get("/api/v1/datasets?limit=1").json()
    second = analyst.get("/api/v1/datasets?limit=2").json()["data"][1]
    post(analyst, "datasets", {**NEW, "workspace": str(rooms.ids["workspace"])})
    assert analyst.get(first["next"]).json()["data"] == [second]


@pytest.mark.parametrize(
    "query",
    ["limit=0", "limit=201", "limit=x", "limit=-1", "limit=", "limit=9999999999", "limit=٣", "cursor=", "cursor=x",
     "cursor=WyJhIiwiYiJd", "cursor=W10", "cursor=" + "W" * 9000, "cursor=%00", "workspace=x", "workspace="],
)  # fmt: skip
def test_a_bad_page_request_is_refused(rooms: Any, analyst: Client, query: str) -> None:
    response = analyst.get(f"/api/v1/datasets?{query}")
    assert response.status_code == 400, response.content
    assert response.json()["errors"][0]["field"] == query.split("=")[0]


# --- errors


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("get", "nothing", 404, "not_found"),
        ("get", "datasets/not-an-id", 404, "not_found"),
        ("get", "ledger/entries/99999999999999999999999", 404, "not_found"),
        ("delete", "datasets", 405, "method_not_allowed"),
        ("patch", "me", 405, "method_not_allowed"),
    ],
)
def test_every_error_has_the_one_shape(
    rooms: Any, analyst: Client, method: str, path: str, status: int, code: str
) -> None:
    response = getattr(analyst, method)(f"/api/v1/{path}")
    assert (response.status_code, response.headers["Content-Type"]) == (status, "application/problem+json")
    problem = response.json()
    assert {"type", "title", "status", "code", "detail"} <= problem.keys()
    assert (problem["status"], problem["code"]) == (status, code)


def test_an_answer_in_another_form_is_not_offered(analyst: Client) -> None:
    response = analyst.get("/api/v1/datasets", headers={"accept": "text/html"})
    assert (response.status_code, response.headers["Content-Type"]) == (406, "application/problem+json")


NASTY = [
    b"", b"null", b"[]", b'"text"', b"1e999", b"NaN", b"{", b"\xff\xfe", b"{}", b'{"name": null}',
    b'{"name": "\\u0000", "purpose": "\\ud800", "workspace": "x"}', b"[" * 100_000, b'{"a":' * 50_000,
    b'{"name": ["x"], "purpose": {"a": 1}, "workspace": 7, "verdict": [], "missed_count": 1e400, "size": 9999999999}',
    b'{"changes": {"epochs": {"a": [1e308]}}, "name": "\\ud800", "dataset_version": [], "base_model": null}',
    b'{"reason": {"a": 1}, "profile": "../../etc/passwd", "audience": 3, "size": -1, "missed_count": -5}',
    b'{"x": "' + b"a" * (3 << 20) + b'"}',
]  # fmt: skip


def test_no_bad_body_is_our_fault(rooms: Any) -> None:
    from tests.steward.api.test_api_permissions import CALLS

    everybody = rooms.house.user(*Role)
    client = rooms.program(everybody)
    for call in CALLS:
        if call.method != "POST":
            continue
        path = call.path.format(**rooms.ids)
        for body in NASTY:
            for key in ({}, {"Idempotency-Key": "k"}):
                response = post(client, path, body, **key)
                assert response.status_code < 500, (path, body[:60], response.content)
                if response.status_code >= 400:
                    assert response.headers["Content-Type"] == "application/problem+json"
    other = client.post(f"/api/v1/datasets/{rooms.ids['dataset']}/versions", b"x", content_type="multipart/form-data")
    assert other.status_code == 400
    assert post(client, "datasets", b"a=1").status_code == 400
    form = client.post("/api/v1/datasets", {"name": "x"})
    assert (form.status_code, form.json()["code"]) == (415, "unsupported_media_type")


# --- the description


def test_the_description_is_whole_and_valid(rooms: Any, capsys: pytest.CaptureFixture[str]) -> None:
    from drf_spectacular.drainage import GENERATOR_STATS
    from drf_spectacular.validation import validate_schema

    GENERATOR_STATS.reset()
    schema = rooms.client().get("/api/v1/openapi.json").json()
    assert not GENERATOR_STATS, capsys.readouterr().err
    validate_schema(schema)
    assert schema["openapi"].startswith("3.1")
    operations = [op for path in schema["paths"].values() for op in path.values()]
    assert len({op["operationId"] for op in operations}) == len(operations)
    assert all("default" in op["responses"] and op["tags"] and op["description"] for op in operations)
    assert schema["components"]["securitySchemes"]["token"]["scheme"] == "bearer"


def test_the_first_two_readers_at_once_both_get_the_description(rooms: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from drf_spectacular import plumbing
    from drf_spectacular.extensions import OpenApiViewExtension

    def absent(name: str) -> None:
        time.sleep(0.05)  # long enough for the other to begin as well
        raise ImportError(name)

    class OfAPartThatIsNotInstalled(OpenApiViewExtension):
        target_class = "absent.View"

    monkeypatch.setattr(plumbing, "import_string", absent)
    try:
        with ThreadPoolExecutor(2) as pool:
            asked = [pool.submit(Generator().get_schema, public=True) for _ in range(2)]
            one, other = (each.result() for each in asked)
    finally:
        OpenApiViewExtension._registry.remove(OfAPartThatIsNotInstalled)
    assert one["paths"] == other["paths"]


def test_the_page_about_it_has_nothing_inline_and_the_house_s_policy(rooms: Any) -> None:
    page = rooms.client().get("/api/v1/docs")
    policy = page.headers["Content-Security-Policy"]
    assert "script-src 'self'" in policy
    assert "unsafe" not in policy
    assert b"<style" not in page.content
    assert b"<script>" not in page.content
    assert page.content.count(b"<script src=") == page.content.count(b"<script")
    script = rooms.client().get("/api/v1/docs?script=")
    assert script.headers["Content-Type"].startswith("application/javascript")


def test_a_proof_from_the_interface_verifies_without_the_server(rooms: Any, analyst: Client) -> None:
    import base64

    from compliance.ledger import checkpoint, merkle

    entry = analyst.get(f"/api/v1/ledger/entries/{rooms.ids['entry']}").json()
    key = analyst.get("/api/v1/ledger/key").json()["key"]
    signed = checkpoint.open_checkpoint(entry["proof"]["checkpoint"], [checkpoint.VerificationKey.parse(key)])
    leaf = merkle.leaf_hash(base64.b64decode(entry["body"]))
    proof = [bytes.fromhex(node) for node in entry["proof"]["hashes"]]
    merkle.verify_inclusion(leaf, entry["index"], signed.size, proof, signed.root)
    assert json.loads(base64.b64decode(entry["body"]))["facts"] == entry["facts"]


def test_the_command_makes_a_token(rooms: Any, capsys: pytest.CaptureFixture[str]) -> None:
    from django.core.management import CommandError, call_command

    user = rooms.people[Role.AUDITOR]
    call_command("create_token", user.username, scope=[str(Permission.VIEW_LEDGER)], days=7)
    secret = capsys.readouterr().out.strip()
    me = rooms.client(headers={"authorization": f"Bearer {secret}"}).get("/api/v1/me").json()
    assert me["scopes"] == ["ledger.view"]
    with pytest.raises(CommandError, match="365"):
        call_command("create_token", user.username, scope=["ledger.view"], days=400)
    with pytest.raises(CommandError, match="no active user"):
        call_command("create_token", "nobody", scope=["ledger.view"])
