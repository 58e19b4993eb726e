"""The console: who comes in, what they see, and that nothing is written but by actions."""

import json
from typing import Any

import pytest
from django.test import Client
from django.urls import get_resolver, reverse

from compliance.ledger.__main__ import main as verifier
from steward.accounts.models import ApiToken, Membership, User, Workspace
from steward.accounts.roles import Role
from steward.audit.models import LedgerEntry, OutboxEntry
from steward.console.access import CONSOLE_ROLES
from steward.datasets.models import DatasetVersion
from steward.keyring import verification_key
from steward.releases.models import Release
from steward.runs.claims import Allowance, Priority
from steward.runs.models import FineTune

LISTS = {
    "datasets_dataset": "dataset",
    "datasets_datasetversion": "waiting",
    "datasets_redactionrun": "redaction",
    "runs_finetune": "held",
    "runs_modelversion": "model",
    "releases_release": "release",
    "audit_ledgerentry": "entry",
    "accounts_workspace": "workspace",
}
PAGES = {
    "approve_version": "waiting",
    "approve_fine_tune": "held",
    "approve_release": "release",
    "policy": "workspace",
    "allowance": "workspace",
    "priority": "held",
    "redaction_workspace": "workspace",
    "erase_subject": "dataset",
}


@pytest.fixture
def officer(rooms: Any) -> Client:
    return rooms.browser(rooms.people[Role.COMPLIANCE_OFFICER])


def shown(client: Client, name: str, *arguments: Any) -> int:
    return int(client.get(reverse(f"admin:{name}", args=arguments)).status_code)


# --- who comes in


@pytest.mark.parametrize("role", Role)
def test_only_the_console_s_roles_come_in(rooms: Any, role: Role) -> None:
    client = rooms.browser(rooms.people[role])
    response = client.get("/console/", follow=True)
    assert response.status_code == (200 if role in CONSOLE_ROLES else 403)


def test_a_flag_of_django_s_admin_opens_nothing(rooms: Any) -> None:
    user = rooms.people[Role.ANALYST]
    User.objects.filter(pk=user.pk).update(is_staff=True)
    assert rooms.browser(user).get("/console/", follow=True).status_code == 403


def test_who_is_not_signed_in_is_sent_to_the_one_sign_in_page(rooms: Any) -> None:
    response = rooms.client().get("/console/approvals/", follow=True)
    first, last = response.redirect_chain[0][0], response.redirect_chain[-1][0]
    assert first.startswith("/console/login/")
    assert last == "/sign-in/?next=/console/approvals/"


def test_a_role_that_is_taken_away_closes_the_door_at_once(rooms: Any, officer: Client) -> None:
    assert shown(officer, "index") == 200
    Membership.objects.filter(user=rooms.people[Role.COMPLIANCE_OFFICER]).delete()
    assert officer.get("/console/").status_code == 302


# --- what they see


@pytest.mark.parametrize("role", CONSOLE_ROLES)
def test_every_page_opens_for_those_whose_it_is(rooms: Any, role: Role) -> None:
    client = rooms.browser(rooms.people[role])
    for name, row in LISTS.items():
        is_hidden = name == "audit_ledgerentry" and role is Role.ADMINISTRATOR
        assert shown(client, f"{name}_changelist") == (403 if is_hidden else 200), name
        detail = shown(client, f"{name}_change", rooms.ids[row])
        assert detail in ((403, 404) if is_hidden else (200,)), name
    for name in ("catalog_basemodel", "accounts_membership", "accounts_user", "vault_datakey"):
        assert shown(client, f"{name}_changelist") == 200
    assert shown(client, "approvals") == 200
    assert shown(client, "tokens") == 200


def test_a_stranger_finds_no_row_of_another_workspace(rooms: Any) -> None:
    client = rooms.browser(rooms.stranger)
    for name, row in LISTS.items():
        assert shown(client, f"{name}_change", rooms.ids[row]) == 404, name
        listed = client.get(reverse(f"admin:{name}_changelist")).content.decode()
        assert str(rooms.ids[row]) not in listed or row == "entry", name
        assert rooms.house.workspace.name not in listed, name
    for name, row in PAGES.items():
        address = reverse(f"admin:{name}", args=[rooms.ids[row]])
        assert (client.get(address).status_code, client.post(address).status_code) == (404, 404), name
    membership = Membership.objects.filter(workspace=rooms.house.workspace).first()
    assert shown(client, "revoke_role", membership.pk) == 404
    assert shown(client, "accounts_membership_change", membership.pk) == 404
    assert shown(client, "accounts_user_change", rooms.people[Role.ANALYST].pk) == 404


def test_an_analyst_s_role_shows_nothing_in_the_console(rooms: Any) -> None:
    from steward.accounts import actions
    from tests.steward.house import SYSTEM

    actions.grant_role(actor=SYSTEM, workspace=rooms.house.workspace, user=rooms.stranger, role=Role.ANALYST)
    assert shown(rooms.browser(rooms.stranger), "datasets_dataset_change", rooms.ids["dataset"]) == 404


def test_an_administrator_of_the_installation_sees_people_but_no_data(rooms: Any) -> None:
    client = rooms.browser(rooms.administrator)
    assert shown(client, "accounts_user_change", rooms.people[Role.ANALYST].pk) == 200
    assert shown(client, "accounts_workspace_change", rooms.ids["workspace"]) == 200
    for name in ("datasets_dataset", "datasets_datasetversion", "runs_finetune", "audit_ledgerentry"):
        assert shown(client, f"{name}_changelist") == 403
    assert shown(client, "approve_version", rooms.ids["waiting"]) == 404


def test_lists_stay_flat_in_queries(rooms: Any, officer: Client, django_assert_max_num_queries: Any) -> None:
    for name in LISTS:
        with django_assert_max_num_queries(30):
            officer.get(reverse(f"admin:{name}_changelist"))


# --- a person is erased


def test_an_officer_erases_a_person_once_sure_and_sees_what_learnt_of_them(rooms: Any, officer: Client) -> None:
    dataset = rooms.ids["dataset"]
    address = reverse("admin:erase_subject", args=[dataset])
    assert address in officer.get(reverse("admin:datasets_dataset_change", args=[dataset])).text
    asked = {"subject": "patient-0", "ground": "objection"}
    assert "can no longer be read" not in officer.post(address, asked).text
    assert "No readable records" in officer.post(address, {**asked, "subject": "nobody", "is_sure": "on"}).text
    receipt = officer.post(address, {**asked, "is_sure": "on"}).text
    assert "3 records can no longer be read" in receipt
    assert "Models that learnt of the person" in receipt
    assert "patient-0" not in receipt
    erased = DatasetVersion.objects.get(pk=rooms.ids["approved"]).dataset.subjects.filter(wrapped=None)
    assert erased.count() == 1


@pytest.mark.parametrize("role", [each for each in CONSOLE_ROLES if each is not Role.COMPLIANCE_OFFICER])
def test_no_other_role_of_the_console_finds_the_page_that_erases(rooms: Any, role: Role) -> None:
    client, dataset = rooms.browser(rooms.people[role]), rooms.ids["dataset"]
    address = reverse("admin:erase_subject", args=[dataset])
    sent = {"subject": "patient-0", "ground": "objection", "is_sure": "on"}
    assert (client.get(address).status_code, client.post(address, sent).status_code) == (404, 404)
    assert address not in client.get(reverse("admin:datasets_dataset_change", args=[dataset])).text


# --- nothing is written but by actions


def test_no_page_adds_changes_or_deletes_by_itself(rooms: Any) -> None:
    client = rooms.browser(rooms.administrator)
    for name, row in LISTS.items():
        base = reverse(f"admin:{name}_changelist")
        for address in ("add/", f"{rooms.ids[row]}/delete/", f"{rooms.ids[row]}/history/"):
            assert client.post(base + address).status_code in (403, 404), base + address
        chosen = {"action": "delete_selected", "_selected_action": str(rooms.ids[row]), "post": "yes"}
        assert client.post(base, chosen).status_code in (200, 302, 403), name  # 200: the list, nothing done
        assert client.post(f"{base}{rooms.ids[row]}/change/", {"name": "other"}).status_code in (403, 404)
    assert Workspace.objects.filter(pk=rooms.ids["workspace"]).exists()


def test_only_our_own_pages_are_there(rooms: Any) -> None:
    resolver = get_resolver().namespace_dict["admin"][1]
    names = {name for name in resolver.reverse_dict if isinstance(name, str)}
    offered = {name for name in names if not name.endswith(("_changelist", "_change"))}
    assert offered == {
        "index", "login", "logout", "jsi18n", "approvals", "approve_version", "approve_fine_tune", "approve_release",
        "new_person", "sign_in_link", "new_workspace", "policy", "grant_role", "revoke_role", "tokens", "revoke_token",
        "ledger_export", "evidence", "redaction", "redaction_workspace", "redaction_propose", "redaction_version",
        "redaction_entry", "allowance", "priority", "erase_subject",
    }  # fmt: skip


# --- deciding


def decide(client: Client, name: str, row: Any, decision: str, reason: str = "") -> str:
    address = reverse(f"admin:{name}", args=[row])
    return client.post(address, {"decision": decision, "reason": reason}, follow=True).content.decode()


def test_an_officer_approves_a_version(rooms: Any, officer: Client) -> None:
    assert "is approved" in decide(officer, "approve_version", rooms.ids["reviewed"], "approve", "Sample is clean.")
    version = DatasetVersion.objects.get(pk=rooms.ids["reviewed"])
    assert (version.state, version.decision_reason) == ("approved", "Sample is clean.")
    assert version.decided_by == rooms.people[Role.COMPLIANCE_OFFICER]


def test_a_refusal_is_shown_in_its_own_words(rooms: Any, officer: Client) -> None:
    page = decide(officer, "approve_version", rooms.ids["waiting"], "approve")
    assert "does not bear an approval: 0 of at least 6 records" in page
    assert "Say why the version is rejected" in decide(officer, "approve_version", rooms.ids["waiting"], "reject")
    assert "is rejected" in decide(officer, "approve_version", rooms.ids["waiting"], "reject", "wrong file")


def test_an_auditor_reads_along_and_an_attempt_is_recorded(rooms: Any) -> None:
    client = rooms.browser(rooms.people[Role.AUDITOR])
    page = client.get(reverse("admin:approve_version", args=[rooms.ids["reviewed"]])).content.decode()
    assert "You can read along" in page
    assert "Approve the version" not in page
    decide(client, "approve_version", rooms.ids["reviewed"], "approve")
    assert DatasetVersion.objects.get(pk=rooms.ids["reviewed"]).state == "redacted"
    assert json.loads(bytes(OutboxEntry.objects.latest("sequence").body))["outcome"] == "denied"


def test_an_officer_lets_a_held_fine_tune_start(rooms: Any, officer: Client) -> None:
    decide(officer, "approve_fine_tune", rooms.ids["held"], "approve")
    assert FineTune.objects.get(pk=rooms.ids["held"]).state == "queued"


@pytest.mark.parametrize(("decision", "state"), [("approve", "approved"), ("reject", "refused")])
def test_an_officer_decides_on_a_release(rooms: Any, officer: Client, decision: str, state: str) -> None:
    assert "Gates" in officer.get(reverse("admin:approve_release", args=[rooms.ids["release"]])).content.decode()
    decide(officer, "approve_release", rooms.ids["release"], decision, "because")
    assert Release.objects.get(pk=rooms.ids["release"]).state == state


def test_the_evidence_of_a_release_is_handed_out_and_recorded(rooms: Any, officer: Client) -> None:
    from steward.releases.jobs import build_evidence

    address = reverse("admin:evidence", args=[rooms.ids["release"]])
    assert "still being built" in officer.post(address, follow=True).content.decode()
    decide(officer, "approve_release", rooms.ids["release"], "approve")
    build_evidence(release_id=str(rooms.ids["release"]))
    detail = officer.get(reverse("admin:releases_release_change", args=[rooms.ids["release"]])).content.decode()
    assert "Hand out the evidence" in detail
    response = officer.post(address)
    assert b"SHA256SUMS" in b"".join(response.streaming_content)
    assert json.loads(bytes(OutboxEntry.objects.latest("sequence").body))["action"] == "evidence.exported"
    assert rooms.browser(rooms.stranger).post(address).status_code == 404
    assert rooms.browser(rooms.people[Role.ADMINISTRATOR]).post(address).status_code == 302  # told why, and recorded


def test_an_unknown_decision_is_none(rooms: Any, officer: Client) -> None:
    address = reverse("admin:approve_version", args=[rooms.ids["waiting"]])
    assert officer.post(address, {"decision": "burn"}).status_code == 400


# --- people, workspaces, roles, policies


def test_an_administrator_makes_a_person_who_signs_in_by_link(rooms: Any) -> None:
    client = rooms.browser(rooms.administrator)
    made = client.post(reverse("admin:new_person"), {"username": "grace", "display_name": "Grace"}, follow=True)
    assert "may now sign in" in made.content.decode()
    user = User.objects.get(username="grace")
    assert (user.is_superuser, user.has_usable_password()) == (False, False)
    page = client.post(reverse("admin:sign_in_link", args=[user.pk]))
    assert "/sign-in/link/" in page.content.decode()
    assert "no-store" in page.headers["Cache-Control"]
    taken = client.post(reverse("admin:new_person"), {"username": "grace"})
    assert "is taken" in taken.content.decode()


@pytest.mark.parametrize("role", CONSOLE_ROLES)
def test_nobody_else_makes_people_or_workspaces(rooms: Any, role: Role) -> None:
    client = rooms.browser(rooms.people[role])
    for name in ("new_person", "new_workspace"):
        assert shown(client, name) == 404
    assert client.post(reverse("admin:sign_in_link", args=[rooms.people[Role.ANALYST].pk])).status_code == 404


def test_an_administrator_makes_a_workspace_and_grants_roles_in_it(rooms: Any) -> None:
    client = rooms.browser(rooms.administrator)
    made = client.post(reverse("admin:new_workspace"), {"name": "New ward", "slug": "new-ward", "domain": "healthcare"})
    workspace = Workspace.objects.get(slug="new-ward")
    assert made.headers["Location"] == reverse("admin:accounts_workspace_change", args=[workspace.pk])
    form = {"workspace": workspace.pk, "user": rooms.people[Role.AUDITOR].pk, "role": "auditor"}
    assert client.post(reverse("admin:grant_role"), form).status_code == 302
    membership = Membership.objects.get(workspace=workspace)
    assert (membership.role, membership.granted_by) == ("auditor", rooms.administrator)
    address = reverse("admin:revoke_role", args=[membership.pk])
    assert client.get(address).status_code == 200
    assert client.post(address).status_code == 302
    assert not Membership.objects.filter(pk=membership.pk).exists()


def test_nobody_grants_himself_or_in_another_workspace(rooms: Any) -> None:
    user = rooms.people[Role.ADMINISTRATOR]
    client = rooms.browser(user)
    own = {"workspace": rooms.ids["workspace"], "user": user.pk, "role": "compliance_officer"}
    other = {"workspace": rooms.elsewhere.workspace.pk, "user": rooms.stranger.pk, "role": "auditor"}
    for form in (own, other):
        assert "valid choice" in client.post(reverse("admin:grant_role"), form).content.decode()


def test_an_officer_changes_the_policy_within_its_ranges(rooms: Any, officer: Client) -> None:
    address = reverse("admin:policy", args=[rooms.ids["workspace"]])
    policy = {**rooms.house.workspace.policy, "confidence_percent": 90}
    form = {key: value for key, value in policy.items() if value is not False}
    assert "Ensure this value" in officer.post(address, {**form, "confidence_percent": 100}).content.decode()
    assert officer.post(address, form).status_code == 302
    assert Workspace.objects.get(pk=rooms.ids["workspace"]).policy == policy
    assert rooms.browser(rooms.people[Role.AUDITOR]).get(address).status_code == 404


def test_an_officer_and_an_administrator_set_the_devices_of_a_workspace(rooms: Any, officer: Client) -> None:
    address = reverse("admin:allowance", args=[rooms.ids["workspace"]])
    assert "Ensure this value" in officer.post(address, {"runs_at_once": 0}).content.decode()
    page = officer.post(address, {"device_hours_per_month": 40, "runs_at_once": ""}, follow=True).content.decode()
    assert "0.0 of 40" in page
    administrator = rooms.browser(rooms.people[Role.ADMINISTRATOR])
    assert administrator.post(address, {"device_hours_per_month": "", "runs_at_once": 2}).status_code == 302
    allowance = Allowance.objects.get(workspace=rooms.ids["workspace"])
    assert (allowance.device_hours_per_month, allowance.runs_at_once) == (None, 2)
    assert rooms.browser(rooms.people[Role.AUDITOR]).get(address).status_code == 404


def test_an_officer_moves_a_fine_tune_that_waits(rooms: Any, officer: Client) -> None:
    address = reverse("admin:priority", args=[rooms.ids["held"]])
    assert officer.post(address, {"priority": "2"}).status_code == 302
    assert FineTune.objects.get(pk=rooms.ids["held"]).priority == Priority.HIGH
    assert rooms.browser(rooms.people[Role.AUDITOR]).get(address).status_code == 404


# --- tokens and the ledger


def test_a_token_is_shown_once(rooms: Any, officer: Client) -> None:
    form = {"name": "nightly", "lifetime_days": 30, "scopes": ["ledger.view", "workspace.view"]}
    page = officer.post(reverse("admin:tokens"), form)
    assert "no-store" in page.headers["Cache-Control"]
    token = ApiToken.objects.get(name="nightly")
    assert token.token_key in page.content.decode()
    assert token.token_key not in officer.get(reverse("admin:tokens")).content.decode()
    officer.post(reverse("admin:revoke_token", args=[token.pk]))
    token.refresh_from_db()
    assert not token.is_active
    other = ApiToken.objects.exclude(user=rooms.people[Role.COMPLIANCE_OFFICER]).first()
    assert officer.post(reverse("admin:revoke_token", args=[other.pk])).status_code == 404


def test_an_entry_is_checked_when_it_is_shown(rooms: Any, officer: Client) -> None:
    page = officer.get(reverse("admin:audit_ledgerentry_change", args=[rooms.ids["entry"]])).content.decode()
    assert (page.count("Holds"), page.count("Does not hold")) == (4, 0)


@pytest.mark.parametrize("column", ["body", "leaf_hash", "actor"])
def test_an_entry_that_was_edited_does_not_hold(rooms: Any, column: str) -> None:
    from steward.console.proving import checks_of

    entry = LedgerEntry.objects.get(pk=rooms.ids["entry"])
    forged = {
        "body": bytes(entry.body).replace(b"done", b"none"),
        "leaf_hash": bytes(32),
        "actor": "system:somebody",
    }
    setattr(entry, column, forged[column])
    assert not all(check.has_held for check in checks_of(entry))


def test_the_ledger_is_handed_out_recorded_and_verifies(rooms: Any, officer: Client, tmp_path: Any) -> None:
    response = officer.post(reverse("admin:ledger_export"))
    bundle = tmp_path / "ledger.tar"
    bundle.write_bytes(b"".join(response.streaming_content))
    assert bundle.stat().st_size == int(response.headers["Content-Length"])
    assert verifier(["verify", str(bundle), "--key", str(verification_key())]) == 0
    assert LedgerEntry.objects.latest("index").action == "ledger.exported"  # the intent, sealed before
    assert json.loads(bytes(OutboxEntry.objects.latest("sequence").body))["outcome"] == "done"


def test_an_administrator_may_not_hand_out_the_ledger(rooms: Any) -> None:
    for user in (rooms.administrator, rooms.people[Role.ADMINISTRATOR]):
        assert rooms.browser(user).post(reverse("admin:ledger_export")).status_code == 404


# --- under the house's policy


def test_no_page_holds_code_or_styles_of_its_own(rooms: Any, officer: Client) -> None:
    addresses = [reverse(f"admin:{name}_changelist") for name in LISTS]
    addresses += [reverse(f"admin:{name}_change", args=[rooms.ids[row]]) for name, row in LISTS.items()]
    addresses += [reverse(f"admin:{name}", args=[rooms.ids[row]]) for name, row in PAGES.items()]
    addresses += [reverse(f"admin:{name}") for name in ("index", "approvals", "redaction", "tokens", "ledger_export")]
    for address in addresses:
        response = officer.get(address)
        page = response.content.decode()
        assert "unsafe" not in response.headers["Content-Security-Policy"]
        assert page.count("<script") == page.count("<script src="), address
        for forbidden in ("<style", " style=", " onclick=", "javascript:", "alpine"):
            assert forbidden not in page, (address, forbidden)


def test_what_people_type_is_shown_and_not_run(rooms: Any, officer: Client) -> None:
    from steward.datasets.actions import create_dataset

    name = "<script>alert(1)</script>"
    create_dataset(actor=rooms.house.analyst, workspace=rooms.house.workspace, name=name, purpose=name)
    page = officer.get(reverse("admin:datasets_dataset_changelist")).content.decode()
    assert name not in page
    assert "&lt;script&gt;alert(1)" in page
