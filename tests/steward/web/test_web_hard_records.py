"""Hard and easy records: shown to those who may see redacted text, and every look recorded."""

import json
from typing import Any

import pytest

from steward.audit.models import OutboxEntry
from steward.datasets.erasure_actions import shred_subject
from steward.datasets.models import RedactedRecord
from steward.runs.models import FineTune
from steward.vault.models import SealedObject
from tests.steward.house import House, visits
from tests.steward.runs.paper import dispatched, finish, leave_losses, leave_train_losses


@pytest.fixture
def lenient(db: None) -> House:
    return House(policy={"missed_per_1000_max": 1000})


@pytest.fixture
def measured(lenient: House, base_model: Any) -> FineTune:
    version = lenient.approved(visits(60))
    fine_tune = dispatched(lenient, version, base_model)
    held_out = RedactedRecord.objects.filter(run=version.redaction, record__subject__split="validation")
    ordinals = sorted(held_out.values_list("ordinal", flat=True))
    leave_losses(fine_tune, {str(ordinal): 0.25 * (place + 1) for place, ordinal in enumerate(ordinals)})
    return finish(lenient, fine_tune)


def address(house: House, fine_tune: FineTune, rest: str = "") -> str:
    return f"/w/{house.workspace.slug}/fine-tunes/{fine_tune.pk}/records/{rest}"


def looks() -> list[dict[str, Any]]:
    bodies = [json.loads(bytes(row.body)) for row in OutboxEntry.objects.all()]
    return [body for body in bodies if body["action"] == "record_losses.shown"]


def test_the_page_shows_worst_and_best_with_text_and_links_and_records_the_look(
    lenient: House, browser_of: Any, measured: FineTune
) -> None:
    person = browser_of(lenient.analyst)
    before = person.get(address(lenient, measured)).text
    assert "Show the records" in before
    assert "Dressing changed" not in before
    assert not looks()
    page = person.post(address(lenient, measured, "held_out/")).text
    facts = measured.facts["held_out"]
    assert "Dressing changed" in page
    assert f"{facts['worst']:.3f}" in page
    assert "as the trainer read it" not in page
    assert f"/datasets/versions/{measured.dataset_version_id}/records/" in page
    assert [(look["facts"], look["outcome"]) for look in looks()] == [
        ({"part": "held_out", "records": facts["records"]}, "done")
    ]


def test_a_shredded_person_is_in_no_text(lenient: House, browser_of: Any, measured: FineTune) -> None:
    rows = RedactedRecord.objects.filter(run=measured.dataset_version.redaction, record__subject__split="validation")
    patients = {f"patient-{(ordinal - 1) // 3}" for ordinal in rows.values_list("ordinal", flat=True)}
    for patient in patients:
        shred_subject(actor=lenient.officer, dataset=measured.dataset_version.dataset, subject=patient)
    page = browser_of(lenient.analyst).post(address(lenient, measured, "held_out/")).text
    assert "Dressing changed" not in page
    assert "cannot be read any more" in page


def test_who_may_not_see_redacted_text_sees_no_losses_and_the_denial_is_recorded(
    lenient: House, browser_of: Any, measured: FineTune
) -> None:
    auditor = browser_of(lenient.auditor)
    assert auditor.get(address(lenient, measured)).status_code == 403
    assert auditor.post(address(lenient, measured, "held_out/")).status_code == 403
    assert auditor.post(address(lenient, measured, "held_out/csv/")).status_code == 403
    assert [look["outcome"] for look in looks()] == ["denied", "denied"]


def test_all_losses_are_taken_away_as_files(lenient: House, browser_of: Any, measured: FineTune) -> None:
    person = browser_of(lenient.analyst)
    table = person.post(address(lenient, measured, "held_out/csv/")).getvalue().decode().splitlines()
    rows = json.loads(person.post(address(lenient, measured, "held_out/json/")).getvalue())
    assert table[0] == "record,loss,first_loss,units"
    assert len(table) - 1 == len(rows) == measured.facts["held_out"]["records"]
    assert [row["loss"] for row in rows] == sorted((row["loss"] for row in rows), reverse=True)
    assert len(looks()) == 2


def test_the_file_belongs_to_the_run_and_a_changed_one_is_not_read(
    lenient: House, browser_of: Any, measured: FineTune
) -> None:
    from steward.vault.objects import object_path

    sealed = SealedObject.objects.get(kind="held-out", bound_to=str(measured.pk))
    assert sealed.key == measured.output_key
    path = object_path(sealed)
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    answer = browser_of(lenient.analyst).post(address(lenient, measured, "held_out/"))
    assert answer.status_code == 409
    assert "cannot be opened" in answer.text


def test_training_records_are_shown_with_their_first_and_last_loss(
    lenient: House, browser_of: Any, base_model: Any
) -> None:
    version = lenient.approved(visits(60))
    fine_tune = dispatched(lenient, version, base_model)
    trained = RedactedRecord.objects.filter(run=version.redaction, record__subject__split="train")
    ordinals = sorted(trained.values_list("ordinal", flat=True))[:3]
    leave_train_losses(fine_tune, {str(ordinal): (4.5, 1.0 + ordinal / 1000) for ordinal in ordinals})
    finish(lenient, fine_tune)
    assert SealedObject.objects.filter(kind="train-records", bound_to=str(fine_tune.pk)).exists()
    page = browser_of(lenient.analyst).post(address(lenient, fine_tune, "train_records/")).text
    assert page.count("first 4.500") == 3
    assert "Dressing changed" in page
    assert [look["facts"]["part"] for look in looks()] == ["train_records"]


def test_a_run_without_losses_says_so(lenient: House, browser_of: Any, base_model: Any) -> None:
    fine_tune = dispatched(lenient, lenient.approved(visits(60)), base_model)
    person = browser_of(lenient.analyst)
    assert "A run leaves them when it succeeds" in person.get(address(lenient, fine_tune)).text
    assert person.post(address(lenient, fine_tune, "held_out/")).status_code == 409
    assert person.post(address(lenient, fine_tune, "elsewhere/")).status_code == 409
