"""What a trainer says on stdout: one JSON object a line, typed here.

Guarantees: an event that ``decode`` returns has every field in its declared type; ``encode`` and ``decode`` are
inverse; events carry counts, digests, scores and the operator's own identifiers. Importing this loads no torch.
Does not: carry record text, prompts, outputs or key material; there is no field for them.

Example:
    >>> decode(encode(EvalLoss(run="r1", step=10, loss=1.25, best=True)))
    EvalLoss(run='r1', step=10, loss=1.25, best=True)
"""

from __future__ import annotations

import dataclasses
import json
import types
import typing
from dataclasses import dataclass
from typing import Any, ClassVar

from trainers.conversion_events import CompressionFinished as CompressionFinished
from trainers.conversion_events import CompressionMeasured as CompressionMeasured
from trainers.conversion_events import ExportFinished as ExportFinished
from trainers.conversion_events import ExportMeasured as ExportMeasured
from trainers.conversion_events import ModelImported as ModelImported
from trainers.evaluation_events import EvaluateFinished as EvaluateFinished
from trainers.evaluation_events import EvaluateProgress as EvaluateProgress
from trainers.evaluation_events import JudgementsCompared as JudgementsCompared
from trainers.evaluation_events import PairsCompared as PairsCompared
from trainers.event import Event as Event


class EventError(ValueError):
    """A line is no event of this version."""


@dataclass(frozen=True)
class RunStarted(Event):
    """The model is loaded and the machine's part is decided; each ``*_reason`` says why."""

    name: ClassVar[str] = "run.started"
    device: str
    precision: str
    precision_reason: str
    packing: str
    packing_reason: str
    threads: int
    base_digest: str
    parameters: int
    trainable: int
    steps: int
    micro_tokens: int


@dataclass(frozen=True)
class FitChecked(Event):
    """What a run needs beside what there is, before its first step; ``RunFinished`` says what it took.

    ``memory_bytes`` is the expected peak and the sum of the five parts after ``free_bytes`` and of ``idle_bytes``:
    pages of the model's files that nothing reads any more, which the system takes back where memory is short, so that
    they are no reason not to fit. ``seconds`` are those of all steps and evaluations, ``passes`` the tokens of one
    process as if all went forth once. ``recompute`` when layers keep their inputs only. ``advice`` is empty where it
    fits.
    """

    name: ClassVar[str] = "fit.checked"
    fits: bool
    memory_bytes: int
    free_bytes: int
    process_bytes: int
    weights_bytes: int
    trained_bytes: int
    activation_bytes: int
    head_bytes: int
    micro_tokens: int
    recompute: bool
    steps: int
    tokens: int
    passes: int
    seconds: float
    advice: str
    idle_bytes: int = 0


@dataclass(frozen=True)
class RunAdvised(Event):
    """The run goes on, but will teach less than was meant: ``code`` names why, ``hint`` what may be done."""

    name: ClassVar[str] = "run.advised"
    code: str
    message: str
    hint: str


@dataclass(frozen=True)
class RunResumed(Event):
    """The run goes on from a checkpoint after ``step`` of ``steps``."""

    name: ClassVar[str] = "run.resumed"
    step: int
    steps: int


@dataclass(frozen=True)
class DataLoaded(Event):
    """One split was read. ``tokens`` after truncation; ``truncated`` and ``refused`` count records."""

    name: ClassVar[str] = "data.loaded"
    split: str
    records: int
    tokens: int
    supervised: int
    longest: int
    truncated: int
    truncated_tokens: int
    refused: int


@dataclass(frozen=True)
class TrainStep(Event):
    """One optimiser step: ``loss`` is the mean over its supervised tokens, ``tokens`` those read so far.

    Temperature and power are the accelerator's, null where it tells none; ``loss_scale`` is that of fp16, or null.
    """

    name: ClassVar[str] = "train.step"
    step: int
    steps: int
    epoch: float
    tokens: int
    loss: float
    learning_rate: float
    grad_norm: float
    tokens_per_second: float
    memory_bytes: int
    eta_seconds: float
    temperature_celsius: float | None = None
    power_watts: float | None = None
    loss_scale: float | None = None


@dataclass(frozen=True)
class EvalLoss(Event):
    """Held-out loss after ``step``; ``best`` when no earlier one was lower (that state is kept)."""

    name: ClassVar[str] = "eval.loss"
    step: int
    loss: float
    best: bool


@dataclass(frozen=True)
class PreferenceMeasured(Event):
    """Held-out pairs after ``step``: the share told apart rightly, and by how much on average (as the loss sees it)."""

    name: ClassVar[str] = "eval.preference"
    step: int
    pairs: int
    accuracy: float
    margin: float


@dataclass(frozen=True)
class ClassesMeasured(Event):
    """Held-out records after ``step``: the share labelled rightly, and the mean of the labels' F1."""

    name: ClassVar[str] = "eval.classes"
    step: int
    records: int
    accuracy: float
    macro_f1: float


@dataclass(frozen=True)
class JudgementsMeasured(Event):
    """Held-out judged answers after ``step``: how many are good and bad, and how either gained on average (as the loss
    sees it, null where there is none), against the drift ``baseline`` in nats.
    """

    name: ClassVar[str] = "eval.judgements"
    step: int
    good: int
    bad: int
    good_gain: float
    bad_gain: float
    baseline: float


@dataclass(frozen=True)
class SpansMeasured(Event):
    """Held-out texts after ``step``: F1 of tags (``O`` left out) over ``tokens``, and of whole spans (``spans`` true).

    A span is right when begin, end and type are.
    """

    name: ClassVar[str] = "eval.spans"
    step: int
    tokens: int
    spans: int
    token_f1: float
    precision: float
    recall: float
    span_f1: float


@dataclass(frozen=True)
class AnswersMeasured(Event):
    """``file`` holds, sealed, what the state after ``step`` answers to ``answers`` held-out prompts.

    ``score`` is the mean by ``metric``; without one it is not a number. ``digest`` is of the plaintext.
    """

    name: ClassVar[str] = "eval.answers"
    step: int
    file: str
    answers: int
    metric: str
    score: float
    digest: str
    sealed_digest: str
    commitment: str


@dataclass(frozen=True)
class CheckpointSaved(Event):
    """``checkpoint.sealed`` now holds the state after ``step``."""

    name: ClassVar[str] = "checkpoint.saved"
    step: int
    bytes: int


@dataclass(frozen=True)
class MemoryShort(Event):
    """The device ran out of memory; the step is repeated in smaller micro-batches at the same effective batch."""

    name: ClassVar[str] = "memory.short"
    step: int
    micro_tokens: int
    hint: str


@dataclass(frozen=True)
class RecordsMeasured(Event):
    """``file`` holds, sealed, the loss of each held-out record by the best state, and the worst and best as text.

    ``worst``, ``median`` and ``best`` are such losses; ``digest`` is of the plaintext.
    """

    name: ClassVar[str] = "records.measured"
    file: str
    records: int
    worst: float
    median: float
    best: float
    digest: str
    sealed_digest: str
    commitment: str


@dataclass(frozen=True)
class TrainRecordsMeasured(Event):
    """As ``RecordsMeasured``, of training records: their losses when they were last learnt from, as they were met.

    ``records`` are those that were met; the file also has the loss at the first time and the text of the worst.
    """

    name: ClassVar[str] = "train.records"
    file: str
    records: int
    worst: float
    median: float
    best: float
    digest: str
    sealed_digest: str
    commitment: str


@dataclass(frozen=True)
class RunFinished(Event):
    """The run is over and ``adapter.sealed`` holds its best state.

    ``adapter_digest`` is of the plaintext tar, ``sealed_digest`` of the file, ``commitment`` of the key it is sealed
    with. ``flops`` is the arithmetic done, counted as in ``trainers.flops``. ``stopped_early`` by ``patience``.
    """

    name: ClassVar[str] = "run.finished"
    adapter_digest: str
    sealed_digest: str
    commitment: str
    adapter_bytes: int
    step: int
    best_step: int
    best_loss: float
    stopped_early: bool
    seconds: float
    tokens: int
    flops: int
    memory_bytes: int


@dataclass(frozen=True)
class RunFailed(Event):
    """The command failed. ``code`` is stable; ``message`` holds no record text; ``hint`` says what to do next."""

    name: ClassVar[str] = "run.failed"
    code: str
    message: str
    hint: str


@dataclass(frozen=True)
class RunCancelled(Event):
    """SIGTERM or SIGINT was followed after ``step``; ``resumable`` when a checkpoint lies in the output folder."""

    name: ClassVar[str] = "run.cancelled"
    step: int
    resumable: bool


@dataclass(frozen=True)
class RunPaused(Event):
    """SIGUSR1 was followed after ``step``; ``resumable`` when a checkpoint lies in the output folder."""

    name: ClassVar[str] = "run.paused"
    step: int
    resumable: bool


@dataclass(frozen=True)
class SpecValid(Event):
    """``validate`` found nothing wrong."""

    name: ClassVar[str] = "spec.valid"
    base_digest: str
    architecture: str
    parameters: int
    records: int


@dataclass(frozen=True)
class ModelPrepared(Event):
    """The bundled model lies ready as a safetensors folder; pin ``digest`` in the spec."""

    name: ClassVar[str] = "model.prepared"
    path: str
    digest: str
    source_digest: str
    created: bool


@dataclass(frozen=True)
class ServeReady(Event):
    """The server answers, on a socket's path or at an address; ``run`` is - as serving belongs to no run."""

    name: ClassVar[str] = "serve.ready"
    socket: str
    address: str
    base_digest: str
    positions: int


@dataclass(frozen=True)
class ServeAdapter(Event):
    """What came of an order: ``state`` is ready, dropped or refused; then ``code`` and ``message`` say why."""

    name: ClassVar[str] = "serve.adapter"
    adapter: str
    state: str
    bytes: int
    code: str
    message: str


@dataclass(frozen=True)
class ServeStopped(Event):
    """The server ended; ``reason`` is stdin, idle or signal."""

    name: ClassVar[str] = "serve.stopped"
    reason: str
    requests: int


@dataclass(frozen=True)
class RemoteListening(Event):
    """A trainer on machine ``node`` of a run waits for the platform; it will prove that it holds ``public_key``."""

    name: ClassVar[str] = "remote.listening"
    address: str
    port: int
    public_key: str
    node: int = 0


@dataclass(frozen=True)
class RemoteWaiting(Event):
    """A run waits until so many machines are free at once; ``nodes`` are large enough, where the cluster said so."""

    name: ClassVar[str] = "remote.waiting"
    wanted: int
    nodes: int | None


EVENTS: dict[str, type[Event]] = {each.name: each for each in Event.__subclasses__()}


def encode(event: Event) -> str:
    """The event as one line of JSON without the line break; a number that is not finite becomes null."""
    fields = {key: _finite(value) for key, value in dataclasses.asdict(event).items()}
    return json.dumps({"event": event.name, **fields}, separators=(",", ":"), allow_nan=False)


def decode(line: str) -> Event:
    """The event in a line; a field that has a default may be absent, as in a line of an earlier version.

    Raises:
        EventError: not JSON, an unknown event, a missing or unknown field, or a value of another type.
    """
    try:
        document = json.loads(line)
    except (ValueError, RecursionError):
        raise EventError("the line is not JSON") from None
    if not isinstance(document, dict) or document.get("event") not in EVENTS:
        raise EventError("the line is no known event")
    kind = EVENTS[document.pop("event")]
    declared = typing.get_type_hints(kind)
    declared.pop("name")
    later = {field.name for field in dataclasses.fields(kind) if field.default is not dataclasses.MISSING}
    if not set(declared) - later <= set(document) <= set(declared):
        raise EventError(f"{kind.name}: fields differ: {', '.join(sorted(set(declared) ^ set(document)))[:200]}")
    return kind(**{key: _typed(value, declared[key], f"{kind.name}.{key}") for key, value in document.items()})


def _finite(value: Any) -> Any:
    if isinstance(value, list):
        return [_finite(each) for each in value]
    return None if isinstance(value, float) and not (float("-inf") < value < float("inf")) else value


def _typed(value: Any, declared: Any, path: str) -> Any:
    if isinstance(declared, types.UnionType):  # a kind or null
        return None if value is None else _typed(value, declared.__args__[0], path)
    if isinstance(declared, types.GenericAlias):
        if not isinstance(value, list):
            raise EventError(f"{path}: not a list")
        return [_typed(each, declared.__args__[0], path) for each in value]
    if declared is float:
        # JSON has no NaN; null stands for it on the line.
        if value is None:
            return float("nan")
        if isinstance(value, int | float) and not isinstance(value, bool):
            return float(value)
    elif type(value) is declared:
        return value
    raise EventError(f"{path}: not of type {getattr(declared, '__name__', declared)}")
