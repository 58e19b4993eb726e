"""Training in fp16: what it learns, what its loss scale does about numbers that leave the range, and what is kept."""

import math
from pathlib import Path

import pytest
import torch

from tests.trainers.started import heard, start
from trainers import device as devices
from trainers import events, loss_scale
from trainers.checkpoint import State
from trainers.device import Device, choose_device
from trainers.errors import TrainerError
from trainers.forward import choose_forward
from trainers.llama_stack import LlamaStack
from trainers.model_folder import check_folder
from trainers.run import load_trained
from trainers.spec import load_spec

# peft still asks transformers by the old name.
pytestmark = pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated:FutureWarning")

HALF = Device("cpu", "fp16", "test", 1, 1024)
FP16 = {"precision": "fp16"}
FULL = {"way": "full", "optimiser": {"learning_rate": 0.003}}
WAYS = {
    "lora": {},
    "lora, transformers' layers": {"lora": {"rank": 4, "alpha": 8, "dropout": 0.05}},
    "lora, padded": {"packing": "bucket"},
    "dora": {"way": "dora"},
    "prompt": {"way": "prompt", "prompt": {"tokens": 5}},
    "full": FULL,
}
QUANTISED = {form: {"quantise": {"form": form}} for form in ("nf4", "int8")}


def losses(said):
    return [each.loss for each in said if isinstance(each, events.EvalLoss)]


def pairs(bench, kit):
    for name, seed in (("train", 1), ("validation", 2)):
        made = kit.records(12, seed=seed, name=name)
        yes = {"role": "assistant", "content": "yes"}
        bench.seal(name, [{**each, "messages": [each["messages"][0], yes], "rejected": "no"} for each in made])


@pytest.mark.parametrize("method", ["sft", "dpo"])
@pytest.mark.parametrize("way", WAYS)
def test_the_loss_falls_by_every_way(way, method, bench, kit):
    if method == "dpo":
        pairs(bench, kit)
    bench.spec(method=method, epochs=4, **FP16, **WAYS[way])
    code, said = bench.command("run")
    assert code == 0, said[-1]
    started = kit.of(events.RunStarted, said)[0]
    assert started.precision == "fp16"
    assert started.precision_reason.startswith("the spec says so")
    assert min(losses(said)) < losses(said)[0] - 0.02
    assert {each.loss_scale for each in kit.of(events.TrainStep, said)} == {loss_scale.FIRST}
    assert all(each.grad_norm < 1000 for each in kit.of(events.TrainStep, said))


@pytest.mark.filterwarnings("ignore:MatMul8bitLt. inputs will be cast:UserWarning")
@pytest.mark.parametrize("form", QUANTISED)
def test_the_loss_falls_on_a_quantised_base(form, bench, kit, tmp_path):
    bench.model = kit.make_model(tmp_path / "wide", hidden_size=64, intermediate_size=128, head_dim=16)
    bench.spec(epochs=4, **FP16, **QUANTISED[form])
    code, said = bench.command("run")
    assert code == 0, said[-1]
    assert min(losses(said)) < losses(said)[0] - 0.05


@pytest.mark.parametrize("way", WAYS)
def test_norms_and_losses_are_those_of_fp32_up_to_rounding(way, bench, kit, tmp_path):
    """Nothing of the scale is left in what is told, clipped or learnt."""
    told = []
    for precision in ("fp16", "fp32"):
        bench.out = tmp_path / precision
        bench.spec(max_steps=4, **WAYS[way] | {"precision": precision})
        code, said = bench.command("run")
        assert code == 0, said[-1]
        told.append(kit.of(events.TrainStep, said))
    for half, whole in zip(*told, strict=True):
        assert half.loss == pytest.approx(whole.loss, rel=5e-3)
        assert half.grad_norm == pytest.approx(whole.grad_norm, rel=3e-2)
        assert (half.loss_scale, whole.loss_scale) == (loss_scale.FIRST, None)


def test_weights_are_held_in_fp16_and_what_is_trained_in_fp32(bench):
    folder = check_folder(Path(bench.model))
    adapter = load_trained(load_spec(bench.spec(**FP16)), folder, HALF)
    assert {each.dtype for each in adapter.base.parameters() if not each.requires_grad} == {torch.float16}
    assert (adapter.weights.dtype, adapter.dtype, adapter.autocast) == (torch.float32, torch.float16, None)
    forward = choose_forward(adapter, "auto")
    assert isinstance(forward, LlamaStack), forward.reason
    full = load_trained(load_spec(bench.spec(**FP16, **FULL)), folder, HALF)
    assert (full.weights.dtype, full.autocast) == (torch.float32, torch.float16)


def test_gradients_that_overflow_halve_the_scale_and_the_run_goes_on(bench, kit, monkeypatch):
    monkeypatch.setattr(loss_scale, "FIRST", 2.0**30)
    bench.spec(epochs=6, **FP16)
    code, said = bench.command("run")
    assert code == 0, said[-1]
    steps = kit.of(events.TrainStep, said)
    are_out = [not math.isfinite(each.grad_norm) for each in steps]
    assert all(are_out[:5])  # more in a row than a run that diverges may have
    assert not any(are_out[-5:])
    scales = [each.loss_scale for each in steps]
    assert scales[0] == 2.0**30
    assert scales[1:] == [scale / 2 if is_out else scale for scale, is_out in zip(scales, are_out, strict=True)][:-1]
    assert all(math.isfinite(each.loss) for each in steps)
    assert min(losses(said)) < losses(said)[0] - 0.05


def test_an_update_that_is_left_out_moves_nothing_and_is_not_counted(bench, kit, monkeypatch):
    """The optimiser and the average correct for how many updates they have seen."""
    from trainers.optimiser import AdamW, Average

    seen = {"moved": [], "averaged": []}
    move, follow = AdamW.step, Average.follow

    def noted(optimiser, grads, step, rate):
        seen["moved"].append(step)
        return move(optimiser, grads, step, rate)

    monkeypatch.setattr("trainers.run.Bench.fit", lambda *_: None)
    monkeypatch.setattr(AdamW, "step", noted)
    monkeypatch.setattr(Average, "follow", lambda kept, step: (seen["averaged"].append(step), follow(kept, step)))
    monkeypatch.setattr(loss_scale, "FIRST", 2.0**30)
    bench.spec(epochs=4, average_decay=0.9, **FP16)
    code, said = bench.command("run")
    assert code == 0, said[-1]
    steps = kit.of(events.TrainStep, said)
    made = sum(math.isfinite(each.grad_norm) for each in steps)
    assert 3 < made < len(steps)
    assert seen["averaged"] == list(range(made))
    assert seen["moved"] == list(range(made))


def test_a_gradient_that_never_fits_ends_the_run_once_the_scale_is_at_its_floor(bench, kit, monkeypatch):
    monkeypatch.setattr(loss_scale, "FIRST", 4.0)
    monkeypatch.setattr("trainers.holding.Holding.norm", lambda *_: math.inf)
    bench.spec(epochs=9, **FP16)
    code, said = bench.command("run")
    assert (code, said[-1].code) == (1, "training.diverged")
    assert [each.loss_scale for each in kit.of(events.TrainStep, said)] == [4.0, 2.0, 1.0, 1.0, 1.0]


def test_a_loss_that_is_not_finite_counts_at_once_for_no_scale_helps_there(bench, kit, monkeypatch):
    bench.spec(epochs=9, **FP16)
    monkeypatch.setattr("trainers.loop.Loop._in_pieces", nothing_finite)
    code, said = bench.command("run")
    assert (code, said[-1].code) == (1, "training.diverged")
    assert [each.loss_scale for each in kit.of(events.TrainStep, said)] == [loss_scale.FIRST] * 3


def nothing_finite(loop, split, batch, work, begin, **_):
    begin()
    return math.nan


def test_the_scale_doubles_after_so_many_good_updates_in_a_row(monkeypatch):
    monkeypatch.setattr(loss_scale, "GROWTH_STEPS", 3)
    state = State(loss_scale=8.0)
    seen = []
    for is_good in (1, 1, 0, 1, 1, 1, 1, 1, 1, 0):
        if is_good:
            loss_scale.raise_scale(state)
        else:
            assert loss_scale.lower_scale(state)
        seen.append(state.loss_scale)
    assert seen == [8, 8, 4, 4, 4, 8, 8, 8, 16, 8]
    plain = State()
    loss_scale.raise_scale(plain)
    assert not loss_scale.lower_scale(plain)
    assert (plain.loss_scale, loss_scale.factor(plain)) == (None, 1.0)


def test_the_rule_is_that_of_torchs_scaler(monkeypatch):
    """Step for step, over gradients of which some are not finite."""
    monkeypatch.setattr(loss_scale, "GROWTH_STEPS", 4)
    weight = torch.nn.Parameter(torch.zeros(1))
    theirs = torch.amp.GradScaler("cpu", init_scale=64.0, growth_interval=4)
    optimiser, ours = torch.optim.SGD([weight], lr=0.0), State(loss_scale=64.0)
    for place in range(40):
        is_good = place % 11 not in (3, 4) and place != 30
        weight.grad = torch.tensor([1.0 if is_good else math.inf])
        theirs.scale(torch.zeros(1))
        theirs.unscale_(optimiser)
        theirs.step(optimiser)
        theirs.update()
        (loss_scale.raise_scale if is_good else loss_scale.lower_scale)(ours)
        assert ours.loss_scale == theirs.get_scale()


@pytest.mark.parametrize("way", ["lora", "full"])
def test_a_run_that_is_cut_off_anywhere_goes_on_with_its_scale_to_the_same_bits(way, bench, kit, monkeypatch):
    monkeypatch.setattr(loss_scale, "FIRST", 2.0**28)
    monkeypatch.setattr(loss_scale, "GROWTH_STEPS", 3)
    changes = {"epochs": 4, "checkpoint_every": 2, **FP16, **WAYS[way]}
    bench.spec(**changes)
    code, whole = bench.command("run")
    assert code == 0, whole[-1]
    scales = [each.loss_scale for each in kit.of(events.TrainStep, whole)]
    assert len(set(scales)) > 3

    bench.out = bench.root / "cut"
    for at in (3, 6, 11):

        def cut(event, at=at):
            if isinstance(event, events.TrainStep) and event.step == at:
                raise RuntimeError

        code, said = bench.command("run", on_event=cut)
        assert (code, said[-1].code) == (1, "internal")
    code, said = bench.command("resume")
    assert code == 0, said[-1]
    assert [each.loss_scale for each in kit.of(events.TrainStep, said)] == scales[10:]
    assert said[-1].adapter_digest == whole[-1].adapter_digest


def test_a_checkpoint_without_a_scale_goes_on_with_the_first_one_and_one_that_has_it_leaves_it_to_fp16():
    assert loss_scale.scale_for("fp16") == loss_scale.scale_for("fp16", None) == 65536
    assert loss_scale.scale_for("fp16", 512.0) == 512
    assert loss_scale.scale_for("bf16", 512.0) is None


@pytest.mark.parametrize(("precision", "code"), [("fp16", 2), ("fp32", 0)])
def test_a_model_that_leaves_the_range_of_fp16_is_refused_in_words_before_it_is_trained(
    precision, code, bench, kit, tmp_path
):
    from safetensors.torch import load_file, save_file

    bench.model = kit.make_model(tmp_path / "loud")
    weights = load_file(bench.model / "model.safetensors")
    loud = {name: each * 300 if "mlp" in name else each for name, each in weights.items()}
    save_file(loud, bench.model / "model.safetensors", metadata={"format": "pt"})
    bench.spec(max_steps=1, precision=precision)
    ended, said = bench.command("run")
    assert ended == code, said[-1]
    if code:
        assert (said[-1].code, "fp32" in said[-1].hint) == ("model.range", True)


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("changes", "shard"),
    [({}, "none"), (FULL, "optimiser"), (FULL, "weights")],
    ids=["lora", "full, its optimiser shared out", "full, shared out"],
)
def test_two_processes_learn_and_scale_as_one_does(changes, shard, bench, kit, tmp_path):
    told = []
    for name, parallel in (("one", {"processes": 1}), ("two", {"processes": 2, "shard": shard})):
        bench.out = tmp_path / name
        with start(bench, max_steps=6, parallel=parallel, **FP16, **changes) as process:
            told.append(heard(process))
        assert process.returncode == 0, told[-1][-1]
    one, two = ([kit.of(kind, said) for kind in (events.TrainStep, events.EvalLoss)] for said in told)
    assert [each.loss for each in two[0]] == pytest.approx([each.loss for each in one[0]], rel=5e-3)
    assert [each.loss for each in two[1]] == pytest.approx([each.loss for each in one[1]], rel=5e-3)
    assert [each.grad_norm for each in two[0]] == pytest.approx([each.grad_norm for each in one[0]], rel=5e-2)
    assert [each.loss_scale for each in two[0]] == [each.loss_scale for each in one[0]]


def cuda(monkeypatch, capability, has_bf16):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: capability)
    # Where a board only emulates bf16, torch says so when it is asked without emulation.
    monkeypatch.setattr(
        torch.cuda, "is_bf16_supported", lambda including_emulation=True: including_emulation or has_bf16
    )


def test_an_accelerator_without_bf16_of_its_own_takes_fp16_and_says_why(monkeypatch):
    cuda(monkeypatch, (7, 5), has_bf16=False)
    chosen = choose_device("auto")
    assert (chosen.name, chosen.precision, chosen.dtype) == ("cuda", "fp16", torch.float16)
    assert "7.5" in chosen.precision_reason
    with pytest.raises(TrainerError) as caught:
        choose_device("bf16")
    assert caught.value.code == "device.precision"
    assert choose_device("fp32").precision == "fp32"
    cuda(monkeypatch, (8, 6), has_bf16=True)
    assert choose_device("auto").precision == "bf16"
    assert choose_device("fp16").precision == "fp16"


@pytest.mark.parametrize("flags", [set(), {"avx512_bf16"}, {"amx_bf16", "amx_fp16"}])
def test_a_cpu_takes_fp16_only_when_told(flags, monkeypatch):
    monkeypatch.setattr(devices, "_cpu_flags", lambda: flags)
    assert choose_device("auto").precision == ("bf16" if flags else "fp32")
    assert choose_device("fp16").precision == "fp16"
    # An AVX-512 machine of our own took 150 to 350 times as long for a product of 256 by 576 by 576 as in bf16.
    assert ("slower" in choose_device("fp16").precision_reason) == (not flags & {"amx_fp16"})
