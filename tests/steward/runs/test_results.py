"""Preferences and labels from the request to the figures, with real trainer processes."""

import json
import re
from typing import Any

import pytest

from domains.metrics import macro_f1, span_parts
from steward.assurance import evaluating
from steward.assurance.compression_actions import request_compression
from steward.assurance.judged_answers import order
from steward.assurance.judgement import mean_interval
from steward.assurance.judging import macro_f1_at
from steward.assurance.models import Evaluation, EvaluationState
from steward.assurance.phrase_book import PhraseBook
from steward.assurance.reading import predictions
from steward.audit.actor import Refused
from steward.datasets.reading import RecordReader
from steward.runs import actions, following
from steward.runs.chat import stop_serving, stream_answer
from steward.runs.models import RunState
from steward.runs.sample_answers import sample_answers
from tests.steward.house import House, judgements, labelled, pairs, tagged

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
SHORT = {"precision": "fp32", "batch_tokens": 600, "max_length": 512, "epochs": 2, "patience": None}


def judged(house: House, base: Any, rows: list[dict[str, Any]], **changes: Any) -> Evaluation:
    fine_tune = actions.request_fine_tune(
        actor=house.analyst,
        version=house.approved(rows),
        base_model=base,
        name="try",
        changes={**SHORT, **changes},
    )
    done = following.drive(str(fine_tune.pk))
    assert (done.state, done.failure) == (RunState.SUCCEEDED, "")
    evaluation = evaluating.evaluate(str(Evaluation.objects.get(model_version=done.model_version).pk))
    assert (evaluation.state, evaluation.failure) == (EvaluationState.DONE, "")
    return evaluation


def within(measure: dict[str, Any], *sides: str) -> None:
    for side in ("base", "tuned", "gain"):
        assert (measure[side] is not None) == (side in sides), (measure["name"], side)
        if measure[side] is not None:
            figure, low, high = measure[side]
            assert low <= figure <= high


def test_labels_are_judged_against_the_most_frequent_one_and_the_classifier_answers_in_a_chat(
    house: House, tiny_base: Any
) -> None:
    rows = labelled(90, ("wound", "wound", "allergy"))
    evaluation = judged(house, tiny_base, rows, method="classification", way="dora")
    assert evaluation.metric == "label_match"
    assert evaluation.baseline["answer"] == "wound"
    assert evaluation.baseline["training_share"] == pytest.approx(2 / 3, abs=0.1)
    answers = list(predictions(evaluation))
    assert {answer.base for answer in answers} == {"wound"}
    assert {answer.tuned for answer in answers} <= {"wound", "allergy"}
    assert evaluation.scores["base"] == [float(answer.reference == "wound") for answer in answers]
    measures = {measure["name"]: measure for measure in evaluation.measures}
    within(measures["macro_f1"], "base", "tuned", "gain")
    within(measures["asked_in_words"], "base")
    names = evaluation.model_version.fine_tune.recipe["classification"]["labels"]
    expected = macro_f1([(answer.tuned, answer.reference) for answer in answers], names)
    assert measures["macro_f1"]["tuned"][0] == pytest.approx(expected)
    said = "".join(
        stream_answer(
            actor=house.analyst,
            model_version=evaluation.model_version,
            messages=[{"role": "user", "content": "Visit 3: dressing changed."}],
            use_adapter=True,
        )
    )
    stop_serving()
    assert said in names


def test_conversations_of_no_pack_task_are_learnt_whole_and_judged_as_free_answers(
    house: House, tiny_base: Any
) -> None:
    said = "It is kept in the second drawer from the top, and whoever takes it out signs the list beside it. " * 2
    rows = [
        {
            "messages": [
                {"role": "system", "content": "You help in a workshop."},
                {"role": "user", "content": f"Where is tool {number}?"},
                {"role": "assistant", "content": "Which drawer did you look into?", "weight": number % 2},
                {"role": "user", "content": "The first."},
                {"role": "assistant", "content": said},
            ]
        }
        for number in range(60)
    ]
    fast = {"precision": "fp32", "epochs": 2, "optimiser": {"learning_rate": 1e-2}}
    fine_tune = actions.request_fine_tune(
        actor=house.analyst, version=house.approved(rows), base_model=tiny_base, name="try", changes=fast
    )
    assert fine_tune.workflow == "conversations"
    assert fine_tune.recipe["max_length"] == tiny_base.context_length == 512  # the workflow would take more
    done = following.drive(str(fine_tune.pk))
    assert (done.state, done.failure) == (RunState.SUCCEEDED, "")
    counts = done.facts["data_train"]
    assert counts["longest"] > 256  # what the demo task reads of a record
    assert (counts["refused"], counts["truncated"]) == (0, 0)
    evaluation = evaluating.evaluate(str(Evaluation.objects.get(model_version=done.model_version).pk))
    assert (evaluation.state, evaluation.failure) == (EvaluationState.DONE, "")
    assert (evaluation.metric, evaluation.shortened_count) == ("rouge_l", 0)
    measures = {measure["name"]: measure for measure in evaluation.measures}
    within(measures["reference_likelihood"], "base", "tuned", "gain")
    each = evaluation.scores["further"]["reference_likelihood"]
    assert each["ids"] == evaluation.scores["ids"]
    assert mean_interval(each["tuned"]).estimate == measures["reference_likelihood"]["tuned"][0]
    within(measures["unended"], "base", "tuned")
    gates = {result.gate: result for result in evaluation.gate_results.all()}
    assert gates["likelier_answers"].figure == measures["reference_likelihood"]["gain"][1] > 0
    assert gates["likelier_answers"].has_passed
    assert all(result.figure is not None for result in gates.values())


def test_records_with_fields_are_not_trained_on_as_conversations(house: House, tiny_base: Any) -> None:
    dataset = house.dataset(workflow="visit_sections")
    rows = [{"text": f"Visit {n}.", "label": "Allergy"} for n in range(70)]
    version = house.approve(house.imported(rows, dataset))
    with pytest.raises(Refused, match="was imported with fields") as refused:
        actions.request_fine_tune(
            actor=house.analyst, version=version, base_model=tiny_base, name="try", workflow="conversations"
        )
    assert refused.value.code == "field_unmapped"


@pytest.mark.parametrize(("method", "way"), [("dpo", "prompt"), ("orpo", "full")])
def test_preferences_are_judged_by_the_metric_and_by_which_answer_is_preferred(
    house: House, tiny_base: Any, method: str, way: str
) -> None:
    rate = {"optimiser": {"learning_rate": 1e-2 if way == "prompt" else 1e-3}}
    evaluation = judged(house, tiny_base, pairs(60), method=method, way=way, **rate)
    measures = {measure["name"]: measure for measure in evaluation.measures}
    within(measures["preference_accuracy"], "base", "tuned", "gain")
    within(measures["preference_moved"], "tuned")
    within(measures["preference_margin"], "base", "tuned", "gain")
    base, tuned, gain = (measures["preference_margin"][side][0] for side in ("base", "tuned", "gain"))
    assert gain == pytest.approx(tuned - base)
    assert gain > 0
    assert evaluation.baseline == {}
    assert "Dressing" not in json.dumps(evaluation.measures)


def test_judged_answers_are_judged_by_the_good_ones_and_by_how_far_both_kinds_are_apart(
    house: House, tiny_base: Any
) -> None:
    evaluation = judged(house, tiny_base, judgements(60), method="kto", optimiser={"learning_rate": 1e-3})
    version = evaluation.model_version.fine_tune.dataset_version
    test = list(RecordReader(version).redacted(version.redaction, split="test"))
    good = [str(record.ordinal) for record in test if record.payload["is_good"]]
    assert evaluation.scores["ids"] == good
    assert 0 < evaluation.record_count == len(good) < len(test)
    assert [answer.record_id for answer in predictions(evaluation)] == good
    measures = {measure["name"]: measure for measure in evaluation.measures}
    within(measures["judgement_separation"], "base", "tuned", "gain")
    within(measures["judgement_order"], "tuned")
    within(measures["good_gain"], "gain")
    within(measures["bad_gain"], "gain")
    assert measures["judgement_separation"]["gain"][0] > 0
    assert measures["judgement_order"]["tuned"][0] > 0.5
    assert "Dressing" not in json.dumps(evaluation.measures)
    assert evaluation.gate_results.exists()


def test_spans_are_judged_by_micro_f1_against_a_list_of_phrases_and_told_in_a_chat(
    house: House, tiny_base: Any
) -> None:
    rate = {"optimiser": {"learning_rate": 0.01}}
    evaluation = judged(house, tiny_base, tagged(90), method="token-classification", way="lora", epochs=7, **rate)
    fine_tune = evaluation.model_version.fine_tune
    assert evaluation.metric == "span_f1"
    assert evaluation.baseline["kind"] == "phrases"
    answers = list(predictions(evaluation))
    for side in ("base", "tuned"):
        parts = [span_parts(getattr(answer, side), answer.reference) for answer in answers]
        figure = getattr(evaluation, f"{side}_score")
        assert figure == pytest.approx(sum(part[0] for part in parts) / sum(part[1] for part in parts))
        assert evaluation.scores["parts"][side] == [list(part) for part in parts]
        assert getattr(evaluation, f"{side}_low") <= figure <= getattr(evaluation, f"{side}_high")
    # The list knows both drugs, the model has learnt to find something.
    assert 0.3 < evaluation.base_score <= 1
    assert evaluation.tuned_score > 0.1
    assert {json.dumps(json.loads(answer.base)) for answer in answers} != {"[]"}
    measures = {measure["name"]: measure for measure in evaluation.measures}
    for name in ("f1_DRUG", "f1_PATIENT", "text_f1"):
        within(measures[name], "base", "tuned", "gain")
    assert measures["f1_DRUG"]["base"][0] == 1.0
    looked = sample_answers(fine_tune)
    shown = looked.asked[0]
    assert shown.prompt.startswith("Visit ")
    assert re.fullmatch(r"PATIENT: Mrs\. [^\n]+\nDRUG: (aspirin|warfarin)", shown.reference)
    said = [
        (each.prompt, words) for each in looked.asked for answer in each.answers for words in answer.text.split("\n")
    ]
    assert any(words for _, words in said)
    assert all(words.partition(": ")[2] in prompt for prompt, words in said)
    gates = {gate.gate: gate.state for gate in evaluation.gate_results.all()}
    assert gates["identifiers_in_answers"] == "passed"
    said = "".join(
        stream_answer(
            actor=house.analyst,
            model_version=evaluation.model_version,
            messages=[{"role": "user", "content": "Visit 3: she was given aspirin for the ward."}],
            use_adapter=True,
        )
    )
    stop_serving()
    assert {label for _, _, label in json.loads(said)} <= set(fine_tune.recipe["classification"]["labels"])
    with pytest.raises(Refused, match="not compressed"):
        request_compression(actor=house.analyst, model_version=evaluation.model_version, ways=["int8"])


def test_the_phrases_of_training_records_are_found_longest_first_and_only_where_they_had_one_label() -> None:
    records = [
        ("vitamin B 12 and vitamin B", [(0, 12, "DRUG"), (17, 26, "DRUG")]),
        ("cold cold", [(0, 4, "PROBLEM"), (5, 9, "FINDING")]),
        ("no span", []),
    ]
    book = PhraseBook(records)
    assert len(book) == 2
    text = "cold: Vitamin B? vitamin B 12, vitamin B!"
    assert [(text[start:end], label) for start, end, label in book.spans_in(text)] == [
        ("vitamin B 12", "DRUG"),
        ("vitamin B", "DRUG"),
    ]
    assert PhraseBook([]).spans_in(text) == []


@pytest.mark.parametrize("seed", range(20))
def test_the_order_of_judged_answers_is_scikit_learns_area_under_the_curve(seed: int) -> None:
    import random

    from sklearn.metrics import roc_auc_score

    source = random.Random(seed)
    good, bad = ([float(source.randrange(12)) for _ in range(source.randrange(1, 30))] for _ in range(2))
    expected = roc_auc_score([1] * len(good) + [0] * len(bad), good + bad)
    assert order(good, bad) == pytest.approx(expected)


@pytest.mark.parametrize("seed", range(20))
def test_the_fast_macro_f1_is_that_of_the_metrics(seed: int) -> None:
    import random

    source = random.Random(seed)
    names = ["ward", "home", "lab"][: 2 + seed % 2]
    answers = [source.choice([*names, "none of them"]) for _ in range(30)]
    references = [source.choice(names) for _ in range(30)]
    places = [source.randrange(30) for _ in range(source.randrange(1, 40))]
    expected = macro_f1([(answers[place], references[place]) for place in places], names)
    assert macro_f1_at(answers, references, names)(places) == pytest.approx(expected)
