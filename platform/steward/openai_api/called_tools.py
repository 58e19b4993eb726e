"""Calls of tools, found in what a model wrote.

Guarantees that a call is one of a function that was offered, with an object of arguments, written whole; anything else
stays text, for the caller to see. Knows the forms in which common chat templates have models call: Hermes' and
Qwen's `<tool_call>{…}</tool_call>`, Mistral's `[TOOL_CALLS] [{…}]` and Llama 3's JSON object, of which the last two may
have lost their mark, since it is a special token and those are no text.

Source: the chat templates of NousResearch Hermes 2 Pro, Qwen 2.5, Mistral 7B Instruct v0.3 and Llama 3.1.

Example:
    >>> text, calls = calls_in('One moment.<tool_call>{"name": "dose", "arguments": {"mg": 5}}</tool_call>', {"dose"})
    >>> text, calls[0].name, calls[0].arguments
    ('One moment.', 'dose', '{"mg": 5}')
"""

import json
import re
import uuid
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any

_MARKED = re.compile(r"<tool_call>\s*(\{.*?\})\s*</tool_call>", re.DOTALL)
_BARE = re.compile(r"\s*(?:\[TOOL_CALLS\]|<\|python_tag\|>)?\s*([\[{].*)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Call:
    """A call: which function, and the JSON text of its arguments."""

    name: str
    arguments: str = field(repr=False)
    id: str = field(default_factory=lambda: f"call_{uuid.uuid4().hex[:24]}")

    def as_json(self) -> dict[str, Any]:
        """As OpenAI's clients read it."""
        return {"id": self.id, "type": "function", "function": {"name": self.name, "arguments": self.arguments}}


def calls_in(answer: str, offered: Collection[str]) -> tuple[str, list[Call]]:
    """What an answer says beside its calls, and the calls in order; all text and no call where one does not hold.

    Args:
        offered: names of functions.
    """
    marked = _MARKED.findall(answer)
    bare = None if marked else _BARE.fullmatch(answer)
    written = [_parsed(each) for each in marked] if marked else _listed(_parsed(bare[1].strip()) if bare else None)
    calls = [_call(each, offered) for each in written]
    if not calls or None in calls:
        return answer, []
    said = _MARKED.sub("", answer).strip() if marked else ""
    return said, [each for each in calls if each is not None]


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [] if value is None else [value]


def _call(value: Any, offered: Collection[str]) -> Call | None:
    if not isinstance(value, dict) or not isinstance(value.get("name"), str) or value["name"] not in offered:
        return None
    arguments = value.get("arguments", value.get("parameters"))  # the latter is Llama's word
    return Call(value["name"], json.dumps(arguments, ensure_ascii=False)) if isinstance(arguments, dict) else None
