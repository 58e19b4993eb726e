"""Answers many requests at once with one base: rows join and leave the running batch at every step.

A step is one pass through the model: one token of every row that is being answered, and a piece of the prompts that are
being read, at most ``chunk_tokens`` of them, so that a long prompt does not hold up the others.

Guarantees: a row is admitted only when all positions it may ever need are free, so none is given up half-way; what
waits is admitted in the order it came; a row depends on no other but by rounding; cancelled rows leave at the next
step; a fault in a pass ends the rows of that pass and no others. Nothing of a request is kept once its row is gone.
Does not: share what prompts have in common; use several devices.

Source: Yu et al. 2022, Orca (OSDI 22): scheduling by iteration; Agrawal et al. 2023, arXiv:2308.16369: prompts read in
pieces beside the decoding rows.

Example:
    >>> engine = Engine(model, layers, tokenizer, stops, limits)
    >>> row = engine.submit(Ask(prompt=[5, 9], adapter=None, sampler=Sampler(0, 1, 0), max_tokens=8, stops=[]))
    >>> engine.run(lambda: True)  # in a thread of its own; replies come out of row.replies
"""

from __future__ import annotations

import queue
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from trainers.adapter_file import OpenedAdapter
from trainers.answer_text import AnswerText
from trainers.errors import TrainerError
from trainers.row_adapters import LowRank, RowLayers
from trainers.row_attention import Piece, RowCache
from trainers.sampling import Sampler
from trainers.spans import untagged, written

IDLE_WAIT_SECONDS = 0.2


@dataclass(frozen=True)
class Limits:
    """What the engine may use.

    Attributes:
        positions: of all rows together, in keys and values.
        rows: at once.
        waiting: requests that may wait for a row.
        wait_seconds: how long each may.
        chunk_tokens: of prompts in one step.
    """

    positions: int = 16384
    rows: int = 32
    waiting: int = 64
    wait_seconds: float = 120.0
    chunk_tokens: int = 256


@dataclass(frozen=True)
class Ask:
    """One request, in tokens. ``adapter`` None is the base.

    Of an adapter that tags tokens ``read`` is the text and ``places`` are the tokens' begins and ends in it.
    """

    prompt: list[int]
    adapter: OpenedAdapter | None
    sampler: Sampler
    max_tokens: int
    stops: list[str]
    stop_tokens: frozenset[int] = frozenset()
    read: str = ""
    places: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True)
class Done:
    """The last reply. ``finish`` is stop (an end token, a stop string, a label or spans) or length."""

    finish: str
    prompt_tokens: int
    completion_tokens: int


@dataclass
class Row:
    """A request on its way. ``replies`` yields pieces of text, then ``Done`` or a ``TrainerError``."""

    ask: Ask
    positions: int
    text: AnswerText
    replies: queue.SimpleQueue[str | Done | TrainerError] = field(default_factory=queue.SimpleQueue)
    is_cancelled: bool = False
    answer: list[int] = field(default_factory=list)
    states: list[Tensor] = field(default_factory=list)
    since: float = field(default_factory=time.monotonic)

    def __post_init__(self) -> None:
        soft = self.ask.adapter.prompt if self.ask.adapter is not None else None
        self.soft = 0 if soft is None else soft.shape[0]
        self.cache = RowCache(self.positions)

    @property
    def is_tagged(self) -> bool:
        """Whether the state at each of its tokens is kept, in ``states``."""
        return self.ask.adapter is not None and self.ask.adapter.are_tags

    @property
    def unread(self) -> int:
        """Tokens that the model has not seen yet; 1 while it is being answered."""
        return self.soft + len(self.ask.prompt) + len(self.answer) - self.cache.length

    def tokens(self, count: int) -> list[int]:
        """The next tokens to be read; 0 where a soft prompt stands."""
        start = self.cache.length
        soft = [0] * max(0, min(self.soft - start, count))
        at = max(0, start - self.soft)
        prompt = self.ask.prompt
        rest = count - len(soft)
        if at >= len(prompt):
            return soft + self.answer[at - len(prompt) : at - len(prompt) + rest]
        return soft + prompt[at : at + rest]


class Engine:
    """One base model and the rows that go through it.

    Args:
        model: of transformers, with ``trainers.row_attention`` as its attention.
        layers: its linear layers, taught to ask for a row's adapter.
        tokenizer: for decoding; used by the engine's thread only.
        end_tokens: ids that end an answer.
        limits: see ``Limits``.
        released: told of each adapter that a row has finished with.
    """

    def __init__(
        self,
        model: Any,
        layers: RowLayers,
        tokenizer: Any,
        end_tokens: set[int],
        limits: Limits,
        released: Callable[[OpenedAdapter], None] = lambda _: None,
    ) -> None:
        self._base, self._layers = Body(model, layers), layers
        self._own: dict[int, Body] = {}
        self._tokenizer, self._ends, self._limits, self._released = tokenizer, end_tokens, limits, released
        self.context = int(getattr(model.config, "max_position_embeddings", 0) or limits.positions)
        self._wake = threading.Condition()
        self._waiting: deque[Row] = deque()
        self._closed: queue.SimpleQueue[OpenedAdapter] = queue.SimpleQueue()
        self._rows: list[Row] = []
        self._used = 0

    @property
    def is_busy(self) -> bool:
        """Whether a row is under way or waits."""
        return bool(self._rows or self._waiting)

    def submit(self, ask: Ask) -> Row:
        """Lets a request wait for its turn. ``max_tokens`` is cut to what the model's context leaves.

        Raises:
            TrainerError: ``serve.long`` (the prompt fills the context), ``serve.large`` (more positions than there
                are), ``serve.busy`` (too many wait).
        """
        soft = 0 if ask.adapter is None or ask.adapter.prompt is None else ask.adapter.prompt.shape[0]
        prompt = soft + len(ask.prompt)
        room = min(self.context, self._limits.positions) - prompt
        if room < 1 and self.context <= self._limits.positions:
            raise TrainerError(
                "serve.long", f"{prompt} tokens, the model takes {self.context}", "shorten the conversation"
            )
        if room < 1:
            raise TrainerError(
                "serve.large",
                f"{prompt} tokens, this server has room for {self._limits.positions}",
                "shorten the conversation, or start the server with more --positions",
            )
        positions = prompt + min(ask.max_tokens, room)
        row = Row(ask, positions, AnswerText(self._tokenizer, ask.stops))
        with self._wake:
            if len(self._waiting) >= self._limits.waiting:
                raise _busy("too many requests wait already")
            self._waiting.append(row)
            self._wake.notify()
        return row

    def forget(self, adapter: OpenedAdapter) -> None:
        """Takes note that an adapter was closed; what is kept of it goes at the next step."""
        self._closed.put(adapter)

    def run(self, wants_more: Callable[[], bool]) -> None:
        """Works until told otherwise; rows under way are then broken off."""
        while wants_more():
            if not self.step():
                with self._wake:
                    if not self._waiting:
                        self._wake.wait(IDLE_WAIT_SECONDS)
        for row in [*self._rows, *self._waiting]:
            row.replies.put(TrainerError("serve.stopped", "the server is stopping", "ask again in a moment"))

    @torch.inference_mode()
    def step(self) -> bool:
        """One pass for each model in use; False if there was nothing to do."""
        while not self._closed.empty():
            closed = self._closed.get()
            self._own.pop(id(closed), None)
            if closed.low_rank is not None:
                self._layers.forget(closed.low_rank)
        for row in [each for each in self._rows if each.is_cancelled]:
            self._leave(row)
        self._admit()
        by_body: dict[int, tuple[Body, list[tuple[Row, int]]]] = {}
        for row, count in self._plan():
            body = self._body(row.ask.adapter)
            by_body.setdefault(id(body), (body, []))[1].append((row, count))
        for body, parts in by_body.values():
            self._pass(body, parts)
        return bool(by_body)

    def _body(self, adapter: OpenedAdapter | None) -> Body:
        if adapter is None or adapter.model is None:
            return self._base
        if id(adapter) not in self._own:
            self._own[id(adapter)] = Body(adapter.model, None)
        return self._own[id(adapter)]

    def _admit(self) -> None:
        now = time.monotonic()
        with self._wake:
            for row in [each for each in self._waiting if each.is_cancelled]:
                self._waiting.remove(row)
                self._let_go(row)
            while self._waiting and now - self._waiting[0].since > self._limits.wait_seconds:
                row = self._waiting.popleft()
                row.replies.put(_busy(f"no room for {self._limits.wait_seconds:.0f} seconds"))
                self._let_go(row)
            while self._waiting and len(self._rows) < self._limits.rows:
                if self._used + self._waiting[0].positions > self._limits.positions:
                    return
                row = self._waiting.popleft()
                self._used += row.positions
                self._rows.append(row)

    def _plan(self) -> list[tuple[Row, int]]:
        """Rows and how many of their tokens go through the model now.

        Half of the room for prompts goes to whoever has waited longest, the rest to the shortest: a short prompt does
        not wait behind a long one, nor a long one for ever behind short ones.
        """
        plan = [(row, 1) for row in self._rows if row.unread == 1]
        reading = [row for row in self._rows if row.unread > 1]
        left = self._limits.chunk_tokens
        taken: dict[int, int] = {}
        if reading:
            first = min(reading[0].unread, left if len(reading) == 1 else max(1, left // 2))
            taken[id(reading[0])] = first
            left -= first
        for row in sorted(reading, key=lambda each: each.unread):
            more = min(row.unread - taken.get(id(row), 0), left)
            taken[id(row)] = taken.get(id(row), 0) + more
            left -= more
        return plan + [(row, taken[id(row)]) for row in reading if taken[id(row)]]

    def _pass(self, body: Body, parts: list[tuple[Row, int]]) -> None:
        try:
            ending = [(row, count) for row, count in parts if count == row.unread]
            logits, hidden = body.read(parts)
            # In fp32: torch looks for the largest of bf16 numbers one by one.
            likeliest = logits.float().argmax(-1).tolist()
        except Exception as fault:  # noqa: BLE001 - whatever it was, the other rows go on
            for row, _ in parts:
                self._fail(row, fault)
            return
        for index, (row, _) in enumerate(ending):
            try:
                if row.is_tagged:
                    self._tag(row)
                elif row.ask.adapter is not None and row.ask.adapter.head is not None:
                    self._label(row, row.ask.adapter, hidden[index])
                else:
                    sampler = row.ask.sampler
                    self._extend(row, likeliest[index] if sampler.is_greedy else sampler.choose(logits[index]))
            except RuntimeError as fault:
                self._fail(row, fault)

    def _label(self, row: Row, adapter: OpenedAdapter, hidden: Tensor) -> None:
        assert adapter.head is not None
        row.replies.put(adapter.labels[int((adapter.head @ hidden).argmax())])
        self._finish(row, "stop", 1)

    def _tag(self, row: Row) -> None:
        adapter = row.ask.adapter
        assert adapter is not None
        assert adapter.head is not None
        assert adapter.bias is not None
        logits = torch.cat(row.states).float() @ adapter.head.float().T + adapter.bias.float()
        found = untagged(logits.argmax(-1).tolist(), row.ask.places, row.ask.read, adapter.labels)
        row.replies.put(written(found))
        self._finish(row, "stop", 1)

    def _extend(self, row: Row, token: int) -> None:
        if token in self._ends or token in row.ask.stop_tokens:
            self._finish(row, "stop", len(row.answer))
            return
        row.answer.append(token)
        if piece := row.text.add(token):
            row.replies.put(piece)
        if row.text.is_stopped:
            self._finish(row, "stop", len(row.answer))
        elif row.soft + len(row.ask.prompt) + len(row.answer) >= row.positions:
            self._finish(row, "length", len(row.answer))

    def _finish(self, row: Row, reason: str, tokens: int) -> None:
        if rest := row.text.end():
            row.replies.put(rest)
            # What was held back may hold a stop string after all, once its last character is known.
            reason = "stop" if row.text.is_stopped else reason
        row.replies.put(Done(reason, len(row.ask.prompt), tokens))
        self._leave(row)

    def _fail(self, row: Row, fault: Exception) -> None:
        is_memory = isinstance(fault, MemoryError | torch.OutOfMemoryError)
        code, what = ("serve.memory", "memory ran out") if is_memory else ("internal", type(fault).__name__)
        row.replies.put(TrainerError(code, f"the model broke off ({what})", "ask again, or with a shorter prompt"))
        self._leave(row)

    def _leave(self, row: Row) -> None:
        self._rows.remove(row)
        self._used -= row.positions
        self._let_go(row)

    def _let_go(self, row: Row) -> None:
        row.cache, row.states = RowCache(0), []
        if row.ask.adapter is not None:
            self._released(row.ask.adapter)


class Body:
    """A model that rows go through. ``layers`` None: it has no adapters."""

    def __init__(self, model: Any, layers: RowLayers | None) -> None:
        from trainers.row_attention import register

        self.model, self.layers = model, layers
        model.set_attn_implementation(register())
        self._words = model.get_input_embeddings()
        self._hidden: Tensor | None = None
        model.get_output_embeddings().register_forward_pre_hook(self._keep)

    def _keep(self, _: Any, arguments: tuple[Tensor, ...]) -> None:
        self._hidden = arguments[0]

    def read(self, parts: list[tuple[Row, int]]) -> tuple[Tensor, Tensor]:
        """Takes each row so many tokens further; (R, V) logits and (R, D) hidden states of rows that were read whole.

        A row whose tokens are tagged gets the states of all that were read of it.
        """
        device = self._words.weight.device
        tokens = torch.tensor([token for row, count in parts for token in row.tokens(count)], device=device)
        places = [row.cache.length + index for row, count in parts for index in range(count)]
        embedded = self._words(tokens)
        pieces: list[Piece] = []
        looked_at: list[int] = []
        lasts: list[int] = []
        tagged: list[tuple[Row, slice]] = []
        at = 0
        for row, count in parts:
            pieces.append(Piece(row.cache, at, at + count))
            if row.is_tagged:
                tagged.append((row, slice(len(looked_at), len(looked_at) + count)))
                looked_at += range(at, at + count)
            if count == row.unread:
                lasts.append(len(looked_at))
                looked_at.append(at + count - 1)
            soft = row.ask.adapter.prompt if row.ask.adapter is not None else None
            if soft is not None and row.cache.length < row.soft:
                vectors = soft[row.cache.length : row.cache.length + count]
                embedded[at : at + len(vectors)] = vectors
            at += count
        if self.layers is not None:
            self.layers.choose([_low_rank(row) for row, _ in parts], [count for _, count in parts])
        out = self.model(
            inputs_embeds=embedded[None],
            position_ids=torch.tensor([places], device=device),
            use_cache=False,
            logits_to_keep=torch.tensor(looked_at or [0], device=device),
            pieces=pieces,
        )
        for row, count in parts:
            row.cache.length += count
        hidden, self._hidden = self._hidden, None
        assert hidden is not None
        for row, place in tagged:
            row.states.append(hidden[0, place])
        return out.logits[0, lasts], hidden[0, lasts]


def _low_rank(row: Row) -> LowRank | None:
    return None if row.ask.adapter is None else row.ask.adapter.low_rank


def _busy(why: str) -> TrainerError:
    return TrainerError("serve.busy", why, "ask again in a moment")
