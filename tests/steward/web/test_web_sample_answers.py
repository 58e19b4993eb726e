"""What a run answers on its way: shown while it runs, to those who may see redacted text, and every look recorded."""

import json
from typing import Any

import pytest

from steward.audit.models import OutboxEntry
from steward.datasets.erasure_actions import shred_subject
from steward.datasets.models import RedactedRecord
from steward.runs.models import FineTune
from steward.vault.models import SealedObject
from steward.vault.objects import object_path
from tests.steward.house import House, visits
from tests.steward.runs.paper import dispatched, finish, leave_answers

PART = {"HX-Request": "true", "HX-Target": "answers"}


@pytest.fixture
def lenient(db: None) -> House:
    return House(policy={"missed_per_1000_max": 1000})


@pytest.fixture
def running(lenient: House, base_model: Any) -> FineTune:
    """A run that was evaluated before its first step and after the fourth, and goes on."""
    fine_tune = dispatched(lenient, lenient.approved(visits(60)), base_model)
    leave_answers(fine_tune, 0, dict.fromkeys(asked_of(fine_tune), "I am an <b>assistant</b>"), score=0.0)
    leave_answers(fine_tune, 4, dict.fromkeys(asked_of(fine_tune), "It was dressed"), score=0.25)
    return fine_tune


def asked_of(fine_tune: FineTune) -> list[str]:
    rows = RedactedRecord.objects.filter(run=fine_tune.dataset_version.redaction, record__subject__split="validation")
    return [str(ordinal) for ordinal in sorted(rows.values_list("ordinal", flat=True))[:3]]


def address(house: House, fine_tune: FineTune, rest: str = "") -> str:
    return f"/w/{house.workspace.slug}/fine-tunes/{fine_tune.pk}/answers/{rest}"


def looks() -> list[tuple[str, dict[str, int]]]:
    bodies = [json.loads(bytes(row.body)) for row in OutboxEntry.objects.all()]
    return [(body["outcome"], body["facts"]) for body in bodies if body["action"] == "sample_answers.shown"]


def test_the_page_sets_the_answers_of_each_evaluation_beside_what_is_expected(
    lenient: House, browser_of: Any, running: FineTune
) -> None:
    person = browser_of(lenient.analyst)
    before = person.get(address(lenient, running)).text
    assert "Show the answers" in before
    assert "Dressing changed" not in before
    assert not looks()
    page = person.post(address(lenient, running, "show/")).text
    heads, _, cells = page.partition('<table class="answers">')[2].partition("</table>")[0].partition("</thead>")
    assert heads.index("Expected") < heads.index("Step 4") < heads.index("Step 0, untuned")
    assert cells.index("Dressing changed") < cells.index("It was dressed") < cells.index("I am an &lt;b&gt;assistant")
    assert page.count('<table class="answers">') == 3
    untuned = cells.partition("I am an &lt;b&gt;assistant")[2]
    assert (cells.count(">cut</span>"), untuned.count(">cut</span>")) == (1, 1)
    assert "what was done?" in page
    assert "as it read it" not in page
    assert looks() == [("done", {"records": 3, "steps": 2})]
    link = person.get(f"/w/{lenient.workspace.slug}/fine-tunes/{running.pk}/").text
    assert address(lenient, running) in link


def test_an_open_page_gets_what_is_new_and_nothing_is_recorded_while_there_is_nothing(
    lenient: House, browser_of: Any, running: FineTune
) -> None:
    person = browser_of(lenient.analyst)

    def shown(seen: str = "") -> Any:
        return person.post(address(lenient, running, "show/"), {"seen": seen}, headers=PART)

    seen = shown().text.partition('name="seen" value="')[2].partition('"')[0]
    assert shown(seen).status_code == 204
    assert len(looks()) == 1
    leave_answers(running, 8, dict.fromkeys(asked_of(running), "Dressed again"), score=0.5)
    part = shown(seen).text
    assert part.startswith('<section class="card stack" id="answers">')
    assert "Dressed again" in part
    assert looks()[-1] == ("done", {"records": 3, "steps": 3})
    finish(lenient, running)
    last = shown(part.partition('name="seen" value="')[2].partition('"')[0]).text
    assert "Dressed again" in last
    assert "every 3s" not in last


def test_a_step_answered_again_after_a_resume_takes_the_place_of_the_first(
    lenient: House, browser_of: Any, running: FineTune
) -> None:
    leave_answers(running, 4, dict.fromkeys(asked_of(running), "Second try"), score=0.75)
    page = browser_of(lenient.analyst).post(address(lenient, running, "show/")).text
    assert "Second try" in page
    assert "It was dressed" not in page
    points = running.measurements.filter(split="validation").values_list("step", "score")
    assert list(points) == [(0, 0.0), (4, 0.75)]


def test_the_scores_are_a_curve_even_where_loss_and_answers_are_read_apart(
    lenient: House, browser_of: Any, running: FineTune
) -> None:
    curves = (
        browser_of(lenient.analyst)
        .get(f"/w/{lenient.workspace.slug}/fine-tunes/{running.pk}/measurements/")
        .json()["curves"]
    )
    assert curves["validation"] == {"loss": [[0, 2.0], [4, 0.4]], "score": [[0, 0.0], [4, 0.25]]}


def test_a_shredded_person_is_in_no_prompt_and_no_answer(lenient: House, browser_of: Any, running: FineTune) -> None:
    for patient in {f"patient-{(int(record) - 1) // 3}" for record in asked_of(running)}:
        shred_subject(actor=lenient.officer, dataset=running.dataset_version.dataset, subject=patient)
    page = browser_of(lenient.analyst).post(address(lenient, running, "show/")).text
    assert "Dressing changed" not in page
    assert "It was dressed" not in page
    assert "cannot be read any more" in page
    assert looks() == [("done", {"records": 0, "steps": 2})]


def test_who_may_not_see_redacted_text_sees_no_answers(lenient: House, browser_of: Any, running: FineTune) -> None:
    auditor = browser_of(lenient.auditor)
    assert auditor.get(address(lenient, running)).status_code == 403
    assert auditor.post(address(lenient, running, "show/")).status_code == 403
    assert looks() == [("denied", {"code": "denied"})]
    assert address(lenient, running) not in auditor.get(f"/w/{lenient.workspace.slug}/fine-tunes/{running.pk}/").text


def test_the_files_are_kept_with_the_run_and_a_changed_one_is_not_read(
    lenient: House, browser_of: Any, running: FineTune
) -> None:
    finish(lenient, running)
    kept = SealedObject.objects.filter(kind__startswith="answers-", bound_to=str(running.pk))
    assert sorted(kept.values_list("kind", flat=True)) == ["answers-0", "answers-4"]
    path = object_path(kept[0])
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    answer = browser_of(lenient.analyst).post(address(lenient, running, "show/"))
    assert answer.status_code == 409
    assert "cannot be opened" in answer.text


def test_a_run_without_answers_says_so(lenient: House, browser_of: Any, base_model: Any) -> None:
    fine_tune = dispatched(lenient, lenient.approved(visits(60)), base_model, answers={"prompts": 0})
    person = browser_of(lenient.analyst)
    assert "was not asked for any" in person.get(address(lenient, fine_tune)).text
    assert person.post(address(lenient, fine_tune, "show/")).status_code == 409


def test_many_evaluations_keep_the_facts_of_the_first_and_the_last_ones(running: FineTune) -> None:
    from trainers.spec import ANSWERS_KEPT

    for step in range(5, 5 + ANSWERS_KEPT):
        leave_answers(running, step, dict.fromkeys(asked_of(running)[:1], "yes"))
    steps = [facts["step"] for facts in running.facts["answers"]]
    assert steps == [0, *range(6, 5 + ANSWERS_KEPT)]
    assert len(steps) == ANSWERS_KEPT
