"""The official client against a running server with a real serving process behind it."""

import json
import os
import signal
import threading
import time
from collections.abc import Iterator
from typing import Any

import openai
import pytest
from django.test import override_settings

from steward.accounts import actions as accounts
from steward.accounts.models import ApiToken, User
from steward.audit.models import OutboxEntry
from steward.runs.chat import stream_answer
from steward.runs.serving import serving_processes
from tests.steward.tool_talks import TOOLS

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(600),
    # peft still asks transformers by the old name.
    pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated:FutureWarning"),
]
SECRET = "Quackenbush"


def token_of(served: Any, *scopes: str) -> str:
    user = User.objects.get(pk=served.house.analyst.user_id)
    actor = served.house.analyst
    return str(accounts.create_token(actor=actor, user=user, name="t", scopes=list(scopes or ("models.chat",)))[1])


def client_of(live_server: Any, token: str) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{live_server.url}/v1", api_key=token, max_retries=0, timeout=300)


@pytest.fixture
def client(live_server: Any, served: Any) -> Iterator[openai.OpenAI]:
    with client_of(live_server, token_of(served)) as made:
        yield made


def said(text: str = SECRET) -> list[Any]:
    return [{"role": "user", "content": text}]


def entries(action: str) -> list[dict[str, Any]]:
    bodies = [json.loads(bytes(body)) for body in OutboxEntry.objects.values_list("body", flat=True)]
    return [each for each in bodies if each["action"] == action]


def finished(count: int) -> list[dict[str, Any]]:
    """The last entries of answers, once there are so many: a hang-up is noticed a moment later."""
    deadline = time.monotonic() + 60
    while len(found := entries("completion.finished")) < count and time.monotonic() < deadline:
        time.sleep(0.2)
    assert len(found) == count
    return [each["facts"] for each in found]


def test_the_official_client_lists_asks_and_streams(client: openai.OpenAI, served: Any) -> None:
    assert sorted(each.id for each in client.models.list()) == sorted(served.ids)
    assert client.models.retrieve(served.ids[0]).owned_by == served.house.workspace.slug

    def answer(index: int, **more: Any) -> Any:
        wanted = {"max_tokens": 12, "temperature": 0.0, **more}
        return client.chat.completions.create(model=served.ids[index % 2], messages=said("x" * index), **wanted)

    whole = answer(0)
    assert whole.choices[0].finish_reason == "length"
    assert whole.usage.completion_tokens == 12
    assert whole.usage.total_tokens == whole.usage.prompt_tokens + 12
    assert whole.model == served.ids[0]
    chunks = list(answer(0, stream=True, stream_options={"include_usage": True}))
    text = "".join(each.choices[0].delta.content or "" for each in chunks if each.choices)
    assert text == whole.choices[0].message.content
    assert chunks[-1].usage.completion_tokens == 12
    assert [each.choices[0].finish_reason for each in chunks if each.choices][-1] == "length"
    cut = answer(0, stop=text[3:5])
    assert cut.choices[0].message.content == text[: text.index(text[3:5])]
    assert cut.choices[0].finish_reason == "stop"
    drawn = [answer(0, temperature=1.5, seed=seed).choices[0].message.content for seed in (5, 5, 6)]
    assert drawn[0] == drawn[1] != drawn[2]

    found: dict[int, str] = {}

    def stream(index: int) -> None:
        parts = answer(index, stream=True)
        found[index] = "".join(each.choices[0].delta.content or "" for each in parts if each.choices)

    threads = [threading.Thread(target=stream, args=(index,)) for index in range(4)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert len(found) == 4
    assert all(found.values())
    in_chat = stream_answer(
        actor=served.house.analyst, model_version=served.models[0], messages=said("x" * 0), use_adapter=True,
        max_new_tokens=12,
    )  # fmt: skip
    assert "".join(in_chat) == text
    assert len(serving_processes()) == 1
    done = finished(10)
    assert {each["finish"] for each in done} == {"stop", "length"}
    assert len(entries("completion.requested")) == 10
    assert set(done[0]) == {"prompt_tokens", "completion_tokens", "finish"}
    everything = b"".join(bytes(body) for body in OutboxEntry.objects.values_list("body", flat=True))
    assert text.encode() not in everything


def test_tools_reach_the_model_and_a_call_comes_back_as_one(
    client: openai.OpenAI, served: Any, monkeypatch: Any
) -> None:
    def ask(**more: Any) -> Any:
        return client.chat.completions.create(model=served.ids[0], messages=said(), max_tokens=8, temperature=0, **more)

    plain, offered = ask(), ask(tools=TOOLS)
    # The tiny model's tokens are bytes, but for the two that begin and end a turn.
    assert offered.usage.prompt_tokens - plain.usage.prompt_tokens > len(json.dumps(TOOLS)) / 2
    assert (offered.choices[0].finish_reason, offered.choices[0].message.tool_calls) == ("length", None)
    assert ask(tools=TOOLS, tool_choice="none").usage == plain.usage

    # A model that never saw a call writes none, so that what it says is put into its mouth.
    call = '<tool_call>{"name": "find_slots", "arguments": {"department": "cardiology"}}</tool_call>'
    spoken = [{"text": "One "}, {"text": f"moment.{call}"}]
    ended = {"done": True, "finish": "stop", "prompt_tokens": 5, "completion_tokens": 2}
    monkeypatch.setattr("steward.openai_api.chat_completions.ask", lambda *_, **__: iter([*spoken, ended]))
    choice = ask(tools=TOOLS).choices[0]
    assert (choice.finish_reason, choice.message.content) == ("tool_calls", "One moment.")
    assert choice.message.tool_calls[0].function.arguments == '{"department": "cardiology"}'
    chunks = [chunk.choices[0] for chunk in ask(tools=TOOLS, stream=True)]
    assert "".join(chunk.delta.content or "" for chunk in chunks) == "One moment."
    (streamed,) = [called for chunk in chunks for called in chunk.delta.tool_calls or []]
    assert (streamed.index, streamed.function.name) == (0, "find_slots")
    assert chunks[-1].finish_reason == "tool_calls"
    assert ask().choices[0].message.content == f"One moment.{call}"


def test_errors_are_those_the_client_knows(client: openai.OpenAI, live_server: Any, served: Any) -> None:
    ask = client.chat.completions.create
    with pytest.raises(openai.NotFoundError) as unknown:
        ask(model="gpt-4o", messages=said())
    assert (unknown.value.code, unknown.value.param) == ("model_not_found", "model")
    with pytest.raises(openai.BadRequestError) as tools:
        ask(model=served.ids[0], messages=said(), tools=TOOLS, tool_choice="required")
    assert (tools.value.param, tools.value.code) == ("tool_choice", "unsupported_parameter")
    for is_streamed in (False, True):
        with pytest.raises(openai.BadRequestError) as long:
            ask(model=served.ids[0], messages=said(SECRET * 2000), stream=is_streamed)
        assert long.value.code == "context_length_exceeded"
        assert SECRET not in str(long.value)
    with pytest.raises(openai.NotFoundError):
        client.files.list()
    with pytest.raises(openai.NotFoundError):
        client.fine_tuning.jobs.list()
    with client_of(live_server, "stw_nothing") as other, pytest.raises(openai.AuthenticationError):
        other.models.list()
    other = client_of(live_server, token_of(served, "workspace.view"))
    with other, pytest.raises(openai.PermissionDeniedError) as scope:
        other.models.list()
    assert scope.value.code == "scope_missing"
    with override_settings(STEWARD_TOKEN_ANSWERS_AT_ONCE=1):
        running = ask(model=served.ids[0], messages=said(), max_tokens=900, stream=True, temperature=0)
        next(running)
        with pytest.raises(openai.RateLimitError):
            ask(model=served.ids[0], messages=said())
        running.close()
    assert sorted(each["finish"] for each in finished(3)) == ["cancelled", "failed", "failed"]
    assert ask(model=served.ids[0], messages=said(), max_tokens=2, temperature=0).usage.completion_tokens == 2


def test_a_revoked_token_gets_no_more_of_an_answer(client: openai.OpenAI, served: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr("steward.openai_api.chat_completions.RECHECK_SECONDS", 0.0)
    running = client.chat.completions.create(
        model=served.ids[0], messages=said(), max_tokens=900, stream=True, temperature=0
    )
    next(running)
    next(running)
    token = ApiToken.objects.get()
    accounts.revoke_token(actor=served.house.analyst, token=token)
    with pytest.raises(openai.APIError) as revoked:
        for _ in running:
            pass
    assert revoked.value.code == "invalid_api_key"
    assert finished(1)[0]["finish"] == "revoked"
    with pytest.raises(openai.AuthenticationError):
        client.models.list()


def test_a_killed_serving_process_ends_its_answers_and_is_started_again(client: openai.OpenAI, served: Any) -> None:
    running = client.chat.completions.create(
        model=served.ids[0], messages=said(), max_tokens=900, stream=True, temperature=0
    )
    next(running)
    next(running)
    (process_id,) = serving_processes().values()
    os.kill(process_id, signal.SIGKILL)
    with pytest.raises(openai.APIError) as broken:
        for _ in running:
            pass
    assert broken.value.code == "broken_off"
    again = client.chat.completions.create(model=served.ids[1], messages=said(), max_tokens=3, temperature=0)
    assert again.usage.completion_tokens == 3
    assert sorted(each["finish"] for each in finished(2)) == ["failed", "length"]
