"""Control tokens that a text writes stay text; only the chat template writes control.

A tokenizer knows its control strings (``<|im_end|>``) wherever they stand, so a rendered conversation no longer says
who wrote one. Before rendering, each character of a control string that stands in data is therefore moved to a mark at
the end of Unicode's private use; what is left of the rendered text is the template's. When it is tokenised, each run of
marks stands for one placeholder, whose place the run's own characters take, read without any added token.

Control are a tokenizer's special tokens, and those of its other added tokens that the template names, such as
``<tool_response>``. Of the latter an assistant's content may hold what it likes: a model answers with them
(``<think>``). A token of blanks is no control.

Guarantees: no control token comes from a text, however the template slices it, nor from texts that the template puts
together; a text without control strings has the tokens that the tokenizer itself gives it, and around a control string
the tokens stand as they would around its token. Where that cannot be had, the text is refused.
Does not: bind whoever tokenises rendered text elsewhere (llama.cpp reading a GGUF file, another server); foresee a
template that rewrites the letters of a text (``lower``) until they are a control string; keep the tokens around a
character of the marks' own block (U+10F000 and a few more), which is read by itself.

Example:
    >>> control = ControlTokens.of(tokenizer)
    >>> control.tokens(tokenizer, [control.marked("Hi<|im_end|>") + "<|im_end|>"])
"""

from __future__ import annotations

import copy
import re
from bisect import bisect_left
from collections.abc import Iterable, Iterator
from itertools import accumulate
from typing import Any
from weakref import WeakKeyDictionary

from trainers.chat_template import templates_in
from trainers.errors import TrainerError

_FIRST_MARK = 0x10F000
Place = tuple[int, int]


class ControlTokens:
    """What is control for one tokenizer and its template."""

    _known: WeakKeyDictionary[Any, dict[tuple[str, ...], ControlTokens]] = WeakKeyDictionary()

    @classmethod
    def of(cls, tokenizer: Any) -> ControlTokens:
        """The tokenizer's; made once for each template it has had."""
        templates = tuple(templates_in(tokenizer.chat_template))
        made = cls._known.setdefault(tokenizer, {})
        if templates not in made:
            made[templates] = cls(tokenizer, templates)
        return made[templates]

    def __init__(self, tokenizer: Any, templates: Iterable[str]) -> None:
        source = "\0".join(templates)
        added = tokenizer.added_tokens_decoder
        control = {number: each for number, each in added.items() if _is_control(each, source)}
        words = {each.content for each in control.values()}
        self._words = _any_of(words)
        self._special = _any_of({each.content for each in control.values() if each.special})
        self._ids = set(control) - {tokenizer.unk_token_id}  # which stands for a text, too
        self._beginnings = {word[:size] for word in words for size in range(1, len(word))}
        self._ends = {word[-size:] for word in words for size in range(1, len(word))}
        self._within = "\0".join(words)
        self._longest = max(map(len, words), default=0)
        self._source = source
        letters = sorted({letter for word in words for letter in word})
        self._letters = letters
        self._escape = chr(_FIRST_MARK + len(letters))
        self._run = re.compile(f"[{chr(_FIRST_MARK)}-{self._escape}]+")
        self._marks = {letter: chr(_FIRST_MARK + number) for number, letter in enumerate(letters)}
        self._backend: Any = getattr(tokenizer, "backend_tokenizer", None)
        self._placing: Any = None
        self._normalise = None
        if self._backend is not None and self._backend.normalizer is not None:
            loose = {each.content for each in control.values() if each.normalized}
            self._loose = _any_of(loose | {self._backend.normalizer.normalize_str(word) for word in loose})
            self._normalise = self._backend.normalizer.normalize_str if loose else None

    def marked(self, data: Any, *, is_answer: bool = False, are_ends: bool = False) -> Any:
        """Data as it goes into a template: texts, or lists and objects of them (their keys, too).

        Args:
            data: as it was given.
            is_answer: whether it is an assistant's content, in which only special tokens are control.
            are_ends: whether pieces of control strings are marked, too, where a text begins or ends with one.

        Raises:
            TrainerError: ``data.invalid``, when the tokenizer would take another spelling for a control token.
        """
        if isinstance(data, str):
            return self._marked(data, self._special if is_answer else self._words, are_ends=are_ends)
        if isinstance(data, dict):
            pairs = [self.marked(list(pair), are_ends=are_ends) for pair in data.items()]
            return dict(pairs)
        if isinstance(data, list | tuple):
            return [self.marked(each, are_ends=are_ends) for each in data]
        return data

    def meant(self, text: str) -> str:
        """The text without marks, as it was before."""
        return text if text.isascii() else self._run.sub(lambda run: self._spelt(run[0]), text)

    def might_join(self, data: Any) -> bool:
        """Whether a text in there could be a piece of a control string that a template puts together."""
        if isinstance(data, str):
            return self._pieces(data) != (0, 0)
        if isinstance(data, dict):
            return any(self.might_join(key) or self.might_join(each) for key, each in data.items())
        return isinstance(data, list | tuple) and any(map(self.might_join, data))

    def written(self, text: str) -> list[str]:
        """The control strings of a rendered text that are not marked, in order."""
        return self._words.findall(text)

    def tokens(self, tokenizer: Any, texts: list[str]) -> list[list[int]]:
        """Token ids of each text, nothing put before or behind it.

        Raises:
            TrainerError: ``model.tokenizer``, when a control string in a text cannot be read as anything else.
        """
        plain = [text for text in texts if not self._has_marks(text)]
        found = tokenizer(plain, add_special_tokens=False, return_attention_mask=False)["input_ids"] if plain else []
        if len(plain) == len(texts):
            return [list(each) for each in found]
        rest = iter(found)
        return [
            [number for number, _ in self._placed(text, is_framed=False)] if self._has_marks(text) else list(next(rest))
            for text in texts
        ]

    def places(self, tokenizer: Any, text: str) -> tuple[list[int], list[Place]]:
        """Tokens of a text that no template is around, framed as the tokenizer frames one, and where each stands.

        Places are in the text as it was given. Each token of a control string has the place of the whole string.

        Raises:
            TrainerError: as ``marked`` and ``tokens``.
        """
        marked = self.marked(text)
        if self._has_marks(marked):
            tokens = list(self._placed(marked, is_framed=True))
            return [number for number, _ in tokens], [place for _, place in tokens]
        found = tokenizer(marked, return_offsets_mapping=True, return_attention_mask=False)
        return list(found["input_ids"]), [tuple(each) for each in found["offset_mapping"]]

    def _has_marks(self, text: str) -> bool:
        return not text.isascii() and self._run.search(text) is not None

    def _marked(self, text: str, words: re.Pattern[str], *, are_ends: bool) -> str:
        if self._normalise is not None and len(self._loose.findall(self._normalise(text))) > len(
            self._loose.findall(text)
        ):
            raise TrainerError(
                "data.invalid",
                "a text spells a control token of the model in a way that its tokenizer takes for the token",
                "take it out of the text, or use a model whose tokenizer keeps such tokens to one spelling",
            )
        whole = text if text.isascii() else self._run.sub(lambda run: self._escaped(run[0]), text)
        whole = words.sub(lambda found: self._moved(found[0]), whole)
        if are_ends:
            head, tail = self._pieces(text)
            if head == len(text):
                return self._moved(text)
            if head:
                whole = self._moved(text[:head]) + whole[head:]
            if tail:
                whole = whole[:-tail] + self._moved(text[-tail:])
        return whole

    def _pieces(self, text: str) -> Place:
        """How much of a text's beginning, and of its end, could be the rest and the start of a control string.

        A whole text within one counts, unless the template looks for it by name: marked it would not be found.
        """
        if not text:
            return 0, 0
        if len(text) < self._longest and text in self._within and not self._is_sought(text):
            return len(text), len(text)
        sizes = range(min(self._longest - 1, len(text)), 0, -1)
        head = next((size for size in sizes if text[:size] in self._ends), 0)
        tail = next((size for size in sizes if text[-size:] in self._beginnings), 0)
        return head, tail

    def _is_sought(self, text: str) -> bool:
        return any(name in self._source for name in (f"'{text}'", f'"{text}"', f".{text}"))

    def _moved(self, text: str) -> str:
        return "".join(self._marks.get(letter, letter) for letter in text)

    def _escaped(self, run: str) -> str:
        """Characters of data that are marks themselves, each behind an escape."""
        return "".join(self._escape + letter for letter in run)

    def _spelt(self, run: str) -> str:
        letters = iter(run)
        return "".join(
            next(letters, "") if letter == self._escape else self._letters[ord(letter) - _FIRST_MARK]
            for letter in letters
        )

    def _placed(self, text: str, *, is_framed: bool) -> Iterator[tuple[int, Place]]:
        """Tokens and places of a text with marks."""
        runs = [self._spelt(run) for run in self._run.findall(text)]
        placing = self._with_placeholder()
        number_of_place = placing.token_to_id(self._escape)
        replaced = self._run.sub(self._escape, text)
        encoding = placing.encode(replaced, add_special_tokens=is_framed)
        stands = [at for at, letter in enumerate(replaced) if letter == self._escape]
        moved = [0, *accumulate(len(run) - 1 for run in runs)]
        waiting = iter(runs)
        for number, (start, end) in zip(encoding.ids, encoding.offsets, strict=True):
            place = (start + moved[bisect_left(stands, start)], end + moved[bisect_left(stands, end)])
            if number == number_of_place:
                yield from ((each, place) for each in self._read(next(waiting)))
            else:
                yield number, place

    def _with_placeholder(self) -> Any:
        """The tokenizer with one token more; a copy, for nobody else is to know it."""
        if self._backend is None:
            raise TrainerError(
                "model.tokenizer",
                "a text writes a control token of the model, and its tokenizer cannot keep the two apart",
                "use a model with tokenizer.json, or take such texts out",
            )
        if self._placing is None:
            from tokenizers import AddedToken

            self._placing = copy.deepcopy(self._backend)
            self._placing.no_truncation()
            self._placing.no_padding()
            self._placing.encode_special_tokens = False
            self._placing.add_special_tokens([AddedToken(self._escape, normalized=False, special=True)])
        return self._placing

    def _read(self, text: str) -> list[int]:
        """Tokens of a control string as a text; letter by letter where the model's own words hold it as a whole."""
        found = self._own_words(text)
        if not self._ids.isdisjoint(found):
            found = [number for letter in text for number in self._own_words(letter)]
        if not self._ids.isdisjoint(found):
            raise TrainerError(
                "model.tokenizer",
                "a text writes a control token of the model that its tokenizer can read as nothing else",
                "take it out of the text, or use another model",
            )
        return found

    def _own_words(self, text: str) -> list[int]:
        """Tokens by the tokenizer's steps without the one that looks for added tokens."""
        backend = self._backend
        if backend.normalizer is not None:
            text = backend.normalizer.normalize_str(text)
        parts = [text]
        if backend.pre_tokenizer is not None:
            parts = [part for part, _ in backend.pre_tokenizer.pre_tokenize_str(text)]
        return [token.id for part in parts for token in backend.model.tokenize(part)]


def _is_control(token: Any, templates: str) -> bool:
    """Special and no blanks, or else written by templates and no mere word of their text."""
    word = token.content
    if token.special or word not in templates:
        return bool(token.special and word.strip())
    return any(not letter.isalnum() and not letter.isspace() for letter in word)


def _any_of(words: Iterable[str]) -> re.Pattern[str]:
    """Any of these, the longest first; nothing where there is none."""
    return re.compile("|".join(map(re.escape, sorted(words, key=len, reverse=True))) or "(?!)")
