"""A bound leaves an alarm that was set before it as it was: another bound's, or that of whoever runs the process."""

import signal
import time

import pytest

from trainers.bounds import bounded

GIGABYTE = 1 << 30


def within(outer: float, inner: float, *, before: float, behind: float) -> None:
    with bounded(seconds=outer, more_bytes=GIGABYTE):
        with bounded(seconds=inner, more_bytes=GIGABYTE):
            time.sleep(before)
        time.sleep(behind)


@pytest.mark.parametrize(("before", "behind"), [(0.1, 30.0), (30.0, 0.0)])
def test_an_outer_bound_rings_within_an_inner_one_and_behind_it(before, behind):
    begun = time.monotonic()
    with pytest.raises(TimeoutError):
        within(0.4, 60.0, before=before, behind=behind)
    assert time.monotonic() - begun < 20


def test_an_alarm_from_before_goes_on():
    left, handler = signal.getitimer(signal.ITIMER_REAL)[0], signal.getsignal(signal.SIGALRM)
    signal.setitimer(signal.ITIMER_REAL, 500)
    try:
        within(5, 5, before=0, behind=0)
        assert 400 < signal.getitimer(signal.ITIMER_REAL)[0] <= 500
        assert signal.getsignal(signal.SIGALRM) is handler
    finally:
        signal.setitimer(signal.ITIMER_REAL, left)
