"""Token classification: which tokens of a text belong to spans of which type, read off the state at each token.

A record is a text with spans (or words with one label each); no chat template is around it. The head gives each token
one of the tags of ``trainers.spans``.

Guarantees: loss and shipped files are those of transformers' ``AutoModelForTokenClassification``, whose dropout before
the head is left out; the loss of a step is the mean over its tokens.
Does not: look ahead. A causal model sees of a text what stands before a token, so what only later words would tell is
not found; encoders do better there, and are not trained here.

Example:
    >>> TokenClassification(head, tags_of(("DRUG", "DOSE"))).learn(forward, batch, share=1 / tokens_of_the_step)
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from trainers import batches
from trainers.control_tokens import ControlTokens
from trainers.encoding import Split, not_empty
from trainers.errors import TrainerError
from trainers.events import Event, SpansMeasured
from trainers.forward import Forward, Mean, MicroBatch, tokens_batch
from trainers.number_store import NumberStore
from trainers.shards import Record
from trainers.spans import NO_TAG, chunks, tag_tokens, untagged, written


class TokenClassification:
    """The method."""

    needs_reference = False

    def __init__(self, head: torch.nn.Linear, tags: Sequence[str]) -> None:
        self._head, self._tags = head, tags
        self._counts: Counter[str] = Counter()

    def units(self, split: Split, index: int) -> int:
        """The tokens of a record that have a tag, over which a step's loss is a mean."""
        return split.learnt_of(index)

    def logits(self, forward: Forward, batch: MicroBatch) -> Tensor:
        """(S, tags) fp32."""
        return forward.hidden(batch).float() @ self._head.weight.float().T + self._head.bias.float()

    def survey(self, mean: Mean) -> None:
        """Nothing of the whole has to be known beforehand."""

    def learn(self, forward: Forward, batch: MicroBatch, share: float) -> Tensor:
        """Adds the gradients of ``share`` times the summed loss; returns each record's part in nats, (records,)."""
        losses = torch.nn.functional.cross_entropy(self.logits(forward, batch), batch.targets, reduction="none")
        (losses.sum() * share).backward()  # type: ignore[no-untyped-call]
        kept = losses.detach()
        return torch.zeros(len(batch.lengths), device=kept.device).index_add_(0, batch.owners, kept)

    @torch.no_grad()
    def measure(self, forward: Forward, batch: MicroBatch) -> float:
        """The summed loss in nats, without gradients; remembers which tags and spans were found."""
        logits = self.logits(forward, batch)
        found, wanted = logits.argmax(-1), batch.targets
        self._counts["tokens"] += len(wanted)
        self._counts["right"] += int(((found == wanted) & (wanted > 0)).sum())
        self._counts["found"] += int((found > 0).sum())
        self._counts["wanted"] += int((wanted > 0).sum())
        for owner in range(len(batch.lengths)):
            own = batch.owners == owner
            said = set(chunks(found[own].tolist(), self._tags))
            true = set(chunks(wanted[own].tolist(), self._tags))
            self._counts += Counter(spans_right=len(said & true), spans_found=len(said), spans_wanted=len(true))
        return float(torch.nn.functional.cross_entropy(logits, wanted, reduction="sum"))

    def measured(self, run: str, step: int) -> Event | None:
        """Scores of tags and of whole spans since the last call."""
        seen, self._counts = self._counts, Counter()
        if not seen["tokens"]:
            return None
        right, found, wanted = seen["spans_right"], seen["spans_found"], seen["spans_wanted"]
        return SpansMeasured(
            run=run,
            step=step,
            tokens=seen["tokens"],
            spans=wanted,
            token_f1=_f1(seen["right"], seen["found"], seen["wanted"]),
            precision=right / found if found else float(not wanted),
            recall=right / wanted if wanted else 1.0,
            span_f1=_f1(right, found, wanted),
        )

    @torch.no_grad()
    def answers(
        self,
        forward: Forward,
        tokenizer: Any,
        texts: Sequence[str],
        max_length: int,
        micro_tokens: int,
        device: str,
        check: Callable[[], None],
    ) -> list[str]:
        """The spans found in each text, written out (``trainers.spans``); what is too long is read to its limit."""
        encoded = [read_text(tokenizer, text, max_length) for text in texts]
        answers = [written(()) for _ in texts]
        asked = [index for index, (tokens, _) in enumerate(encoded) if tokens]
        lengths = {index: len(encoded[index][0]) for index in asked}
        cut = batches.bucket if forward.name == "bucket" else batches.pack
        for piece in cut(asked, lengths, micro_tokens):
            check()
            batch = tokens_batch([encoded[index][0] for index in piece], device)
            found = torch.split(self.logits(forward, batch).argmax(-1), batch.lengths)
            for index, numbers in zip(piece, found, strict=True):
                answers[index] = written(untagged(numbers.tolist(), encoded[index][1], texts[index], self._tags))
        return answers


def _f1(right: int, found: int, wanted: int) -> float:
    return 2 * right / (found + wanted) if found + wanted else 1.0


def read_text(tokenizer: Any, text: str, max_length: int | None) -> tuple[list[int], list[tuple[int, int]]]:
    """Tokens of a text as the model was made to read one, with their places, to the limit where there is one.

    A control string in the text is text (``trainers.control_tokens``).
    """
    tokens, places = ControlTokens.of(tokenizer).places(tokenizer, text)
    return tokens[:max_length], places[:max_length]


def encode_tagged(
    records: Iterable[Record], tokenizer: Any, max_length: int, too_long: str, tags: Sequence[str]
) -> Split:
    """Texts and the tags of their tokens; ``truncate`` keeps the beginning of a longer one.

    Raises:
        TrainerError: ``data.label``, when a span's type is none of those that the tags were made of;
            ``data.nothing_left``.
    """
    split = Split(tags=NumberStore())
    assert split.tags is not None
    known = {tag[2:] for tag in tags[1:]}
    strange = count = 0
    for record in records:
        count += 1
        if not {span.label for span in record.spans} <= known:
            strange += 1
            continue
        tokens, offsets = read_text(tokenizer, record.messages[0].content, None)
        if len(tokens) > max_length:
            if too_long == "refuse":
                split.refused += 1
                continue
            split.truncated += 1
            split.truncated_tokens += len(tokens) - max_length
        numbers = tag_tokens(offsets, record.spans, tags)[:max_length]
        if all(number == NO_TAG for number in numbers):
            split.refused += 1
            continue
        split.add(record.id, tokens[:max_length], [int(number != NO_TAG) for number in numbers])
        split.tags.extend(numbers)
    if strange:
        raise TrainerError(
            "data.label",
            f"{strange} of {count} records have spans of a type that is none of the {len(known)} named",
            "name every type in classification.labels, as it is written in the records",
        )
    return not_empty(split)
