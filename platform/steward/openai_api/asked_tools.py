"""The tools of a request, and the calls and results among its messages, read as an import reads them.

Guarantees that what is asked of tools is done or refused by name: functions are offered to the model by its chat
template, and nothing makes it call one or keep to a schema.

Source: OpenAI's API reference, chat completions.
"""

from typing import Any

from steward.datasets.formats import Problems
from steward.datasets.messages import MessageReader, read_tools
from steward.openai_api.errors import RequestError

MAX_TOOLS = 128


def asked_tools(asked: dict[str, Any]) -> list[dict[str, Any]]:
    """The functions that the model may call.

    Raises:
        RequestError: there is something wrong with them, or more is asked than offering them.
    """
    given = asked.get("tools")
    if given in (None, []):
        return []
    problems = Problems()
    tools = read_tools(0, {"tools": given}, problems) if isinstance(given, list) else None
    if problems.count or not tools or len(tools) > MAX_TOOLS:
        limit = f"tools has to be a list of at most {MAX_TOOLS} functions."
        message = problems.kept[0].message if problems.count else limit
        raise RequestError(message, code="invalid_value", param="tools")
    for place, tool in enumerate(tools):
        if tool["function"].get("strict"):
            raise unsupported(f"tools[{place}].function.strict")
    if asked.get("tool_choice") not in (None, "auto", "none"):
        raise unsupported("tool_choice")
    if asked.get("parallel_tool_calls") not in (None, True):
        raise unsupported("parallel_tool_calls")
    return [] if asked.get("tool_choice") == "none" else tools


def unsupported(name: str) -> RequestError:
    """A parameter that would change the answer and is not followed here."""
    return RequestError(f"{name} is not supported here.", code="unsupported_parameter", param=name)


class ToolTurns:
    """Turns that call tools or hold what one gave, in the order of a conversation."""

    def __init__(self) -> None:
        self._problems = Problems()
        self._reader = MessageReader(0, self._problems)

    def read(self, path: str, turn: dict[str, Any], content: str) -> dict[str, Any]:
        """A turn of the assistant or of a tool as the serving process takes it.

        Args:
            path: of the message in the request.
            content: what it says, which may be nothing.

        Raises:
            RequestError: a call or a result does not hold.
        """
        # That a turn says nothing is no fault here, as it is in what is to be learnt.
        made = self._reader.read(path, {**turn, "content": content or "-"})
        if self._problems.count or made is None:
            raise RequestError(self._problems.kept[0].message, code="invalid_value", param=path)
        return {**made, "content": content}
