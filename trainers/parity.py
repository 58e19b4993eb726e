"""How alike two models answer, in figures; how alike they have to is in ``trainers.export_limits``.

Guarantees: both are asked at the same places of the same held-out answers, given the same text before; a classifier is
asked for its labels. Does not: say which of them is better.

Example:
    >>> compare(answers(trained, exam, "cpu", stop), found).is_within(limits_of("merged", ""))
    True
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from trainers.errors import EXIT_REFUSED, TrainerError
from trainers.events import ExportMeasured
from trainers.exam import Exam
from trainers.export_limits import Limits, Parity
from trainers.label_head import head_of
from trainers.process import Stop

#: Under this a file lies until it is proven.
UNPROVEN_SUFFIX = ".unproven"
#: What a precision is called in events and cards.
PRECISIONS = {torch.bfloat16: "bf16", torch.float16: "fp16", torch.float32: "fp32"}
#: Tokens nearer than this, in nats, are as likely: it is the distance between neighbouring bf16 numbers from 16 to 32,
#: where logits lie, so a model in bf16 decides among them by chance.
NEAR_TIE = 0.125


@dataclass(frozen=True)
class Answers:
    """(S, V) fp32 log-probabilities, and (S,) what was right; ``texts`` are whole answers as token ids."""

    chances: Tensor
    targets: Tensor
    texts: list[list[int]]

    @property
    def loss(self) -> float:
        """Mean negative log-likelihood of what was right."""
        return float(-self.chances.gather(1, self.targets[:, None]).mean())


def compare(expected: Answers, found: Answers) -> Parity:
    """Two models' answers at the same positions."""
    one, other = expected.chances, found.chances
    behind = one.max(-1).values - one.gather(1, other.argmax(-1)[:, None])[:, 0]
    agreement = (behind <= NEAR_TIE).float().mean()
    divergence = (one.exp() * (one - other)).sum(-1).mean()
    return Parity(one.shape[0], float(agreement), float(divergence), found.loss - expected.loss)


@torch.inference_mode()
def answers(model: Any, exam: Exam, device: str, stop: Stop) -> Answers:
    """What a model of transformers says at the exam's places. Whole answers are left to whoever generates them.

    Of a classifier, trained or as transformers loads it: of the labels, at the end of each row; of one of tokens, at
    each that has a tag.
    """
    rows: list[Tensor] = []
    for row, places in zip(exam.rows, exam.places, strict=True):
        stop.check()
        tokens = torch.tensor([row], device=device)
        at = torch.tensor(places, dtype=torch.long, device=device)
        if exam.kind == "words":
            logits = model(input_ids=tokens, use_cache=False, logits_to_keep=at - 1).logits[0]
        else:
            logits = _of_labels(model, tokens, at if exam.kind == "tags" else None)
        rows.append(torch.log_softmax(logits.float(), -1).cpu())
    return Answers(torch.cat(rows), torch.tensor(exam.targets), [])


def _of_labels(model: Any, tokens: Tensor, places: Tensor | None) -> Tensor:
    """(P, L) logits at the places, or of a row's last token, by the head beside a causal model or by a classifier of
    transformers."""
    if type(model).__name__.endswith(("ForSequenceClassification", "ForTokenClassification")):
        logits: Tensor = model(input_ids=tokens, use_cache=False).logits
        return logits if places is None else logits[0, places]
    states: Tensor = model.base_model(input_ids=tokens, use_cache=False).last_hidden_state
    state = states[:, -1] if places is None else states[0, places]
    head = head_of(model)
    found: Tensor = state.float() @ head.weight.float().T
    return found if head.bias is None else found + head.bias.float()


def told(
    run: str, form: str, precision: str, reader: str, metric: str, parity: Parity, limits: Limits
) -> ExportMeasured:
    """A comparison and its limits as an event says them."""
    return ExportMeasured(
        run=run,
        format=form,
        precision=precision,
        reader=reader,
        positions=parity.positions,
        agreement=parity.agreement,
        divergence=parity.divergence,
        loss_difference=parity.loss_difference,
        metric=metric,
        scored=parity.scored,
        trained_score=parity.trained_score,
        exported_score=parity.exported_score,
        least_agreement=limits.least_agreement,
        most_divergence=limits.most_divergence,
        most_loss_difference=limits.most_loss_difference,
        most_score_loss=limits.most_score_loss,
        offered=parity.is_within(limits),
    )


def refusal(parity: Parity, limits: Limits) -> TrainerError:
    """Why a file is not offered."""
    return TrainerError(
        "export.parity",
        f"the exported model {parity.beside(limits)}",
        "export in a form that keeps more, or ship the adapter instead",
        EXIT_REFUSED,
    )
