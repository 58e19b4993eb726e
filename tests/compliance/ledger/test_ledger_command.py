"""The verifier as a command, and on its own from inside a bundle."""

import subprocess
import sys
import tarfile
from dataclasses import replace

import pytest

from compliance.ledger.__main__ import main
from compliance.ledger.bundle import (
    verifier_source,
)

FILES = {"model-card.md": b"# A model\n", "gates/results.json": b"{}\n"}


def test_the_command_says_what_holds_and_what_does_not(ledger, tmp_path, capsys):
    path = str(ledger.export(tmp_path / "e.tar"))
    (tmp_path / "held").write_text(ledger.notes[4])
    assert main(["verify", path, "--key", str(ledger.vkey), "--checkpoint", str(tmp_path / "held")]) == 0
    said = capsys.readouterr().out
    assert "60 verified" in said
    assert ledger.tree.root().hex() in said
    assert "continues the checkpoint of size 50" in said
    assert "VERIFIED under the key that you gave" in said

    assert main(["verify", path]) == 0
    said = capsys.readouterr().out
    assert "TRUST IS NOT ESTABLISHED" in said
    assert "VERIFIED" not in said

    ledger.entries[17] = replace(ledger.entries[17], body=ledger.entries[16].body)
    assert main(["verify", str(ledger.export(tmp_path / "f.tar")), "--key", str(ledger.vkey)]) == 1
    output = capsys.readouterr()
    assert output.out == ""
    assert "NOT VERIFIED: entry 17 was changed" in output.err
    assert main(["verify", str(tmp_path / "missing")]) != 0


@pytest.mark.parametrize("arguments", [["--key", "nonsense"], ["--checkpoint", "/missing"], ["--unknown"]])
def test_the_command_refuses_a_wrong_question(ledger, tmp_path, capsys, arguments):
    with pytest.raises(SystemExit) as caught:
        main(["verify", str(tmp_path), *arguments])
    assert caught.value.code == 2
    capsys.readouterr()


def run_alone(*command):
    return subprocess.run([sys.executable, "-I", *command], cwd="/", env={}, capture_output=True, text=True)


def test_the_verifier_runs_alone_from_inside_the_evidence(ledger, tmp_path):
    path = ledger.evidence(tmp_path / "evidence.tar", {**FILES, **verifier_source()})
    with tarfile.open(path) as tar:
        tar.extractall(tmp_path / "folder", filter="data")
    start = tmp_path / "folder/verifier/verify.py"
    for bundle in (path, tmp_path / "folder", tmp_path / "folder"):
        done = run_alone(start, bundle, "--key", str(ledger.vkey))
        assert (done.returncode, done.stderr) == (0, "")
        assert "entry 60 records them" in done.stdout
    (tmp_path / "folder/model-card.md").write_bytes(b"forged")
    done = run_alone(start, tmp_path / "folder", "--key", str(ledger.vkey))
    assert done.returncode == 1
    assert "model-card.md was changed" in done.stderr


def test_the_verifier_needs_nothing_but_cryptography(ledger, tmp_path):
    path = ledger.evidence(tmp_path / "evidence.tar", {**FILES, **verifier_source()})
    with tarfile.open(path) as tar:
        tar.extractall(tmp_path / "folder", filter="data")
    code = (
        "import runpy, sys\n"
        "known = set(sys.modules)\n"
        "del sys.argv[0]\n"
        "try: runpy.run_path(sys.argv[0], run_name='__main__')\n"
        "except SystemExit as end: assert end.code == 0\n"
        "new = {name.partition('.')[0] for name in set(sys.modules) - known}\n"
        "print(*new - set(sys.stdlib_module_names))\n"
    )
    done = run_alone("-c", code, tmp_path / "folder/verifier/verify.py", path)
    assert done.returncode == 0, done.stderr
    allowed = {"cryptography", "_cffi_backend", "_openssl", "ledger_verifier"}
    assert set(done.stdout.splitlines()[-1].split()) <= allowed


def test_the_module_runs_as_a_command_without_django(ledger, tmp_path):
    path = ledger.export(tmp_path / "e.tar")
    code = (
        "import sys; from compliance.ledger.__main__ import main\n"
        "status = main(['verify', sys.argv[1]])\n"
        "heavy = {'django', 'torch', 'spacy', 'compliance.vault', 'compliance.redaction'} & set(sys.modules)\n"
        "sys.exit(f'loaded {heavy}' if heavy else status)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
