"""An action and its ledger entry stand or fall together, and refusals leave a trace."""

import json
from typing import Any

import pytest

from steward.accounts import actions as accounts
from steward.accounts.models import Workspace
from steward.accounts.roles import Role
from steward.audit.actor import Actor, Denied, Refused
from steward.audit.events import FACTS, Event
from steward.audit.models import OutboxEntry
from steward.audit.recording import UnrecordedAction, audited, record, record_intent
from steward.datasets import actions as datasets
from steward.datasets.models import Dataset


def latest() -> dict[str, Any]:
    return json.loads(bytes(OutboxEntry.objects.order_by("-sequence").first().body))


def test_every_event_declares_its_facts() -> None:
    assert set(FACTS) == set(Event)


def test_an_action_leaves_its_row_and_its_entry(house: Any) -> None:
    dataset = house.dataset()
    entry = latest()
    assert (entry["action"], entry["outcome"], entry["object_id"]) == ("dataset.created", "done", str(dataset.pk))
    assert entry["actor"] == house.analyst.pseudonym
    assert entry["workspace"] == str(house.workspace.pk)


def test_a_denial_changes_nothing_and_is_recorded(house: Any) -> None:
    with pytest.raises(Denied, match="Analyst"):
        datasets.create_dataset(actor=house.auditor, workspace=house.workspace, name="x", purpose="y")
    assert not Dataset.objects.exists()
    entry = latest()
    assert (entry["action"], entry["outcome"], entry["facts"]) == ("dataset.created", "denied", {"code": "denied"})
    assert entry["actor"] == house.auditor.pseudonym


def test_a_refusal_by_a_rule_is_recorded_as_such(house: Any) -> None:
    house.dataset("notes")
    with pytest.raises(Refused, match="exists"):
        house.dataset("notes")
    assert latest()["outcome"] == "refused"


def test_an_action_that_records_nothing_is_rolled_back(house: Any) -> None:
    @audited(Event.WORKSPACE_CREATED)
    def forgetful(*, actor: Actor) -> None:
        Workspace(slug="forgotten", name="Forgotten", domain="legal").save()

    with pytest.raises(UnrecordedAction):
        forgetful(actor=Actor.system("tests"))
    assert not Workspace.objects.filter(slug="forgotten").exists()


def test_an_entry_that_cannot_be_written_undoes_the_action(house: Any) -> None:
    @audited(Event.WORKSPACE_CREATED)
    def chatty(*, actor: Actor) -> None:
        workspace = Workspace(slug="chatty", name="Chatty", domain="legal")
        workspace.save()
        record(workspace, domain="a sentence with blanks is free text")

    with pytest.raises(ValueError, match="neither a short token"):
        chatty(actor=Actor.system("tests"))
    assert not Workspace.objects.filter(slug="chatty").exists()


def test_a_fact_that_the_event_does_not_declare_is_refused(house: Any) -> None:
    @audited(Event.WORKSPACE_CREATED)
    def talkative(*, actor: Actor) -> None:
        record(house.workspace, patient="p1")

    with pytest.raises(UnrecordedAction, match="patient"):
        talkative(actor=Actor.system("tests"))


def test_actions_do_not_nest(house: Any) -> None:
    @audited(Event.WORKSPACE_CREATED)
    def outer(*, actor: Actor) -> None:
        house.dataset()

    with pytest.raises(RuntimeError, match="nest"):
        outer(actor=Actor.system("tests"))


def test_an_intent_is_sealed_before_the_act(house: Any) -> None:
    record_intent(Event.SUBJECT_SHREDDED, house.workspace, actor=house.officer)
    from steward.audit.models import LedgerEntry

    sealed = LedgerEntry.objects.order_by("-index").first()
    assert (sealed.action, sealed.outcome) == ("subject.shredded", "intent")


def test_nobody_grants_himself_a_role(house: Any) -> None:
    admin = house.user(Role.ADMINISTRATOR)
    with pytest.raises(Refused, match="himself"):
        accounts.grant_role(actor=Actor.of(admin), workspace=house.workspace, user=admin, role=Role.ANALYST)


def test_a_link_signs_in_once(house: Any) -> None:
    user = house.user(Role.ANALYST)
    token = accounts.create_sign_in_link(actor=Actor.system("tests"), user=user)
    assert accounts.use_sign_in_link(actor=Actor.system("tests"), token=token) == user
    with pytest.raises(Denied):
        accounts.use_sign_in_link(actor=Actor.system("tests"), token=token)
