"""The training loop: AdamW, linear decay, passages of like length together, fresh made-up documents each epoch.

Guarantees: every random choice comes from the seed. Does not: look at development documents.

Example:
    >>> train(network, tokenizer, lambda epoch: documents, Settings(epochs=1))
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.optim.swa_utils import AveragedModel

from trainers.tagger.documents import Document
from trainers.tagger.encoding import IGNORED, Passage, encode
from trainers.tagger.network import Network


@dataclass(frozen=True)
class Settings:
    """How to train.

    ``batch_pieces`` counts padded word pieces, ``head_factor`` multiplies the head's learning rate, ``smoothing`` is
    the share of a target that is spread over all labels. The result is the mean of the weights over the last
    ``averaged_share`` of all steps, which doubts where single steps are sure.
    Source: Izmailov et al. 2018, arXiv:1803.05407.
    """

    epochs: int = 4
    learning_rate: float = 1.5e-4
    head_factor: float = 5.0
    warmup_share: float = 0.06
    weight_decay: float = 0.01
    clip_norm: float = 1.0
    smoothing: float = 0.03
    averaged_share: float = 0.4
    batch_pieces: int = 2048
    seed: int = 11


def train(
    network: Network,
    tokenizer: Any,
    documents: Callable[[int], Iterable[Document]],
    settings: Settings,
    report: Callable[[str], None],
) -> None:
    """Train in place.

    Args:
        network: on the CPU.
        tokenizer: cuts passages into pieces.
        documents: the documents of epoch 0, 1, …; may differ from epoch to epoch.
        settings: see ``Settings``.
        report: is told of each epoch.
    """
    torch.manual_seed(settings.seed)
    random = Random(settings.seed)  # noqa: S311 - not a secret
    head = {id(p) for p in network.head.parameters()}
    groups = [
        {"params": [p for p in network.parameters() if id(p) not in head], "factor": 1.0},
        {"params": list(network.head.parameters()), "factor": settings.head_factor},
    ]
    optimiser = torch.optim.AdamW(groups, lr=settings.learning_rate, weight_decay=settings.weight_decay)
    mean = AveragedModel(network)
    begun = time.monotonic()
    for epoch in range(settings.epochs):
        items = [passage for document in documents(epoch) for passage in encode(document, tokenizer)]
        batches = grouped([len(item.ids) for item in items], settings.batch_pieces, random)
        network.train()
        total = 0.0
        for number, batch in enumerate(batches):
            done = (epoch + number / len(batches)) / settings.epochs
            rate = min(1.0, done / settings.warmup_share + 0.01) * max(0.02, 1.0 - done)
            for group in optimiser.param_groups:
                group["lr"] = settings.learning_rate * group["factor"] * rate
            ids, mask, shapes, labels = padded([items[i] for i in batch])
            with torch.autocast("cpu", torch.bfloat16):
                logits = network(ids, mask, shapes)
            loss = mean_loss(logits.float().flatten(0, 1), labels.flatten(), settings.smoothing)
            loss.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(network.parameters(), settings.clip_norm)
            optimiser.step()
            optimiser.zero_grad()
            if done >= 1.0 - settings.averaged_share:
                mean.update_parameters(network)
            total += float(loss.detach())
        loss_text = f"loss {total / len(batches):.4f}, {len(items)} passages, {time.monotonic() - begun:.0f} s"
        report(f"epoch {epoch + 1}/{settings.epochs}: {loss_text}")
    network.load_state_dict(mean.module.state_dict())


def mean_loss(logits: Tensor, labels: Tensor, smoothing: float) -> Tensor:
    """Cross entropy in nats, averaged over the labelled pieces.

    Args:
        logits: (N, labels).
        labels: (N,); ``IGNORED`` counts nothing, a label of ``EITHER`` asks for the kind alone: the probabilities of
            keeping and masking are added up.
        smoothing: share of each target that is spread over all labels, so that doubt stays visible.
    """
    known = labels != IGNORED
    logs, labels = logits[known].log_softmax(-1), labels[known]
    # Columns behind the labels: for each kind the logarithm of "keep" plus "mask".
    either = logs[:, 1:].reshape(len(logs), -1, 2).logsumexp(-1)
    chosen = torch.cat([logs, either], -1).gather(1, labels[:, None])[:, 0]
    return -((1 - smoothing) * chosen + smoothing * logs.mean(-1)).mean()


def grouped(lengths: Sequence[int], batch_pieces: int, random: Random | None, part: int = 400) -> list[list[int]]:
    """Indices of ``lengths`` in batches of like length, at most ``batch_pieces`` padded pieces each.

    Args:
        lengths: how many pieces each item has.
        batch_pieces: bound; a longer item is a batch of its own.
        random: shuffles; None keeps the order by length.
        part: how many shuffled items at a time are sorted by length; more of them leave less padding.
    """
    order = list(range(len(lengths)))
    if random is None:
        order.sort(key=lambda i: lengths[i])
    else:
        random.shuffle(order)
        parts = [sorted(order[i : i + part], key=lambda i: lengths[i]) for i in range(0, len(order), part)]
        order = [i for part in parts for i in part]
    batches: list[list[int]] = []
    width = 0
    for index in order:
        width = max(width, lengths[index])
        if batches and width * (len(batches[-1]) + 1) <= batch_pieces:
            batches[-1].append(index)
        else:
            batches.append([index])
            width = lengths[index]
    if random is not None:
        random.shuffle(batches)
    return batches


def padded(items: Sequence[Passage]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Ids, mask, shapes and labels, each (B, T)."""
    shape = (len(items), max(len(item.ids) for item in items))
    ids, mask, shapes = (np.zeros(shape, np.int64) for _ in range(3))
    labels = np.full(shape, IGNORED, np.int64)
    for row, item in enumerate(items):
        count = len(item.ids)
        ids[row, :count], mask[row, :count] = item.ids, 1
        shapes[row, :count], labels[row, :count] = item.shapes, item.labels
    return torch.from_numpy(ids), torch.from_numpy(mask), torch.from_numpy(shapes), torch.from_numpy(labels)
