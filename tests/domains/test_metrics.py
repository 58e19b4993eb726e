"""Metrics and intervals: known answers, and agreement with scikit-learn and SciPy."""

import random

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import f1_score

from domains.metrics import (
    METRICS,
    bootstrap_interval,
    exact_match,
    label_match,
    macro_f1,
    normalise_label,
    numeric_match,
    paired_difference,
    rouge_l,
    score,
    token_f1,
)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("Allergy", "allergy"),
        (" ALLERGY.\n", "allergy"),
        ("Label: Allergy", "allergy"),
        ("The answer is: Not-Mentioned", "not mentioned"),
        ("FAM/SOCHX", "fam sochx"),
        ("governing_law", "governing law"),
        ("**Allergy**", "allergy"),
        ("Ａllergy", "allergy"),
        ("\n\nAllergy\nbecause", "allergy"),
        ("Section", "section"),
        ("", ""),
    ],
)
def test_labels_are_compared_without_their_dress(given: str, expected: str) -> None:
    assert normalise_label(given) == expected


@pytest.mark.parametrize("answer", ["", "Allergy or Lab", "This is about Allergy", "Allergies", "Lab"])
def test_a_label_that_is_not_the_answer_is_wrong(answer: str) -> None:
    assert label_match(answer, "Allergy") == 0.0


@pytest.mark.parametrize(
    ("answer", "reference", "expected"),
    [
        ("1,452.4", "1452.4", 1.0),
        ("$ 1,452.4 million", "1452.4", 1.0),
        ("(1,234)", "-1234", 1.0),
        ("-22.22", "-22.22", 1.0),
        ("−22.22%", "-22.22", 1.0),
        ("22.22", "-22.22", 0.0),
        ("1452.5", "1452.4", 0.0),
        ("0.0", "0", 1.0),
        ("the figure is 77.", "77", 1.0),
        ("77 of 80", "80", 0.0),
        (".5", "0.5", 1.0),
        ("none", "5", 0.0),
        ("none", "none", 1.0),
        ("3.0000001", "3", 1.0),
    ],
)
def test_numbers_are_compared_by_value(answer: str, reference: str, expected: float) -> None:
    assert numeric_match(answer, reference) == expected


def test_exact_match_minds_case_but_not_blanks() -> None:
    assert exact_match(" a  b ", "a b") == 1.0
    assert exact_match("A b", "a b") == 0.0


def test_word_scores_of_known_sentences() -> None:
    assert token_f1("the cat sat", "the cat sat down") == pytest.approx(6 / 7)
    assert token_f1("sat cat the", "the cat sat") == 1.0
    # Longest common subsequence "police the gunman": Lin 2004, section 3.2.
    assert rouge_l("police kill the gunman", "police killed the gunman") == pytest.approx(0.75)
    assert rouge_l("the gunman kill police", "police killed the gunman") == pytest.approx(0.5)
    assert token_f1("", "") == rouge_l("", "") == 1.0
    assert token_f1("a", "") == rouge_l("", "a") == 0.0


@pytest.mark.parametrize("name", sorted(METRICS))
def test_every_metric_gives_one_to_equals_and_stays_in_range(name: str) -> None:
    texts = ["", "Allergy", "12 of 40", "Paid in full.\nNo more.", "(3)", "a\u0301", "🩺", "{x}", "1,2,3"]
    for text in texts:
        assert score(name, text, text) == 1.0
        for other in texts:
            value = score(name, text, other)
            assert 0.0 <= value <= 1.0
            assert value in (0.0, 1.0) or not METRICS[name].is_binary


def test_an_unknown_metric_is_a_key_error() -> None:
    with pytest.raises(KeyError):
        score("bleu", "a", "b")


@pytest.mark.parametrize("seed", range(5))
def test_macro_f1_equals_scikit_learns(seed: int) -> None:
    source = random.Random(seed)
    labels = ["Card", "Report", "Vehicle", "Deposit"]
    references = [source.choice(labels) for _ in range(80)]
    predictions = [source.choice([*labels, reference]) for reference in references]
    expected = f1_score(references, predictions, labels=labels, average="macro")
    assert macro_f1(zip(predictions, references, strict=True), labels) == pytest.approx(expected)


def test_macro_f1_counts_an_answer_outside_the_list_as_a_miss() -> None:
    pairs = [("Card", "Card"), ("I do not know", "Card"), ("Report", "Report")]
    assert macro_f1(pairs, ["Card", "Report"]) == pytest.approx((2 / 3 + 1.0) / 2)
    assert macro_f1([]) == 0.0


@pytest.mark.parametrize("level", [0.9, 0.95])
def test_the_interval_is_close_to_scipys_percentile_bootstrap(level: float) -> None:
    source = random.Random(4)
    scores = [source.betavariate(2, 1) for _ in range(150)]
    ours = bootstrap_interval(scores, seed=1, resamples=4000, level=level)
    theirs = stats.bootstrap(
        (np.array(scores),), np.mean, n_resamples=4000, confidence_level=level, method="percentile", rng=1
    ).confidence_interval
    assert ours.estimate == pytest.approx(float(np.mean(scores)))
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=0.006)
    assert (ours.n, ours.resamples, ours.level, ours.method) == (150, 4000, level, "bootstrap")


def test_the_interval_of_a_share_covers_it_about_as_often_as_it_says() -> None:
    source = random.Random(11)
    covered = 0
    for trial in range(200):
        scores = [float(source.random() < 0.7) for _ in range(80)]
        interval = bootstrap_interval(scores, seed=trial, resamples=300)
        covered += interval.low <= 0.7 <= interval.high
    assert 0.90 <= covered / 200 <= 0.99


def test_the_paired_difference_is_scipys_on_the_differences() -> None:
    source = random.Random(9)
    base = [float(source.random() < 0.3) for _ in range(120)]
    tuned = [float(source.random() < 0.8) for _ in range(120)]
    ours = paired_difference(base, tuned, seed=2)
    theirs = stats.bootstrap(
        (np.array(tuned) - np.array(base),), np.mean, n_resamples=4000, method="percentile", rng=1
    ).confidence_interval
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=0.02)
    assert ours.low > 0.0


@pytest.mark.parametrize("n", [5, 60, 120])
def test_equal_scores_claim_no_certainty(n: int) -> None:
    exact = stats.binomtest(n, n).proportion_ci(0.95, method="exact")
    perfect = bootstrap_interval([1.0] * n)
    assert (perfect.estimate, perfect.high, perfect.method) == (1.0, 1.0, "exact")
    assert perfect.low == pytest.approx(exact.low)
    hopeless = bootstrap_interval([0.0] * n)
    assert hopeless.high == pytest.approx(1.0 - exact.low)
    unchanged = paired_difference([1.0] * n, [1.0] * n)
    assert unchanged.low < 0.0 < unchanged.high


def test_intervals_repeat_with_the_seed_only() -> None:
    scores = [0.0, 1.0, 1.0, 0.5] * 10
    assert bootstrap_interval(scores, seed=3) == bootstrap_interval(scores, seed=3)
    assert bootstrap_interval(scores, seed=3) != bootstrap_interval(scores, seed=4)


@pytest.mark.parametrize(
    ("scores", "options"),
    [([], {}), ([1.5], {}), ([float("nan")], {}), ([1.0], {"resamples": 10}), ([1.0], {"level": 1.0})],
)
def test_nonsense_gets_no_interval(scores: list[float], options: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"score|resamples"):
        bootstrap_interval(scores, **options)  # type: ignore[arg-type]


def test_a_paired_difference_needs_pairs() -> None:
    with pytest.raises(ValueError, match="same records"):
        paired_difference([1.0], [1.0, 0.0])
