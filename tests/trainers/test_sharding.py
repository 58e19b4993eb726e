"""Processes that hold only parts learn as one that holds everything, with less memory, and fail and go on as one."""

import gc
import io
import itertools
import json
import os
import random
import signal
import tarfile
from types import SimpleNamespace

import psutil
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load

from compliance.vault import seal_writer
from tests.trainers.started import heard, start
from trainers import events, slices
from trainers.adapter import lay
from trainers.base_model import load_base
from trainers.device import choose_device
from trainers.errors import TrainerError
from trainers.footprint import ModelShape, Plan, footprint
from trainers.hollow_model import load_hollow
from trainers.model_folder import check_folder
from trainers.plan import Machine, choose_plan
from trainers.slices import Slices, even_blocks
from trainers.spec import SHARDS, SpecError, read_spec
from trainers.spread import spread_frozen

pytestmark = [pytest.mark.timeout(300)]


def shard(how, processes=2):
    return {"parallel": {"processes": processes, "shard": how}}


def bytes_of_tensors():
    """What all tensors of this process hold, each storage counted once."""
    gc.collect()
    storages = {}
    for each in gc.get_objects():
        if issubclass(type(each), torch.Tensor) and each.device.type == "cpu":
            storages[each.untyped_storage().data_ptr()] = each.untyped_storage().nbytes()
    return sum(storages.values())


def member(rank, orders, told):
    """One of two processes that stay for all tests of this file, for starting one takes longer than a run."""
    from trainers.cli import main
    from trainers.loop import Loop

    held = []
    report = Loop._report

    def reporting(loop, *rest):
        if loop.state.step == 2:
            held.append(bytes_of_tensors())
        report(loop, *rest)

    Loop._report = reporting
    for spec, out, meeting, key_line in iter(orders.get, ()):
        held.clear()
        stream = io.StringIO()
        argv = ["run", "--spec", spec, "--out", out, "--rank", str(rank), "--meeting", meeting]
        code = main(argv, io.StringIO(key_line), stream)
        told.put((code, stream.getvalue(), max(held, default=0)))


@pytest.fixture(scope="module")
def pair():
    os.environ["OMP_NUM_THREADS"] = "1"
    context = torch.multiprocessing.get_context("spawn")
    members = []
    for rank in range(2):
        orders, told = context.Queue(), context.Queue()
        process = context.Process(target=member, args=(rank, orders, told), daemon=True)
        process.start()
        members.append((process, orders, told))
    yield members
    for process, _, _ in members:
        process.kill()
        process.join()


def run(bench, pair, **changes):
    """Exit code and events of the first of two processes, and the bytes that the tensors of each held in a step."""
    spec = bench.spec(**changes)
    bench.out.mkdir(exist_ok=True)
    meeting = bench.out / f".meeting-{random.randrange(1 << 30)}"
    for _, orders, _ in pair:
        orders.put((str(spec), str(bench.out), str(meeting), bench.key_line))
    found = [told.get(timeout=120) for _, _, told in pair]
    assert found[0][0] == found[1][0], [each[1].splitlines()[-1] for each in found]
    return found[0][0], [events.decode(line) for line in found[0][1].splitlines()], [each[2] for each in found]


def run_alone(bench, **changes):
    bench.spec(**changes)
    code, said = bench.command("run")
    assert code == 0, said[-1]
    return said


def curve(said, kind=events.TrainStep):
    return [event.loss for event in said if isinstance(event, kind)]


def tensors_of(bench):
    """What the run shipped, by name."""
    archive = bench.opened("adapter.sealed", "adapter")
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        (name,) = [each for each in tar.getnames() if each.endswith(".safetensors")]
        return load(tar.extractfile(name).read())


@given(count=st.integers(1, 60), size=st.integers(1, 7), block=st.integers(1, 20), seed=st.integers(0, 9))
def test_slices_hold_every_number_once_for_any_length_and_number_of_processes(count, size, block, seed):
    source = random.Random(seed)
    ranges = [(at, min(at + block, count)) for at in range(0, count, block)]
    source.shuffle(ranges)
    cut = sorted({0, len(ranges), *(source.randrange(len(ranges) + 1) for _ in range(3))})
    blocks = [ranges[begin:end] for begin, end in itertools.pairwise(cut)]
    vector = torch.arange(1.0, count + 1)
    members = [Slices(SimpleNamespace(rank=rank, size=size), blocks) for rank in range(size)]
    parts = [each.cut(vector) for each in members]
    assert len({each.length for each in members}) == 1
    assert members[0].count == count
    kept = torch.cat(parts)
    assert sorted(kept[kept > 0].tolist()) == vector.tolist()

    def gather(part):
        place = next(place for place in members[0].places if part.data_ptr() == parts[0][place].data_ptr())
        return torch.cat([each[place] for each in parts])

    members[0]._group.gather = gather
    assert torch.equal(members[0].whole(parts[0]), vector)


def test_even_blocks_cover_a_range(monkeypatch):
    monkeypatch.setattr(slices, "BLOCK", 10)
    assert even_blocks(25, 5) == [[(5, 15)], [(15, 25)], [(25, 30)]]
    assert even_blocks(10) == [[(0, 10)]]


FULL = {"way": "full", "optimiser": {"learning_rate": 0.002}}
CASES = {
    "lora-optimiser": ({}, "optimiser"),
    "lora-weights": ({"average_decay": 0.9}, "weights"),
    "dora-weights": ({"way": "dora"}, "weights"),
    "prompt-weights": ({"way": "prompt", "prompt": {"tokens": 4}}, "weights"),
    "full-optimiser": (FULL, "optimiser"),
    "full-weights": (FULL | {"average_decay": 0.9}, "weights"),
    "full-weights-recomputed": (FULL | {"recompute": "always", "packing": "bucket"}, "weights"),
    "full-weights-bf16": (FULL | {"precision": "bf16"}, "weights"),
}


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_two_processes_with_parts_learn_as_one_with_everything(case, bench, pair, kit, tmp_path):
    changes, how = CASES[case]
    changes = {
        "epochs": 2,
        "max_steps": 6,
        "micro_tokens": 150,
        "answers": {"prompts": 2, "max_new_tokens": 3},
        **changes,
    }
    alone = run_alone(bench, **changes)
    expected = tensors_of(bench)
    bench.out = tmp_path / "two"
    code, both, _ = run(bench, pair, **changes, **shard(how))
    assert code == 0, both[-1]
    # Sums in another order differ by rounding, which bf16 does to three digits.
    near = 2e-2 if "bf16" in case else 2e-4
    assert len(curve(both)) == len(curve(alone)) == 6
    assert curve(both) == pytest.approx(curve(alone), rel=near)
    assert curve(both, events.EvalLoss) == pytest.approx(curve(alone, events.EvalLoss), rel=near)
    norms = [[each.grad_norm for each in kit.of(events.TrainStep, said)] for said in (alone, both)]
    assert norms[1] == pytest.approx(norms[0], rel=10 * near)
    for kind in (events.RecordsMeasured, events.TrainRecordsMeasured):
        worst = [kit.of(kind, said)[0].worst for said in (alone, both)]
        assert worst[1] == pytest.approx(worst[0], rel=10 * near)
    assert len(kit.of(events.AnswersMeasured, both)) == len(kit.of(events.AnswersMeasured, alone)) > 0
    found = tensors_of(bench)
    assert found.keys() == expected.keys()
    for name, each in expected.items():
        # AdamW turns rounding into whole steps where a gradient is nearly nothing; single numbers may then differ.
        assert (found[name].float() - each.float()).abs().mean() < 5 * near, name


@pytest.mark.slow
def test_a_process_holds_less_the_more_is_shared_out(bench, pair, kit, tmp_path):
    bench.model = kit.make_model(tmp_path / "wide", hidden_size=128, intermediate_size=512, num_hidden_layers=6)
    held = {}
    for way in ("lora", "full"):
        for how in SHARDS:
            bench.out = tmp_path / f"{way}-{how}"
            changes = {"way": way, "max_steps": 2, "packing": "bucket", "optimiser": {"learning_rate": 1e-4}}
            code, said, held[way, how] = run(bench, pair, **changes, **shard(how))
            assert code == 0, said[-1]
    base = sum(each.nelement() for each in load((bench.model / "model.safetensors").read_bytes()).values())
    embedding = 128 * 260
    layers = 4 * (base - embedding)
    for rank in range(2):
        lora, full = (
            {how: held[way, how][rank] for how in ("none", "optimiser", "weights")} for way in ("lora", "full")
        )
        # Of a frozen base half of the layers goes; one layer or two of six may be whole at the time.
        assert lora["none"] - lora["weights"] > layers / 2 - layers / 3
        # Two moments and the best state, less one's own part of the weights and of the gradients.
        assert full["none"] - full["optimiser"] > 0.9 * (3 / 2 - 1) * 4 * base
        # Weights, gradients, two moments and the best state, all in halves.
        assert full["none"] - full["weights"] > 5 * layers / 2 - layers / 3


@pytest.mark.slow
def test_a_checkpoint_does_not_tell_by_how_many_it_was_made(bench, pair, kit, tmp_path):
    changes = FULL | {"epochs": 2, "average_decay": 0.9, "checkpoint_every": 1}
    alone = run_alone(bench, **changes, max_steps=6)
    bench.out = tmp_path / "shared"
    for steps, how in ((2, "weights"), (3, "optimiser"), (4, "none"), (5, "weights")):
        code, said, _ = run(bench, pair, **changes, max_steps=steps, **shard(how))
        assert code == 0, said[-1]
        assert len(curve(said)) == (2 if steps == 2 else 1)
    said = run_alone(bench, **changes, max_steps=6)
    assert kit.of(events.RunResumed, said)[0].step == 5
    assert curve(said)[-1] == pytest.approx(curve(alone)[-1], rel=5e-2)


@pytest.mark.slow
def test_a_run_goes_on_from_an_earlier_result_in_parts(bench, pair, tmp_path):
    run_alone(bench, **FULL, max_steps=3)
    written = json.loads((bench.out / "checkpoint.json").read_text())
    assert written["step"] == 3
    context = bench.context("adapter")
    content = bench.opened("adapter.sealed", "adapter")
    path = bench.root / "start.sealed"
    with path.open("wb") as sink, seal_writer(sink, bench.data_key, context) as writer:
        writer.write(content)
    begin = {"path": str(path), "context": context.to_json(), "commitment": writer.commitment.hex()}
    bench.out = tmp_path / "alone"
    alone = run_alone(bench, **FULL, max_steps=3, start=begin)
    bench.out = tmp_path / "two"
    code, both, _ = run(bench, pair, **FULL, max_steps=3, start=begin, **shard("weights"))
    assert code == 0, both[-1]
    assert curve(both, events.EvalLoss) == pytest.approx(curve(alone, events.EvalLoss), rel=2e-4)


@pytest.mark.slow
def test_the_loss_of_a_process_that_holds_a_part_ends_the_run_in_words_and_it_goes_on_alone(bench, kit):
    changes = FULL | {"epochs": 20, "checkpoint_every": 2}
    with start(bench, **changes, **shard("weights")) as process:
        heard(process, lambda event: isinstance(event, events.TrainStep) and event.step == 3)
        (other,) = psutil.Process(process.pid).children()
        other.kill()
        said = heard(process)
    assert isinstance(said[-1], events.RunFailed)
    assert said[-1].code == "parallel.lost"
    said = run_alone(bench, **changes | {"epochs": 1})
    assert kit.of(events.RunResumed, said)[0].step >= 2


@pytest.mark.slow
def test_a_cancelled_run_in_parts_leaves_its_last_finished_step(bench):
    with start(bench, **FULL, epochs=200, evaluate_every=1000, **shard("weights")) as process:
        heard(process, lambda event: isinstance(event, events.TrainStep) and event.step == 3)
        process.send_signal(signal.SIGTERM)
        said = heard(process)
        process.wait(10)
    assert isinstance(said[-1], events.RunCancelled)
    steps = [3, *(each.step for each in said if isinstance(each, events.TrainStep))]
    assert (said[-1].step, said[-1].resumable) == (steps[-1], True)


def test_what_cannot_be_spread_is_refused(bench):
    document = json.loads(bench.spec(quantise={"form": "nf4"}, **shard("weights")).read_text())
    with pytest.raises(SpecError, match=r"parallel\.shard"):
        read_spec(document)
    assert read_spec(document | shard("optimiser")).parallel.holders == 2
    with pytest.raises(SpecError, match=r"parallel\.shard"):
        read_spec(document | shard("halves"))


@pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated:FutureWarning")
def test_layers_that_share_weights_are_refused(tiny_model):
    spec = spec_of("lora")
    adapter = lay(load_base(check_folder(tiny_model), choose_device("fp32")), spec)
    first, second = adapter.base.model.layers
    second.input_layernorm.weight = first.input_layernorm.weight
    with pytest.raises(TrainerError) as raised:
        spread_frozen(adapter, SimpleNamespace(rank=0, size=2))
    assert raised.value.code == "parallel.shard"


def spec_of(way, **changes):
    context = dict.fromkeys(("workspace", "dataset", "object", "kind", "version"), "x")
    sealed = {"path": "p", "context": context, "commitment": "0" * 64}
    data = {"train": sealed, "validation": sealed}
    document = {"schema": "steward.train/1", "run": "r", "model": {"path": "p"}, "data": data}
    return read_spec(document | {"output": {"context": context}, "way": way, **changes})


def test_a_hollow_model_reads_what_the_whole_one_holds(tiny_model):
    folder, device = check_folder(tiny_model), choose_device("fp32")
    whole = load_base(folder, device)
    hollow = load_hollow(folder, device, torch.float32)
    names = dict(whole.named_parameters())
    assert dict(hollow.model.named_parameters()).keys() == names.keys()
    for name, each in hollow.model.named_parameters():
        count = each.numel()
        assert each.shape == names[name].shape
        assert torch.equal(hollow.read(each, 0, count), names[name].data.reshape(-1))
        assert torch.equal(hollow.read(each, 5, count - 3), names[name].data.reshape(-1)[5:-3])
        assert (each.untyped_storage().nbytes() == 0) == (".layers." in name)
    assert hollow.model.generation_config.to_dict() == whole.generation_config.to_dict()
    assert hollow.model.config._attn_implementation == whole.config._attn_implementation
    assert torch.equal(hollow.model.model.rotary_emb.inv_freq, whole.model.rotary_emb.inv_freq)


@pytest.mark.parametrize(("way", "fraction"), [("lora", 0.75), ("full", 0.5)])
def test_the_fit_check_counts_the_part_of_one_process(way, fraction):
    shape = ModelShape(8_030_000_000, 4096, 14336, 32, 32, 8, 128, 128256)
    plan = Plan("cuda", "pack", 2, 1024, True)
    need = {how: footprint(spec_of(way, **shard(how, 8)), shape, [500] * 40, plan).total for how in SHARDS}
    assert need["weights"] < need["optimiser"] < need["none"]
    assert need["weights"] < fraction * need["none"]
    alone = {how: footprint(spec_of(way, **shard(how, 1)), shape, [500] * 40, plan).total for how in SHARDS}
    assert len(set(alone.values())) == 1


def test_sharing_out_is_advised_where_it_makes_the_run_fit():
    shape = ModelShape(8_030_000_000, 4096, 14336, 32, 32, 8, 128, 128256)
    machine = Machine("cuda", 2, 1024)
    spec = spec_of("full", **shard("none", 8))
    said = choose_plan(spec, shape, [500] * 40, machine, "pack", 80 << 30).advice
    assert said == "parallel.shard weights would fit"
    followed = spec_of("full", **shard("weights", 8))
    assert choose_plan(followed, shape, [500] * 40, machine, "pack", 80 << 30).fits
    alone = spec_of("full", **shard("none", 1))
    assert "shard" not in choose_plan(alone, shape, [500] * 40, machine, "pack", 80 << 30).advice
