"""Datasets in the browser: made, filled, redacted, looked at, decided."""

from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client

from steward.audit.models import OutboxEntry
from steward.datasets.importing import import_version
from steward.datasets.models import Dataset, DatasetVersion, SampleItem, VersionState
from tests.steward.house import House, lines, visits

SECRET = "Quackenbush"


def events() -> str:
    return "\n".join(bytes(row.body).decode() for row in OutboxEntry.objects.order_by("sequence"))


def at(house: House, path: str) -> str:
    return f"/w/{house.workspace.slug}/datasets/{path}"


def send(client: Client, house: House, dataset: Dataset, form: dict[str, Any]) -> Any:
    """The import form, as the page's script sends it."""
    return client.post(at(house, f"{dataset.pk}/upload/"), form, headers={"Accept": "application/json"})


def test_a_dataset_is_made_in_the_form(house: House, browser_of: Any) -> None:
    answer = browser_of(house.analyst).post(at(house, "new/"), {"name": "Notes", "purpose": "coding", "workflow": ""})
    dataset = Dataset.objects.get(workspace=house.workspace)
    assert answer.url == at(house, f"{dataset.pk}/")


def test_a_form_that_is_refused_says_why_and_keeps_what_was_typed(house: House, browser_of: Any) -> None:
    answer = browser_of(house.analyst).post(at(house, "new/"), {"name": " ", "purpose": "a reason", "workflow": ""})
    assert answer.status_code == 409
    assert "Give the dataset a name" in answer.text
    assert 'value="a reason"' in answer.text


def test_an_upload_becomes_a_version_and_is_nowhere_in_the_clear(house: House, browser_of: Any) -> None:
    dataset = house.dataset()
    file = SimpleUploadedFile("visits.jsonl", lines(visits(9)))
    answer = browser_of(house.analyst).post(
        at(house, f"{dataset.pk}/upload/"),
        {"file": file, "map.subject": "patient_id"},
        headers={"Accept": "application/json"},
    )
    version = DatasetVersion.objects.get(dataset=dataset)
    assert answer.json() == {"url": at(house, f"versions/{version.pk}/")}
    assert import_version(str(version.pk)).record_count == 9
    assert not [
        path
        for path in Path(settings.STEWARD_HOME, "objects").rglob("*")
        if path.is_file() and SECRET.encode() in path.read_bytes()
    ]


def test_a_mapping_to_no_column_is_answered_with_the_columns_there_are(house: House, browser_of: Any) -> None:
    dataset = house.dataset()
    given = {"file": SimpleUploadedFile("visits.jsonl", lines(visits(2))), "map.subject": "nobody"}
    answer = browser_of(house.analyst).post(
        at(house, f"{dataset.pk}/upload/"), given, headers={"Accept": "application/json"}
    )
    assert answer.status_code == 409
    assert "It has: prompt, completion, patient_id" in answer.json()["message"]
    assert not list(Path(settings.STEWARD_OBJECTS, str(house.workspace.pk)).glob("*"))


def test_a_forged_upload_is_turned_away_and_leaves_nothing(house: House, browser_of: Any) -> None:
    from steward.accounts.models import User

    dataset = house.dataset()
    forger = Client(enforce_csrf_checks=True)
    forger.force_login(User.objects.get(pk=house.analyst.user_id), backend="django.contrib.auth.backends.ModelBackend")
    answer = forger.post(at(house, f"{dataset.pk}/upload/"), {"file": SimpleUploadedFile("x.jsonl", lines(visits(2)))})
    assert answer.status_code == 403
    assert not DatasetVersion.objects.filter(dataset=dataset).exists()
    assert not list(Path(settings.STEWARD_OBJECTS, str(house.workspace.pk)).glob("*"))


def test_problems_of_a_file_are_listed_by_line(house: House, browser_of: Any) -> None:
    version = house.upload(house.dataset(), lines(visits(1)) + b'{"prompt": 1}\nnonsense\n')
    import_version(str(version.pk))
    page = browser_of(house.analyst).get(at(house, f"versions/{version.pk}/")).text
    assert "Nothing was imported" in page
    assert "Not valid JSON" in page
    assert "nonsense" not in page


def test_only_redacted_text_is_shown_until_somebody_asks_for_more(house: House, browser_of: Any) -> None:
    version = house.redacted(visits(3))
    person = browser_of(house.analyst)
    for path in ("records/", "records/1/"):
        page = person.get(at(house, f"versions/{version.pk}/{path}"))
        assert page.status_code == 200
        assert SECRET not in page.text
        assert 'class="found kind-person' in page.text
    before = events().count("record.revealed")
    shown = person.post(at(house, f"versions/{version.pk}/records/1/raw/"), {"reason": "redaction_preview"})
    assert SECRET in shown.text
    assert "no-store" in shown["Cache-Control"]
    assert events().count("record.revealed") == before + 1


def test_raw_text_needs_a_reason_and_the_right(house: House, browser_of: Any) -> None:
    version = house.redacted(visits(3))
    address = at(house, f"versions/{version.pk}/records/1/raw/")
    assert browser_of(house.analyst).post(address, {"reason": "curiosity"}).status_code == 409
    denied = browser_of(house.reviewer).post(address, {"reason": "incident"})
    assert denied.status_code == 403
    assert SECRET not in denied.text


def test_records_are_paged_behind_an_ordinal(house: House, browser_of: Any) -> None:
    version = house.redacted(visits(25))
    person = browser_of(house.analyst)
    assert "?after=20" in person.get(at(house, f"versions/{version.pk}/records/")).text
    last = person.get(at(house, f"versions/{version.pk}/records/?after=20")).text
    assert "No. 25" in last
    assert "Next page" not in last
    assert person.get(at(house, f"versions/{version.pk}/records/?after=x")).status_code == 404


@pytest.mark.parametrize(("verdict", "missed"), [("clean", 0), ("missed", 2), ("overmasked", 0)])
def test_a_verdict_is_taken_and_the_next_record_comes(house: House, browser_of: Any, verdict: str, missed: int) -> None:
    version = house.redacted(visits(4))
    person = browser_of(house.reviewer)
    person.post(at(house, f"versions/{version.pk}/sample/"))
    item = SampleItem.objects.filter(run=version.redaction).first()
    assert item is not None
    address = at(house, f"versions/{version.pk}/review/{item.pk}/")
    desk = person.post(address, {"verdict": verdict, "missed": "2"}, headers={"HX-Request": "true"})
    item.refresh_from_db()
    assert (item.verdict, item.missed_count) == (verdict, missed)
    assert "1 of 4 reviewed" in desk.text
    assert "<html" not in desk.text
    assert person.post(address, {"verdict": verdict, "missed": "2"}).status_code == 409


def test_an_officer_decides_and_the_importer_may_not(house: House, browser_of: Any) -> None:
    version = house.redacted(visits(30))
    address = at(house, f"versions/{version.pk}/decision/")
    assert browser_of(house.analyst).post(address, {"decision": "approve"}).status_code == 403
    refused = browser_of(house.officer).post(address, {"decision": "approve"})
    assert refused.status_code == 409
    assert "does not bear an approval" in refused.text
    browser_of(house.officer).post(address, {"decision": "reject", "reason": "too small a sample"})
    version.refresh_from_db()
    assert version.state == VersionState.REJECTED
