"""Trainers on two machines, here two groups of processes joined by the encrypted ring, with all ways of sharing out."""

import contextlib
import shutil
import signal
import time

import psutil
import pytest

from tests.trainers.started import RING_SECRET, heard, start_machines
from trainers import events
from trainers.errors import EXIT_CANCELLED

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
#: A second or two where nothing else is going on; without the guarantee it is a quarter of an hour.
SOON_SECONDS = 15
FULL = {"way": "full", "optimiser": {"learning_rate": 0.002}}


@pytest.fixture
def outs(tmp_path):
    """An output folder on each machine."""
    return [tmp_path / "first", tmp_path / "second"]


def curve(said, kind=events.TrainStep):
    return [event.loss for event in said if isinstance(event, kind)]


def both_heard(bench, outs, processes=1):
    """What both machines said of a run that was left alone, and how they ended."""
    with contextlib.ExitStack() as stack:
        machines = start_machines(bench, stack, outs, processes)
        said = [heard(each) for each in machines]
    return said, [each.returncode for each in machines]


def is_step(number):
    return lambda event: isinstance(event, events.TrainStep) and event.step == number


@pytest.mark.parametrize(
    ("changes", "shard", "processes"),
    [
        ({}, "none", 2),
        (FULL, "optimiser", 1),
        ({"average_decay": 0.9}, "weights", 1),
        (FULL, "weights", 2),
    ],
    ids=["nothing in parts", "optimiser", "frozen layers", "trained layers"],
)
def test_two_machines_learn_as_one_process_does_and_all_members_hold_the_same(bench, outs, changes, shard, processes):
    bench.spec(epochs=2, **changes)
    code, alone = bench.command("run")
    assert code == 0, alone[-1]
    bench.spec(epochs=2, parallel={"nodes": 2, "processes": processes, "shard": shard}, **changes)
    code, refused = bench.command("run")
    assert (code, refused[-1].code) == (2, "parallel.nodes")
    (both, other), codes = both_heard(bench, outs, processes)
    assert codes == [0, 0], (both[-1], other[-1])
    assert len(curve(alone)) > 4
    assert curve(both) == pytest.approx(curve(alone), rel=2e-4)
    assert curve(both, events.EvalLoss) == pytest.approx(curve(alone, events.EvalLoss), rel=2e-4)
    assert curve(other) == curve(both)
    # The same bits in every process, so that they never drift apart.
    digests = [path.read_text() for out in outs for path in out.glob("digest-*")]
    assert len(digests) == 2 * processes
    assert len({*digests}) == 1
    assert (outs[0] / "adapter.sealed").exists()
    assert not [path for path in outs[1].iterdir() if path.suffix == ".sealed"]


@pytest.mark.parametrize(("changes", "shard"), [({}, "none"), (FULL, "weights")], ids=["nothing in parts", "in parts"])
def test_a_machine_that_is_killed_ends_the_run_in_words_and_it_goes_on_from_its_checkpoint(bench, outs, changes, shard):
    changes = {**changes, "epochs": 3, "checkpoint_every": 2, "parallel": {"nodes": 2, "shard": shard}}
    bench.spec(**changes)
    with contextlib.ExitStack() as stack:
        first, second = start_machines(bench, stack, outs)
        told = " ".join([*first.args, *psutil.Process(first.pid).environ().values()])
        assert not any(key.hex() in told for key in (RING_SECRET, bench.data_key, bench.output_key))
        heard(first, is_step(3))
        second.kill()
        begun = time.monotonic()
        said = heard(first)
        second.stdout.close()
    assert time.monotonic() - begun < SOON_SECONDS
    assert said[-1].code == "parallel.lost"
    for path in outs[0].glob("checkpoint*"):  # as the platform brings it to machines that never had it
        shutil.copy(path, outs[1] / path.name)
    (resumed, _), codes = both_heard(bench, outs)
    assert codes == [0, 0], resumed[-1]
    begin = next(event.step for event in resumed if isinstance(event, events.RunResumed))
    assert begin >= 2
    bench.spec(**changes | {"parallel": {}})
    _, alone = bench.command("run")
    assert curve(resumed) == pytest.approx(curve(alone)[begin:], rel=1e-3)


def test_a_cancelled_run_in_parts_leaves_both_machines_with_its_last_step_kept(bench, outs):
    parallel = {"nodes": 2, "processes": 2, "shard": "weights"}
    bench.spec(**FULL, epochs=200, evaluate_every=1000, parallel=parallel)
    with contextlib.ExitStack() as stack:
        first, second = start_machines(bench, stack, outs, 2)
        heard(first, is_step(3))
        first.send_signal(signal.SIGTERM)
        begun = time.monotonic()
        said = heard(first)
        heard(second)
    assert time.monotonic() - begun < SOON_SECONDS
    assert isinstance(said[-1], events.RunCancelled)
    steps = [3, *(each.step for each in said if isinstance(each, events.TrainStep))]
    assert (said[-1].step, said[-1].resumable) == (steps[-1], True)
    assert first.returncode == EXIT_CANCELLED
    bench.out = outs[0]
    bench.spec(**FULL, epochs=200, evaluate_every=1000, max_steps=steps[-1] + 1)
    code, alone = bench.command("run")
    assert code == 0, alone[-1]
    assert [event.step for event in alone if isinstance(event, events.TrainStep)] == [steps[-1] + 1]


def test_a_trainer_killed_before_the_ring_closed_ends_the_one_on_the_other_machine(bench, outs):
    bench.spec(parallel={"nodes": 2})
    with contextlib.ExitStack() as stack:
        first, second = start_machines(bench, stack, outs)
        second.send_signal(signal.SIGSTOP)
        while not any(each.raddr for each in psutil.Process(first.pid).net_connections()):
            time.sleep(0.1)
        second.kill()
        begun = time.monotonic()
        said = heard(first)
        second.stdout.close()
    assert time.monotonic() - begun < SOON_SECONDS
    assert [event.code for event in said] == ["parallel.lost"]
