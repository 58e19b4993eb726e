"""Files through the vault: complete or not there, and the commands around them."""

import io
import json
import os
import signal
import stat
import subprocess
import sys
import time
from contextlib import suppress

import pytest

from compliance.vault import ObjectContext, VaultError, atomic_output, open_file, seal_file
from compliance.vault.__main__ import main
from compliance.vault.segments import SEGMENT_BYTES

KEY = bytes(range(32))
CONTEXT = ObjectContext("w1", "d7", "o9", "file", "1")
CONTENT = b"confidential " * 200_000


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "plain").write_bytes(CONTENT)
    return tmp_path


def test_a_file_comes_back_and_is_for_its_owner_only(folder):
    commitment = seal_file(folder / "plain", folder / "sealed", KEY, CONTEXT)
    assert open_file(folder / "sealed", folder / "again", KEY, CONTEXT, commitment) == len(CONTENT)
    assert (folder / "again").read_bytes() == CONTENT
    assert stat.S_IMODE((folder / "again").stat().st_mode) == 0o600


def test_a_damaged_file_leaves_no_output_and_an_older_output_alone(folder):
    seal_file(folder / "plain", folder / "sealed", KEY, CONTEXT)
    data = bytearray((folder / "sealed").read_bytes())
    data[2 * SEGMENT_BYTES + 100] ^= 1
    (folder / "sealed").write_bytes(data)
    (folder / "old").write_bytes(b"old")
    for name in ("new", "old"):
        with pytest.raises(VaultError, match="segment 2"):
            open_file(folder / "sealed", folder / name, KEY, CONTEXT)
    assert sorted(os.listdir(folder)) == ["old", "plain", "sealed"]
    assert (folder / "old").read_bytes() == b"old"


def test_an_output_is_invisible_until_it_is_complete(tmp_path):
    with atomic_output(tmp_path / "file") as sink:
        sink.write(b"half")
        sink.flush()
        assert not (tmp_path / "file").exists()
    assert (tmp_path / "file").read_bytes() == b"half"
    with suppress(RuntimeError), atomic_output(tmp_path / "file") as sink:
        sink.write(b"other")
        raise RuntimeError
    assert (tmp_path / "file").read_bytes() == b"half"
    assert os.listdir(tmp_path) == ["file"]


def test_systems_without_nameless_files_get_the_same_promises(tmp_path, monkeypatch):
    monkeypatch.delattr(os, "O_TMPFILE")
    test_an_output_is_invisible_until_it_is_complete(tmp_path)
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o600


@pytest.mark.skipif(not hasattr(os, "O_TMPFILE"), reason="only Linux has nameless files")
def test_a_killed_process_leaves_nothing_behind(tmp_path):
    code = (
        "import sys, time; from pathlib import Path; from compliance.vault import atomic_output\n"
        "with atomic_output(Path(sys.argv[1])) as sink:\n"
        "    sink.write(b'plaintext'); sink.flush(); print('ready', flush=True); time.sleep(60)\n"
    )
    child = subprocess.Popen([sys.executable, "-c", code, tmp_path / "out"], stdout=subprocess.PIPE)
    assert child.stdout.readline() == b"ready\n"
    child.send_signal(signal.SIGKILL)
    child.wait(10)
    child.stdout.close()
    assert os.listdir(tmp_path) == []


KEY_LINE = KEY.hex() + "\n"


def run(monkeypatch, capsys, *arguments, stdin=KEY_LINE):
    monkeypatch.setattr(sys, "stdin", io.StringIO(stdin))
    status = main([str(argument) for argument in arguments])
    output = capsys.readouterr()
    assert KEY.hex() not in output.out + output.err
    return status, output


def test_commands_seal_describe_and_open(folder, monkeypatch, capsys):
    place = ["--workspace", "w1", "--object", "o9"]
    status, output = run(monkeypatch, capsys, "seal", folder / "plain", *place)
    assert status == 0
    sealed = json.loads(output.out)
    assert sealed["file"] == str(folder / "plain.sealed")

    status, output = run(monkeypatch, capsys, "info", folder / "plain.sealed", stdin="")
    assert status == 0
    assert json.loads(output.out)["bytes"] == len(CONTENT)
    assert json.loads(output.out)["segments"] == 3

    (folder / "plain").unlink()
    command = ["open", folder / "plain.sealed", *place, "--commitment", sealed["commitment"]]
    assert run(monkeypatch, capsys, *command)[0] == 0
    assert (folder / "plain").read_bytes() == CONTENT


def test_commands_refuse_wrong_keys_places_and_objects(folder, monkeypatch, capsys):
    run(monkeypatch, capsys, "seal", folder / "plain", folder / "sealed")
    out = folder / "out"
    status, output = run(monkeypatch, capsys, "open", folder / "sealed", out, stdin="ab" * 32 + "\n")
    assert (status, "another key" in output.err) == (1, True)
    assert run(monkeypatch, capsys, "open", folder / "sealed", out, "--dataset", "d8")[0] == 1
    assert run(monkeypatch, capsys, "open", folder / "plain", out)[0] == 1
    assert run(monkeypatch, capsys, "info", folder / "plain")[0] == 1
    assert run(monkeypatch, capsys, "open", folder / "missing", out)[0] == 2
    assert run(monkeypatch, capsys, "open", folder / "sealed")[0] == 2
    assert not out.exists()


@pytest.mark.parametrize("line", ["", "abc\n", "zz" * 32, "ab" * 31, "ab" * 40 + "\n"])
def test_commands_refuse_a_malformed_key_without_showing_it(folder, monkeypatch, capsys, line):
    status, output = run(monkeypatch, capsys, "seal", folder / "plain", stdin=line)
    assert status == 2
    assert "64 hexadecimal digits" in output.err
    assert not line.strip() or line.strip() not in output.err
    assert not (folder / "plain.sealed").exists()


def test_the_module_runs_as_a_command(folder):
    command = [sys.executable, "-m", "compliance.vault", "seal", folder / "plain"]
    started = time.monotonic()
    done = subprocess.run(command, input=KEY.hex() + "\n", capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["commitment"]
    assert KEY.hex() not in done.stdout + done.stderr
    assert time.monotonic() - started < 30
