"""What a run will need is foretold from shapes, followed in how it is run, and refused before anything is lost."""

import dataclasses
import json
import time

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from trainers import events, fit, footprint, plan, run
from trainers.adapter import lay
from trainers.base_model import load_base
from trainers.device import choose_device
from trainers.encoding import Split
from trainers.footprint import ModelShape, Plan
from trainers.forward import BucketForward, PackedForward, micro_batch
from trainers.head_loss import Head
from trainers.llama_stack import LlamaStack
from trainers.model_folder import check_folder
from trainers.spec import read_spec

pytestmark = pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated:FutureWarning")
CONTEXT = {"workspace": "w", "dataset": "d", "object": "o", "kind": "k", "version": "1"}
SHARD = {"path": "p", "context": CONTEXT, "commitment": "0" * 64}
CPU = plan.Machine("cpu", 2, 1024)
#: The sizes of SmolLM2-135M.
SHAPE = ModelShape(134_515_008, 576, 1536, 30, 9, 3, 64, 49152)
LENGTHS = [60, 120, 250, 500, 900] * 20


def spec_of(**changes):
    document = {
        "schema": "steward.train/1",
        "run": "r",
        "model": {"path": "p"},
        "data": {"train": SHARD, "validation": SHARD},
        "output": {"context": CONTEXT},
        "lora": {"rank": 4, "alpha": 8},
    }
    return read_spec(document | changes)


@pytest.mark.parametrize("way", ["lora", "dora", "full", "prompt"])
def test_the_count_of_trained_numbers_is_that_of_the_laid_out_model(tiny_model, way):
    folder = check_folder(tiny_model)
    spec = spec_of(way=way, prompt={"tokens": 3})
    adapter = lay(load_base(folder, choose_device("fp32")), spec)
    assert ModelShape.of(folder.config, folder.parameters).trained(spec) == adapter.weights.numel()


def test_sizes_are_read_in_the_words_of_older_families_too():
    shape = ModelShape.of({"n_embd": 768, "n_layer": 12, "n_head": 12, "vocab_size": 50257}, 124_000_000)
    assert (shape.width, shape.layers, shape.head, shape.inner) == (768, 12, 64, 3072)
    with pytest.raises(KeyError):
        ModelShape.of({"hidden_size": 8}, 1)


@settings(max_examples=60, deadline=None)
@given(
    lengths=st.lists(st.integers(1, 900), min_size=1, max_size=40),
    micro=st.sampled_from([64, 256, 1024]),
    forward=st.sampled_from(["layers", "pack", "bucket"]),
)
def test_more_tokens_at_once_never_need_less_and_keeping_inputs_only_never_needs_more(lengths, micro, forward):
    spec = spec_of(batch_tokens=2048)
    usual = Plan("cpu", forward, 2, micro, False)
    need = footprint.footprint(spec, SHAPE, lengths, usual).total
    doubled = footprint.footprint(spec, SHAPE, lengths, dataclasses.replace(usual, micro_tokens=2 * micro)).total
    # Packing is greedy, so a larger room may by chance be filled a little worse.
    assert doubled >= 0.97 * need
    assert footprint.footprint(spec, SHAPE, lengths, dataclasses.replace(usual, is_recomputed=True)).total <= need


def test_a_plan_gives_up_size_first_then_what_layers_keep_and_then_says_what_would_help():
    spec = spec_of()

    def planned(free):
        return plan.choose_plan(spec, SHAPE, LENGTHS, CPU, "layers", free)

    roomy, tighter, tight, short = (planned(free << 20) for free in (8000, 2300, 1800, 1100))
    assert (roomy.plan.micro_tokens, roomy.plan.is_recomputed) == (1024, False)
    assert (tighter.plan.micro_tokens, tighter.plan.is_recomputed) == (512, False) or tighter.plan.is_recomputed
    assert tight.plan.is_recomputed
    assert tight.fits
    assert not short.fits
    assert short.advice


def test_each_of_several_processes_needs_what_its_share_of_a_step_does():
    plain = Plan("cpu", "layers", 2, 1024, False)
    alone, two = (
        footprint.footprint(spec_of(batch_tokens=1024, **more), SHAPE, [250] * 40, plain)
        for more in ({}, {"parallel": {"processes": 2}})
    )
    assert 0.4 * alone.activations < two.activations < 0.6 * alone.activations
    assert two.weights == alone.weights


def test_pages_of_files_that_nothing_reads_any_more_are_told_and_are_no_reason_not_to_fit():
    lengths, machine = [400] * 20, plan.Machine("cpu", 2, 1024)
    quantised = plan.choose_plan(spec_of(quantise={"form": "nf4"}), SHAPE, lengths, machine, "layers", 8 << 30)
    assert quantised.needed.idle == 2 * SHAPE.linear_weights
    just = int(quantised.needed.held / (1 - plan.RESERVE)) + 1
    assert dataclasses.replace(quantised, free=just).fits
    assert not dataclasses.replace(quantised, free=just - (1 << 20)).fits
    told = footprint.footprint(spec_of(), dataclasses.replace(SHAPE, stored="float32"), lengths, quantised.plan)
    assert told.idle == 0  # other numbers than the file's lie in memory of the process's own


def test_a_small_model_and_short_runs_are_not_charged_for_what_large_and_long_ones_leave():
    lengths, usual = [400] * 200, Plan("cpu", "layers", 2, 1024, False)
    small = dataclasses.replace(SHAPE, parameters=50_000, width=32, inner=64, layers=2, heads=2, vocabulary=300)
    assert footprint.footprint(spec_of(max_steps=8), small, lengths, usual).total < 800 << 20
    few, many = (footprint.footprint(spec_of(max_steps=each), SHAPE, lengths, usual).process for each in (2, 60))
    assert few + (200 << 20) < many


def test_of_a_long_record_only_pairs_with_earlier_positions_are_counted():
    whole = footprint.largest_micro_batch(spec_of(), [4096], Plan("cpu", "layers", 2, 1024, False))
    assert whole == (4096, 256 * sum(range(256, 4097, 256)))


def test_the_advice_is_a_change_that_fits():
    shape = dataclasses.replace(SHAPE, parameters=1_100_000_000, width=2048, inner=5632, layers=22, heads=32)
    wanted = spec_of(way="full", max_length=2048)
    verdict = plan.choose_plan(wanted, shape, LENGTHS, CPU, "pack", 6 << 30)
    assert not verdict.fits
    assert verdict.advice == "way lora would fit"
    changed = dataclasses.replace(wanted, way="lora")
    assert plan.choose_plan(changed, shape, LENGTHS, CPU, "layers", 6 << 30).fits


def test_settings_of_the_spec_are_kept_to():
    spec = spec_of(micro_tokens=2048, recompute="never")
    verdict = plan.choose_plan(spec, SHAPE, LENGTHS, CPU, "layers", 1 << 30)
    assert (verdict.plan.micro_tokens, verdict.plan.is_recomputed) == (2048, False)
    assert plan.choose_plan(spec_of(recompute="always"), SHAPE, LENGTHS, CPU, "layers", 64 << 30).plan.is_recomputed


def test_work_counts_what_the_schedule_will_really_read():
    spec = spec_of(batch_tokens=1000, epochs=3, evaluate_every=5)
    done = footprint.work(spec, LENGTHS, [100] * 10)
    assert done.tokens == 3 * sum(LENGTHS)
    assert done.evaluations == 1 + -(-done.steps // 5)
    assert footprint.work(spec_of(batch_tokens=1000, max_steps=1), LENGTHS, [100]).tokens < 1100
    assert done.forth_tokens == 1000 * (done.evaluations + 1)
    assert done.passes == 3 * done.tokens + done.forth_tokens
    parallel = {"processes": 2, "nodes": 2}
    shared = footprint.work(
        spec_of(batch_tokens=1000, epochs=3, evaluate_every=5, parallel=parallel), LENGTHS, [100] * 10
    )
    assert shared.tokens == done.tokens
    assert done.tokens // 4 < shared.own_tokens < done.tokens  # steps of few long records are shared out unevenly
    even = footprint.work(spec_of(batch_tokens=1000, epochs=3, parallel=parallel), [50] * 400, [100] * 10)
    assert even.own_tokens == even.tokens // 4
    whole = footprint.work(spec_of(batch_tokens=300, epochs=3, parallel=parallel), [300] * 10, [100])
    assert whole.own_tokens == whole.tokens  # a step of one record leaves three of four with nothing to do
    assert shared.forth_tokens == 1000 * done.evaluations // 4 + 1000  # the last look is one process's
    pairs, judged = (
        footprint.work(spec_of(method=method, batch_tokens=1000, epochs=3, evaluate_every=5), LENGTHS, [100] * 10)
        for method in ("dpo", "kto")
    )
    assert pairs.forth_tokens == judged.forth_tokens == done.forth_tokens + 1000 + sum(LENGTHS)
    assert (pairs.passes, judged.passes) == tuple(times * done.tokens + pairs.forth_tokens for times in (3, 2))


def test_the_trial_of_judgements_takes_their_drift_into_account(bench, kit, monkeypatch):
    """Counted in passes of the model, since time is not for a test to measure."""
    from trainers import kto

    drifts, drift = [], kto.Kto.drift

    def counted(*arguments):
        drifts.append(1)
        return drift(*arguments)

    lines = [{**each, "label": place % 2 == 0} for place, each in enumerate(kit.records(12, seed=4))]
    for shard in ("train", "validation"):
        bench.seal(shard, lines)
    del bench.shards["test"]
    bench.spec(method="kto")
    monkeypatch.setattr(kto.Kto, "drift", counted)
    assert bench.command("fit")[0] == 0
    assert len(drifts) == 4  # of both trials, each twice


def test_the_time_that_the_trial_takes_is_a_part_of_what_is_foretold(bench, kit, monkeypatch):
    def slow(parts):
        time.sleep(0.4)
        return 0.0, 0.0

    bench.seal("train", kit.records(8, seed=1))
    bench.seal("validation", kit.records(4, seed=2))
    bench.spec()
    monkeypatch.setattr(fit, "_seconds_a_token", slow)
    code, said = bench.command("fit")
    assert code == 0, said[-1]
    assert 0.4 <= kit.of(events.FitChecked, said)[0].seconds < 2


def test_what_processes_say_to_one_another_is_counted_for_each_step(bench, kit, monkeypatch):
    bench.seal("train", kit.records(8, seed=1))
    bench.seal("validation", kit.records(4, seed=2))
    bench.spec()
    monkeypatch.setattr(run, "exchange_seconds", lambda holding: 1000.0)
    code, said = bench.command("run")
    assert code == 0, said[-1]
    (told,) = kit.of(events.FitChecked, said)
    assert 1000 * told.steps <= told.seconds < 1000 * told.steps + 500


def test_free_memory_is_within_the_machine_and_within_its_control_group(monkeypatch):
    assert 0 < plan.free_main_bytes() < 1 << 50
    monkeypatch.setattr(plan, "_group_limits", lambda: iter([(300 << 20, 100 << 20)]))
    own = plan._kilobytes(plan.Path("/proc/self/status"), "VmRSS:")
    assert plan.free_main_bytes() == pytest.approx((200 << 20) + own, rel=0.2)


@pytest.mark.parametrize("way", [LlamaStack, PackedForward, BucketForward])
def test_keeping_inputs_only_changes_neither_losses_nor_gradients(tiny_model, way):
    spec = spec_of()
    found = []
    for is_recomputed in (False, True):
        adapter = lay(load_base(check_folder(tiny_model), choose_device("fp32")), spec)
        with torch.no_grad():
            adapter.weights.add_(torch.randn(adapter.weights.shape, generator=torch.Generator().manual_seed(3)) * 0.1)
        parts = (adapter, Head.of(adapter))
        forward = way(*parts) if way is LlamaStack else way(*parts, "for the test")
        forward.refresh()
        if is_recomputed:
            forward.recompute()
        split = Split()
        for index, length in enumerate((9, 17, 4)):
            split.add(str(index), [(7 * place + index) % 250 for place in range(length)], [0, *[1] * (length - 1)])
        losses = forward.losses(micro_batch(split, [0, 1, 2], "cpu"))
        losses.sum().backward()
        found.append((losses.detach(), adapter.grads.clone()))
    assert torch.equal(found[0][0], found[1][0])
    assert torch.equal(found[0][1], found[1][1])
    assert found[0][1].abs().sum() > 0


def test_a_run_that_keeps_inputs_only_ends_in_the_same_adapter(bench):
    digests = set()
    for recompute in ("never", "always"):
        bench.out = bench.root / recompute
        bench.spec(recompute=recompute)
        code, said = bench.command("run")
        assert code == 0
        digests.add(said[-1].adapter_digest)
    assert len(digests) == 1


def test_a_run_says_before_its_first_step_what_it_will_need(bench):
    bench.spec(epochs=2)
    code, said = bench.command("run")
    assert code == 0
    names = [each.name for each in said]
    checked = next(each for each in said if isinstance(each, events.FitChecked))
    assert names.index("fit.checked") < names.index("train.step")
    assert checked.fits
    assert checked.advice == ""
    assert checked.tokens == said[-1].tokens
    assert checked.steps == said[-1].step
    assert checked.seconds > 0
    parts = ("process", "weights", "idle", "trained", "activation", "head")
    assert checked.memory_bytes == sum(getattr(checked, f"{part}_bytes") for part in parts)


def test_the_trial_leaves_no_trace_in_what_is_learnt(bench, monkeypatch):
    bench.spec(lora={"rank": 4, "alpha": 8, "dropout": 0.1})
    first = bench.command("run")[1][-1].adapter_digest
    bench.out = bench.root / "untried"
    monkeypatch.setattr("trainers.run.Bench.fit", lambda *_: None)
    assert bench.command("run")[1][-1].adapter_digest == first


def test_the_fit_command_needs_no_output_folder_and_writes_nothing(bench):
    bench.spec()
    before = sorted(bench.root.iterdir())
    code, said = bench.command("fit")
    assert code == 0
    assert isinstance(said[-1], events.FitChecked)
    assert sorted(bench.root.iterdir()) == before


def test_processes_of_one_machine_share_its_main_memory(monkeypatch):
    monkeypatch.setattr("trainers.fit.free_main_bytes", lambda: 6 << 30)
    assert fit.free_bytes("cpu") == 6 << 30
    assert fit.free_bytes("cpu", processes=3) == 2 << 30


def test_a_run_that_cannot_fit_is_refused_before_the_model_is_loaded(bench, monkeypatch):
    monkeypatch.setattr("trainers.run.free_bytes", lambda device, processes: 64 << 20)
    monkeypatch.setattr("trainers.run.load_trained", lambda *_: pytest.fail("the model was loaded"))
    bench.spec()
    code, said = bench.command("run")
    assert code == 4
    assert said[-1].code == "memory.unfit"
    assert said[-1].hint
    assert json.dumps(dataclasses.asdict(said[-1])).count("MiB") == 2
