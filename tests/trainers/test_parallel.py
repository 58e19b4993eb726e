"""Several processes learn as one would, and fail as one: real processes, joined by gloo on a CPU."""

import os
import signal
import time

import psutil
import pytest
import torch

from tests.trainers.started import heard, start
from trainers import events
from trainers.parallel import ALONE, Place, Ranks

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
TWO = {"parallel": {"processes": 2}}
LOST_HINT = "run again, it goes on from its checkpoint; is memory short?"


def run(bench, **changes):
    with start(bench, **changes) as process:
        said = heard(process)
    return process.returncode, said


def curve(said, kind=events.TrainStep):
    return [event.loss for event in said if isinstance(event, kind)]


@pytest.mark.parametrize(
    "changes",
    [{}, {"packing": "bucket", "way": "full", "optimiser": {"learning_rate": 0.002}}],
    ids=["lora", "full"],
)
def test_two_processes_learn_as_one_does(bench, kit, changes, tmp_path):
    changes = {"epochs": 2, **changes}
    code, alone = run(bench, **changes)
    assert code == 0, alone[-1]
    bench.out = tmp_path / "two"
    code, both = run(bench, **changes, **TWO)
    assert code == 0, both[-1]
    assert len(curve(both)) == len(curve(alone)) > 4
    assert curve(both) == pytest.approx(curve(alone), rel=2e-4)
    assert curve(both, events.EvalLoss) == pytest.approx(curve(alone, events.EvalLoss), rel=2e-4)
    norms = [[each.grad_norm for each in kit.of(events.TrainStep, said)] for said in (alone, both)]
    assert norms[1] == pytest.approx(norms[0], rel=2e-3)
    assert both[-1].tokens == alone[-1].tokens
    assert sorted(path.name for path in bench.out.iterdir() if "meeting" in path.name) == []


def test_pairs_are_measured_against_the_same_reference_by_two_as_by_one(bench, kit, tmp_path):
    for name, seed in (("train", 1), ("validation", 2)):
        yes = {"role": "assistant", "content": "yes"}
        made = kit.records(8, seed=seed, name=name)
        bench.seal(name, [{**each, "messages": [each["messages"][0], yes], "rejected": "no"} for each in made])
    changes = {"method": "dpo", "epochs": 1}
    code, alone = run(bench, **changes)
    assert code == 0, alone[-1]
    bench.out = tmp_path / "two"
    code, both = run(bench, **changes, **TWO)
    assert code == 0, both[-1]
    assert curve(both) == pytest.approx(curve(alone), rel=1e-3)
    seen = [[each.accuracy for each in kit.of(events.PreferenceMeasured, said)] for said in (alone, both)]
    assert seen[0] == seen[1]


def test_a_run_of_two_that_is_killed_goes_on_as_if_nothing_had_been(bench, kit, tmp_path):
    changes = {"epochs": 3, "checkpoint_every": 2, "lora": {"rank": 4, "alpha": 8, "dropout": 0.1}, **TWO}
    code, said = run(bench, **changes)
    assert code == 0, said[-1]
    expected = said[-1].adapter_digest
    bench.out = tmp_path / "killed"
    with start(bench, **changes) as process:
        heard(process, lambda event: isinstance(event, events.TrainStep) and event.step == 5)
        others = psutil.Process(process.pid).children()
        assert len(others) == 1
        process.kill()
    _, alive = psutil.wait_procs(others, timeout=10)
    assert not alive, "the other process outlived the first"
    assert kit.files_holding(bench.out, bench.output_key.hex().encode()) == []
    code, said = run(bench, **changes)
    assert code == 0, said[-1]
    assert kit.of(events.RunResumed, said)[0].step == 4
    assert said[-1].adapter_digest == expected


def test_the_loss_of_one_process_ends_the_run_in_words_and_it_can_go_on_alone(bench, kit):
    with start(bench, epochs=3, checkpoint_every=2, **TWO) as process:
        heard(process, lambda event: isinstance(event, events.TrainStep) and event.step == 3)
        (other,) = psutil.Process(process.pid).children()
        assert bench.data_key.hex() not in " ".join([*other.cmdline(), *other.environ().values()])
        other.kill()
        said = heard(process)
    assert isinstance(said[-1], events.RunFailed)
    assert said[-1].code == "parallel.lost"
    code, said = run(bench, epochs=3)
    assert code == 0, said[-1]
    assert kit.of(events.RunResumed, said)[0].step >= 2


def the_other(process):
    """The process that the first one starts, as soon as it is there."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        # Before it becomes the trainer it is a copy of the first process.
        for each in psutil.Process(process.pid).children():
            if "--meeting" in each.cmdline():
                return each
        time.sleep(0.01)
    raise AssertionError("the first process started no other")


def ended_in(process):
    """Seconds from now to the process's end, and what it said until then."""
    begun = time.monotonic()
    said = heard(process)
    process.wait(60)
    return time.monotonic() - begun, said


@pytest.fixture
def at_start(monkeypatch, tmp_path):
    """Takes a text that Python runs first in every process."""

    def put(text):
        place = tmp_path / "at-start"
        place.mkdir()
        (place / "sitecustomize.py").write_text(text)
        monkeypatch.setenv("PYTHONPATH", f"{place}:{os.environ.get('PYTHONPATH', '')}")

    return put


@pytest.mark.parametrize("changes", [{}, {"parallel": {"processes": 3}}], ids=["of two", "of three"])
def test_a_process_killed_before_all_have_met_ends_the_run_within_seconds(bench, changes):
    with start(bench, **TWO | changes) as process:
        the_other(process).kill()
        seconds, said = ended_in(process)
    assert seconds < 8
    assert process.returncode == 1
    assert [(each.code, each.hint) for each in said] == [("parallel.lost", LOST_HINT)]
    assert [path.name for path in bench.out.iterdir()] == [".lock"]


def test_a_process_killed_while_the_first_is_busy_loading_ends_the_run_within_seconds(bench, at_start):
    # Only the first process, which has no rank, takes a minute to load the model.
    at_start(
        "import sys, time\n"
        "if sys.argv[1:2] == ['run'] or '--spec' in sys.orig_argv and '--rank' not in sys.orig_argv:\n"
        "    import trainers.base_model as place\n"
        "    place.load_base = lambda *_: time.sleep(60)\n"
    )
    with start(bench, **TWO) as process:
        other = the_other(process)
        heard(process, lambda event: isinstance(event, events.DataLoaded) and event.split == "validation")
        other.kill()
        seconds, said = ended_in(process)
    assert seconds < 8
    assert process.returncode == 1
    assert said[-1].code == "parallel.lost"


def test_what_a_process_says_before_it_dies_is_what_the_run_ended_with(bench, at_start):
    at_start(
        "import sys\n"
        "if '--rank' in sys.orig_argv:\n"
        "    import trainers.cli as place\n"
        "    from trainers.errors import TrainerError\n"
        "    def refuse(*_):\n"
        "        raise TrainerError('machine.broken', 'no such part', 'mend it')\n"
        "    place._group = refuse\n"
    )
    with start(bench, **TWO) as process:
        seconds, said = ended_in(process)
    assert seconds < 20
    assert (said[-1].code, said[-1].message, said[-1].hint) == ("machine.broken", "rank 1: no such part", "mend it")


def test_the_trial_before_a_run_of_two_is_made_by_both_at_once(bench, at_start, tmp_path):
    """Each waits within its own trial for the other's: one after the other they would wait for ever."""
    at_start(
        "import sys\n"
        "if sys.argv[1:2] == ['run'] or '--spec' in sys.orig_argv:\n"
        "    import os, pathlib, time\n"
        "    import trainers.fit as place\n"
        f"    folder, timed = pathlib.Path({str(tmp_path)!r}), place._seconds_a_token\n"
        "    def together(parts):\n"
        "        (folder / f'trial-{os.getpid()}').touch()\n"
        "        while len(list(folder.glob('trial-*'))) < 2:\n"
        "            time.sleep(0.01)\n"
        "        return timed(parts)\n"
        "    place._seconds_a_token = together\n"
    )
    code, said = run(bench, **TWO, max_steps=1)
    assert code == 0, said[-1]
    (told,) = [each for each in said if isinstance(each, events.FitChecked)]
    assert told.seconds > 0
    assert len(list(tmp_path.glob("trial-*"))) == 2


def test_a_run_that_is_stopped_before_all_have_met_is_cancelled(bench):
    with start(bench, **TWO) as process:
        the_other(process).suspend()
        time.sleep(1)
        process.send_signal(signal.SIGTERM)
        seconds, said = ended_in(process)
    assert seconds < 8
    assert isinstance(said[-1], events.RunCancelled)


def test_a_cancelled_run_of_two_is_gone_within_five_seconds(bench):
    with start(bench, epochs=50, **TWO) as process:
        heard(process, lambda event: isinstance(event, events.TrainStep) and event.step == 3)
        others = psutil.Process(process.pid).children()
        begun = time.monotonic()
        os.kill(process.pid, signal.SIGTERM)
        said = heard(process)
        process.wait(10)
    assert time.monotonic() - begun < 5
    assert isinstance(said[-1], events.RunCancelled)
    assert said[-1].step > 2
    assert not psutil.wait_procs(others, timeout=5)[1]


def test_records_are_shared_out_whole_and_evenly():
    lengths = [7, 3, 9, 1, 1, 5, 8]
    parts = [Ranks(Place(rank, 3, ""), "cpu", []).share(list(range(7)), lengths) for rank in range(3)]
    assert sorted(index for part in parts for index in part) == list(range(7))
    loads = [sum(lengths[index] for index in part) for part in parts]
    assert max(loads) - min(loads) <= 2
    assert Ranks(Place(2, 3, ""), "cpu", []).share([4], lengths) == []


def gather_slices(rank, size, meeting, told):
    """One of several processes: scatters and gathers vectors of many lengths and tells what came of it."""
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=meeting, rank=rank, world_size=size)
    group = Ranks(Place(rank, size, meeting), "cpu", [])
    for dtype in (torch.float32, torch.bfloat16):
        for count in (1, 2, 3, 4, 7, 12, 100):
            part = group.scatter(torch.arange(count).to(dtype) * (rank + 1))
            told.put((dtype, count, rank, part.float().tolist(), group.gather(part).float().tolist()))
    torch.distributed.destroy_process_group()


@pytest.mark.parametrize("size", [2, 3])
def test_slices_of_a_sum_cover_a_vector_of_any_length(size, tmp_path, monkeypatch):
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "lo")
    context = torch.multiprocessing.get_context("spawn")
    told = context.Queue()
    argument = (size, f"file://{tmp_path / 'meeting'}", told)
    processes = [context.Process(target=gather_slices, args=(rank, *argument)) for rank in range(size)]
    for each in processes:
        each.start()
    heard = [told.get(timeout=60) for _ in range(size * 2 * 7)]
    for each in processes:
        each.join(60)
        assert each.exitcode == 0
    weight = sum(range(1, size + 1))
    for dtype, count, rank, part, whole in heard:
        length = -(-count // size)
        expected = (torch.arange(count).to(dtype) * weight).float().tolist() + [0.0] * (length * size - count)
        assert whole == expected
        assert part == expected[rank * length : (rank + 1) * length]


def test_one_process_holds_the_whole_vector():
    vector = torch.arange(7.0)
    assert ALONE.gather(ALONE.scatter(vector)) is vector
