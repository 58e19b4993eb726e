"""Talking to a model version: base and tuned, through the serving process of their base model.

Guarantees that prompts and answers pass through memory only and that torch is never loaded here. Does not record a
conversation; `runs.actions.open_chat` records that there is one.
"""

from collections.abc import Iterator

from steward.accounts.permissions import require
from steward.accounts.roles import Permission
from steward.audit.actor import Actor
from steward.runs.models import ModelVersion
from steward.runs.serving import ChatUnavailable, ask, stop_serving

__all__ = ["ChatUnavailable", "stop_serving", "stream_answer"]

MAX_PROMPT_CHARS = 20_000


def stream_answer(
    *,
    actor: Actor,
    model_version: ModelVersion,
    messages: list[dict[str, str]],
    use_adapter: bool,
    max_new_tokens: int = 128,
) -> Iterator[str]:
    """Pieces of the answer, as they are generated (greedy, so that base and tuned compare).

    Args:
        use_adapter: True answers as the tuned model, False as the base model.

    Raises:
        Denied: the actor may not chat here.
        ChatUnavailable: the prompt is too long, or the serving process failed.
    """
    require(actor, Permission.CHAT, model_version.workspace, model_version)
    if sum(len(message["content"]) for message in messages) > MAX_PROMPT_CHARS:
        raise ChatUnavailable(f"The conversation is longer than {MAX_PROMPT_CHARS:,} characters.", code="too_long")
    request = {"messages": messages, "max_tokens": max_new_tokens, "temperature": 0.0, "seed": 0}
    return (reply["text"] for reply in ask(model_version, use_adapter=use_adapter, request=request) if "text" in reply)
