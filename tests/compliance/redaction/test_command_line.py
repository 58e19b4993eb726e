"""The command line writes all or nothing and names the line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from compliance.redaction import Detector, __main__
from compliance.redaction.__main__ import main


@pytest.fixture(autouse=True)
def _shared_detectors(detectors: dict[str, Detector], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(__main__, "Detector", lambda profile: detectors[profile.name])


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "in.jsonl"
    rows = [{"id": 1, "text": "Mr Jan Kowalczyk paid."}, {"id": 2, "text": "Nothing here."}]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def test_detect_writes_spans_in_code_points_and_speed_on_stderr(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out.jsonl"
    assert main(["detect", "--profile", "legal", str(source), str(out)]) == 0
    rows = [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]
    assert rows[0]["spans"][0].keys() == {"start", "end", "type", "score", "rule"}
    assert (rows[0]["spans"][0]["start"], rows[0]["spans"][0]["end"]) == (0, 16)
    assert rows[1]["spans"] == []
    assert "kchars/s" in capsys.readouterr().err


def test_apply_with_one_key_file_is_repeatable(source: Path, tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_text("00" * 32, encoding="ascii")
    outs = [tmp_path / "a.jsonl", tmp_path / "b.jsonl"]
    for out in outs:
        assert main(["apply", "--profile", "healthcare", "--key-file", str(key), str(source), str(out)]) == 0
    assert outs[0].read_bytes() == outs[1].read_bytes()
    assert "Kowalczyk" not in outs[0].read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "line", ["{broken", '{"id": 3}', '["list"]', '{"id": 3, "text": 5}', '{"id": 3, "text": "\\ud800 Kowalczyk"}']
)
def test_a_bad_line_stops_the_run_without_a_partial_file(
    line: str, source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with source.open("a", encoding="utf-8") as lines:
        lines.write(line + "\n")
    out = tmp_path / "out.jsonl"
    assert main(["detect", "--profile", "legal", str(source), str(out)]) == 1
    message = capsys.readouterr().err
    assert "line 3" in message
    assert "Kowalczyk" not in message
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in.jsonl"]
