"""The pages on which an officer decides about records that look privileged."""

from typing import Any

import pytest

from steward.datasets.actions import draw_sample
from steward.datasets.models import PrivilegeDecision, RedactedRecord, SampleItem
from steward.datasets.privilege_actions import release_privileged, withhold_privileged
from tests.steward.datasets.test_privilege import ADVICE, REASON, letters, review
from tests.steward.house import House


@pytest.fixture
def firm(db: None) -> House:
    return House("legal", policy={"sample_size_min": 1, "missed_per_1000_max": 1000})


def at(firm: House, version: Any, rest: str = "") -> str:
    return f"/w/{firm.workspace.slug}/datasets/versions/{version.pk}/{rest}"


def test_the_officer_is_led_from_the_version_to_each_record_and_back(firm: House, browser_of: Any) -> None:
    version = firm.redacted(letters())
    officer = browser_of(firm.officer)
    page = officer.get(at(firm, version)).text
    assert "2 records look privileged" in page
    assert 'value="approve" disabled' in page
    listed = officer.get(at(firm, version, "privileged/")).text
    assert "marking.privileged" in listed
    assert "No. 2" in listed
    shown = officer.get(at(firm, version, "privileged/1/")).text
    assert '<mark class="passage" data-number="1" id="passage-1">Privileged and confidential' in shown
    assert '<code>marking.privileged</code> <span class="num soft">+5.0</span>' in shown
    address = at(firm, version, "privileged/{}/decision/")
    assert officer.post(address.format(1), {"decision": "release", "reason": " "}).status_code == 409
    assert officer.post(address.format(1), {"decision": "burn", "reason": REASON}).status_code == 409
    first = officer.post(address.format(1), {"decision": "release", "reason": REASON})
    assert first.url.endswith("/privileged/2/")
    assert officer.post(address.format(2), {"decision": "withhold", "reason": REASON}).url == at(firm, version)
    page = officer.get(at(firm, version)).text
    assert "1 record released, 1 withheld for good" in page
    assert "Draw the sample" in page
    review(firm, version)
    page = officer.get(at(firm, version)).text
    assert 'value="approve" disabled' not in page
    assert "Every record has its decision" in officer.get(at(firm, version, "privileged/")).text
    everything = officer.get(at(firm, version, "privileged/?show=all")).text
    assert REASON in everything
    assert "Claw back" in officer.get(at(firm, version, "privileged/1/")).text
    assert "Withheld is withheld" in officer.get(at(firm, version, "privileged/2/")).text


def test_nobody_but_an_officer_sees_what_is_held_back(firm: House, browser_of: Any) -> None:
    version = firm.redacted(letters())
    for actor in (firm.analyst, firm.reviewer, firm.auditor):
        person = browser_of(actor)
        assert "2 records look privileged" in person.get(at(firm, version)).text
        for rest in ("privileged/", "privileged/1/"):
            assert person.get(at(firm, version, rest)).status_code == 403
        form = {"decision": "release", "reason": REASON}
        assert person.post(at(firm, version, "privileged/1/decision/"), form).status_code == 403
    assert not PrivilegeDecision.objects.exists()


def test_what_is_held_back_is_on_no_page_but_the_officer_s(firm: House, browser_of: Any) -> None:
    version = firm.redacted(letters())
    secret = "advises that we settle"
    for actor in (firm.analyst, firm.reviewer):
        person = browser_of(actor)
        listed = person.get(at(firm, version, "records/")).text
        assert "Only compliance officers may read it" in listed
        assert secret not in listed
        filtered = person.get(at(firm, version, "records/?low=0.01")).text
        assert "No. 1<" not in filtered
        assert person.get(at(firm, version, "records/1/")).status_code == 403
        assert person.post(at(firm, version, "records/1/raw/"), {"reason": "redaction_preview"}).status_code == 403
        assert person.get(at(firm, version, "records/3/")).status_code == 200
    officer = browser_of(firm.officer)
    assert secret not in officer.get(at(firm, version, "records/")).text
    shown = officer.get(at(firm, version, "records/1/")).text
    assert secret in shown
    assert "Nobody but compliance officers may read it" in shown


def test_a_comparison_leaves_out_what_is_held_back(firm: House, browser_of: Any) -> None:
    from compliance.redaction import Detector
    from steward.datasets.comparing import compare_runs
    from steward.datasets.models import RunComparison

    version = firm.redacted(letters())
    before = version.redaction
    real = Detector.detect
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Detector, "detect", lambda self, text: real(self, text)[:0])
        run = firm.redact(version)
    compare_runs(str(before.pk), str(run.pk))
    assert {1, 2} <= set(RunComparison.objects.get(after=run).changed)
    page = browser_of(firm.reviewer).get(at(firm, version, "comparison/")).text
    assert "2 records of this page look privileged: held back" in page
    assert "advises that we settle" not in page
    assert "advises that we settle" in browser_of(firm.officer).get(at(firm, version, "comparison/")).text


def test_the_interface_shows_no_held_back_item_of_a_sample(firm: House, browser_of: Any) -> None:
    version = firm.redacted(letters())
    rows = list(RedactedRecord.objects.filter(run=version.redaction).quarantined().order_by("ordinal"))
    for row in rows:
        release_privileged(actor=firm.officer, redacted=row, reason=REASON)
    draw_sample(actor=firm.reviewer, run=version.redaction, size=8)
    item = SampleItem.objects.get(run=version.redaction, redacted=rows[0])
    address = f"/api/v1/sample-items/{item.pk}"
    assert "advises that we settle" in browser_of(firm.reviewer).get(address).text
    withhold_privileged(actor=firm.officer, redacted=rows[0], reason="Rule 502(b)")
    refused = browser_of(firm.reviewer).get(address)
    assert (refused.status_code, refused.json()["code"]) == (403, "privileged")
    assert browser_of(firm.officer).get(address).status_code == 200


def test_a_record_that_does_not_look_privileged_has_no_such_page(firm: House, browser_of: Any) -> None:
    version = firm.redacted(letters())
    assert browser_of(firm.officer).get(at(firm, version, "privileged/5/")).status_code == 404


def test_the_list_goes_on_behind_an_ordinal_and_names_an_erased_person(firm: House, browser_of: Any) -> None:
    from steward.datasets.erasure_actions import shred_subject

    version = firm.redacted(letters(23, privileged=23))
    shred_subject(actor=firm.officer, dataset=version.dataset, subject="client-0")
    officer = browser_of(firm.officer)
    assert "?after=21" in officer.get(at(firm, version, "privileged/")).text
    assert "No. 23" in officer.get(at(firm, version, "privileged/?after=21")).text
    assert "person erased" in officer.get(at(firm, version, "privileged/?show=all")).text
    assert officer.get(at(firm, version, "privileged/1/")).status_code == 404


def test_the_console_queue_and_its_page_name_what_waits(firm: House, browser_of: Any) -> None:
    version = firm.redacted(letters())
    officer = browser_of(firm.officer)
    assert "2 look privileged" in officer.get("/console/approvals/").text
    page = officer.get(f"/console/approvals/versions/{version.pk}/").text
    assert "2 records look privileged" in page
    assert at(firm, version, "privileged/") in page


def test_the_interface_lists_shows_and_decides(firm: House, browser_of: Any) -> None:
    version = firm.redacted(letters())
    officer, base = browser_of(firm.officer), f"/api/v1/versions/{version.pk}/privileged"
    listed = officer.get(base).json()["data"]
    assert listed == [{"ordinal": 1, "decision": None}, {"ordinal": 2, "decision": None}]
    detail = officer.get(f"{base}/1").json()
    (passage,) = detail["passages"][1]
    text = detail["payload"]["messages"][1]["content"]
    assert text[passage["start"] : passage["end"]].startswith(ADVICE[:20])
    assert passage["reasons"][0] == "marking.privileged"
    taken = officer.post(f"{base}/1/decision", {"kind": "withheld", "reason": REASON}, content_type="application/json")
    assert (taken.status_code, taken.json()["kind"]) == (201, "withheld")
    assert officer.get(base).json()["data"][0]["decision"]["reason"] == REASON
    assert RedactedRecord.objects.filter(run=version.redaction).quarantined().count() == 1
    assert browser_of(firm.reviewer).get(base).status_code == 403
