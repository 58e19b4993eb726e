"""What an exported model is asked, so that its answers can be held against the trained one's.

Guarantees: both are asked the same: tokens of held-out records and the places in them where a token was learnt, whole
prompts to be answered greedily, and rendered prompts to be cut into tokens; an exam goes through a pipe as JSON.
Does not: hold what the models say; ``trainers.parity`` compares that.

Example:
    >>> exam = Exam.of(split, tokenizer, records, stops={2}, max_new_tokens=12, max_length=1024)
    >>> Exam.from_json(exam.to_json()) == exam
    True
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from trainers.control_tokens import ControlTokens
from trainers.encoding import Split, prompt_text, prompt_tokens
from trainers.shards import Record


def digest_of_words(words: Sequence[str | None]) -> str:
    """sha256 over the words of a vocabulary in the order of their numbers."""
    return hashlib.sha256("\0".join(str(each) for each in words).encode()).hexdigest()


#: More places say little more and cost time.
COMPARED_POSITIONS = 512
COMPARED_PROMPTS = 32


@dataclass(frozen=True)
class Exam:
    """``places[i]`` are positions in ``rows[i]``; of a classifier there is none, and the row's end is asked.

    Attributes:
        kind: ``words``, or what a classifier gives: ``labels`` of rows, ``tags`` of tokens.
        rows: token ids of held-out records.
        places: where in each row a token is asked for, given all before it.
        targets: what was right, place by place; of a classifier the label's number, row by row.
        prompts: token ids to be answered greedily; empty where no metric is asked for.
        texts: the prompts as text, as the template renders them.
        cut: what our tokenizer makes of ``texts``.
        stops: ids that end an answer.
        max_new_tokens: of an answer.
        template: the chat template that has to travel along.
        vocabulary: digest of the words of the first ``vocabulary_size`` tokens.
    """

    kind: str
    rows: list[list[int]]
    places: list[list[int]]
    targets: list[int]
    prompts: list[list[int]]
    texts: list[str]
    cut: list[list[int]]
    stops: list[int]
    max_new_tokens: int
    template: str
    vocabulary: str
    vocabulary_size: int

    @classmethod
    def of(
        cls, split: Split, tokenizer: Any, records: list[Record], stops: set[int], max_new_tokens: int, max_length: int
    ) -> Exam:
        """An exam of a split and the records it was made of; ``max_new_tokens`` 0 asks for no whole answers."""
        rows: list[list[int]] = []
        places: list[list[int]] = []
        targets: list[int] = []
        for index in range(len(split)):
            if len(targets) >= COMPARED_POSITIONS:
                break
            tokens = split.tokens_of(index)
            marks = split.marks_of(index)
            asked = [place for place, mark in enumerate(marks) if mark and (place or split.tags is not None)]
            asked = asked[: COMPARED_POSITIONS - len(targets)]
            if split.labels is not None:
                asked, right = [], [int(split.labels[index])]
            elif split.tags is not None:
                tags = split.tags_at(index)
                right = [tags[place] for place in asked]
            else:
                right = [tokens[place] for place in asked]
            rows.append(tokens)
            places.append(asked)
            targets += right
        some = records[:COMPARED_PROMPTS]
        if split.tags is not None:
            texts = [each.messages[0].content for each in some]
        else:
            # As another program gets it, which knows nothing of our marks.
            texts = [ControlTokens.of(tokenizer).meant(prompt_text(tokenizer, each)) for each in some]
        cut = [list(tokenizer(text, add_special_tokens=False)["input_ids"]) for text in texts]
        prompts = [prompt_tokens(tokenizer, each, max_length) for each in some] if max_new_tokens else []
        words = tokenizer.convert_ids_to_tokens(list(range(len(tokenizer))))
        kind = "labels" if split.labels is not None else "tags" if split.tags is not None else "words"
        return cls(
            kind,
            rows,
            places,
            targets,
            prompts,
            texts,
            cut,
            sorted(stops),
            max_new_tokens,
            str(tokenizer.chat_template),
            digest_of_words(words),
            len(words),
        )

    @property
    def longest(self) -> int:
        """Tokens that have to fit into a model's window at once."""
        answered = [len(each) + self.max_new_tokens for each in self.prompts]
        return max([len(each) for each in self.rows] + answered)

    def to_json(self) -> dict[str, Any]:
        """As it goes through a pipe."""
        return asdict(self)

    @classmethod
    def from_json(cls, document: dict[str, Any]) -> Exam:
        """What ``to_json`` made."""
        return cls(**document)
