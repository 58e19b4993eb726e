"""The body of `POST /v1/chat/completions`, read strictly.

Guarantees that a parameter which would change the answer and is not supported is refused by name, never passed over;
values that say what is done anyway (`n=1`, text) are taken. Nothing of the conversation is quoted. `asked_tools` reads
tools and what belongs to them.

Source: OpenAI's API reference, chat completions, for names and ranges.
"""

import json
from dataclasses import dataclass, field
from typing import Any

from steward.openai_api.asked_tools import ToolTurns, asked_tools
from steward.openai_api.errors import RequestError

DEFAULT_MAX_TOKENS = 1024
MAX_MESSAGES = 2048
MAX_STOPS = 4
#: Without effect on the answer, taken and passed over.
_HARMLESS = {"user", "metadata", "safety_identifier", "prompt_cache_key", "service_tier"}
#: Taken with these values only, under which they change nothing.
_NEUTRAL: dict[str, tuple[Any, ...]] = {
    "n": (None, 1),
    "presence_penalty": (None, 0),
    "frequency_penalty": (None, 0),
    "logit_bias": (None, {}),
    "logprobs": (None, False),
    "top_logprobs": (None, 0),
    "functions": (None, []),
    "function_call": (None, "none", "auto"),
    "response_format": (None, {"type": "text"}),
    "modalities": (None, ["text"]),
    "store": (None, False),
    "reasoning_effort": (None, "none"),
    "verbosity": (None, "medium"),
}
_OURS = {"model", "messages", "stream", "stream_options", "stop", "temperature", "top_p", "seed"}
_OF_TOOLS = {"tools", "tool_choice", "parallel_tool_calls"}
_LIMITS = ("max_completion_tokens", "max_tokens")
_ROLES = {"system": "system", "developer": "system", "user": "user", "assistant": "assistant", "tool": "tool"}


@dataclass(frozen=True)
class CompletionRequest:
    """What is asked, and how the answer is to come."""

    model: str
    messages: list[dict[str, Any]] = field(repr=False)
    tools: list[dict[str, Any]] = field(repr=False)
    is_streamed: bool
    has_usage: bool
    settings: dict[str, Any] = field(repr=False)


def read_completion_request(body: bytes) -> CompletionRequest:
    """The request in a body.

    Raises:
        RequestError: naming the first parameter that is wrong.
    """
    try:
        asked = json.loads(body)
    except (ValueError, RecursionError):
        raise RequestError("The body is not JSON.", code="invalid_json") from None
    if not isinstance(asked, dict):
        raise RequestError("The body has to be a JSON object.", code="invalid_json")
    for name, neutral in _NEUTRAL.items():
        # 1 == True in Python, but not to whoever wrote the request.
        if not any(
            asked.get(name) == each and isinstance(asked.get(name), bool) == isinstance(each, bool) for each in neutral
        ):
            raise _wrong(name, "is not supported here", "unsupported_parameter")
    if unknown := set(asked) - _OURS - _OF_TOOLS - set(_LIMITS) - _NEUTRAL.keys() - _HARMLESS:
        known_words = sorted(each for each in unknown if each.isidentifier() and len(each) <= 40)
        raise _wrong(known_words[0] if known_words else None, "is not known here", "unknown_parameter")
    model = asked.get("model")
    if not isinstance(model, str) or not model:
        raise _wrong("model", "is required, as text", "missing_required_parameter")
    is_streamed, has_usage = _streaming(asked)
    messages, tools = _messages(asked.get("messages")), asked_tools(asked)
    return CompletionRequest(model, messages, tools, is_streamed, has_usage, _settings(asked))


def _wrong(name: str | None, what: str, code: str = "invalid_value") -> RequestError:
    return RequestError(f"{name or 'A parameter'} {what}.", code=code, param=name)


def _streaming(asked: dict[str, Any]) -> tuple[bool, bool]:
    is_streamed, options = asked.get("stream"), asked.get("stream_options")
    if not isinstance(is_streamed, bool | None):
        raise _wrong("stream", "has to be true or false")
    if options is None:
        return bool(is_streamed), False
    if not is_streamed:
        raise _wrong("stream_options", "goes with stream only")
    if not isinstance(options, dict) or options.keys() - {"include_usage", "include_obfuscation"}:
        raise _wrong("stream_options", "takes include_usage only")
    if not all(isinstance(value, bool) for value in options.values()):
        raise _wrong("stream_options", "has to hold true or false")
    return True, options.get("include_usage", False)


def _messages(turns: Any) -> list[dict[str, Any]]:
    if not isinstance(turns, list) or not 1 <= len(turns) <= MAX_MESSAGES:
        raise _wrong("messages", f"has to be a list of 1 to {MAX_MESSAGES} messages")
    tool_turns = ToolTurns()
    return [_message(turn, f"messages[{index}]", tool_turns) for index, turn in enumerate(turns)]


def _message(turn: Any, path: str, tool_turns: ToolTurns) -> dict[str, Any]:
    if not isinstance(turn, dict):
        raise _wrong(path, "has to be an object")
    role = turn.get("role")
    if not isinstance(role, str) or role not in _ROLES:
        raise _wrong(f"{path}.role", "has to be system, developer, user, assistant or tool")
    # An answer of ours that is sent back holds keys that are empty.
    given = {key: value for key, value in turn.items() if value not in (None, [])}
    if role == "tool" or (role == "assistant" and "tool_calls" in given):
        content = _content(turn["content"], f"{path}.content") if turn.get("content") not in (None, "") else ""
        return tool_turns.read(path, given, content)
    if given.keys() - {"role", "content"}:
        raise _wrong(path, "holds more than role and content, which is not supported", "unsupported_parameter")
    return {"role": _ROLES[role], "content": _content(turn.get("content"), f"{path}.content")}


def _content(content: Any, path: str) -> str:
    if isinstance(content, str):
        return content
    if isinstance(content, list) and content:
        texts = [each.get("text") for each in content if isinstance(each, dict) and each.get("type") == "text"]
        if len(texts) == len(content) and all(isinstance(text, str) for text in texts):
            return "".join(str(text) for text in texts)
    raise _wrong(path, "has to be text, or parts of type text")


def _settings(asked: dict[str, Any]) -> dict[str, Any]:
    """What the serving process takes, with OpenAI's defaults."""
    given = [name for name in _LIMITS if asked.get(name) is not None]
    limit = asked[given[0]] if given else DEFAULT_MAX_TOKENS
    if not _is_whole(limit, 1, 1 << 20):
        raise _wrong(given[0], "has to be a whole number of at least 1")
    temperature = _number(asked, "temperature", 1.0, 0.0, 2.0)
    top_p = _number(asked, "top_p", 1.0, 0.0, 1.0)
    seed = asked.get("seed")
    if seed is not None and not _is_whole(seed, -(2**63), 2**63 - 1):
        raise _wrong("seed", "has to be a whole number of 64 bits")
    stops = asked.get("stop")
    listed = stops if isinstance(stops, list) else [] if stops is None else [stops]
    if len(listed) > MAX_STOPS or not all(isinstance(each, str) and 1 <= len(each) <= 512 for each in listed):
        raise _wrong("stop", f"has to be text, or a list of at most {MAX_STOPS} texts, none empty")
    return {
        "max_tokens": limit,
        "temperature": temperature,
        # Nothing reaches a share of 0, and the likeliest token alone is what is meant.
        "top_p": max(top_p, 1e-9),
        "seed": None if seed is None else seed % 2**63,
        "stop": listed or None,
    }


def _number(asked: dict[str, Any], name: str, default: float, low: float, high: float) -> float:
    value = asked.get(name)
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _wrong(name, "has to be a number")
    if not low <= value <= high:
        raise _wrong(name, f"has to be from {low:g} to {high:g}")
    return float(value)


def _is_whole(value: Any, low: int, high: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and low <= value <= high
