"""People of a house in front of a browser."""

from collections.abc import Callable
from typing import Any

import pytest
from django.test import Client

from steward.audit.actor import Actor


@pytest.fixture
def browser_of(db: None) -> Callable[[Actor], Client]:
    """A client that is signed in as the person behind an actor and checks the token of every form."""
    from steward.accounts.models import User

    def signed_in(actor: Actor) -> Client:
        client = Client()
        client.force_login(User.objects.get(pk=actor.user_id), backend="django.contrib.auth.backends.ModelBackend")
        return client

    return signed_in


@pytest.fixture
def base_model(db: None) -> Any:
    """A base model nobody will load."""
    from tests.steward.runs import paper

    return paper.base_model()


@pytest.fixture
def released(db: None) -> Any:
    """A model that was trained, judged and released, on paper."""
    from tests.steward.releases.conftest import approved_release

    return approved_release()
