"""What a trainer says of base models that come in and of tuned ones that leave or shrink: a part of its events.

Guarantees, limits and example are those of ``trainers.events``, which names them all.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from trainers.event import Event


@dataclass(frozen=True)
class ModelImported(Event):
    """A base model was judged and, unless it was only looked at, lies at ``path``; pin ``digest`` in the spec.

    ``kind`` is folder, file, tar, tar.gz, zip or hub; ``source_digest`` is of what came in (of a hub the commit).
    ``licence`` is what the model's card says, ``has_template`` false where turns will stand under plain headings.
    """

    name: ClassVar[str] = "model.imported"
    path: str
    kind: str
    digest: str
    source_digest: str
    architecture: str
    parameters: int
    context_length: int
    vocabulary: int
    embedding_rows: int
    has_template: bool
    licence: str
    bytes: int


@dataclass(frozen=True)
class ExportMeasured(Event):
    """How the exported model, read back by ``reader``, answers against the trained one at ``positions`` places of
    held-out answers; where ``format`` is ``compressed``, against the compressed model as it was measured. A merged
    folder is tried in one ``precision`` after the other, until one is offered; of a GGUF file, whose form says it, that
    is ''.

    ``agreement`` is the share with the same most likely token, ``divergence`` the mean one in nats, and
    ``loss_difference`` the exported model's held-out loss less the trained one's. Scores are the metric's means over
    ``scored`` whole answers, NaN where no metric was named. ``offered`` unless one of the limits is passed, which are
    the form's of ``trainers.parity``.
    """

    name: ClassVar[str] = "export.measured"
    format: str
    precision: str
    reader: str
    positions: int
    agreement: float
    divergence: float
    loss_difference: float
    metric: str
    scored: int
    trained_score: float
    exported_score: float
    least_agreement: float
    most_divergence: float
    most_loss_difference: float
    most_score_loss: float
    offered: bool


@dataclass(frozen=True)
class ExportFinished(Event):
    """``file`` in the output folder holds the exported model, sealed.

    ``digest`` is of the content. Compared with the trained model at ``positions`` places of held-out answers:
    ``agreement`` is the share with the same most likely token, ``divergence`` the mean one in nats.
    """

    name: ClassVar[str] = "export.finished"
    file: str
    digest: str
    sealed_digest: str
    commitment: str
    bytes: int
    positions: int
    agreement: float
    divergence: float


@dataclass(frozen=True)
class CompressionMeasured(Event):
    """The tuned model, or what one ``way`` of compressing makes of it.

    ``precision`` is what was computed in. ``bytes`` is what the weights take on a disk, ``agreement`` and
    ``divergence`` (nats) are against the tuned model at ``positions`` places of held-out answers, ``loss`` is there in
    nats. ``score`` is the metric's mean over ``scored`` records with its 95 % interval, NaN where no metric was named.
    """

    name: ClassVar[str] = "compression.measured"
    way: str
    precision: str
    bytes: int
    parameters: int
    zero_share: float
    read_tokens_per_second: float
    answer_tokens_per_second: float
    positions: int
    agreement: float
    divergence: float
    loss: float
    metric: str
    scored: int
    score: float
    score_low: float
    score_high: float


@dataclass(frozen=True)
class CompressionFinished(Event):
    """``file`` holds the figures of all ways; ``kept_file`` the sealed model of the way that was to be kept, or ''."""

    name: ClassVar[str] = "compression.finished"
    ways: int
    file: str
    digest: str
    kept: str
    kept_file: str
    sealed_digest: str
    commitment: str
    kept_bytes: int
    seconds: float
