"""`POST /v1/chat/completions`: one answer of a released model, whole or as a stream of server-sent events.

Guarantees that an answer begins only after the ledger has its entry, that a second entry says what it came to, also
when the caller goes away, and that a token which is revoked, or a person who loses the role, gets no more of it within
`RECHECK_SECONDS`. Neither question nor answer is stored or logged.
Does not screen what a model says, as the web chat does not.
"""

import json
import time
import uuid
from collections.abc import Iterator
from typing import Any

from django.http import HttpRequest, HttpResponseBase, JsonResponse, StreamingHttpResponse

from steward.accounts.models import ApiToken
from steward.accounts.permissions import can
from steward.accounts.roles import Permission
from steward.audit.actor import UserError
from steward.openai_api.called_tools import Call, calls_in
from steward.openai_api.completion_request import CompletionRequest, read_completion_request
from steward.openai_api.door import Caller, door, slots
from steward.openai_api.errors import RequestError, answer_of, body_of
from steward.openai_api.offered_models import find_model
from steward.releases.completion_actions import finish_completion, request_completion
from steward.runs.models import ModelVersion
from steward.runs.serving import ask

RECHECK_SECONDS = 1.0


@door("POST")
def chat_completions(request: HttpRequest, caller: Caller) -> HttpResponseBase:
    """Answers a conversation."""
    asked = read_completion_request(request.body)
    model_version = find_model(caller, asked.model)
    answer = Answer(caller, model_version, asked)
    try:
        answer.begin()
        if asked.is_streamed:
            response: HttpResponseBase = StreamingHttpResponse(
                Events(answer), content_type="text/event-stream; charset=utf-8"
            )
            response["X-Accel-Buffering"] = "no"
        else:
            response = JsonResponse(answer.whole())
            answer.close()
    except BaseException as error:
        answer.close()
        if isinstance(error, UserError):
            return _marked(answer_of(error), answer)
        raise
    return _marked(response, answer)


def _marked(response: HttpResponseBase, answer: "Answer") -> HttpResponseBase:
    response["Cache-Control"] = "no-store"
    response["X-Request-Id"] = answer.id
    return response


class Answer:
    """One answer on its way: its slot, its entries in the ledger, and what the serving process says."""

    def __init__(self, caller: Caller, model_version: ModelVersion, asked: CompletionRequest) -> None:
        self.id = f"chatcmpl-{uuid.uuid4().hex}"
        self.asked = asked
        self.finish = "failed"
        self.prompt_tokens = self.completion_tokens = 0
        self._caller, self._model_version = caller, model_version
        self._created = int(time.time())
        self._has_slot = self._is_recorded = False
        self._checked_at = time.monotonic()
        self._replies: Iterator[dict[str, Any]] = iter(())
        self._first: dict[str, Any] | None = None

    def begin(self) -> None:
        """Takes a slot, records the use, and waits for the first word, so that a refusal still has its HTTP status."""
        slots.take(str(self._caller.token.pk))
        self._has_slot = True
        asked = self.asked
        request_completion(
            actor=self._caller.actor,
            model_version=self._model_version,
            token=str(self._caller.token.pk),
            messages=len(asked.messages),
            is_streamed=asked.is_streamed,
        )
        self._is_recorded = True
        request = {"messages": asked.messages, "tools": asked.tools or None, **asked.settings}
        self._replies = ask(self._model_version, use_adapter=True, request=request)
        self._first = next(self._replies)

    def pieces(self) -> Iterator[str]:
        """The text as it comes.

        Raises:
            UserError: the model broke off, or the token was revoked.
        """
        first, self._first = self._first, None
        reply = first
        while reply is not None:
            if reply.get("done"):
                self.finish = reply["finish"]
                self.prompt_tokens, self.completion_tokens = reply["prompt_tokens"], reply["completion_tokens"]
                return
            self.completion_tokens += 1  # a piece is about a token; the last reply has the count
            self._check_caller()
            yield reply["text"]
            reply = next(self._replies, None)

    def said_and_called(self) -> tuple[str, list[Call]]:
        """All that the model says, and the calls of tools in it, which are known once it is through."""
        text = "".join(self.pieces())
        said, calls = calls_in(text, {tool["function"]["name"] for tool in self.asked.tools})
        if calls and self.finish == "stop":
            self.finish = "tool_calls"
        return said, calls

    def whole(self) -> dict[str, Any]:
        """The answer as one object."""
        text, calls = self.said_and_called()
        message: dict[str, Any] = {"role": "assistant", "content": text or None if calls else text, "refusal": None}
        if calls:
            message["tool_calls"] = [call.as_json() for call in calls]
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": self.finish}
        return self.shape("chat.completion", [choice]) | {"usage": self.usage()}

    def shape(self, kind: str, choices: list[dict[str, Any]]) -> dict[str, Any]:
        """What the whole answer and each of its chunks begin with."""
        return {
            "id": self.id,
            "object": kind,
            "created": self._created,
            "model": self.asked.model,
            "system_fingerprint": f"fp_{self._model_version.adapter_digest.removeprefix('sha256:')[:12]}",
            "choices": choices,
        }

    def usage(self) -> dict[str, int]:
        """Counts as OpenAI gives them."""
        return {
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens,
            "total_tokens": self.prompt_tokens + self.completion_tokens,
        }

    def close(self) -> None:
        """Lets the serving process stop, frees the slot and records the end. May be called again."""
        close = getattr(self._replies, "close", None)
        if close is not None:
            close()
        if self._has_slot:
            self._has_slot = False
            slots.give_back(str(self._caller.token.pk))
        if self._is_recorded:
            self._is_recorded = False
            finish_completion(
                actor=self._caller.actor,
                model_version=self._model_version,
                prompt_tokens=self.prompt_tokens,
                completion_tokens=self.completion_tokens,
                finish=self.finish,
            )

    def _check_caller(self) -> None:
        if time.monotonic() - self._checked_at < RECHECK_SECONDS:
            return
        self._checked_at = time.monotonic()
        caller = self._caller
        is_active = ApiToken.objects.active().filter(pk=caller.token.pk, user__is_active=True).exists()
        if not is_active or not can(caller.actor, Permission.CHAT, self._model_version.workspace):
            self.finish = "revoked"
            raise RequestError("This token opens nothing here any more.", code="invalid_api_key", status=401)


class Events:
    """The answer as server-sent events. A class, so that `close` works on one that nobody has begun to read."""

    def __init__(self, answer: Answer) -> None:
        self._answer = answer
        self._lines = self._made()

    def __iter__(self) -> "Events":
        return self

    def __next__(self) -> bytes:
        try:
            return next(self._lines)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Django calls this when the response is over, read to its end or not."""
        self._lines.close()
        self._answer.close()

    def _made(self) -> Any:
        answer = self._answer
        answer.finish = "cancelled"  # until it is known better
        try:
            yield self._chunk({"role": "assistant", "content": "", "refusal": None})
            if answer.asked.tools:  # what may become a call is no text to show yet
                yield from self._called()
            else:
                for piece in answer.pieces():
                    yield self._chunk({"content": piece})
        except UserError as error:
            answer.finish = "failed" if answer.finish == "cancelled" else answer.finish
            yield _event(body_of(error)[1])
            return
        yield self._chunk({}, answer.finish)
        if answer.asked.has_usage:
            yield _event(answer.shape("chat.completion.chunk", []) | {"usage": answer.usage()})
        yield b"data: [DONE]\n\n"

    def _called(self) -> Iterator[bytes]:
        said, calls = self._answer.said_and_called()
        if said:
            yield self._chunk({"content": said})
        if calls:
            yield self._chunk({"tool_calls": [{"index": place, **call.as_json()} for place, call in enumerate(calls)]})

    def _chunk(self, delta: dict[str, Any], finish: str | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
        chunk = self._answer.shape("chat.completion.chunk", [choice])
        return _event(chunk | ({"usage": None} if self._answer.asked.has_usage else {}))


def _event(content: dict[str, Any]) -> bytes:
    return b"data: " + json.dumps(content).encode() + b"\n\n"
