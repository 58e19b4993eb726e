"""The main job as its user runs it: one command, in an empty home, and what it leaves behind."""

import json
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from domains.packs import load_pack
from domains.synthetic import generate_with_identifiers

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
ROOT = Path(__file__).resolve().parents[2]
RECORDS = 240
Manage = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def demo_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("demo") / "home"


@pytest.fixture(scope="module")
def outcome(demo_home: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    """The demo of the healthcare domain with fewer records than its own, run once for all tests here."""
    import os

    target = demo_home.parent / "demo.json"
    done = subprocess.run(
        [sys.executable, str(ROOT / "manage.py"), "demo", "--records", str(RECORDS), "--json", str(target)],
        env={**os.environ, "STEWARD_HOME": str(demo_home), "TMPDIR": str(demo_home.parent), "OMP_NUM_THREADS": "2"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    told: dict[str, object] = json.loads(target.read_text())
    return told


def test_the_tuned_model_beats_the_base_and_the_ledger_verifies(outcome: dict[str, object]) -> None:
    assert outcome["records"] == RECORDS
    assert outcome["findings"] > 100  # type: ignore[operator]
    assert outcome["tuned_score"] > outcome["base_score"] + 0.2  # type: ignore[operator]
    assert outcome["ledger_verified"] is True


def test_neither_home_nor_temporary_folder_hold_a_planted_identifier(
    outcome: dict[str, object], demo_home: Path
) -> None:
    pack = load_pack("healthcare")
    workflow = pack.workflow(pack.demo_workflow)
    planted = generate_with_identifiers(pack, workflow.dataset, 20, RECORDS)
    identifiers = sorted({each for _, found in planted for each in found if len(each) >= 9})
    assert len(identifiers) > 100
    patterns = demo_home.parent / "identifiers.txt"
    patterns.write_text("\n".join(identifiers))
    found = subprocess.run(
        ["grep", "-rlaF", "-f", str(patterns), "--exclude", patterns.name, str(demo_home.parent)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert found.stdout == ""


def test_a_changed_byte_in_the_evidence_is_noticed_by_the_verifier_inside_it(
    outcome: dict[str, object], tmp_path: Path
) -> None:
    with tarfile.open(str(outcome["evidence"])) as bundle:
        bundle.extractall(tmp_path, filter="data")
    verify = [sys.executable, "-I", str(tmp_path / "verifier" / "verify.py"), str(tmp_path)]
    assert subprocess.run(verify, capture_output=True, check=False).returncode == 0
    card = tmp_path / "model-card.md"
    card.write_bytes(card.read_bytes().replace(b"0", b"1", 1))
    told = subprocess.run(verify, capture_output=True, text=True, check=False)
    assert told.returncode == 1
    assert "model-card.md" in told.stderr
