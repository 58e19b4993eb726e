"""Messages to tokens, once, with what is learnt marked.

Guarantees: the tokens of a prompt are those that generation sees for it, because text is cut where turns of the
assistant begin before it is tokenised; every record that was cut or left out is counted; a chat template runs in
transformers' immutable Jinja sandbox, and its error messages (which may quote a record) are dropped.
Does not: stream to disk; all tokens of a split are held as 32-bit numbers, 5 bytes a token with their marks.

Example:
    >>> split = encode(read_records(...), tokenizer, max_length=1024, too_long="truncate")
    >>> split.tokens_of(0), split.supervised_of(0)
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from trainers.errors import TrainerError
from trainers.shards import Message, Record

GROUP = 256

#: For base models that bring no template: turns under plain headings, the end-of-text token after each answer.
PLAIN_TEMPLATE = (
    "{% for message in messages %}{{ '### ' + message['role'] | capitalize + '\n' + message['content'] }}"
    "{{ (eos_token if message['role'] == 'assistant' else '') + '\n\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '### Assistant\n' }}{% endif %}"
)


@dataclass
class Split:
    """Tokens of all records one after the other; record ``i`` is ``starts[i]:starts[i + 1]``.

    ``prefix`` are the ids of a soft prompt; they stand before each record that is taken out and are not learnt.
    """

    ids: list[str] = field(default_factory=list)
    tokens: array[int] = field(default_factory=lambda: array("i"))
    marks: array[int] = field(default_factory=lambda: array("b"))
    starts: array[int] = field(default_factory=lambda: array("q", [0]))
    supervised: int = 0
    truncated: int = 0
    truncated_tokens: int = 0
    refused: int = 0
    prefix: tuple[int, ...] = ()

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def lengths(self) -> list[int]:
        """Tokens of each record."""
        before = len(self.prefix)
        return [before + self.starts[index + 1] - self.starts[index] for index in range(len(self.ids))]

    def tokens_of(self, index: int) -> array[int]:
        """Token ids of a record."""
        return array("i", self.prefix) + self.tokens[self.starts[index] : self.starts[index + 1]]

    def marks_of(self, index: int) -> array[int]:
        """1 for each token of a record that is learnt, else 0."""
        return array("b", bytes(len(self.prefix))) + self.marks[self.starts[index] : self.starts[index + 1]]

    def add(self, record_id: str, tokens: list[int], marks: list[int]) -> None:
        """Appends a record."""
        self.ids.append(record_id)
        self.tokens.extend(tokens)
        self.marks.extend(marks)
        self.starts.append(len(self.tokens))
        self.supervised += sum(marks)


def as_chat(messages: Iterable[Message]) -> list[dict[str, str]]:
    """Messages as a template takes them."""
    return [{"role": each.role, "content": each.content} for each in messages]


def render(tokenizer: Any, messages: Iterable[Message], *, is_prompt: bool) -> str:
    """The text of a conversation; ``is_prompt`` opens a turn of the assistant at its end.

    Raises:
        TrainerError: ``model.template``, when the template fails or reaches for what the sandbox forbids.
    """
    try:
        text = tokenizer.apply_chat_template(as_chat(messages), tokenize=False, add_generation_prompt=is_prompt)
    except Exception as fault:  # noqa: BLE001 - a template of unknown origin may raise anything
        raise TrainerError(
            "model.template",
            f"the chat template of the model failed ({type(fault).__name__})",
            "check that the template accepts these roles in this order, or use a model with another template",
        ) from None
    return str(text)


def segments(tokenizer: Any, messages: tuple[Message, ...]) -> list[tuple[str, bool]]:
    """The rendered conversation in pieces, each learnt or not.

    The last assistant turn is learnt unless its weight is 0; an earlier one is if its weight is 1. A template that
    rewrites earlier turns later (as some do with reasoning) is only usable for the last turn.

    Raises:
        TrainerError: ``model.template``, when an answer does not simply follow its prompt in the rendered text.
    """
    whole = render(tokenizer, messages, is_prompt=False)
    pieces: list[tuple[str, bool]] = []
    done = 0
    last = len(messages) - 1
    for index, message in enumerate(messages):
        if message.role != "assistant" or not (message.weight if message.weight is not None else index == last):
            continue
        begin = render(tokenizer, messages[:index], is_prompt=True)
        end = whole if index == last else render(tokenizer, messages[: index + 1], is_prompt=False)
        if not (whole.startswith(end) and end.startswith(begin)) or len(begin) < done:
            raise TrainerError(
                "model.template",
                "the chat template does not put an answer right after its prompt",
                "train on the last answer only, or use a model whose template only appends",
            )
        pieces += [(whole[done : len(begin)], False), (whole[len(begin) : len(end)], True)]
        done = len(end)
    return [*pieces, (whole[done:], False)] if done < len(whole) else pieces


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


def encode(records: Iterable[Record], tokenizer: Any, max_length: int, too_long: str) -> Split:
    """All records of a split as tokens.

    Args:
        records: consumed once, as a stream.
        tokenizer: a fast tokenizer with a chat template.
        max_length: in tokens, at least 8.
        too_long: ``refuse`` leaves a longer record out, ``truncate`` shortens it (``cut_prompt``); both are counted.

    Raises:
        TrainerError: as ``segments``; ``data.nothing_left`` when no record has anything to learn.
    """
    split = Split()
    for group in _groups(iter(records)):
        pieces = [segments(tokenizer, record.messages) for record in group]
        texts = [text for record in pieces for text, _ in record]
        encoded = iter(tokenizer(texts, add_special_tokens=False, return_attention_mask=False)["input_ids"])
        for record, parts in zip(group, pieces, strict=True):
            tokens: list[int] = []
            marks: list[int] = []
            for _, is_learnt in parts:
                piece = next(encoded)
                tokens += piece
                marks += [int(is_learnt)] * len(piece)
            _admit(split, record.id, tokens, marks, max_length, too_long)
    if not len(split):
        raise TrainerError(
            "data.nothing_left",
            f"no record can be learnt from: {split.refused} refused",
            "raise max_length, set too_long to truncate, or check message weights",
        )
    return split


def _admit(split: Split, record_id: str, tokens: list[int], marks: list[int], max_length: int, too_long: str) -> None:
    if len(tokens) > max_length:
        if too_long == "refuse":
            split.refused += 1
            return
        split.truncated += 1
        split.truncated_tokens += len(tokens) - max_length
        tokens, marks = cut_prompt(tokens, marks, max_length)
    # The first token has nothing before it that could predict it.
    if tokens:
        marks[0] = 0
    if not any(marks):
        split.refused += 1
        return
    split.add(record_id, tokens, marks)


def _groups(records: Iterator[Record]) -> Iterator[list[Record]]:
    while group := list(islice(records, GROUP)):
        yield group
