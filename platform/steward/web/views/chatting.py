"""The chat box: base and tuned answer the same messages, each in a stream of its own.

Guarantees that what is said is neither stored nor logged; that somebody chats is recorded once a visit. Does not keep
a conversation on the server: the page sends all of it each time.
"""

import json
import uuid
from collections.abc import Iterator
from typing import Any

from django.http import HttpResponse, HttpResponseBase, JsonResponse, StreamingHttpResponse
from django.views.decorators.http import require_POST

from steward.audit.actor import UserError
from steward.runs.actions import open_chat
from steward.runs.chat import stream_answer
from steward.web.pages import WorkspaceRequest, in_workspace, row_or_404
from steward.web.views.model_versions import MODELS

MAX_MESSAGES = 60
MAX_NEW_TOKENS = 256
ROLES = ("system", "user", "assistant")


@require_POST
@in_workspace
def start_chat(request: WorkspaceRequest, pk: uuid.UUID) -> HttpResponse:
    """Records that a conversation begins; the page calls it before the first message."""
    open_chat(actor=request.actor, model_version=row_or_404(request, MODELS, pk))
    return HttpResponse(status=204)


@require_POST
@in_workspace
def answer(request: WorkspaceRequest, pk: uuid.UUID) -> HttpResponseBase:
    """Streams one model's answer as JSON lines: {"text"} for each piece, {"error"} if it broke off."""
    found = row_or_404(request, MODELS, pk)
    asked = _read(request.body)
    if asked is None:
        return JsonResponse({"code": "invalid", "message": "This is not a conversation."}, status=400)
    messages, use_adapter = asked
    pieces = stream_answer(
        actor=request.actor,
        model_version=found,
        messages=messages,
        use_adapter=use_adapter,
        max_new_tokens=MAX_NEW_TOKENS,
    )
    response = StreamingHttpResponse(_lines(pieces), content_type="application/jsonl; charset=utf-8")
    response["X-Accel-Buffering"] = "no"
    return response


def _read(body: bytes) -> tuple[list[dict[str, str]], bool] | None:
    """The messages and which model is to answer; None for anything that is not a conversation."""
    try:
        asked: Any = json.loads(body)
        messages = asked["messages"]
        is_sound = 0 < len(messages) <= MAX_MESSAGES and all(
            each["role"] in ROLES and isinstance(each["content"], str) for each in messages
        )
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    if not is_sound:
        return None
    return [{"role": each["role"], "content": each["content"]} for each in messages], asked.get("model") == "tuned"


def _lines(pieces: Iterator[str]) -> Iterator[bytes]:
    try:
        for piece in pieces:
            yield json.dumps({"text": piece}).encode() + b"\n"
    except UserError as error:
        yield json.dumps({"error": str(error)}).encode() + b"\n"
    except OSError:
        yield json.dumps({"error": "The model stopped answering. Ask again."}).encode() + b"\n"
