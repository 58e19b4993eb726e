"""Uses of a model by programs: each is recorded before it begins and when it is over, in counts only."""

from steward.accounts.permissions import require
from steward.accounts.roles import Permission
from steward.audit.actor import Actor, Refused
from steward.audit.events import Event
from steward.audit.recording import audited, record
from steward.releases.offering import offered_to
from steward.runs.models import ModelVersion


@audited(Event.COMPLETION_REQUESTED)
def request_completion(
    *, actor: Actor, model_version: ModelVersion, token: str, messages: int, is_streamed: bool
) -> None:
    """Lets a program ask a model, and records that it does; no answer begins without the entry.

    Args:
        token: id of the token that acts.

    Raises:
        Refused: the model is not offered to the actor.
    """
    require(actor, Permission.CHAT, model_version.workspace, model_version)
    if not offered_to(actor).filter(pk=model_version.pk).exists():
        raise Refused("This model version is not released.", code="not_released", subject=model_version)
    record(model_version, token=token, messages=messages, is_streamed=is_streamed)


@audited(Event.COMPLETION_FINISHED)
def finish_completion(
    *, actor: Actor, model_version: ModelVersion, prompt_tokens: int, completion_tokens: int, finish: str
) -> None:
    """Records what an answer came to.

    Args:
        finish: stop, tool_calls, length, cancelled (the caller went away), revoked (the token was) or failed.
    """
    record(model_version, prompt_tokens=prompt_tokens, completion_tokens=completion_tokens, finish=finish)
