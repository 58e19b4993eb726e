"""Whole runs of a tiny model: learning, the best state, interruption, cancellation, and nothing in clear on disk."""

import io
import json
import os
import re
import signal
import subprocess
import sys
import tarfile
import time

import pytest
import torch

from trainers import events


def finished(said):
    (event,) = [each for each in said if isinstance(each, events.RunFinished)]
    return event


def test_a_run_learns_and_ships_its_best_state(bench, kit):
    bench.spec(epochs=6)
    code, said = bench.command("run")
    assert code == 0, said[-1]
    steps, looks = kit.of(events.TrainStep, said), kit.of(events.EvalLoss, said)
    assert steps[-1].step == steps[-1].steps == len(steps)
    assert steps[-1].loss < 0.8 * steps[0].loss
    end = finished(said)
    assert end.best_loss == min(look.loss for look in looks if look.step) == looks[-1].loss or end.best_step < end.step
    assert [look.step for look in looks if look.best][-1] == end.best_step
    loaded = {event.split: event for event in kit.of(events.DataLoaded, said)}
    assert loaded["train"].records == 24
    assert 0 < loaded["train"].supervised < loaded["train"].tokens == steps[-1].tokens / 6

    archive = bench.opened("adapter.sealed", "adapter")
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        assert tar.getnames() == [
            "README.md",
            "adapter_config.json",
            "adapter_model.safetensors",
            "chat_template.jinja",
        ]
        config = json.load(tar.extractfile("adapter_config.json"))
        assert config["revision"] == kit.of(events.RunStarted, said)[0].base_digest
        assert tar.extractfile("chat_template.jinja").read().decode() == kit.template


def test_equal_runs_give_equal_adapters_and_peft_loads_them(bench, kit, tmp_path):
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    bench.spec(max_steps=3)
    digest = finished(bench.command("run")[1]).adapter_digest
    for name in ("checkpoint.sealed", "adapter.sealed"):
        (bench.out / name).unlink()
    assert finished(bench.command("run")[1]).adapter_digest == digest

    with tarfile.open(fileobj=io.BytesIO(bench.opened("adapter.sealed", "adapter"))) as tar:
        tar.extractall(tmp_path / "peft", filter="data")
    model = AutoModelForCausalLM.from_pretrained(bench.model)
    tokens = torch.arange(5, 25)[None]
    before = model(tokens).logits
    after = PeftModel.from_pretrained(model, tmp_path / "peft")(tokens).logits
    assert (before - after).abs().max() > 0.01


@pytest.mark.parametrize("way", ["lora", "prompt"])
def test_the_loss_of_each_held_out_record_is_left_sealed_worst_first(way, bench, kit):
    bench.spec(epochs=3, way=way)
    code, said = bench.command("run")
    assert code == 0, said[-1]
    (measured,) = kit.of(events.RecordsMeasured, said)
    lines = [json.loads(line) for line in bench.opened(measured.file, "held-out").splitlines()]
    losses = [line["loss"] for line in lines]
    assert {line["id"] for line in lines} == {f"v{index}" for index in range(6)}
    assert losses == sorted(losses, reverse=True)
    assert (measured.worst, measured.best, measured.records) == (losses[0], losses[-1], 6)
    mean = sum(line["loss"] * line["units"] for line in lines) / sum(line["units"] for line in lines)
    assert mean == pytest.approx(finished(said).best_loss, rel=1e-4)
    assert all(kit.secret in line["text"] for line in lines)
    assert kit.files_holding(bench.out, kit.secret.encode()) == []
    assert kit.secret not in str(said)


def test_a_killed_run_leaves_nothing_in_clear_and_resumes_to_the_same_adapter(bench, kit, tmp_path, monkeypatch):
    bench.spec(epochs=3, checkpoint_every=2, lora={"rank": 4, "alpha": 8, "dropout": 0.1})
    code, said = bench.command("run")
    assert code == 0, said[-1]
    expected = finished(said)
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    bench.out = tmp_path / "killed"
    argv = [sys.executable, "-m", "trainers", "run", "--spec", str(tmp_path / "spec.json"), "--out", str(bench.out)]
    with subprocess.Popen(
        argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=os.environ | {"TMPDIR": str(scratch)}
    ) as process:
        process.stdin.write(bench.key_line)
        process.stdin.flush()
        for line in process.stdout:
            event = events.decode(line)
            if isinstance(event, events.TrainStep) and event.step == 5:
                process.kill()
                break
        assert process.wait() == -signal.SIGKILL
    for folder in (bench.out, scratch):
        assert kit.files_holding(folder, kit.secret.encode()) == []
        assert kit.files_holding(folder, bench.output_key.hex().encode()) == []

    code, said = bench.command("resume")
    assert code == 0, said[-1]
    assert kit.of(events.RunResumed, said)[0].step == 4
    assert finished(said).adapter_digest == expected.adapter_digest
    assert finished(said).best_loss == expected.best_loss


def test_a_cancelled_run_stops_at_once_keeps_its_steps_and_goes_on(bench, kit):
    bench.spec(epochs=3)
    whole = finished(bench.command("run")[1]).adapter_digest
    for name in ("checkpoint.sealed", "adapter.sealed"):
        (bench.out / name).unlink()

    def cancel(event):
        if isinstance(event, events.TrainStep) and event.step == 4:
            os.kill(os.getpid(), signal.SIGTERM)

    before = signal.getsignal(signal.SIGTERM)
    begun = time.monotonic()
    code, said = bench.command("run", on_event=cancel)
    assert code == 3
    assert said[-1] == events.RunCancelled("run-1", 4, True)
    assert time.monotonic() - begun < 5 + said[-2].bytes
    assert signal.getsignal(signal.SIGTERM) is before
    code, said = bench.command("run")
    assert code == 0
    assert finished(said).adapter_digest == whole


def test_a_reader_that_goes_away_cancels(bench, kit):
    bench.spec(epochs=3)

    def hang_up(event):
        if isinstance(event, events.TrainStep):
            raise BrokenPipeError

    code, _ = bench.command("run", on_event=hang_up)
    assert code == 3
    assert json.loads((bench.out / "checkpoint.json").read_text())["step"] == 1


def test_a_finished_run_can_go_on_with_more_epochs(bench, kit):
    bench.spec(epochs=1)
    first = finished(bench.command("run")[1])
    bench.spec(epochs=2)
    said = bench.command("run")[1]
    assert kit.of(events.RunResumed, said)[0].step == first.step
    assert finished(said).step > first.step


def test_another_spec_does_not_take_over_a_checkpoint(bench, kit):
    bench.spec(max_steps=1)
    bench.command("run")
    bench.spec(max_steps=1, seed=5)
    code, said = bench.command("run")
    assert (code, said[-1].code) == (2, "checkpoint.other")


def test_resume_wants_a_checkpoint(bench):
    bench.spec()
    code, said = bench.command("resume")
    assert (code, said[-1].code) == (2, "checkpoint.missing")


def test_patience_stops_a_run_that_no_longer_improves(bench, kit):
    bench.spec(epochs=40, evaluate_every=1, patience=2, optimiser={"learning_rate": 0.2, "schedule": "constant"})
    said = bench.command("run")[1]
    end = finished(said)
    assert end.stopped_early
    assert end.best_step == end.step - 2


def test_running_out_of_memory_halves_the_micro_batch_and_changes_nothing_else(bench, kit, monkeypatch):
    from trainers.sft import Sft

    bench.spec(max_steps=3)
    whole = kit.of(events.TrainStep, bench.command("run")[1])
    learn = Sft.learn

    def short(self, forward, batch, share):
        if len(batch.tokens) > 200:
            raise MemoryError
        return learn(self, forward, batch, share)

    monkeypatch.setattr(Sft, "learn", short)
    bench.out = bench.root / "short"
    code, said = bench.command("run")
    assert code == 0
    assert [event.micro_tokens for event in kit.of(events.MemoryShort, said)] == [512, 256, 128]
    pieces = kit.of(events.TrainStep, said)
    assert [step.loss for step in pieces] == pytest.approx([step.loss for step in whole], rel=1e-4)

    monkeypatch.setattr(Sft, "learn", lambda *_: (_ for _ in ()).throw(MemoryError()))
    bench.out = bench.root / "none"
    code, said = bench.command("run")
    assert (code, said[-1].code) == (4, "memory.exhausted")


def test_a_loss_that_is_not_finite_ends_the_run(bench, kit, monkeypatch):
    from trainers.sft import Sft

    bench.spec()
    monkeypatch.setattr(Sft, "learn", lambda _self, _way, batch, _share: torch.full((len(batch.lengths),), torch.nan))
    code, said = bench.command("run")
    assert (code, said[-1].code) == (1, "training.diverged")
    assert len(kit.of(events.TrainStep, said)) == 3


def test_two_trainers_do_not_share_an_output_folder(bench):
    from trainers.process import only_one

    bench.spec()
    with only_one(bench.out):
        code, said = bench.command("run")
    assert (code, said[-1].code) == (2, "output.busy")


def test_a_fault_of_ours_names_its_place_and_no_value(bench, kit, monkeypatch):
    from trainers import run

    def explode(*_):
        try:
            open(f"/{kit.secret}")  # noqa: SIM115
        except OSError as fault:
            raise ValueError(kit.secret) from fault

    monkeypatch.setattr(run, "admit", explode)
    bench.spec()
    code, said = bench.command("run")
    assert (code, said[-1].code) == (1, "internal")
    way = (
        r"ValueError at .* > run\.py:\d+ assemble > test_run\.py:\d+ explode; after FileNotFoundError 2 at test_run\.py"
    )
    assert re.search(way, said[-1].message)
    assert kit.secret not in str(said)
