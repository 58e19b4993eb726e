"""``python -m trainers.tagger`` as its user runs it, on a handful of made-up texts."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from compliance.redaction.tagger import Tagger
from trainers.tagger import __main__
from trainers.tagger.background import SOURCES

ROOT = Path(__file__).resolve().parents[3]
PEOPLE = [
    "Ann Lee",
    "Bo Marsh",
    "Cy Young",
    "Di Stone",
    "Ed Frost",
    "Fay Wood",
    "Gus Hill",
    "Ida Moor",
    "Jo Pike",
    "Lu Fox",
]
SMALL = ["--layers", "1", "--epochs", "1", "--made", "4", "--background", "5", "--courts", "1"]
SMALL += ["--share", "0.002", "--pieces", "2000", "--threads", "1"]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Every file that the command reads, of a few lines each."""
    folder = tmp_path / "data"
    gold = []
    for number, name in enumerate(PEOPLE):
        text = f"The nurse saw {name} in the clinic."
        span = {"start": 14, "end": 14 + len(name), "type": "PERSON", "must_mask": True}
        gold.append({"id": str(number), "group": name, "text": text, "gold": [span]})
    public = [{"text": "The contract ends when either party says so in writing and a month has passed since. " * 2}]
    for name, rows in {
        "pii/tab-train.gold.jsonl": gold,
        "pii/presidio-v2.gold.jsonl": gold,
        **dict.fromkeys(SOURCES, public),
    }.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def command(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "trainers.tagger", *map(str, arguments)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.slow
def test_it_trains_scores_what_was_held_out_and_goes_on_from_a_kept_encoder(data: Path, tmp_path: Path) -> None:
    kept = tmp_path / "kept" / "encoder.onnx"
    done = command("--data", data, "--out", tmp_path / "out", "--keep-teacher", kept, *SMALL)
    assert done.returncode == 0, done.stderr
    assert [title for title in ("court cases", "short texts", "made texts") if f"{title} at 0.50" in done.stdout] == [
        "court cases", "short texts", "made texts",
    ]  # fmt: skip
    Tagger(tmp_path / "out")
    again = command("--data", data, "--out", tmp_path / "all", "--teacher", kept, "--all", *SMALL)
    assert again.returncode == 0, again.stderr
    assert "epoch" not in again.stdout
    # Of texts that were trained on there is nothing to be told.
    assert again.stdout.splitlines()[-1] == "nothing was held out, so nothing is scored"
    Tagger(tmp_path / "all")


def test_what_is_missing_is_named_before_anything_is_trained(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def told(*arguments: object) -> str:
        monkeypatch.setattr(sys, "argv", ["tagger", "--data", str(data), *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            __main__.main()
        assert ended.value.code == 2
        return capsys.readouterr().err.strip().splitlines()[-1]

    missing = data / "legal" / "cuad_clauses.jsonl"
    missing.rename(tmp_path / "aside")
    assert "lacks legal/cuad_clauses.jsonl; compliance/redaction/model/CARD.md" in told("--out", tmp_path / "out")
    (tmp_path / "aside").rename(missing)
    assert "there is no encoder at" in told("--out", tmp_path / "out", "--teacher", tmp_path / "none.onnx")
    assert "nothing can be written to" in told("--out", missing)
    assert "--share is above 0" in told("--out", tmp_path / "out", "--share", 0)
