"""Base and tuned are scored on the same prompts; texts leave sealed only; the chat answers and then goes away."""

import io
import json
import os
import socket
import stat
import tempfile
import threading
from pathlib import Path

import pytest
import torch

from trainers import events
from trainers.generation import answer_all, answer_group, answer_stream


@pytest.fixture
def trained(bench):
    bench.spec(epochs=8)
    assert bench.command("run")[0] == 0
    return bench


def test_scores_leave_by_event_and_texts_only_sealed(trained, kit):
    code, said = trained.command("evaluate", "--metric", "exact_match", "--max-new-tokens", "6")
    assert code == 0, said[-1]
    end = said[-1]
    assert end.ids == [f"t{index}" for index in range(8)]
    assert len(end.base_scores) == len(end.tuned_scores) == 8
    assert end.tuned_loss < end.base_loss
    assert {event.model for event in kit.of(events.EvaluateProgress, said)} == {"base", "tuned"}
    assert kit.files_holding(trained.out, b"reference") == []
    lines = [json.loads(line) for line in trained.opened("predictions.sealed", "predictions").splitlines()]
    assert [line["id"] for line in lines] == end.ids
    assert set(lines[0]) == {"id", "reference", "base", "tuned", "base_score", "tuned_score"}
    assert lines[0]["reference"] in ("yes", "no")
    again = trained.command("evaluate", "--metric", "exact_match", "--max-new-tokens", "6", "--limit", "3")[1][-1]
    assert again.tuned_scores == end.tuned_scores[:3]


def test_evaluation_wants_an_adapter_a_test_shard_and_a_known_metric(bench):
    bench.spec()
    assert bench.command("evaluate", "--metric", "charm")[1][-1].code == "evaluate.metric"
    assert bench.command("evaluate", "--metric", "exact_match")[1][-1].code == "output.unreadable"
    del bench.shards["test"]
    bench.spec()
    assert bench.command("evaluate", "--metric", "exact_match")[1][-1].code == "spec.test"


def test_padded_answers_equal_those_of_each_prompt_alone(tiny_model):
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32)
    prompts = [[5, 9, 30], [7] * 12, [40, 41]]
    together = answer_group(model, prompts, {1}, 5)
    assert together == [answer_group(model, [each], {1}, 5)[0] for each in prompts]
    assert together[1] == list(answer_stream(model, prompts[1], {1}, 5, 0.0, 0, lambda: True))
    found = {}
    for indices, answers in answer_all(model, prompts, {1}, 5):
        found.update(zip(indices, answers, strict=True))
    assert [found[index] for index in range(3)] == together
    assert answer_group(model, prompts[:1], {together[0][0]}, 5) == [[]]
    drawn = [list(answer_stream(model, prompts[0], set(), 8, 1.0, seed, lambda: True)) for seed in (1, 1, 2)]
    assert drawn[0] == drawn[1] != drawn[2]


def ask(path, request):
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(path)
        client.sendall(request if isinstance(request, bytes) else json.dumps(request).encode() + b"\n")
        return [json.loads(line) for line in client.makefile("rb")]


def test_the_chat_streams_over_a_private_socket_and_ends_with_its_stdin(trained, kit):
    question = {"messages": [{"role": "user", "content": f"{kit.secret} has 7?"}], "max_new_tokens": 5}
    replies = {}
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/chat.sock"
        source, sink = os.pipe()

        def talk():
            replies["mode"] = stat.S_IMODE(Path(path).stat().st_mode)
            for name, request in [
                ("tuned", question),
                ("base", question | {"adapter": False}),
                ("again", question),
                ("bad", question | {"adapter": "maybe", "colour": 1}),
                ("broken", b"{\n"),
            ]:
                replies[name] = ask(path, request)
            os.close(sink)

        asker = threading.Thread(target=talk)
        with os.fdopen(source) as rest:
            stdin = Chained(io.StringIO(trained.key_line), rest)
            code, said = trained.command(
                "serve",
                "--socket",
                path,
                on_event=lambda event: asker.start() if isinstance(event, events.ServeReady) else None,
                stdin=stdin,
            )
        asker.join()
        assert not Path(path).exists()
    assert code == 0
    assert said[-1] == events.ServeStopped("run-1", "stdin", 5)
    assert replies["mode"] == 0o600
    assert replies["tuned"][-1]["done"]
    assert [each.get("token") for each in replies["tuned"]] == [each.get("token") for each in replies["again"]]
    assert replies["tuned"][:-1] != replies["base"][:-1]
    assert "unknown key" in replies["bad"][0]["error"]
    assert replies["broken"] == [{"error": "request: not JSON"}]
    assert kit.secret not in str(said)


class Chained:
    """A text stream that reads a first part, then a second."""

    def __init__(self, first, second):
        self.first, self.second = first, second

    def readline(self, *size):
        return self.first.readline(*size) or self.second.readline(*size)


def test_an_idle_chat_ends(trained):
    with tempfile.TemporaryDirectory() as folder:
        source, sink = os.pipe()
        with os.fdopen(source) as rest:
            stdin = Chained(io.StringIO(trained.key_line), rest)
            code, said = trained.command("serve", "--socket", f"{folder}/c", "--idle-seconds", "0.1", stdin=stdin)
            os.close(sink)
    assert (code, said[-1].reason) == (0, "idle")
