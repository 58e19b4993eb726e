"""Models, releases, the board and the ledger in the browser."""

from pathlib import Path
from typing import Any

from django.db import connection
from django.test.utils import CaptureQueriesContext

from compliance.ledger.verify import verify_bundle
from steward.audit.models import LedgerEntry
from steward.audit.sealer import seal_once
from steward.keyring import verification_key
from steward.releases.bundles import build_evidence
from steward.releases.models import Audience, Release, ReleaseState
from steward.web.ledger_entries import check_entry
from tests.steward.house import House, visits


def at(release: Any, path: str = "") -> str:
    return f"/w/{release.workspace.slug}/{path}"


def officer(release: Any) -> Any:
    from steward.audit.actor import Actor

    return Actor.of(release.decided_by)


def analyst(release: Any) -> Any:
    from steward.audit.actor import Actor

    return Actor.of(release.requested_by)


def test_a_model_shows_scores_with_intervals_gates_and_release(released: Any, browser_of: Any) -> None:
    person = browser_of(analyst(released))
    page = person.get(at(released, f"models/{released.model_version_id}/"))
    assert page.status_code == 200
    assert "95 % bootstrap intervals" in page.text
    assert released.adapter_digest in page.text
    assert "all passed" in page.text
    assert "Tiny-1M" in person.get(at(released, f"fine-tunes/{released.model_version.fine_tune_id}/")).text
    assert person.get(at(released, "models/")).status_code == 200


def test_samples_show_what_was_asked_expected_and_answered(released: Any, browser_of: Any) -> None:
    from steward.assurance.models import Evaluation

    evaluations = Evaluation.objects.filter(model_version=released.model_version)
    evaluations.update(scores={"ids": ["1"], "base": [0.0], "tuned": [1.0]})
    page = browser_of(analyst(released)).get(at(released, f"models/{released.model_version_id}/samples/"))
    assert "what was done?" in page.text
    assert "Quackenbush" not in page.text
    assert "/records/1/" in page.text


def test_a_release_is_asked_for_by_one_and_decided_by_another(released: Any, browser_of: Any) -> None:
    model = f"models/{released.model_version_id}/"
    browser_of(analyst(released)).post(at(released, f"{model}release/"), {"audience": "external", "purpose": "a pilot"})
    asked = Release.objects.get(model_version=released.model_version, audience=Audience.EXTERNAL)
    decision = at(released, f"releases/{asked.pk}/decision/")
    assert browser_of(analyst(released)).post(decision, {"decision": "approve"}).status_code == 403
    assert browser_of(officer(released)).post(decision, {"decision": "refuse"}).status_code == 409
    browser_of(officer(released)).post(decision, {"decision": "refuse", "reason": "not outside the house"})
    asked.refresh_from_db()
    assert asked.state == ReleaseState.REFUSED


def test_evidence_that_is_not_built_yet_is_explained(released: Any, browser_of: Any) -> None:
    answer = browser_of(officer(released)).post(at(released, f"releases/{released.pk}/evidence/"))
    assert answer.status_code == 409
    assert "still being built" in answer.text


def test_the_evidence_that_is_handed_out_verifies_offline(released: Any, browser_of: Any, tmp_path: Path) -> None:
    build_evidence(str(released.pk))
    address = at(released, f"releases/{released.pk}/evidence/")
    assert browser_of(analyst(released)).post(address).status_code == 403
    answer = browser_of(officer(released)).post(address)
    assert f"evidence-{released.pk}.tar" in answer["Content-Disposition"]
    bundle = tmp_path / "evidence.tar"
    bundle.write_bytes(answer.getvalue())
    verify_bundle(bundle, [verification_key()])


def test_the_board_puts_each_thing_into_one_stage_and_asks_a_fixed_number_of_questions(browser_of: Any) -> None:
    from steward.accounts.permissions import permissions_of
    from steward.web.board import build_board

    house = House()
    house.imported(visits(3))
    seen = []
    for _ in range(2):
        with CaptureQueriesContext(connection) as queries:
            board = build_board(house.workspace, house.analyst, permissions_of(house.analyst, house.workspace))
        seen.append(len(queries))
        house.redacted(visits(3))
    assert seen[0] == seen[1] or seen[1] - seen[0] <= 1
    stages = {stage.name: stage for stage in board.stages}
    assert len(stages["redact"].tickets) == 1
    assert len(stages["review"].tickets) == 1
    assert stages["redact"].yours == 1
    page = browser_of(house.analyst).get(f"/w/{house.workspace.slug}/")
    assert "1 for you" in page.text


def test_an_entry_is_verified_and_a_changed_column_is_named(house: House, browser_of: Any) -> None:
    house.dataset()
    while seal_once():
        pass
    entry = LedgerEntry.objects.visible_to([house.workspace.pk])[0]
    page = browser_of(house.auditor).get(f"/w/{house.workspace.slug}/ledger/{entry.index}/")
    assert "Verified just now" in page.text
    entry.action = "dataset.rejected"
    proof = check_entry(entry)
    assert proof is not None
    assert "the column action was changed" in proof.problem
    entry.body = bytes(entry.body).replace(b"dataset", b"datasat")
    proof = check_entry(entry)
    assert proof is not None
    assert not proof.is_verified


def test_the_ledger_is_filtered_and_paged(house: House, browser_of: Any) -> None:
    house.dataset()
    while seal_once():
        pass
    person = browser_of(house.auditor)
    ledger = f"/w/{house.workspace.slug}/ledger/"
    assert "dataset.created</td>" in person.get(ledger, {"event": "dataset.created"}).text
    assert "No entry fits" in person.get(ledger, {"event": "record.revealed"}).text
    assert person.get(ledger, {"before": "-1"}).status_code == 404


def test_an_empty_workspace_says_what_to_do_next(house: House, browser_of: Any) -> None:
    person = browser_of(house.analyst)
    for path in ("", "datasets/", "fine-tunes/", "fine-tunes/new/", "models/", "ledger/"):
        page = person.get(f"/w/{house.workspace.slug}/{path}")
        assert page.status_code == 200, path
    assert "Make a dataset" in person.get(f"/w/{house.workspace.slug}/").text
