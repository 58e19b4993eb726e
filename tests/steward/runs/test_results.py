"""Preferences and labels from the request to the figures, with real trainer processes."""

import json
from typing import Any

import pytest

from domains.metrics import macro_f1
from steward.assurance import evaluating
from steward.assurance.judging import macro_f1_at
from steward.assurance.models import Evaluation, EvaluationState
from steward.assurance.reading import predictions
from steward.runs import actions, following
from steward.runs.chat import stop_serving, stream_answer
from steward.runs.models import RunState
from tests.steward.house import House, labelled, pairs

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
