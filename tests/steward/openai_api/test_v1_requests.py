"""What the OpenAI-compatible door takes, refuses and hides; nothing is served here."""

import json
from typing import Any

import pytest
from django.test import override_settings

from steward.accounts.roles import Role
from steward.openai_api.called_tools import calls_in
from steward.openai_api.completion_request import read_completion_request
from steward.openai_api.errors import RequestError
from steward.releases import actions as releases

TURN = {"role": "user", "content": "hello"}
SOUND = {"model": "m", "messages": [TURN]}


def read(**changes: Any) -> Any:
    return read_completion_request(json.dumps(SOUND | changes).encode())


def test_defaults_and_both_names_of_the_limit_are_openais() -> None:
    asked = read()
    assert (asked.model, asked.messages, asked.is_streamed, asked.has_usage) == ("m", [TURN], False, False)
    assert asked.settings == {"max_tokens": 1024, "temperature": 1.0, "top_p": 1.0, "seed": None, "stop": None}
    assert read(max_tokens=7).settings["max_tokens"] == 7
    assert read(max_tokens=7, max_completion_tokens=5).settings["max_tokens"] == 5
    assert read(stop="x").settings["stop"] == ["x"]
    assert read(seed=-1).settings["seed"] == 2**63 - 1
    assert read(stream=True, stream_options={"include_usage": True}).has_usage
    parts = [{"role": "developer", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}]
    assert read(messages=parts).messages == [{"role": "system", "content": "ab"}]
    answer_sent_back = {"role": "assistant", "content": "a", "refusal": None, "tool_calls": None, "annotations": []}
    assert read(messages=[TURN, answer_sent_back]).messages[1] == {"role": "assistant", "content": "a"}
    harmless = {
        "n": 1,
        "tools": [],
        "response_format": {"type": "text"},
        "logprobs": False,
        "user": "u",
        "store": False,
    }
    assert read(**harmless).settings == asked.settings
    assert "hello" not in repr(asked)


TOOL = {"type": "function", "function": {"name": "dose", "parameters": {"type": "object"}}}
CALLED = {
    "role": "assistant",
    "content": None,
    "refusal": None,
    "tool_calls": [{"id": "call_a", "type": "function", "function": {"name": "dose", "arguments": '{"mg": 5}'}}],
}
ANSWERED = {"role": "tool", "tool_call_id": "call_a", "content": ""}


def test_tools_calls_and_results_are_read_as_templates_take_them() -> None:
    asked = read(messages=[TURN, CALLED, ANSWERED], tools=[TOOL], tool_choice="auto", parallel_tool_calls=True)
    call = {"id": "call00001", "type": "function", "function": {"name": "dose", "arguments": {"mg": 5}}}
    assert asked.tools == [TOOL]
    assert asked.messages[1:] == [
        {"role": "assistant", "content": "", "tool_calls": [call]},
        {"role": "tool", "content": "", "tool_call_id": "call00001", "name": "dose"},
    ]
    assert read(messages=[TURN], tools=[TOOL], tool_choice="none").tools == []


@pytest.mark.parametrize(
    ("answer", "said", "calls"),
    [
        (
            'One moment.\n<tool_call>\n{"name": "dose", "arguments": {"mg": 5}}\n</tool_call>',
            "One moment.",
            ['{"mg": 5}'],
        ),
        (
            '<tool_call>{"name": "dose", "arguments": {}}</tool_call>'
            '<tool_call>{"name": "dose", "arguments": {"a": "é"}}</tool_call>',
            "",
            ["{}", '{"a": "é"}'],
        ),
        ('[TOOL_CALLS] [{"name": "dose", "arguments": {"mg": 5}}]', "", ['{"mg": 5}']),
        (' [{"name": "dose", "arguments": {"mg": 5}, "id": "abcdefghi"}]', "", ['{"mg": 5}']),
        ('<|python_tag|>{"name": "dose", "parameters": {"mg": 5}}', "", ['{"mg": 5}']),
        ('{"name": "cook", "parameters": {"mg": 5}}', None, []),
        ('{"name": "dose", "parameters": "5"}', None, []),
        ('<tool_call>{"name": "dose", "arguments": {"mg": 5}', None, []),
        ("[DATE_1] is free.", None, []),
        ("", None, []),
    ],
)
def test_calls_are_found_in_the_common_forms_and_all_else_stays_text(answer: str, said: str, calls: list[str]) -> None:
    text, found = calls_in(answer, {"dose"})
    assert (text, [each.arguments for each in found]) == (answer if said is None else said, calls)
    assert {each.name for each in found} <= {"dose"}
    assert len({each.id for each in found}) == len(calls)


REFUSED = [
    ({"n": 2}, "n", "unsupported_parameter"),
    ({"n": True}, "n", "unsupported_parameter"),
    ({"tools": [{"type": "function"}]}, "tools", "invalid_value"),
    ({"tools": [{"type": "web_search"}]}, "tools", "invalid_value"),
    ({"tools": "dose"}, "tools", "invalid_value"),
    (
        {"tools": [TOOL | {"function": {"name": "x", "strict": True}}]},
        "tools[0].function.strict",
        "unsupported_parameter",
    ),
    ({"tools": [TOOL], "tool_choice": "required"}, "tool_choice", "unsupported_parameter"),
    ({"tools": [TOOL], "parallel_tool_calls": False}, "parallel_tool_calls", "unsupported_parameter"),
    ({"functions": [TOOL["function"]]}, "functions", "unsupported_parameter"),
    ({"messages": [TURN, CALLED | {"tool_calls": [{"id": "a"}]}]}, "messages[1]", "invalid_value"),
    ({"messages": [TURN, CALLED, ANSWERED | {"tool_call_id": "b"}]}, "messages[2]", "invalid_value"),
    ({"response_format": {"type": "json_object"}}, "response_format", "unsupported_parameter"),
    ({"logprobs": True}, "logprobs", "unsupported_parameter"),
    ({"logit_bias": {"5": 1}}, "logit_bias", "unsupported_parameter"),
    ({"frequency_penalty": 0.5}, "frequency_penalty", "unsupported_parameter"),
    ({"store": True}, "store", "unsupported_parameter"),
    ({"colour": 1}, "colour", "unknown_parameter"),
    ({"a secret sentence": 1}, None, "unknown_parameter"),
    ({"model": None}, "model", "missing_required_parameter"),
    ({"temperature": 10**400}, "temperature", "invalid_value"),
    ({"temperature": float("nan")}, "temperature", "invalid_value"),
    ({"top_p": float("-inf")}, "top_p", "invalid_value"),
    ({"max_tokens": 10**400}, "max_tokens", "invalid_value"),
    ({"seed": 10**400}, "seed", "invalid_value"),
    ({"messages": []}, "messages", "invalid_value"),
    ({"messages": ["x"]}, "messages[0]", "invalid_value"),
    ({"messages": [TURN, {"role": "tool", "content": "x"}]}, "messages[1]", "invalid_value"),
    ({"messages": [TURN, {"role": "function", "content": "x"}]}, "messages[1].role", "invalid_value"),
    ({"messages": [TURN | {"name": "Ann"}]}, "messages[0]", "unsupported_parameter"),
    ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "messages[0].content", "invalid_value"),
    ({"messages": [{"role": "user", "content": None}]}, "messages[0].content", "invalid_value"),
    ({"max_tokens": 0}, "max_tokens", "invalid_value"),
    ({"max_completion_tokens": "many"}, "max_completion_tokens", "invalid_value"),
    ({"temperature": 2.1}, "temperature", "invalid_value"),
    ({"temperature": float("nan")}, "temperature", "invalid_value"),
    ({"top_p": -0.1}, "top_p", "invalid_value"),
    ({"seed": 1.5}, "seed", "invalid_value"),
    ({"stop": ["a", "b", "c", "d", "e"]}, "stop", "invalid_value"),
    ({"stop": ""}, "stop", "invalid_value"),
    ({"stream": "yes"}, "stream", "invalid_value"),
    ({"stream_options": {"include_usage": True}}, "stream_options", "invalid_value"),
    ({"stream": True, "stream_options": {"x": 1}}, "stream_options", "invalid_value"),
]


@pytest.mark.parametrize(("changes", "param", "code"), REFUSED)
def test_what_would_change_the_answer_and_is_not_done_is_refused_by_name(
    changes: dict[str, Any], param: str | None, code: str
) -> None:
    with pytest.raises(RequestError) as refused:
        read(**changes)
    assert (refused.value.param, refused.value.shown_code, refused.value.status) == (param, code, 400)
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"\xff", b"[" * 100_000])
def test_a_body_that_is_no_object_is_refused(body: bytes) -> None:
    with pytest.raises(RequestError) as refused:
        read_completion_request(body)
    assert refused.value.shown_code == "invalid_json"


def error_of(response: Any) -> dict[str, Any]:
    found = json.loads(response.content)["error"]
    assert set(found) == {"message", "type", "param", "code"}
    return dict(found)


def test_only_tokens_open_the_door_and_other_addresses_are_named(rooms: Any) -> None:
    analyst = rooms.people[Role.ANALYST]
    for client in (rooms.client(), rooms.browser(analyst), rooms.client(headers={"authorization": "Bearer stw_x"})):
        response = client.get("/v1/models")
        assert response.status_code == 401
        assert error_of(response)["code"] == "invalid_api_key"
    program = rooms.program(analyst)
    for method, path in (
        ("get", "/v1/files"),
        ("post", "/v1/fine_tuning/jobs"),
        ("get", "/v1/"),
        ("post", "/v1/completions"),
    ):
        response = getattr(program, method)(path)
        assert response.status_code == 404
        assert error_of(response)["type"] == "invalid_request_error"
    assert program.post("/v1/models").status_code == 405


def listed(client: Any) -> list[str]:
    return [each["id"] for each in json.loads(client.get("/v1/models").content)["data"]]


def test_released_models_are_offered_and_others_to_those_who_judge_models(rooms: Any) -> None:
    model = str(rooms.ids["model"])
    analyst, officer = rooms.people[Role.ANALYST], rooms.people[Role.COMPLIANCE_OFFICER]
    chatting = rooms.program(analyst, "models.chat")
    judging = rooms.program(analyst, "models.chat", "models.evaluate")
    assert listed(chatting) == []
    assert listed(judging) == [model]
    assert listed(rooms.program(officer, "models.chat", "models.evaluate")) == []
    response = rooms.program(analyst, "workspace.view").get("/v1/models")
    assert (response.status_code, error_of(response)["code"]) == (403, "scope_missing")

    from steward.audit.actor import Actor
    from steward.releases.models import Release

    release = Release.objects.get(pk=rooms.ids["release"])
    releases.approve_release(actor=Actor.of(officer), release=release, reason="")
    assert listed(chatting) == listed(rooms.program(officer, "models.chat")) == [model]
    found = json.loads(chatting.get(f"/v1/models/{model}").content)
    assert {"id", "object", "created", "owned_by"} <= set(found)
    assert (found["object"], found["owned_by"]) == ("model", rooms.house.workspace.slug)
    for client in (rooms.program(rooms.stranger), rooms.program(rooms.people[Role.ANNOTATOR])):
        assert listed(client) == []
        response = client.get(f"/v1/models/{model}")
        assert (response.status_code, error_of(response)["code"]) == (404, "model_not_found")
    for unknown in ("gpt-4o", model.upper(), "0" * 32):
        assert chatting.get(f"/v1/models/{unknown}").status_code == 404


def test_a_token_is_bound_in_requests_a_minute(rooms: Any) -> None:
    program = rooms.program(rooms.people[Role.ANALYST], "models.chat")
    with override_settings(STEWARD_TOKEN_REQUESTS_PER_MINUTE=3):
        statuses = [program.get("/v1/models").status_code for _ in range(5)]
        assert statuses == [200, 200, 200, 429, 429]
        response = program.get("/v1/models")
        assert error_of(response)["code"] == "rate_limit_exceeded"
        assert 1 <= int(response["Retry-After"]) <= 61
        # Another token is not held to this one's count.
        assert rooms.program(rooms.people[Role.ANALYST], "models.chat").get("/v1/models").status_code == 200


def test_a_body_that_is_too_large_or_comes_in_pieces_is_refused(rooms: Any) -> None:
    program = rooms.program(rooms.people[Role.ANALYST])
    pieces = program.post("/v1/chat/completions", content_type="application/json", HTTP_TRANSFER_ENCODING="chunked")
    assert (pieces.status_code, error_of(pieces)["code"]) == (411, "length_required")
    body = json.dumps({"model": "m", "messages": [{"role": "user", "content": "x" * (3 << 20)}]})
    response = program.post("/v1/chat/completions", body, content_type="application/json")
    assert (response.status_code, error_of(response)["code"]) == (413, "body_too_large")
