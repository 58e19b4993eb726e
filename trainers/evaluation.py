"""Base against tuned on the test shard: answers, scores and reference losses.

A classifier answers with a label; its base, which has none to choose from, answers in words. Of one that labels tokens
the base is the same with the head it began with, and answers are spans written out (metric ``span_f1``). Where records
are pairs, both models' margins between chosen and rejected answer are measured too. Of judged answers only the good
ones are references, and only their prompts are answered; how likely each model finds all of them is measured too.

Guarantees: both answer the same prompts with the same limits, greedily; scores leave by event, texts only into
``predictions.sealed``; the tuned model is the adapter of ``adapter.sealed``.
Does not: judge whether a difference is significant; ``domains.metrics`` does that on the scores.

Example:
    >>> evaluate(spec, keys, out, Question("label_match", max_new_tokens=12, limit=None), speak, stop)
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from domains import metrics
from trainers import batches
from trainers.adapter import Adapter, lay_shipped
from trainers.admission import admit
from trainers.archive import digest_of, load
from trainers.base_model import load_base, stop_tokens
from trainers.classification import Classification
from trainers.device import Device, choose_device
from trainers.encoding import (
    NOTHING_LEFT,
    Split,
    as_tokens,
    encode,
    encode_judged,
    encode_labelled,
    encode_pairs,
    prompt_tokens,
)
from trainers.errors import TrainerError
from trainers.events import EvaluateFinished, EvaluateProgress, JudgementsCompared, PairsCompared
from trainers.forward import Forward, choose_forward, ends_batch, micro_batch
from trainers.generation import ROOM, answer_all
from trainers.keys import Keys
from trainers.label_head import head_of
from trainers.pair_margins import likelihoods, margins
from trainers.positions import room_for_records
from trainers.process import Speaker, Stop
from trainers.references import reference_of
from trainers.sealed import ADAPTER_FILE, PREDICTIONS_FILE, read_sealed, write_sealed
from trainers.sft import Sft
from trainers.shards import Record, context_of, read_records
from trainers.spec import JUDGED, PAIRED, ObjectSpec, Spec
from trainers.token_classification import TokenClassification, encode_tagged, read_text

#: Reference losses are of the first so many records, or the next so many where all of these are left out: reading every
#: prompt once more would cost as much as answering.
LOSS_RECORDS = 32


@dataclass(frozen=True)
class Question:
    """What is asked: the metric's name, the longest answer in tokens, and how many records (None: all).

    With ``is_free`` answers are free texts: they get the room that the longest reference needs, at most
    ``max_new_tokens``, and how likely each model finds every reference is measured.
    """

    metric: str
    max_new_tokens: int
    limit: int | None = None
    is_free: bool = False


@dataclass
class Bench:
    """A model with its adapter, ready to answer with or without it.

    ``neutral`` are the weights that change nothing, ``card`` is what the run says of its adapter. ``most`` tokens of a
    record are told apart, None without a bound.
    """

    adapter: Adapter
    neutral: Tensor
    forward: Forward | None
    tokenizer: Any
    device: Device
    stops: set[int]
    card: str
    most: int | None

    @contextmanager
    def as_model(self, name: str) -> Iterator[Any]:
        """The causal model as ``base`` or ``tuned``."""
        if name == "tuned":
            yield self.adapter.base
            return
        # Neutral weights for layers that know no switch; peft's switch spares its own the products.
        with self.adapter.holding(self.neutral), self.adapter.switched_off():
            self._refresh()
            yield self.adapter.base
        self._refresh()

    def prefix(self, name: str) -> tuple[int, ...]:
        """Ids to put before an input that ``as_model(name)`` is to read."""
        return self.adapter.prefix if name == "tuned" else ()

    def within_positions(self, spec: Spec) -> Spec:
        """The spec with records no longer than the model tells positions apart."""
        return spec if self.most is None else replace(spec, max_length=min(spec.max_length, self.most))

    @property
    def classifier(self) -> Classification:
        """The method that reads the labels' head."""
        return Classification(head_of(self.adapter.base))

    @property
    def tagger(self) -> TokenClassification:
        """The method that reads the head for tags."""
        return TokenClassification(head_of(self.adapter.base), self.adapter.labels)

    @torch.inference_mode()
    def classify(self, prompts: list[list[int]]) -> Iterator[tuple[list[int], list[str]]]:
        """Places in ``prompts`` and the labels given to them, group by group."""
        assert self.forward is not None
        cut = batches.bucket if self.forward.name == "bucket" else batches.pack
        for piece in cut(list(range(len(prompts))), [len(each) for each in prompts], self.device.micro_tokens):
            batch = ends_batch([prompts[index] for index in piece], self.device.name)
            found = self.classifier.logits(self.forward, batch).argmax(-1)
            yield piece, [self.adapter.labels[number] for number in found.tolist()]

    def _refresh(self) -> None:
        if self.forward is not None:
            self.forward.refresh()


def open_bench(spec: Spec, keys: Keys, out: Path, *, is_for_loss: bool) -> Bench:
    """Loads base model and sealed adapter; a way to compute losses is looked for only where one is needed.

    Raises:
        TrainerError: for the model, the adapter or the machine.
    """
    archive = read_sealed(out / ADAPTER_FILE, keys.output_key, context_of(spec.output.context))
    folder, tokenizer = admit(Path(spec.model.path), spec.model.digest)
    device = choose_device(spec.precision)
    model = load_base(folder, device, quantise=spec.quantise)
    adapter = lay_shipped(model, spec)
    adapter.model.eval()
    adapter.has_dropout = False
    neutral = adapter.weights.clone()
    card = load(adapter, archive)
    forward = choose_forward(adapter, spec.packing) if is_for_loss or adapter.labels else None
    most = room_for_records(spec, folder.config)
    return Bench(adapter, neutral, forward, tokenizer, device, stop_tokens(model, tokenizer), card, most)


@torch.no_grad()
def reference_loss(bench: Bench, split: Split, stop: Stop, micro_tokens: int) -> float:
    """Mean loss of the references' tokens, in nats; of a classifier the mean over records."""
    assert bench.forward is not None
    method: Sft | Classification | TokenClassification = Sft()
    if split.tags is not None:
        method = bench.tagger
    elif split.labels is not None:
        method = bench.classifier
    total = 0.0
    cut = batches.bucket if bench.forward.name == "bucket" else batches.pack
    for piece in cut(list(range(len(split))), split.lengths, micro_tokens):
        stop.check()
        total += method.measure(bench.forward, micro_batch(split, piece, bench.device.name))
    return total / split.supervised_count


def _looked_at(spec: Spec, bench: Bench, name: str, records: list[Record]) -> Split:
    """The references whose loss is measured, as ``name`` reads them: of the first ones that are not all left out.

    Raises:
        TrainerError: ``data.nothing_left``, when every record of the shard is left out.
    """
    left_out = 0
    for begin in range(0, len(records), LOSS_RECORDS):
        some = records[begin : begin + LOSS_RECORDS]
        try:
            split = _read(spec, bench, name, some)
        except TrainerError as fault:
            if fault.code != NOTHING_LEFT:
                raise
            left_out += len(some)
            continue
        split.refused += left_out
        return split
    raise TrainerError(
        NOTHING_LEFT,
        f"none of the {left_out} test records is short enough, at most {spec.max_length} tokens, to measure a loss on",
        "raise max_length, or set too_long to truncate, and train anew",
    )


def _read(spec: Spec, bench: Bench, name: str, records: list[Record]) -> Split:
    if bench.adapter.are_tags:
        return encode_tagged(records, bench.tokenizer, spec.max_length, spec.too_long, bench.adapter.labels)
    if bench.adapter.labels and name == "tuned":
        return encode_labelled(records, bench.tokenizer, spec.max_length, spec.too_long, bench.adapter.labels)
    split = encode(records, bench.tokenizer, spec.max_length, spec.too_long)
    split.prefix = bench.prefix(name)
    return split


def evaluate(spec: Spec, keys: Keys, out: Path, question: Question, speak: Speaker, stop: Stop) -> None:
    """Scores base and tuned.

    Raises:
        TrainerError: ``spec.test`` (no test shard), ``evaluate.metric`` (unknown), ``evaluate.no_reference`` (no judged
            answer is a good one), ``data.nothing_left`` (every test record is too long), and as ``open_bench``.
        Cancelled: a signal came.
    """
    if spec.data.test is None:
        raise TrainerError("spec.test", "the spec names no data.test", "add the test shard to the spec")
    if question.metric not in metrics.METRICS:
        known = ", ".join(sorted(metrics.METRICS))
        raise TrainerError("evaluate.metric", "no such metric", f"one of {known}")
    begun = time.monotonic()
    compared = _first_records(spec, spec.data.test, keys, question, stop)
    records = _references(compared)
    bench = open_bench(spec, keys, out, is_for_loss=True)
    spec = bench.within_positions(spec)
    prompts = [prompt_tokens(bench.tokenizer, record, None) for record in records]
    shortened = _cut_to(prompts, spec, bench, records)
    references = [reference_of(bench.tokenizer, record) for record in records]
    question, beside = _with_room(question, bench, references)
    answers: dict[str, list[str]] = {}
    losses: dict[str, float] = {}
    pairs = encode_pairs(compared, bench.tokenizer, spec.max_length, "truncate") if spec.method in PAIRED else None
    ahead: dict[str, list[float]] = {}
    judged = _judged_alone(compared, bench.tokenizer, spec.max_length) if spec.method in JUDGED else None
    likely: dict[str, list[float]] = {}
    for name in ("base", "tuned"):
        split = _looked_at(spec, bench, name, records)
        with bench.as_model(name) as model:
            asked = [[*bench.prefix(name), *prompt] for prompt in prompts]
            if bench.adapter.are_tags:
                answers[name] = _found_spans(spec, bench, name, records, speak, stop)
            else:
                answers[name], beside[f"{name}_unended"] = _answers(
                    spec, bench, model, name, asked, question, speak, stop
                )
            if question.is_free:
                beside |= _likelihoods_a_token(spec, bench, name, records, stop)
            losses[name] = reference_loss(bench, split, stop, spec.micro_tokens or bench.device.micro_tokens)
            if pairs is not None:
                assert bench.forward is not None
                pairs.prefix = bench.prefix(name)
                ahead[name] = margins(bench.forward, pairs, bench.device, stop)
            if judged is not None:
                assert bench.forward is not None
                judged.prefix = bench.prefix(name)
                likely[name] = likelihoods(bench.forward, judged, bench.device, stop)
    if pairs is not None:
        speak(PairsCompared(spec.run, list(pairs.ids), ahead["base"], ahead["tuned"], pairs.refused))
    if judged is not None:
        speak(_judgements(spec, judged, likely))
    scores = {
        name: [metrics.score(question.metric, *pair) for pair in zip(answers[name], references, strict=True)]
        for name in answers
    }
    content = _predictions(records, references, answers, scores)
    context = context_of(spec.output.context, "predictions")
    written = write_sealed(out / PREDICTIONS_FILE, content, keys.output_key, context)
    speak(
        EvaluateFinished(
            run=spec.run,
            metric=question.metric,
            ids=[record.id for record in records],
            base_scores=scores["base"],
            tuned_scores=scores["tuned"],
            base_mean=sum(scores["base"]) / len(records),
            tuned_mean=sum(scores["tuned"]) / len(records),
            base_loss=losses["base"],
            tuned_loss=losses["tuned"],
            refused=split.refused,
            predictions_digest=digest_of(content),
            sealed_digest=written.sealed_digest,
            commitment=written.commitment,
            seconds=time.monotonic() - begun,
            shortened=shortened,
            **beside,
        )
    )


def _first_records(spec: Spec, shard: ObjectSpec, keys: Keys, question: Question, stop: Stop) -> list[Record]:
    records: list[Record] = []
    for record in read_records(shard, keys.data_key, "test", spec.method):
        stop.check()
        records.append(record)
        if question.limit is not None and len(records) >= question.limit:
            break
    return records


def _with_room(question: Question, bench: Bench, references: list[str]) -> tuple[Question, dict[str, Any]]:
    """The question with the room that its references need; room, and how many of them are longer, for the event."""
    if not question.is_free:
        return question, {"room": question.max_new_tokens}
    lengths = [len(each) for each in as_tokens(bench.tokenizer, references)]
    room = max(1, min(question.max_new_tokens, math.ceil(ROOM * max(lengths))))
    return replace(question, max_new_tokens=room), {"room": room, "outgrown": sum(each > room for each in lengths)}


def _likelihoods_a_token(spec: Spec, bench: Bench, name: str, records: list[Record], stop: Stop) -> dict[str, Any]:
    """Mean log-probability of a token of each reference that is not too long, in nats, as the event has it."""
    assert bench.forward is not None
    split = _read(spec, bench, name, records)
    found = likelihoods(bench.forward, split, bench.device, stop)
    rates = [nats / count for nats, count in zip(found, split.learnt, strict=True)]
    return {"likelihood_ids": list(split.ids), f"{name}_likelihoods": rates}


def _cut_to(prompts: list[list[int]], spec: Spec, bench: Bench, records: list[Record]) -> int:
    """Shortens what is too long, as training does where it may, and says how many there were."""
    if bench.adapter.are_tags:
        texts = (record.messages[0].content for record in records)
        return sum(len(read_text(bench.tokenizer, text, None)[0]) > spec.max_length for text in texts)
    long = [place for place, prompt in enumerate(prompts) if len(prompt) > spec.max_length]
    for place in long:
        prompts[place] = prompt_tokens(bench.tokenizer, records[place], spec.max_length)
    return len(long)


def _references(records: list[Record]) -> list[Record]:
    """Those whose last message is what an answer is held against: all but answers that were judged bad.

    Raises:
        TrainerError: ``evaluate.no_reference``.
    """
    kept = [record for record in records if record.is_reference]
    if not kept:
        raise TrainerError(
            "evaluate.no_reference",
            "no held-out answer was judged good, so there is nothing to hold an answer against",
            "choose a dataset version with good answers in its test split",
        )
    return kept


def _judged_alone(records: list[Record], tokenizer: Any, max_length: int) -> Split:
    """Judged answers as training reads them, without another's answer beside each."""
    split = encode_judged(records, tokenizer, max_length, "truncate")
    split.rejected = None
    return split


def _judgements(spec: Spec, split: Split, likely: dict[str, list[float]]) -> JudgementsCompared:
    assert split.are_good is not None
    split.prefix = ()
    return JudgementsCompared(
        run=spec.run,
        ids=list(split.ids),
        are_good=[bool(each) for each in split.are_good],
        tokens=split.learnt.tolist(),
        base_likelihoods=likely["base"],
        tuned_likelihoods=likely["tuned"],
        refused=split.refused,
    )


def _found_spans(spec: Spec, bench: Bench, name: str, records: list[Record], speak: Speaker, stop: Stop) -> list[str]:
    begun = time.monotonic()
    assert bench.forward is not None
    texts = [record.messages[0].content for record in records]
    micro_tokens = spec.micro_tokens or bench.device.micro_tokens
    found = bench.tagger.answers(
        bench.forward, bench.tokenizer, texts, spec.max_length, micro_tokens, bench.device.name, stop.check
    )
    speak(EvaluateProgress(spec.run, name, len(found), len(found), time.monotonic() - begun))
    return found


def _answers(
    spec: Spec,
    bench: Bench,
    model: Any,
    name: str,
    prompts: list[list[int]],
    question: Question,
    speak: Speaker,
    stop: Stop,
) -> tuple[list[str], int]:
    """The answers, and how many of them did not end within their room."""
    begun = time.monotonic()
    texts = [""] * len(prompts)
    done = 0
    unended: list[bool] = []

    def in_words() -> Iterator[tuple[list[int], list[str]]]:
        for indices, tokens in answer_all(model, prompts, bench.stops, question.max_new_tokens):
            unended.extend(len(each) >= question.max_new_tokens for each in tokens)
            yield indices, bench.tokenizer.batch_decode(tokens, skip_special_tokens=True)

    for indices, decoded in bench.classify(prompts) if bench.adapter.labels and name == "tuned" else in_words():
        for index, text in zip(indices, decoded, strict=True):
            texts[index] = text
        done += len(indices)
        speak(EvaluateProgress(spec.run, name, done, len(prompts), time.monotonic() - begun))
        stop.check()
    return texts, sum(unended)


def _predictions(
    records: list[Record], references: list[str], answers: dict[str, list[str]], scores: dict[str, list[float]]
) -> bytes:
    """JSON lines of id, reference, both outputs and both scores."""
    lines = []
    for index, record in enumerate(records):
        line: dict[str, str | float] = {"id": record.id, "reference": references[index]}
        line |= {name: answers[name][index] for name in answers}
        line |= {f"{name}_score": scores[name][index] for name in scores}
        lines.append(json.dumps(line, ensure_ascii=False))
    return ("\n".join(lines) + "\n").encode()
