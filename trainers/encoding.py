"""Messages to tokens, once, with what is learnt marked.

Guarantees: the tokens of a prompt are those that generation sees for it, because text is cut where turns of the
assistant begin before it is tokenised; a control token comes from the chat template alone, never from what a record or
a client says, so that nobody forges a turn (``trainers.control_tokens``); every record that was cut or left out is
counted; a chat template runs in transformers' immutable Jinja sandbox, and its error messages (which may quote a
record) are dropped.
Memory hardly grows with the data: tokens beyond the first millions are sealed on a disk (``trainers.number_store``),
and some 40 bytes a record stay. Does not: keep that promise for judged answers, which wait for their neighbours.

Example:
    >>> split = encode(read_records(...), tokenizer, max_length=1024, too_long="truncate")
    >>> split.tokens_of(0), split.marks_of(0)
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from itertools import islice, pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from trainers.control_tokens import ControlTokens
from trainers.errors import TrainerError
from trainers.number_store import NumberStore
from trainers.shards import Message, Record
from trainers.text_store import Texts
from trainers.tool_template import refuse_unwritten

if TYPE_CHECKING:
    from torch import Tensor

GROUP = 256
NOTHING_LEFT = "data.nothing_left"

#: For base models that bring no template: turns under plain headings, the end-of-text token after each answer.
PLAIN_TEMPLATE = (
    "{% for message in messages %}{{ '### ' + message['role'] | capitalize + '\n' + message['content'] }}"
    "{{ (eos_token if message['role'] == 'assistant' else '') + '\n\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '### Assistant\n' }}{% endif %}"
)

#: Marks a token as learnt; no vocabulary reaches this far.
_LEARNT = 1 << 30
#: (T,) tokens, and (T,) whether each is learnt.
Sequence = tuple[NDArray[np.int64], NDArray[np.bool_]]


@dataclass
class Split:
    """Tokens of all records one after the other; record ``i`` is ``starts[i]:starts[i + 1]``.

    ``prefix`` are the ids of a soft prompt; they stand before each record that is taken out and are not learnt. Of
    pairs ``rejected`` holds the worse answers behind the same prompts, and ``reference`` (2, records) what the
    untouched model thinks of chosen and rejected ones. Of classification records (prompts only) ``labels`` holds the
    label's number each, of texts with spans ``tags`` the number of each token's tag. Of judged answers ``are_good``
    says which are good ones, and ``rejected`` holds another record's answer to the same prompt. ``learnt`` counts the
    tokens of each record that are learnt.
    """

    ids: Texts = field(default_factory=Texts)
    numbers: NumberStore = field(default_factory=NumberStore)
    starts: array[int] = field(default_factory=lambda: array("q", [0]))
    learnt: array[int] = field(default_factory=lambda: array("i"))
    truncated: int = 0
    truncated_tokens: int = 0
    refused: int = 0
    prefix: tuple[int, ...] = ()
    rejected: Split | None = None
    reference: Tensor | None = None
    labels: array[int] | None = None
    tags: NumberStore | None = None
    are_good: array[int] | None = None

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def lengths(self) -> array[int]:
        """Tokens of each record, of both answers where it is a pair."""
        return array("i", (self.length_of(index) for index in range(len(self.ids))))

    def length_of(self, index: int) -> int:
        """Tokens of a record, of both answers where it is a pair."""
        return sum(self.side_lengths_of(index))

    def side_lengths_of(self, index: int) -> list[int]:
        """Tokens of a record; of a pair first those with the chosen, then those with the rejected answer."""
        return [len(self.prefix) + side.starts[index + 1] - side.starts[index] for side in self._sides]

    def learnt_of(self, index: int) -> int:
        """Tokens of a record that are learnt, of both answers where it is a pair."""
        return sum(side.learnt[index] for side in self._sides)

    @property
    def _sides(self) -> list[Split]:
        return [self] if self.rejected is None else [self, self.rejected]

    @property
    def longest_row(self) -> int:
        """Tokens of the longest sequence that goes through the model, an answer with its prompt."""
        own = len(self.prefix) + max(after - begin for begin, after in pairwise(self.starts))
        return own if self.rejected is None else max(own, self.rejected.longest_row)

    @property
    def token_count(self) -> int:
        """Tokens of all records."""
        return sum(self.lengths)

    @property
    def supervised_count(self) -> int:
        """Tokens that are learnt, of both answers where records are pairs; of classification one a record."""
        return len(self.labels) if self.labels is not None else sum(sum(side.learnt) for side in self._sides)

    def sequences_of(self, index: int) -> list[Sequence]:
        """Tokens and marks of a record; of a pair first the chosen, then the rejected answer."""
        return [side._sequence(self.prefix, index) for side in self._sides]

    def tokens_of(self, index: int) -> list[int]:
        """Token ids of a record."""
        tokens: list[int] = self._sequence(self.prefix, index)[0].tolist()
        return tokens

    def marks_of(self, index: int) -> list[bool]:
        """Whether each token of a record is learnt."""
        marks: list[bool] = self._sequence(self.prefix, index)[1].tolist()
        return marks

    def own_tokens_of(self, index: int) -> list[int]:
        """Token ids of a record without those of a soft prompt, which stand for no text."""
        return self.tokens_of(index)[len(self.prefix) :]

    def _sequence(self, prefix: tuple[int, ...], index: int) -> Sequence:
        numbers = np.array(
            array("i", prefix) + self.numbers.between(self.starts[index], self.starts[index + 1]), dtype=np.int64
        )
        return numbers & ~_LEARNT, numbers >= _LEARNT

    def tags_at(self, index: int) -> array[int]:
        """The number of each token's tag, of a text with spans."""
        assert self.tags is not None
        return self.tags.between(self.starts[index], self.starts[index + 1])

    def add(self, record_id: str, tokens: list[int], marks: list[int]) -> None:
        """Appends a record."""
        self.ids.append(record_id)
        self.numbers.extend(token | _LEARNT if mark else token for token, mark in zip(tokens, marks, strict=True))
        self.starts.append(len(self.numbers))
        self.learnt.append(sum(marks))


def render(
    tokenizer: Any, messages: Iterable[Message], *, is_prompt: bool, tools: tuple[dict[str, Any], ...] = ()
) -> str:
    """The text of a conversation, marked for ``as_tokens``; ``is_prompt`` opens a turn of the assistant at its end.

    Where a text could be a piece of a control string, the conversation is rendered once more with such pieces marked,
    and that is taken if the template put control together out of them.

    Raises:
        TrainerError: ``model.template``, when the template fails or reaches for what the sandbox forbids;
            ``model.tools``, when it leaves out tools, calls or results; as ``ControlTokens.marked``.
    """
    control, turns = ControlTokens.of(tokenizer), list(messages)
    refuse_unwritten(tokenizer, turns, tools)
    text = _rendered(tokenizer, turns, is_prompt, tools, are_ends=False)
    if not control.might_join([*((each.content, each.extra) for each in turns), *tools]):
        return text
    parted = _rendered(tokenizer, turns, is_prompt, tools, are_ends=True)
    return text if control.written(parted) == control.written(text) else parted


def _rendered(
    tokenizer: Any, messages: list[Message], is_prompt: bool, tools: tuple[dict[str, Any], ...], *, are_ends: bool
) -> str:
    control = ControlTokens.of(tokenizer)
    chat = [
        {
            "role": each.role,
            "content": control.marked(each.content, is_answer=each.role == "assistant", are_ends=are_ends),
            **control.marked(each.extra, are_ends=are_ends),
        }
        for each in messages
    ]
    offered = control.marked(tools, are_ends=are_ends) or None
    try:
        text = tokenizer.apply_chat_template(chat, tools=offered, tokenize=False, add_generation_prompt=is_prompt)
    except Exception as fault:  # noqa: BLE001 - a template of unknown origin may raise anything
        raise TrainerError(
            "model.template",
            f"the chat template of the model failed ({type(fault).__name__})",
            "check that the template accepts these roles in this order, or use a model with another template",
        ) from None
    return str(text)


def as_tokens(tokenizer: Any, texts: list[str]) -> list[list[int]]:
    """Token ids of rendered texts; the one way from what ``render`` and ``segments`` give to what a model reads.

    Raises:
        TrainerError: as ``ControlTokens.tokens``.
    """
    return ControlTokens.of(tokenizer).tokens(tokenizer, texts)


def segments(
    tokenizer: Any,
    messages: tuple[Message, ...],
    tools: tuple[dict[str, Any], ...] = (),
    *,
    are_all_learnt: bool = False,
) -> list[tuple[str, bool]]:
    """The rendered conversation in pieces, marked for ``as_tokens``, each learnt or not.

    An assistant turn is learnt if its weight is 1 and not if it is 0; without a weight the last one is, or all are but
    one that nobody asked for, at the beginning. A record of one turn alone is a plain text, learnt from its beginning
    to the end of text, with no template around it. A template that rewrites earlier turns later (as some do with
    reasoning) is only usable for the last turn.

    Raises:
        TrainerError: ``model.template``, when an answer does not simply follow its prompt in the rendered text;
            ``data.invalid``, when the first of several turns is to be learnt.
    """
    if len(messages) == 1:
        text = ControlTokens.of(tokenizer).marked(messages[0].content) + str(tokenizer.eos_token)
        return [(beginning(tokenizer), False), (text, messages[0].weight != 0)]
    whole = render(tokenizer, messages, is_prompt=False, tools=tools)
    pieces: list[tuple[str, bool]] = []
    done = 0
    last = len(messages) - 1
    for index, message in enumerate(messages):
        is_learnt = message.weight if message.weight is not None else are_all_learnt or index == last
        if message.role != "assistant" or not is_learnt:
            continue
        if index == 0 and message.weight is None:
            continue
        if index == 0:
            raise TrainerError(
                "data.invalid",
                "a conversation begins with an answer that is to be learnt, and nothing was asked before it",
                "give it weight 0, or put what it answers before it",
            )
        begin = render(tokenizer, messages[:index], is_prompt=True, tools=tools)
        end = whole if index == last else render(tokenizer, messages[: index + 1], is_prompt=False, tools=tools)
        if not (whole.startswith(end) and end.startswith(begin)) or len(begin) < done:
            raise TrainerError(
                "model.template",
                "the chat template does not put an answer right after its prompt",
                "train on the last answer only, or use a model whose template only appends",
            )
        pieces += [(whole[done : len(begin)], False), (whole[len(begin) : len(end)], True)]
        done = len(end)
    return [*pieces, (whole[done:], False)] if done < len(whole) else pieces


def beginning(tokenizer: Any) -> str:
    """What the tokenizer puts before a plain text, such as a mark for its begin; '' where it puts nothing."""
    before = tokenizer("")["input_ids"]
    return str(tokenizer.bos_token) if before[:1] == [tokenizer.bos_token_id] else ""


def cut_prompt(tokens: list[int], marks: list[int], max_length: int) -> tuple[list[int], list[int]]:
    """Shortens to ``max_length`` by taking tokens out of the middle of what comes before the last learnt stretch.

    The beginning (instructions) and the end (the question, the opening of the answer) stay; of an answer that is too
    long by itself the end is lost.
    """
    answer = len(marks) - 1
    while answer > 0 and not marks[answer]:
        answer -= 1
    while answer > 0 and marks[answer - 1]:
        answer -= 1
    room = max(max_length - (len(tokens) - answer), 0)
    head, tail = room - room // 2, room // 2
    kept_tokens = tokens[:head] + tokens[answer - tail : answer] + tokens[answer:]
    kept_marks = marks[:head] + marks[answer - tail : answer] + marks[answer:]
    return kept_tokens[:max_length], kept_marks[:max_length]


def encode(
    records: Iterable[Record], tokenizer: Any, max_length: int, too_long: str, *, are_all_learnt: bool = False
) -> Split:
    """All records of a split as tokens.

    Args:
        records: consumed once, as a stream.
        tokenizer: a fast tokenizer with a chat template.
        max_length: in tokens, at least 8.
        too_long: ``refuse`` leaves a longer record out, ``truncate`` shortens it (``cut_prompt``); both are counted.
        are_all_learnt: whether earlier turns of the assistant without a weight are learnt too.

    Raises:
        TrainerError: as ``segments``; ``data.nothing_left`` when no record has anything to learn.
    """
    split = Split()
    for group in _groups(iter(records)):
        for record, (tokens, marks) in zip(
            group,
            _encoded(tokenizer, group, [each.messages for each in group], are_all_learnt=are_all_learnt),
            strict=True,
        ):
            fitted = _fitted(split, tokens, marks, max_length, too_long)
            if fitted is not None:
                split.add(record.id, *fitted)
    return not_empty(split)


def encode_pairs(records: Iterable[Record], tokenizer: Any, max_length: int, too_long: str) -> Split:
    """As ``encode``, of records that hold a rejected answer too; only the two last answers are learnt.

    A pair is refused as a whole where one of its answers is; where one is shortened, it counts as truncated.
    """
    split = Split(rejected=Split())
    assert split.rejected is not None
    for group in _groups(iter(records)):
        chosen = [_last_learnt(each.messages, each.messages[-1].content) for each in group]
        rejected = [_last_learnt(each.messages, each.rejected or "") for each in group]
        sides = zip(_encoded(tokenizer, group, chosen), _encoded(tokenizer, group, rejected), strict=True)
        for record, (one, other) in zip(group, sides, strict=True):
            counts = Split()
            fitted = [_fitted(counts, *side, max_length, too_long) for side in (one, other)]
            split.truncated += counts.truncated > 0
            split.truncated_tokens += counts.truncated_tokens
            if fitted[0] is None or fitted[1] is None:
                split.refused += 1
                continue
            split.add(record.id, *fitted[0])
            split.rejected.add(record.id, *fitted[1])
    return not_empty(split)


def encode_judged(records: Iterable[Record], tokenizer: Any, max_length: int, too_long: str) -> Split:
    """As ``encode``, of answers that are judged; beside each, the answer of the record before it to the same prompt.

    The first record has the last one's. That other answer is shortened where it is too long, and never learnt.
    """
    split = Split(rejected=Split(), are_good=array("b"))
    assert split.rejected is not None
    assert split.are_good is not None
    kept: list[Record] = []
    for group in _groups(iter(records)):
        own = _encoded(tokenizer, group, [_last_learnt(each.messages, each.messages[-1].content) for each in group])
        for record, tokens in zip(group, own, strict=True):
            fitted = _fitted(split, *tokens, max_length, too_long)
            if fitted is not None:
                split.add(record.id, *fitted)
                split.are_good.append(bool(record.is_good))
                kept.append(record)
    for before, record in zip([*kept[-1:], *kept[:-1]], kept, strict=True):
        other = [_last_learnt(record.messages, before.messages[-1].content)]
        (tokens,) = _encoded(tokenizer, [record], other)
        fitted = _fitted(Split(), *tokens, max_length, "truncate")
        assert fitted is not None
        split.rejected.add(record.id, *fitted)
    return not_empty(split)


def encode_labelled(
    records: Iterable[Record], tokenizer: Any, max_length: int, too_long: str, labels: tuple[str, ...]
) -> Split:
    """Prompts, as generation sees them, and the numbers of their labels.

    Raises:
        TrainerError: ``data.label``, when a record's last message is no label; as ``encode``.
    """
    split = Split(labels=array("i"))
    assert split.labels is not None
    numbers = {label: number for number, label in enumerate(labels)}
    strange = count = 0
    for record in records:
        count += 1
        number = numbers.get(record.messages[-1].content.strip())
        if number is None:
            strange += 1
            continue
        whole = prompt_tokens(tokenizer, record, None)
        tokens = whole if len(whole) <= max_length else prompt_tokens(tokenizer, record, max_length)
        if len(tokens) < len(whole):
            if too_long == "refuse":
                split.refused += 1
                continue
            split.truncated += 1
            split.truncated_tokens += len(whole) - len(tokens)
        split.add(record.id, tokens, [0] * len(tokens))
        split.labels.append(number)
    if strange:
        raise TrainerError(
            "data.label",
            f"{strange} of {count} records end in something that is none of the {len(labels)} labels",
            "name every label in classification.labels, as it is written in the records",
        )
    return not_empty(split)


def prompt_text(tokenizer: Any, record: Record) -> str:
    """What stands before a record's answer, marked for ``as_tokens``."""
    if len(record.messages) == 1:
        return beginning(tokenizer) or str(tokenizer.eos_token)
    return render(tokenizer, record.messages[:-1], is_prompt=True, tools=record.tools)


def prompt_tokens(tokenizer: Any, record: Record, max_length: int | None) -> list[int]:
    """A prompt as training saw it, shortened the same way where it is too long; never empty.

    Before a plain text nothing was asked: there it is what begins or, where nothing does, what ends texts.
    """
    (found,) = as_tokens(tokenizer, [prompt_text(tokenizer, record)])
    if max_length is not None and len(found) > max_length:
        found, _ = cut_prompt([*found, 0], [0] * len(found) + [1], max_length + 1)
        found.pop()
    return found


def _last_learnt(messages: tuple[Message, ...], answer: str) -> tuple[Message, ...]:
    """The conversation with another last answer, which alone is learnt."""
    before = tuple(replace(each, weight=0) for each in messages[:-1])
    return (*before, Message("assistant", answer, 1))


def _encoded(
    tokenizer: Any, group: list[Record], conversations: list[tuple[Message, ...]], *, are_all_learnt: bool = False
) -> Iterator[tuple[list[int], list[int]]]:
    """Tokens and marks of each conversation, with the tools of its record."""
    pieces = [
        segments(tokenizer, turns, record.tools, are_all_learnt=are_all_learnt)
        for record, turns in zip(group, conversations, strict=True)
    ]
    texts = [text for parts in pieces for text, _ in parts]
    encoded = iter(as_tokens(tokenizer, texts))
    for parts in pieces:
        found: list[int] = []
        marks: list[int] = []
        for _, is_learnt in parts:
            piece = next(encoded)
            found += piece
            marks += [int(is_learnt)] * len(piece)
        yield found, marks


def not_empty(split: Split) -> Split:
    """The split, unless nothing is in it.

    Raises:
        TrainerError: ``data.nothing_left``.
    """
    if not len(split):
        raise TrainerError(
            NOTHING_LEFT,
            f"no record can be learnt from: {split.refused} refused",
            "raise max_length, set too_long to truncate, or check message weights",
        )
    return split


def _fitted(
    split: Split, tokens: list[int], marks: list[int], max_length: int, too_long: str
) -> tuple[list[int], list[int]] | None:
    """The record as it can be learnt, or None; what was cut or left out is counted in ``split``."""
    if len(tokens) > max_length:
        if too_long == "refuse":
            split.refused += 1
            return None
        split.truncated += 1
        split.truncated_tokens += len(tokens) - max_length
        tokens, marks = cut_prompt(tokens, marks, max_length)
    # The first token has nothing before it that could predict it.
    if tokens:
        marks[0] = 0
    if not any(marks):
        split.refused += 1
        return None
    return tokens, marks


def _groups(records: Iterator[Record]) -> Iterator[list[Record]]:
    while group := list(islice(records, GROUP)):
        yield group
