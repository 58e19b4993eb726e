"""What a trainer says while it holds the base against the tuned model: a part of its events.

Guarantees, limits and example are those of ``trainers.events``, which names them all.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from trainers.event import Event


@dataclass(frozen=True)
class EvaluateProgress(Event):
    """``done`` of ``total`` answers; ``model`` is base or tuned."""

    name: ClassVar[str] = "evaluate.progress"
    model: str
    done: int
    total: int
    seconds: float


@dataclass(frozen=True)
class PairsCompared(Event):
    """Of each held-out pair in the order of ``ids``: the log-probability of the chosen answer less that of the rejected
    one, in nats, by the base and by the tuned model. ``refused`` pairs have nothing to compare."""

    name: ClassVar[str] = "evaluate.pairs"
    ids: list[str]
    base_margins: list[float]
    tuned_margins: list[float]
    refused: int


@dataclass(frozen=True)
class JudgementsCompared(Event):
    """Of each held-out judged answer in the order of ``ids``: whether it is a good one, its tokens, and its
    log-probability in nats by the base and by the tuned model. ``refused`` ones have nothing to compare."""

    name: ClassVar[str] = "evaluate.judgements"
    ids: list[str]
    are_good: list[bool]
    tokens: list[int]
    base_likelihoods: list[float]
    tuned_likelihoods: list[float]
    refused: int


@dataclass(frozen=True)
class EvaluateFinished(Event):
    """Scores of base and tuned, record by record in the order of ``ids``; texts are in ``predictions.sealed`` only.

    Losses are of the references of the first records (``trainers.evaluation.LOSS_RECORDS``), nats a token, of a tuned
    classifier nats a record; ``refused`` counts those that were too long for it, ``shortened`` prompts that were cut.
    ``base_unended`` and ``tuned_unended`` count answers that did not end within ``room`` tokens. Where the room was
    taken from the references, ``base_likelihoods`` and ``tuned_likelihoods`` are the log-probability of a token of each
    reference that is not too long, in nats, in the order of ``likelihood_ids``, and ``outgrown`` counts references that
    are longer than the room.
    """

    name: ClassVar[str] = "evaluate.finished"
    metric: str
    ids: list[str]
    base_scores: list[float]
    tuned_scores: list[float]
    base_mean: float
    tuned_mean: float
    base_loss: float
    tuned_loss: float
    refused: int
    predictions_digest: str
    sealed_digest: str
    commitment: str
    seconds: float
    shortened: int = 0
    room: int = 0
    outgrown: int = 0
    base_unended: int = 0
    tuned_unended: int = 0
    likelihood_ids: list[str] = field(default_factory=list)
    base_likelihoods: list[float] = field(default_factory=list)
    tuned_likelihoods: list[float] = field(default_factory=list)
