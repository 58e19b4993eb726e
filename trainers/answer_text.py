"""The text of an answer as its tokens come, ending before a stop string.

Guarantees: the pieces together are what the tokenizer makes of all tokens at once, without special ones; no piece holds
a part of a stop string, nor half a character; the cost of a token does not grow with the answer.
Does not: find a stop string that only special tokens spell.

Example:
    >>> text = AnswerText(tokenizer, stops=["\\n\\n"])
    >>> text.add(token), text.is_stopped
"""

from __future__ import annotations

from typing import Any

#: What a tokenizer shows for a character whose last bytes are still to come.
UNFINISHED = "\ufffd"


class AnswerText:
    """Of one row."""

    def __init__(self, tokenizer: Any, stops: list[str]) -> None:
        self._tokenizer, self._stops = tokenizer, stops
        self._tokens: list[int] = []
        self._from, self._read = 0, 0
        self._held = ""
        self.is_stopped = False

    def add(self, token: int) -> str:
        """Takes the next token; returns what may be shown now, often nothing."""
        self._tokens.append(token)
        # Tokens are read together with a few before them: some tokenizers write a word differently at a beginning.
        before = self._text(self._tokens[self._from : self._read])
        now = self._text(self._tokens[self._from :])
        if len(now) <= len(before) or now.endswith(UNFINISHED):
            return ""
        self._from, self._read = self._read, len(self._tokens)
        return self._shown(now[len(before) :])

    def end(self) -> str:
        """What was held back, once no token comes any more."""
        rest = ""
        if not self.is_stopped:
            before = self._text(self._tokens[self._from : self._read])
            rest = self._shown(self._text(self._tokens[self._from :])[len(before) :])
        held, self._held = self._held, ""
        return rest + held

    def _text(self, tokens: list[int]) -> str:
        return str(self._tokenizer.decode(tokens, skip_special_tokens=True, clean_up_tokenization_spaces=False))

    def _shown(self, new: str) -> str:
        text = self._held + new
        found = [place for place in (text.find(stop) for stop in self._stops) if place >= 0]
        if found:
            self.is_stopped, self._held = True, ""
            return text[: min(found)]
        kept = max((_overlap(text, stop) for stop in self._stops), default=0)
        self._held = text[len(text) - kept :]
        return text[: len(text) - kept]


def _overlap(text: str, stop: str) -> int:
    """How many characters at the end of ``text`` could be the beginning of ``stop``."""
    return next((size for size in range(min(len(stop) - 1, len(text)), 0, -1) if text.endswith(stop[:size])), 0)
