"""How soon a trainer is gone that was asked to stop, whatever it is at."""

import json
import signal
import subprocess
import sys
import threading
import time

import pytest

from trainers.errors import EXIT_CANCELLED, EXIT_PAUSED
from trainers.process import Stop
from trainers.saved_step import HEADER_FILE, saved_step
from trainers.sealed import CHECKPOINT_FILE

# The call of torch would take hours, on no memory: whoever waits for its end does not come back.
BUSY = """
import sys
from trainers import process
from trainers.events import RunCancelled, RunPaused
process.GRACE_SECONDS = 0.5
process.prepare_process()
import torch
say = process.Speaker(sys.stdout)
stop = process.Stop(say, lambda: RunCancelled("r", 0, False), lambda: RunPaused("r", 0, False))
with stop.listening():
    print("busy", flush=True)
    torch.ones(()).expand(10**14).sum()
"""

# A child says which signals it blocks, and that one can end it.
PARENT = """
import signal, subprocess, sys
from trainers import process
from trainers.events import RunCancelled, RunPaused
process.prepare_process()
stop = process.Stop(process.Speaker(sys.stdout), lambda: RunCancelled("r", 0, False), lambda: RunPaused("r", 0, False))
child = "import signal, os; print(len(signal.pthread_sigmask(signal.SIG_BLOCK, ())), flush=True); "
child += "print([signal.getsignal(each) == signal.SIG_DFL for each in (signal.SIGTERM, signal.SIGUSR1)], flush=True); "
child += "print([name for name in os.listdir('/proc/self/fd') if int(name) > 3], flush=True)"
with stop.listening():
    subprocess.run([sys.executable, "-c", child], check=True)
"""


@pytest.mark.parametrize(
    ("number", "code", "kind"),
    [(signal.SIGTERM, EXIT_CANCELLED, "run.cancelled"), (signal.SIGUSR1, EXIT_PAUSED, "run.paused")],
)
def test_the_time_to_leave_begins_with_the_signal_though_one_call_of_torch_keeps_the_main_thread(number, code, kind):
    with subprocess.Popen([sys.executable, "-c", BUSY], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "busy\n"
        time.sleep(0.3)
        begun = time.monotonic()
        process.send_signal(number)
        (last,) = process.stdout.read().splitlines()
        assert process.wait() == code
        assert 0.4 < time.monotonic() - begun < 3
        assert json.loads(last)["event"] == kind


def test_a_process_started_by_one_that_listens_blocks_no_signal_and_inherits_no_ear():
    said = subprocess.run([sys.executable, "-c", PARENT], capture_output=True, text=True, check=True).stdout
    assert said.splitlines() == ["0", "[True, True]", "[]"]


def test_afterwards_signals_and_threads_are_as_before():
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)}
    threads = threading.active_count()
    for _ in range(3):
        with Stop(lambda event: None, lambda: None, lambda: None).listening():
            pass
    assert {number: signal.getsignal(number) for number in before} == before
    assert signal.set_wakeup_fd(-1) == -1
    assert threading.active_count() == threads


def test_the_last_words_need_no_torch(tmp_path):
    assert saved_step(None) == saved_step(tmp_path) == (0, False)
    (tmp_path / CHECKPOINT_FILE).touch()
    (tmp_path / HEADER_FILE).write_text('{"step": 7}')
    code = "import sys, pathlib; from trainers.cli import saved_step; print(*saved_step(pathlib.Path(sys.argv[1])));"
    code += "assert 'torch' not in sys.modules"
    said = subprocess.run([sys.executable, "-c", code, tmp_path], capture_output=True, text=True, check=True).stdout
    assert said == "7 True\n"
