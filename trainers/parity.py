"""How alike two models answer, in figures, and how alike they have to for the second to be offered.

Guarantees: both are asked at the same places of the same held-out answers, given the same text before; a classifier is
asked for its labels. Does not: say which of them is better.

Example:
    >>> compare(answers(trained, exam, "cpu", stop), found).is_within(limits_of("merged", ""))
    True
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from trainers.errors import EXIT_REFUSED, TrainerError
from trainers.events import ExportMeasured
from trainers.exam import Exam
from trainers.label_head import HEAD
from trainers.process import Stop


@dataclass(frozen=True)
class Limits:
    """What an export has to reach.

    Attributes:
        least_agreement: share of places with the same most likely token.
        most_divergence: mean Kullback-Leibler divergence, in nats.
        most_loss_difference: by how much the held-out loss may differ, in nats.
        most_score_loss: by how much the metric's mean over the prompts may fall, 0 to 1.
    """

    least_agreement: float
    most_divergence: float
    most_loss_difference: float
    most_score_loss: float


#: Forms that keep what was trained up to rounding. The loss leaves room for the trained model's own bf16: against an
#: F16 file, read in fp32 and with every token the same, the bundled model differed by 0.023 at 18 places (measured).
_FAITHFUL = Limits(0.97, 0.02, 0.05, 0.05)
#: Forms that give some of it up for size. Ours, from what the bundled model loses (CHANGELOG), with room for others.
LIMITS = {
    "merged": _FAITHFUL,
    "gguf-f16": _FAITHFUL,
    "gguf-q8_0": _FAITHFUL,
    "gguf-q6_k": Limits(0.95, 0.04, 0.08, 0.07),
    "gguf-q5_k_m": Limits(0.93, 0.08, 0.12, 0.10),
    "gguf-q4_k_m": Limits(0.90, 0.15, 0.20, 0.13),
    # Against the compressed model as it was measured, whose very numbers the file holds: rounding of the last bit only.
    "compressed": Limits(0.99, 0.005, 0.01, 0.02),
}
#: Plain forms of a run on an int8 base. bitsandbytes rounds the inputs of each product to 8 bits too, which no export
#: does; the same weights answer alike at 93 of 100 places then, 0.029 nats apart, at the same loss (bundled model).
_ROUNDED_INPUTS = Limits(0.90, 0.05, 0.05, 0.05)


def limits_of(form: str, quantised: str) -> Limits:
    """What an export of a form has to reach; ``quantised`` is how the base was held while it was trained, or ''."""
    limits = LIMITS[form]
    return _ROUNDED_INPUTS if quantised == "int8" and limits is _FAITHFUL else limits


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


@dataclass(frozen=True)
class Parity:
    """How alike two models answer at ``positions`` places; ``loss_difference`` is the second's less the first's.

    ``agreement`` is the share of places where the second's likeliest token is the first's, or one that the first holds
    for as likely, up to ``NEAR_TIE``.

    Scores are means of a metric over ``scored`` whole answers; NaN where none was asked for.
    """

    positions: int
    agreement: float
    divergence: float
    loss_difference: float
    scored: int = 0
    trained_score: float = math.nan
    exported_score: float = math.nan

    def is_within(self, limits: Limits) -> bool:
        """Whether the export may be offered."""
        return (
            # Rounded down: of a few places one may differ.
            round(self.agreement * self.positions) >= math.floor(limits.least_agreement * self.positions)
            and self.divergence <= limits.most_divergence
            and abs(self.loss_difference) <= limits.most_loss_difference
            and (not self.scored or self.trained_score - self.exported_score <= limits.most_score_loss + 1e-9)
        )


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
    head = model.get_submodule(HEAD)
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
    scored = ""
    if parity.scored:
        scored = (
            f", score {parity.trained_score:.4f} to {parity.exported_score:.4f} (at most {limits.most_score_loss} less)"
        )
    return TrainerError(
        "export.parity",
        f"the exported model agrees at {parity.agreement:.4f} of {parity.positions} positions "
        f"(at least {limits.least_agreement}), divergence {parity.divergence:.4f} nats "
        f"(at most {limits.most_divergence}), held-out loss {parity.loss_difference:+.4f} "
        f"(at most {limits.most_loss_difference} away){scored}",
        "export in a form that keeps more, or ship the adapter instead",
        EXIT_REFUSED,
    )
