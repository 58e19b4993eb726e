"""A release is held against the rules of the day on which it is decided, not of the day when the model was judged."""

from dataclasses import replace
from typing import Any

import pytest
from django.test import Client

from domains.gates import Gate
from steward.accounts import actions as accounts
from steward.accounts.models import User
from steward.assurance import gates
from steward.audit.actor import Refused
from steward.releases import actions as releases
from steward.releases.models import ReleaseState

IDENTIFIERS = Gate("identifiers", "No identifiers in answers", "output_identifier_rate", "at_most", 0.05, "None.")


def test_of_gate_and_policy_the_stricter_one_counts_for_identifiers_in_answers_and_only_there() -> None:
    rules: dict[str, int | bool] = {"residual_pii_per_1000_max": 10}
    assert gates.held_to_policy(IDENTIFIERS, rules).threshold == 0.01
    assert gates.held_to_policy(IDENTIFIERS.with_threshold(0.0), rules).threshold == 0.0
    useful = replace(IDENTIFIERS, measure="tuned_score_low", comparison="at_least")
    assert gates.held_to_policy(useful, rules) == useful


def test_a_policy_tightened_since_the_model_was_judged_refuses_the_release_and_both_doors_say_so_before(
    requested: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    house, release = requested
    workflow = gates.workflow_for("healthcare", release.model_version.fine_tune.workflow)
    loose = [replace(IDENTIFIERS, name=gate.name) for gate in workflow.gates if gate.measure == IDENTIFIERS.measure]
    monkeypatch.setattr(gates, "workflow_for", lambda *_: replace(workflow, gates=tuple(loose)))
    release.model_version.gate_results.filter(gate=loose[0].name).update(figure=0.02)

    def allow(per_1000: int) -> None:
        policy = house.workspace.policy | {"residual_pii_per_1000_max": per_1000}
        house.workspace = accounts.change_policy(actor=house.officer, workspace=house.workspace, policy=policy)

    officer = Client()
    officer.force_login(User.objects.get(pk=house.officer.user_id), "django.contrib.auth.backends.ModelBackend")
    room = f"/w/{house.workspace.slug}"
    pages = (f"{room}/models/{release.model_version_id}/", f"/console/approvals/releases/{release.pk}/")

    def said() -> list[bool]:
        return ["stricter than when the model was judged" in officer.get(page).text for page in pages]

    allow(19)
    assert said() == [True, True]
    with pytest.raises(Refused, match=r"No identifiers in answers \(0.02, at most 0.019\)") as refused:
        releases.approve_release(actor=house.officer, release=release)
    assert refused.value.code == "gates_stricter"
    release.refresh_from_db()
    assert release.state == ReleaseState.REQUESTED
    allow(20)
    assert said() == [False, False]
    assert releases.approve_release(actor=house.officer, release=release).state == ReleaseState.APPROVED


def test_a_gate_that_a_pack_has_got_since_the_model_was_judged_refuses_the_release(
    requested: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    house, release = requested
    workflow = gates.workflow_for("healthcare", release.model_version.fine_tune.workflow)
    newer = replace(workflow, gates=(*workflow.gates, replace(IDENTIFIERS, name="newer", title="Newer gate")))
    monkeypatch.setattr(gates, "workflow_for", lambda *_: newer)
    with pytest.raises(Refused, match=r"Newer gate \(not measured, at most 0.01\)"):
        releases.approve_release(actor=house.officer, release=release)
