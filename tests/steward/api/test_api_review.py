"""The review over REST: blind second readings, spans in code points, a verdict taken back, an adjudication."""

import json
from typing import Any

import pytest

from steward.accounts.roles import Role
from steward.datasets.actions import draw_sample
from steward.datasets.models import SampleItem, SpanLabel
from tests.steward.house import House, visits
from tests.steward.rooms import ALL_SCOPES


@pytest.fixture
def review(db: None) -> Any:
    """A call as one of three reviewers on a record that wants two readings."""
    from django.test import Client

    from steward.accounts import actions as accounts
    from tests.steward.house import SYSTEM

    house = House(policy={"second_review_percent": 100, "sample_size_min": 3, "missed_per_1000_max": 1000})
    version = house.redacted(visits(4))
    draw_sample(actor=house.reviewer, run=version.redaction, size=3)
    clients = []
    for _ in range(3):
        user = house.user(Role.REVIEWER)
        token = accounts.create_token(actor=SYSTEM, user=user, name="test", scopes=ALL_SCOPES)[1]
        clients.append(Client(headers={"authorization": f"Bearer {token}"}))
    item = SampleItem.objects.filter(run=version.redaction).first()

    def call(who: int, path: str = "", body: dict[str, Any] | None = None) -> Any:
        address = f"/api/v1/sample-items/{item.pk}{path}"
        if body is None:
            return clients[who].get(address)
        return clients[who].post(address, json.dumps(body), content_type="application/json")

    return call


def test_a_second_reader_is_not_told_what_the_first_one_said(review: Any) -> None:
    given = review(0, "/verdict", {"verdict": "missed", "missed_types": {"PERSON": 2}}).json()
    assert (given["verdict"], given["missed_types"]) == ("missed", {"PERSON": 2})
    hidden = review(1).json()
    assert (hidden["verdict"], hidden["missed_count"], hidden["reviewer"]) == ("", 0, None)
    assert review(1, "/verdict", {"verdict": "clean"}).json()["verdict"] == "missed"
    assert review(1, "/adjudicate", {"verdict": "clean"}).status_code == 403
    assert review(2, "/adjudicate", {"verdict": "clean"}).json()["verdict"] == "clean"


def test_a_marked_span_counts_and_has_to_fit(review: Any) -> None:
    span = {"fault": "missed", "slot": 1, "start": 0, "end": 8, "type": "PERSON"}
    for wrong in ({"end": 9_000}, {"slot": 7}, {"fault": "overmasked"}):
        verdict = "overmasked" if "fault" in wrong else "missed"
        refused = review(0, "/verdict", {"verdict": verdict, "spans": [span | wrong]})
        assert (refused.status_code, refused.json()["code"]) == (409, "span_misplaced"), wrong
    assert review(0, "/verdict", {"verdict": "missed", "spans": [span | {"type": "NOBODY"}]}).status_code == 400
    given = review(0, "/verdict", {"verdict": "missed", "spans": [span]}).json()
    assert given["missed_types"] == {"PERSON": 1}
    assert SpanLabel.objects.count() == 1


def test_a_verdict_is_taken_back(review: Any) -> None:
    assert review(0, "/withdraw", {}).status_code == 409
    review(0, "/verdict", {"verdict": "clean"})
    assert review(1, "/withdraw", {}).status_code == 409
    assert review(0, "/withdraw", {}).json()["verdict"] == ""
    unknown = review(0, "/verdict", {"verdict": "missed", "missed_types": {"NOBODY": 1}})
    assert unknown.status_code == 400
