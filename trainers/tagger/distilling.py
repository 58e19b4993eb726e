"""Teaching the student: it learns to be as sure and as doubtful of each word as the encoder is.

Guarantees: every random choice comes from the seed. Does not: look at development documents, unless they are handed in.

Source: Hinton et al. 2015, arXiv:1503.02531.

Example:
    >>> distil(student, answers(teacher_model(network), passages), passages, Settings(), print)
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.optim.swa_utils import AveragedModel

from trainers.tagger.encoding import IGNORED, Passage
from trainers.tagger.student import Student
from trainers.tagger.training import grouped, mean_loss, padded

Array = np.ndarray[Any, Any]
# Passages behind one another, as the student reads them in use.
_STRETCHES = (1, 1, 2, 3, 4)
_ANSWER_PIECES = 1536
_SORTED_AT_ONCE = 3000
_REPORT_STEPS = 200


@dataclass(frozen=True)
class Settings:
    """How to teach.

    ``pieces`` are read in all, ``batch_pieces`` of them at a time; ``label_share`` is the weight of the labels beside
    the encoder's answers. The result is the mean of the weights over the last ``averaged_share`` of all steps.
    """

    pieces: int = 10_000_000
    batch_pieces: int = 8192
    learning_rate: float = 2e-3
    weight_decay: float = 0.02
    clip_norm: float = 1.0
    warmup_steps: int = 100
    label_share: float = 0.3
    smoothing: float = 0.03
    averaged_share: float = 0.35
    seed: int = 5


def answers(model: bytes, passages: Sequence[Passage]) -> list[Array]:
    """For each passage the encoder's probabilities for its words, (words, labels) in 16 bits.

    Args:
        model: as ``export.teacher_model`` writes it.
        passages: what is asked.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(model, options, ["CPUExecutionProvider"])
    results: list[Array] = [np.empty(0)] * len(passages)
    for batch in grouped([len(passage.ids) for passage in passages], _ANSWER_PIECES, None):
        ids, mask, shapes, _ = padded([passages[i] for i in batch])
        feed = {"ids": ids.numpy(), "mask": mask.numpy(), "shapes": shapes.numpy()}
        for index, logits in zip(batch, session.run(None, feed)[0], strict=True):
            words = logits[: len(passages[index].ids)][passages[index].is_first]
            powers = np.exp(words - words.max(-1, keepdims=True))
            results[index] = (powers / powers.sum(-1, keepdims=True)).astype(np.float16)
    return results


def distil(
    student: Student,
    told: Sequence[Array],
    passages: Sequence[Passage],
    settings: Settings,
    report: Callable[[str], None],
) -> None:
    """Teach in place.

    Args:
        student: on the CPU.
        told: the encoder's answers, one for each passage.
        passages: in the order in which they stand in their documents.
        settings: see ``Settings``.
        report: is told of the progress.
    """
    torch.manual_seed(settings.seed)
    optimiser = torch.optim.AdamW(_groups(student, settings), lr=settings.learning_rate, betas=(0.9, 0.98), fused=True)
    mean, begun, sums = AveragedModel(student), time.monotonic(), [0.0, 0.0]
    seen = step = 0
    student.train()
    for stretches, wanted in _batches(passages, told, settings):
        done = seen / settings.pieces
        if done >= 1.0:
            break
        for group in optimiser.param_groups:
            group["lr"] = settings.learning_rate * min(1.0, step / settings.warmup_steps + 0.01) * max(0.02, 1.0 - done)
        ids, mask, shapes, labels = padded(stretches)
        with torch.autocast("cpu", torch.bfloat16):
            logits = student(ids, mask, shapes)
        is_first = torch.from_numpy(_first(stretches, ids.shape[1]))
        apart, loss = _losses(logits.float()[is_first], labels[is_first], wanted, settings)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(student.parameters(), settings.clip_norm)
        optimiser.step()
        optimiser.zero_grad()
        if done >= 1.0 - settings.averaged_share:
            mean.update_parameters(student)
        sums = [sums[0] + float(apart.detach()), sums[1] + float(loss.detach())]
        seen, step = seen + int(mask.sum()), step + 1
        if step % _REPORT_STEPS == 0:
            apart_mean, loss_mean = (each / _REPORT_STEPS for each in sums)
            speed = f"{seen} of {settings.pieces} pieces, {time.monotonic() - begun:.0f} s"
            report(f"student: {speed}, {apart_mean:.4f} nats from the encoder, loss {loss_mean:.4f}")
            sums = [0.0, 0.0]
    student.load_state_dict(mean.module.state_dict())


def _groups(student: Student, settings: Settings) -> list[dict[str, Any]]:
    """Weights that decay, and those that do not: embeddings and offsets."""
    decaying = [p for name, p in student.named_parameters() if p.ndim > 1 and not name.startswith("words")]
    ids = {id(p) for p in decaying}
    still = [p for p in student.parameters() if id(p) not in ids]
    return [
        {"params": decaying, "weight_decay": settings.weight_decay},
        {"params": still, "weight_decay": 0.0},
    ]


def _losses(logits: Tensor, labels: Tensor, wanted: Tensor, settings: Settings) -> tuple[Tensor, Tensor]:
    """How far the answers are from the encoder's, in nats a word, and what is minimised."""
    crossed = -(wanted * logits.log_softmax(-1)).sum(-1).mean()
    doubt = -(wanted * wanted.clamp_min(1e-9).log()).sum(-1).mean()
    loss = crossed
    if bool((labels != IGNORED).any()):
        loss = loss + settings.label_share * mean_loss(logits, labels, settings.smoothing)
    return crossed - doubt, loss


def _batches(
    passages: Sequence[Passage], told: Sequence[Array], settings: Settings
) -> Iterator[tuple[list[Passage], Tensor]]:
    """Stretches of like length and the answers to their words, without end; each round cuts the stretches anew."""
    random = Random(settings.seed)  # noqa: S311 - not a secret
    while True:
        bounds, first = [], 0
        while first < len(passages):
            last = min(len(passages), first + random.choice(_STRETCHES))
            bounds.append((first, last))
            first = last
        lengths = [sum(len(p.ids) for p in passages[a:b]) for a, b in bounds]
        for batch in grouped(lengths, settings.batch_pieces, random, _SORTED_AT_ONCE):
            stretches = [_joined(passages[slice(*bounds[i])]) for i in batch]
            words = np.concatenate([each for i in batch for each in told[slice(*bounds[i])]]).astype(np.float32)
            yield stretches, torch.from_numpy(words / words.sum(-1, keepdims=True))


def _joined(passages: Sequence[Passage]) -> Passage:
    """Neighbouring passages as one, without the marks between them."""
    if len(passages) == 1:
        return passages[0]
    last = len(passages) - 1
    cuts = [slice(1 if number else 0, None if number == last else -1) for number in range(len(passages))]
    return Passage(
        *(
            np.concatenate([getattr(passage, name)[cut] for passage, cut in zip(passages, cuts, strict=True)])
            for name in ("ids", "shapes", "labels", "is_first", "starts", "ends")
        )
    )


def _first(stretches: Sequence[Passage], width: int) -> Array:
    is_first = np.zeros((len(stretches), width), bool)
    for row, stretch in enumerate(stretches):
        is_first[row, : len(stretch.is_first)] = stretch.is_first
    return is_first
