"""Curves thinned for the screen, and measurements as files that others read."""

import math
import random
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from steward.runs.curves import QUANTITIES, curves_of
from steward.runs.downloads import FORMS, measurements_file
from steward.runs.models import FineTune, Measurement
from steward.runs.tensorboard_file import event_file
from tests.steward.house import House, visits
from tests.steward.runs.paper import say
from trainers.events import TrainStep

START = datetime(2026, 5, 7, 10, tzinfo=UTC)


@pytest.fixture
def fine_tune(db: None, tiny_base: Any) -> FineTune:
    from steward.runs.actions import request_fine_tune

    house = House(policy={"missed_per_1000_max": 1000})
    version = house.approved(visits(9))
    return request_fine_tune(actor=house.analyst, version=version, base_model=tiny_base, name="try")


def measured(fine_tune: FineTune, steps: int, spikes: dict[int, float]) -> None:
    source = random.Random(7)
    Measurement.objects.bulk_create(
        Measurement(
            fine_tune=fine_tune, attempt=1, split=split, step=step, loss=spikes.get(step, 1 + source.random()),
            learning_rate=1e-3 * step / steps, grad_norm=None if step % 3 else source.random(), event_offset=step,
            tokens_per_second=1000.0, memory_bytes=(1 << 40) + step, at=START + timedelta(seconds=step / 8),
        )
        for step in range(1, steps + 1)
        for split in (("train", "validation") if step % 50 == 0 else ("train",))
    )  # fmt: skip


def test_a_curve_that_fits_comes_whole(fine_tune: FineTune) -> None:
    measured(fine_tune, 200, {})
    curves = curves_of(fine_tune)
    assert [step for step, _ in curves["train"]["loss"]] == list(range(1, 201))
    assert [step for step, _ in curves["train"]["grad_norm"]] == list(range(3, 201, 3))
    assert [step for step, _ in curves["validation"]["loss"]] == [50, 100, 150, 200]
    assert "power_watts" not in curves["train"]


def test_a_long_curve_is_thinned_and_keeps_ends_and_single_spikes(fine_tune: FineTune) -> None:
    spikes = {1: 1.5, 3333: 40.0, 5001: -2.0, 6000: 1.25}
    measured(fine_tune, 6000, spikes)
    curves = curves_of(fine_tune, most=400)["train"]
    for quantity in ("loss", "learning_rate", "grad_norm", "memory_bytes"):
        steps = [step for step, _ in curves[quantity]]
        assert steps == sorted(set(steps))
        assert 200 <= len(steps) <= 400, quantity
    assert spikes.items() <= dict(curves["loss"]).items()
    assert set(map(tuple, curves["loss"])) <= set(
        Measurement.objects.filter(fine_tune=fine_tune, split="train").values_list("step", "loss")
    )


def test_only_what_came_since_is_asked_for_again(fine_tune: FineTune) -> None:
    measured(fine_tune, 60, {})
    assert [step for step, _ in curves_of(fine_tune, after=57)["train"]["loss"]] == [58, 59, 60]
    assert curves_of(fine_tune, after=60) == {"train": {}, "validation": {}}


def step(fine_tune: FineTune, number: int, loss: float) -> TrainStep:
    return TrainStep(str(fine_tune.pk), number, 9, 0.5, number, loss, 1e-3, 1.0, 50.0, 1 << 20, 3.0, 61.0, 250.5)


def test_a_step_repeated_after_a_resume_replaces_its_point_and_is_told_to_whoever_watches(fine_tune: FineTune) -> None:
    say(fine_tune, step(fine_tune, 1, 3.0), step(fine_tune, 2, 2.0), step(fine_tune, 3, 1.0))
    seen = fine_tune.event_offset
    fine_tune.attempt = 2
    say(fine_tune, step(fine_tune, 2, 2.5))
    assert curves_of(fine_tune)["train"]["loss"] == [[1, 3.0], [2, 2.5], [3, 1.0]]
    assert curves_of(fine_tune, after=seen)["train"]["loss"] == [[2, 2.5]]
    assert curves_of(fine_tune)["train"]["power_watts"] == [[1, 250.5], [2, 250.5], [3, 250.5]]
    assert fine_tune.measurements.get(step=2).temperature_celsius == 61.0


def test_tensorboards_own_reader_gives_back_every_measurement(fine_tune: FineTune, tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    measured(fine_tune, 120, {})
    answer = measurements_file(fine_tune, "tensorboard")
    assert "try.tfevents" in answer.headers["Content-Disposition"]
    (tmp_path / "try.tfevents").write_bytes(answer.getvalue())
    read = EventAccumulator(str(tmp_path), size_guidance={"scalars": 0}).Reload()
    rows = list(Measurement.objects.filter(fine_tune=fine_tune).order_by("step"))
    for split, name in (("train", "train"), ("validation", "held_out")):
        for quantity in QUANTITIES:
            wanted = [row for row in rows if row.split == split and getattr(row, quantity) is not None]
            tag = f"{name}/{quantity}"
            if not wanted:
                assert tag not in read.Tags()["scalars"]
                continue
            found = read.Scalars(tag)
            assert [(event.step, event.wall_time) for event in found] == [(r.step, r.at.timestamp()) for r in wanted]
            for event, row in zip(found, wanted, strict=True):
                assert math.isclose(event.value, getattr(row, quantity), rel_tol=1e-6)


def test_the_event_file_equals_another_writers_byte_by_byte() -> None:
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import Summary

    rows = [
        {"split": "train", "step": step, "at": START, **dict.fromkeys(QUANTITIES, None), "loss": loss, "grad_norm": 0.1}
        for step, loss in ((0, 0.0), (1, -1.5), (127, 3.4e37), (128, 1e-30), (2**31 - 1, 7.0))
    ]
    seconds = START.timestamp()
    events = [Event(wall_time=seconds, file_version="brain.Event:2")]
    for row in rows:
        values = [Summary.Value(tag=f"train/{name}", simple_value=row[name]) for name in ("loss", "grad_norm")]
        events.append(Event(wall_time=seconds, step=row["step"], summary=Summary(value=values)))
    expected = b"".join(framed(event.SerializeToString()) for event in events)
    assert b"".join(event_file(rows)) == expected


def test_a_figure_too_large_for_four_bytes_is_infinite_and_no_error() -> None:
    row = {"split": "train", "step": 1, "at": START, **dict.fromkeys(QUANTITIES, None), "loss": -1e39}
    assert b"".join(event_file([row])).count(b"train/loss\x15\x00\x00\x80\xff") == 1


def framed(record: bytes) -> bytes:
    """A record as the tensorboard package's writer frames it."""
    import io

    from tensorboard.summary.writer.record_writer import RecordWriter

    sink = io.BytesIO()
    RecordWriter(sink).write(record)
    return sink.getvalue()


def test_files_are_streamed_and_hold_every_row(fine_tune: FineTune) -> None:
    measured(fine_tune, 5000, {})
    for form in FORMS:
        answer = measurements_file(fine_tune, form)
        assert answer.streaming
        content = answer.getvalue()
        if form == "csv":
            assert len(content.splitlines()) == 1 + 5100
