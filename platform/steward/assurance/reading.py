"""Reading the sealed predictions of an evaluation: for the gates, and for people who look at samples."""

import json
from collections.abc import Iterator
from dataclasses import dataclass

from steward.assurance.models import Evaluation
from steward.vault.objects import open_object


@dataclass(frozen=True, slots=True)
class Prediction:
    """One held-out record: what was expected, what each model answered, and their scores (0 to 1)."""

    record_id: str
    prompt: str
    reference: str
    base: str
    tuned: str
    base_score: float
    tuned_score: float

    @property
    def gain(self) -> float:
        return self.tuned_score - self.base_score


def predictions(evaluation: Evaluation) -> Iterator[Prediction]:
    """All predictions, in the order of the test records. Text is the redacted one; it is decrypted in memory."""
    if evaluation.predictions is None:
        raise ValueError("the evaluation has no predictions")
    scores = {
        record_id: pair
        for record_id, *pair in zip(
            evaluation.scores["ids"], evaluation.scores["base"], evaluation.scores["tuned"], strict=True
        )
    }
    with open_object(evaluation.predictions) as file:
        for line in file:
            row = json.loads(line)
            base_score, tuned_score = scores[row["id"]]
            base = evaluation.baseline.get("answer", row["base"])
            yield Prediction(
                row["id"], row.get("prompt", ""), row["reference"], base, row["tuned"], base_score, tuned_score
            )


def samples(evaluation: Evaluation, limit: int = 5) -> tuple[list[Prediction], list[Prediction]]:
    """(best, worst): where tuning gained most, and where the tuned model did worst."""
    rows = list(predictions(evaluation))
    best = sorted(rows, key=lambda row: (-row.gain, row.record_id))[:limit]
    worst = sorted(rows, key=lambda row: (row.tuned_score, row.gain, row.record_id))[:limit]
    return best, worst
