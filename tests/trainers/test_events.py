"""Events survive the line and refuse what they do not declare."""

import dataclasses
import math
import typing

import pytest

from trainers import events

SAMPLES = {str: "x", int: 7, float: 0.5, bool: True, list[str]: ["a"], list[float]: [0.25, 1.0], float | None: 2.5}
SAMPLES |= {list[int]: [3], list[bool]: [True, False], int | None: 2}


def sample(kind):
    hints = typing.get_type_hints(kind)
    return kind(**{field.name: SAMPLES[hints[field.name]] for field in dataclasses.fields(kind)})


@pytest.mark.parametrize("kind", events.EVENTS.values(), ids=events.EVENTS)
def test_every_event_survives_encode_and_decode(kind):
    line = events.encode(sample(kind))
    assert "\n" not in line
    assert events.decode(line) == sample(kind)


def test_a_loss_that_is_not_a_number_is_null_on_the_line():
    line = events.encode(events.EvalLoss(run="r", step=1, loss=math.nan, best=False))
    assert '"loss":null' in line
    assert math.isnan(events.decode(line).loss)


@pytest.mark.parametrize(
    "line",
    [
        "hello",
        "[]",
        '{"event":"run.exploded"}',
        '{"event":"eval.loss","run":"r","step":1,"loss":1.0}',
        '{"event":"eval.loss","run":"r","step":"1","loss":1.0,"best":true}',
        '{"event":"eval.loss","run":"r","step":1,"loss":1.0,"best":true,"text":"x"}',
        '{"event":"run.cancelled","run":"r","step":true,"resumable":true}',
        "[" * 100_000,
    ],
)
def test_lines_that_are_no_event_are_refused(line):
    with pytest.raises(events.EventError):
        events.decode(line)


def test_a_sensor_that_is_not_there_is_null_and_may_be_absent():
    step = events.TrainStep("r", 1, 2, 0.5, 10, 1.0, 1e-3, 1.0, 100.0, 1 << 20, 3.0)
    line = events.encode(step)
    assert '"power_watts":null' in line
    assert events.decode(line) == step
    earlier = line.replace(',"temperature_celsius":null,"power_watts":null', "")
    assert earlier != line
    assert events.decode(earlier) == step


def test_a_cluster_that_did_not_say_how_many_nodes_it_has_is_null():
    waiting = events.RemoteWaiting("r", wanted=3, nodes=None)
    line = events.encode(waiting)
    assert '"nodes":null' in line
    assert events.decode(line) == waiting
