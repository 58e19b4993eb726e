"""A run's state: killed, paused, continued, averaged, kept by number, and chosen by a metric."""

import json
import os
import random
import signal
import subprocess
import sys
import time

import pytest
import torch
from torch.optim.swa_utils import AveragedModel

from compliance.vault import new_key
from trainers import checkpoint, events
from trainers.base_model import load_tokenizer
from trainers.errors import EXIT_CANCELLED, EXIT_PAUSED
from trainers.model_folder import check_folder
from trainers.optimiser import Average
from trainers.saved_step import saved_step

# bitsandbytes still asks torch by an old name.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

STEADY = {"learning_rate": 0.02, "schedule": "constant", "warmup_steps": 2}


def finished(said):
    (event,) = [each for each in said if isinstance(each, events.RunFinished)]
    return event


def begin(bench):
    """The command as a process of its own, keys given."""
    argv = [sys.executable, "-m", "trainers", "run", "--spec", str(bench.root / "spec.json"), "--out", str(bench.out)]
    process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=os.environ)
    process.stdin.write(bench.key_line)
    process.stdin.flush()
    return process


def told(process, until):
    """Events up to the step ``until``."""
    for line in process.stdout:
        event = events.decode(line)
        if isinstance(event, events.TrainStep) and event.step == until:
            return
    raise AssertionError("the run ended first")


@pytest.mark.slow
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"method": "dpo", "preference": {"label_smoothing": 0.1}},
        {"quantise": {"form": "nf4"}, "lora": {"rank": 4, "alpha": 8, "dropout": 0.1}},
        {"way": "full", "optimiser": {"learning_rate": 0.003}},
    ],
    ids=["sft-lora", "dpo", "qlora", "full"],
)
def test_a_run_killed_at_any_step_ends_in_the_adapter_of_an_uninterrupted_one(changes, bench, kit, tmp_path, request):
    if changes.get("method") == "dpo":
        for name, count, seed in (("train", 24, 1), ("validation", 6, 2)):
            made = kit.records(count, seed=seed, name=name[0])
            bench.seal(name, [record | {"rejected": "perhaps"} for record in made])
    if "quantise" in changes:
        bench.model = kit.make_model(tmp_path / "blocks", hidden_size=64, intermediate_size=128, head_dim=16)
    bench.spec(epochs=4, evaluate_every=3, checkpoint_every=1, average_decay=0.9, **changes)
    code, said = bench.command("run")
    assert code == 0, said[-1]
    expected = finished(said)
    step = random.randrange(1, expected.step)
    request.node.user_properties.append(("killed_at", step))
    bench.out = tmp_path / "killed"
    with begin(bench) as process:
        told(process, step)
        process.kill()
        assert process.wait() == -signal.SIGKILL
    assert not (bench.out / "adapter.sealed").exists()
    code, said = bench.command("run")
    assert code == 0, said[-1]
    # The step is said before its checkpoint is written.
    if step > 1:
        assert kit.of(events.RunResumed, said)[0].step >= step - 1
    assert finished(said).adapter_digest == expected.adapter_digest, f"killed at step {step}"
    met = [json.loads(line) for line in bench.opened("train_records.sealed", "train-records").splitlines()]
    bench.out = tmp_path / "out"
    assert met == [json.loads(line) for line in bench.opened("train_records.sealed", "train-records").splitlines()]


@pytest.mark.slow
def test_a_paused_process_is_gone_within_five_seconds_and_goes_on_to_the_same(bench, tmp_path):
    bench.spec(epochs=40)
    whole = finished(bench.command("run")[1]).adapter_digest
    bench.out = tmp_path / "paused"
    with begin(bench) as process:
        told(process, 3)
        begun = time.monotonic()
        process.send_signal(signal.SIGUSR1)
        rest = [events.decode(line) for line in process.stdout]
        assert process.wait() == EXIT_PAUSED
    assert time.monotonic() - begun < 5
    assert isinstance(rest[-1], events.RunPaused)
    assert rest[-1].resumable
    assert rest[-1].step >= 3
    code, said = bench.command("resume")
    assert code == 0, said[-1]
    assert finished(said).adapter_digest == whole


@pytest.mark.parametrize(
    ("numbers", "code", "kind"),
    [
        ([signal.SIGUSR1], EXIT_PAUSED, events.RunPaused),
        ([signal.SIGUSR1, signal.SIGTERM], EXIT_CANCELLED, events.RunCancelled),
        ([signal.SIGTERM, signal.SIGUSR1], EXIT_CANCELLED, events.RunCancelled),
    ],
)
def test_a_pause_is_no_cancellation_and_gives_way_to_one(numbers, code, kind, bench):
    bench.spec(epochs=3)

    def ask(event):
        if isinstance(event, events.TrainStep) and event.step == 2:
            for number in numbers:
                os.kill(os.getpid(), number)

    found, said = bench.command("run", on_event=ask)
    assert (found, said[-1]) == (code, kind("run-1", 2, True))


def test_what_cannot_go_on_later_is_not_paused(bench):
    bench.spec(max_steps=1)
    assert bench.command("run")[0] == 0

    def ask(event):
        if isinstance(event, events.EvaluateProgress):
            os.kill(os.getpid(), signal.SIGUSR1)

    code, said = bench.command("evaluate", "--metric", "exact_match", "--max-new-tokens", "2", on_event=ask)
    assert code == 0, said[-1]


@pytest.mark.parametrize("more", [{}, {"average_decay": 0.8}, {"way": "full"}])
def test_a_finished_run_made_longer_equals_one_that_was_asked_for_so(more, bench, kit, tmp_path):
    steady = STEADY if "way" not in more else STEADY | {"learning_rate": 0.003}
    asked = {"evaluate_every": 1, "optimiser": steady, **more}
    bench.spec(epochs=4, **asked)
    whole = finished(bench.command("run")[1])
    bench.out = tmp_path / "longer"
    bench.spec(epochs=2, **asked)
    short = finished(bench.command("run")[1])
    bench.spec(epochs=4, **asked)
    code, said = bench.command("resume")
    assert code == 0, said[-1]
    assert kit.of(events.RunResumed, said)[0].step == short.step == whole.step / 2
    assert finished(said).adapter_digest == whole.adapter_digest != short.adapter_digest


def test_under_a_schedule_that_follows_the_length_the_rest_follows_the_longer_one(bench, kit, tmp_path):
    bench.spec(epochs=4)
    rates = {step.step: step.learning_rate for step in kit.of(events.TrainStep, bench.command("run")[1])}
    bench.out = tmp_path / "longer"
    bench.spec(epochs=2)
    assert bench.command("run")[0] == 0
    bench.spec(epochs=4)
    for step in kit.of(events.TrainStep, bench.command("resume")[1]):
        assert step.learning_rate == rates[step.step]


def test_the_average_is_that_of_torch(bench):
    model = torch.nn.Linear(5, 3)
    weights = torch.nn.utils.parameters_to_vector(model.parameters()).detach().clone()
    count = 0

    def rule(averages, currents, _seen):
        decay = min(0.9, (1 + count) / (10 + count))
        for average, current in zip(averages, currents, strict=True):
            average.lerp_(current, 1 - decay)

    average, other = Average(weights, 0.9), AveragedModel(model, multi_avg_fn=rule)
    other.update_parameters(model)
    for count in range(150):
        with torch.no_grad():
            for each in model.parameters():
                each.add_(torch.randn_like(each))
            weights.copy_(torch.nn.utils.parameters_to_vector(model.parameters()))
        other.update_parameters(model)
        average.follow(count)
    torch.testing.assert_close(average.vector, torch.nn.utils.parameters_to_vector(other.module.parameters()))


def test_with_an_average_that_is_what_is_judged_and_shipped(bench, kit):
    bench.spec(epochs=3, evaluate_every=1)
    plain = kit.of(events.EvalLoss, bench.command("run")[1])
    for left in bench.out.iterdir():
        left.unlink()
    bench.spec(epochs=3, evaluate_every=1, average_decay=0.99)
    code, said = bench.command("run")
    assert code == 0, said[-1]
    averaged = kit.of(events.EvalLoss, said)
    assert averaged[0].loss == plain[0].loss
    assert all(one.loss != other.loss for one, other in zip(averaged[1:], plain[1:], strict=True))
    code, judged = bench.command("evaluate", "--metric", "exact_match", "--max-new-tokens", "2")
    assert code == 0, judged[-1]
    assert kit.of(events.RecordsMeasured, said)


def test_the_last_states_and_the_best_are_kept_and_one_can_go_back(bench, kit):
    bench.spec(epochs=6, evaluate_every=4, checkpoint_every=1, keep_checkpoints=3)
    code, said = bench.command("run")
    assert code == 0, said[-1]
    end = finished(said)
    kept = checkpoint.kept_steps(bench.out)
    assert kept == sorted({end.best_step, *range(end.step - 2, end.step + 1)})
    assert not list(bench.out.glob("*.partial"))

    code, said = bench.command("resume", "--step", "1")
    assert (code, said[-1].code) == (2, "checkpoint.missing")
    assert f"{kept[-1]}" in said[-1].hint
    code, said = bench.command("resume", "--step", str(end.step - 2))
    assert code == 0, said[-1]
    assert kit.of(events.RunResumed, said)[0].step == end.step - 2
    assert finished(said).adapter_digest == end.adapter_digest
    assert kit.files_holding(bench.out, kit.secret.encode()) == []


def files_in(folder):
    return {each.name: each.read_bytes() for each in folder.iterdir() if each.name != ".lock"}


def test_to_go_back_with_another_spec_or_key_or_to_a_damaged_state_is_refused_and_nothing_is_lost(bench):
    asked = {"epochs": 3, "checkpoint_every": 1, "keep_checkpoints": 4}
    bench.spec(**asked)
    assert bench.command("run")[0] == 0
    step = checkpoint.kept_steps(bench.out)[0]
    before = files_in(bench.out)

    def refused():
        code, said = bench.command("resume", "--step", str(step))
        assert (code, files_in(bench.out)) == (2, before)
        return said[-1].code

    bench.spec(**asked, seed=9)
    assert refused() == "checkpoint.other"
    bench.spec(**asked)
    right, bench.output_key = bench.output_key, new_key()
    assert refused() == "output.unreadable"
    bench.output_key = right
    kept = bench.out / f"checkpoint-{step:08d}.sealed"
    kept.write_bytes(kept.read_bytes()[:-1])
    before[kept.name] = kept.read_bytes()
    assert refused() == "output.unreadable"


def test_a_run_is_not_continued_on_another_base_though_nobody_pinned_it_and_all_shapes_agree(bench, kit, tmp_path):
    bench.spec(epochs=1)
    assert bench.command("run")[0] == 0
    before = files_in(bench.out)
    bench.model = kit.make_model(tmp_path / "other", tie_word_embeddings=False)
    bench.spec(epochs=2)
    for command in ("run", "resume"):
        code, said = bench.command(command)
        assert (code, said[-1].code) == (2, "checkpoint.other")
        assert "base model" in said[-1].hint
    assert files_in(bench.out) == before


def test_where_the_last_state_is_damaged_or_gone_the_hint_names_kept_ones_and_they_lead_to_the_same(bench):
    bench.spec(epochs=3, checkpoint_every=1, keep_checkpoints=4)
    end = finished(bench.command("run")[1])
    steps = checkpoint.kept_steps(bench.out)
    last = bench.out / "checkpoint.sealed"
    last.unlink()  # the last state has a second name
    last.write_bytes(b"x" * 100)
    code, said = bench.command("resume")
    assert (code, said[-1].code) == (2, "output.unreadable")
    assert str(steps[0]) in said[-1].hint
    last.unlink()
    code, said = bench.command("resume")
    assert (code, said[-1].code) == (2, "checkpoint.missing")
    assert str(steps[0]) in said[-1].hint
    code, said = bench.command("resume", "--step", str(steps[0]))
    assert code == 0, said[-1]
    assert finished(said).adapter_digest == end.adapter_digest


def test_who_goes_back_and_stops_at_once_is_told_the_step_that_was_gone_back_to(bench):
    bench.spec(epochs=3, checkpoint_every=1, keep_checkpoints=4)
    assert bench.command("run")[0] == 0
    step = checkpoint.kept_steps(bench.out)[0]

    def ask(event):
        if isinstance(event, events.TrainStep):
            os._exit(9)

    child = os.fork()
    if not child:
        bench.command("resume", "--step", str(step), on_event=ask)
        os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
    assert saved_step(bench.out) == (step, True)


@pytest.mark.parametrize("header", [b"{{{", b"[1]", b"{}", b'{"step": "x"}', b"\xff"])
def test_a_damaged_header_keeps_nobody_from_leaving_or_going_on(header, bench):
    bench.spec(max_steps=1)
    assert bench.command("run")[0] == 0
    (bench.out / "checkpoint.json").write_bytes(header)
    assert saved_step(bench.out) == (0, True)


def test_one_state_is_kept_where_nobody_asked_for_more(bench):
    bench.spec(epochs=2)
    assert bench.command("run")[0] == 0
    assert checkpoint.kept_steps(bench.out) == []


def test_the_best_by_a_metric_is_the_state_whose_answers_score_highest(bench, kit):
    asked = {"prompts": 4, "max_new_tokens": 6, "metric": "token_f1"}
    for name, count in (("train", 24), ("validation", 6)):
        lines = kit.records(count, name=name[0])
        for line in lines:
            line["messages"][1]["content"] = "yes"
        bench.seal(name, lines)
    bench.spec(epochs=12, evaluate_every=4, best_by="metric", answers=asked, optimiser={"learning_rate": 0.02})
    code, said = bench.command("run")
    assert code == 0, said[-1]
    looks, answered = kit.of(events.EvalLoss, said), kit.of(events.AnswersMeasured, said)
    assert [each.step for each in answered] == [each.step for each in looks]
    ranked = sorted(
        zip(answered[1:], looks[1:], strict=True), key=lambda pair: (-pair[0].score, pair[1].loss, pair[0].step)
    )
    end = finished(said)
    assert (end.best_step, end.best_loss) == (ranked[0][0].step, ranked[0][1].loss)
    assert ranked[0][0].score > answered[0].score
    lines = [
        json.loads(line) for line in bench.opened(ranked[0][0].file, f"answers-{end.best_step}").decode().splitlines()
    ]
    assert [line["id"] for line in lines] == ["v0", "v1", "v2", "v3"]
    assert sum(line["score"] for line in lines) / 4 == ranked[0][0].score
    assert {line["answer"] for line in lines if not line["is_cut"]} == {"yes"}
    assert all(kit.secret in line["prompt"] for line in lines)
    assert kit.files_holding(bench.out, kit.secret.encode()) == []


def test_of_many_files_with_answers_the_first_and_the_last_ones_stay(bench, kit, monkeypatch):
    monkeypatch.setattr("trainers.answers.SURPLUS_ANSWERS", slice(1, -2))
    bench.spec(max_steps=5, evaluate_every=1, answers={"prompts": 1, "max_new_tokens": 1})
    code, said = bench.command("run")
    assert code == 0, said[-1]
    assert [each.step for each in kit.of(events.AnswersMeasured, said)] == [0, 1, 2, 3, 4, 5]
    assert sorted(path.name[8:16] for path in bench.out.glob("answers-*")) == ["00000000", "00000004", "00000005"]


def test_answers_have_the_room_that_their_references_need_and_those_that_do_not_end_in_it_are_marked(
    bench, kit, tiny_model
):
    tokenizer = load_tokenizer(check_folder(tiny_model))
    counts = {}
    for words, most in ((1, 4096), (30, 4096), (30, 60)):
        lines = kit.records(2, name="v")
        for line in lines:
            line["messages"][1]["content"] = "yes " * words
        bench.seal("validation", lines)
        bench.out = bench.root / f"{words}-{most}"
        bench.spec(max_steps=1, answers={"prompts": 2, "max_new_tokens": most})
        code, said = bench.command("run")
        assert code == 0, said[-1]
        looked = [json.loads(line) for line in bench.opened("answers-00000000.sealed", "answers-0").splitlines()]
        assert all(line["is_cut"] for line in looked)  # an untuned model of random weights does not come to an end
        counts[words, most] = min(len(tokenizer(line["answer"])["input_ids"]) for line in looked)
    assert counts[1, 4096] < counts[30, 60] < counts[30, 4096]


@pytest.mark.parametrize(
    "changes", [{"way": "prompt"}, {"method": "classification", "classification": {"labels": ["no", "yes"]}}]
)
def test_answers_on_the_way_are_those_of_evaluation(changes, bench, kit):
    bench.seal("test", kit.records(6, seed=2, name="v"))
    bench.spec(max_steps=3, answers={"prompts": 6, "max_new_tokens": 5}, **changes)
    code, said = bench.command("run")
    assert code == 0, said[-1]
    last = kit.of(events.AnswersMeasured, said)[-1]
    assert (last.answers, last.metric, last.step) == (6, "", 3)
    end = finished(said)
    lines = bench.opened(f"answers-{end.best_step:08d}.sealed", f"answers-{end.best_step}").decode().splitlines()
    on_the_way = {line["id"]: line["answer"] for line in map(json.loads, lines)}
    assert bench.command("evaluate", "--metric", "exact_match", "--max-new-tokens", "5")[0] == 0
    later = [json.loads(line) for line in bench.opened("predictions.sealed", "predictions").decode().splitlines()]
    assert on_the_way == {line["id"]: line["tuned"] for line in later}


def test_a_record_that_is_wrong_stands_out_among_the_training_losses(bench, kit):
    lines = kit.records(24, seed=1)
    for line in lines:
        line["messages"][1]["content"] = "yes"
    lines[7]["messages"][1]["content"] = "no, never"
    bench.seal("train", lines)
    bench.spec(epochs=8)
    code, said = bench.command("run")
    assert code == 0, said[-1]
    (told_of,) = kit.of(events.TrainRecordsMeasured, said)
    met = [json.loads(line) for line in bench.opened(told_of.file, "train-records").decode().splitlines()]
    assert (met[0]["id"], told_of.records) == ("r7", 24)
    assert met[0]["last"] == told_of.worst > 1.2 * told_of.median
    assert all(line["first"] > line["last"] for line in met if line["id"] != "r7")
    assert "no, never" in met[0]["text"]
    assert "text" not in met[-1]
