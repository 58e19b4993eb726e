"""Two workspaces with a row of every kind in the first, for the tests of the doors.

Example: `rooms.ids["release"]` is a release that waits for a decision; `rooms.people[Role.AUDITOR]` may read along.
"""

import contextlib
from collections.abc import Iterator
from typing import Any

from django.db import transaction
from django.test import Client
from django.test.client import ClientHandler

from steward.accounts import actions as accounts
from steward.accounts.models import User
from steward.accounts.roles import Permission, Role
from steward.audit.actor import Actor
from steward.audit.models import LedgerEntry
from steward.audit.sealer import seal_once
from steward.catalog.models import BaseModel
from steward.datasets.models import SampleItem
from steward.profiles import actions as profiles
from steward.profiles.models import ListKind
from steward.releases import actions as releases
from steward.releases.models import Audience, Export
from steward.runs import actions as runs
from tests.steward.house import SYSTEM, House, visits
from tests.steward.releases.conftest import _evaluated, _trained

ALL_SCOPES = [str(permission) for permission in Permission]


class Rooms:
    """`house` has a person in each role and one row of each kind; `stranger` holds every role, but elsewhere."""

    def __init__(self) -> None:
        self.house = House(policy={"missed_per_1000_max": 1000, "sample_size_min": 6})
        self.elsewhere = House()
        self.people = {role: self.house.user(role) for role in Role}
        self.stranger = self.elsewhere.user(*Role)
        self.administrator = accounts.create_user(
            actor=SYSTEM, username=f"root-{self.house.number}", is_administrator=True
        )
        self._tokens: dict[int, str] = {}
        self._handler = ClientHandler(enforce_csrf_checks=False)
        self.ids = self._rows()
        while seal_once():
            pass
        self.ids["entry"] = LedgerEntry.objects.filter(workspace=str(self.house.workspace.pk)).latest("index").pk

    def _rows(self) -> dict[str, Any]:
        imported = self.house.imported(visits(12))
        reviewed = self.house.reviewed(visits(15))
        approved = self.house.approved(visits(30))
        waiting = self.house.redacted(visits(18))
        from steward.datasets.actions import draw_sample

        draw_sample(actor=self.house.reviewer, run=waiting.redaction, size=6)
        model = _trained(self.house, approved)
        _evaluated(self.house, model)
        release = releases.request_release(
            actor=self.house.analyst, model_version=model, audience=Audience.INTERNAL, purpose="Coding"
        )
        base = BaseModel.objects.latest("registered_at")
        queued = runs.request_fine_tune(actor=self.house.analyst, version=approved, base_model=base, name="queued")
        policy = {**self.house.workspace.policy, "is_fine_tune_approval_required": True}
        self.house.workspace = accounts.change_policy(
            actor=self.house.officer, workspace=self.house.workspace, policy=policy
        )
        approved = type(approved).objects.get(pk=approved.pk)
        held = runs.request_fine_tune(actor=self.house.analyst, version=approved, base_model=base, name="held")
        return {
            "workspace": self.house.workspace.pk,
            "dataset": approved.dataset_id,
            "imported": imported.pk,
            "reviewed": reviewed.pk,
            "approved": approved.pk,
            "waiting": waiting.pk,
            "item": SampleItem.objects.filter(run=waiting.redaction).first().pk,
            "base_model": base.pk,
            "fine_tune": queued.pk,
            "held": held.pk,
            "model": model.pk,
            "release": release.pk,
            "export": Export.objects.create(
                workspace=self.house.workspace, release=release, form="merged", state="failed"
            ).pk,
            "redaction": waiting.redaction.pk,
            "ordinal": 1,
            "form": "tensorboard",
            "part": "held_out",
        }

    def propose(self) -> None:
        """A profile version and a list entry that wait for their decision."""
        proposal = profiles.propose_profile(
            actor=self.house.officer, workspace=self.house.workspace, overrides={"AGE": {"on": False}}, reason="tests"
        )
        entry = profiles.propose_entry(
            actor=self.house.officer,
            workspace=self.house.workspace,
            kind=ListKind.DENY,
            entity_type="PERSON",
            phrase="Ermintrude",
        )
        self.ids |= {"profile": proposal.pk, "list_entry": entry.pk}

    def token(self, user: User, *scopes: str) -> str:
        """A token of the user; with all scopes unless some are named."""
        if scopes:
            return accounts.create_token(actor=Actor.of(user), user=user, name="test", scopes=list(scopes))[1]
        if user.pk not in self._tokens:
            made = accounts.create_token(actor=SYSTEM, user=user, name="test", scopes=ALL_SCOPES)
            self._tokens[user.pk] = made[1]
        return self._tokens[user.pk]

    def client(self, **settings: Any) -> Client:
        """A client of its own that shares the loaded middleware: loading it takes longer than a request."""
        client = Client(**settings)
        client.handler = self._handler
        return client

    def program(self, user: User, *scopes: str) -> Client:
        """A client that shows the user's token."""
        return self.client(headers={"authorization": f"Bearer {self.token(user, *scopes)}"})

    def browser(self, user: User) -> Client:
        """A client with the user's session."""
        client = self.client()
        client.force_login(user, backend="django.contrib.auth.backends.ModelBackend")
        return client

    def warm(self) -> None:
        """Makes everybody's token outside of a single test's transaction."""
        for user in (*self.people.values(), self.stranger, self.administrator):
            self.token(user)


@contextlib.contextmanager
def furnished(blocker: Any) -> Iterator[Rooms]:
    """Rooms that several tests share; what a test changes in them is undone after it."""
    outer = transaction.atomic()
    outer._from_testcase = True  # as in Django's own TestCase: actions open a transaction that must be the outermost
    with blocker.unblock(), outer:
        rooms = Rooms()
        rooms.warm()
        yield rooms
        transaction.set_rollback(True)
