"""Bad commands, specs, keys and data end in one clear event and the documented exit code."""

import io
import json
import subprocess
import sys

import pytest

from trainers import events


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("", "keys.missing"),
        ("\n", "keys.missing"),
        ("hello\n", "keys.invalid"),
        ('{"data_key":"00"}\n', "keys.invalid"),
        (json.dumps({"data_key": "0" * 64, "output_key": "z" * 64}) + "\n", "keys.invalid"),
    ],
)
def test_keys_come_over_stdin_or_not_at_all(bench, line, code):
    bench.spec()
    exit_code, said = bench.command("validate", stdin=io.StringIO(line))
    assert (exit_code, said[-1].code) == (2, code)
    assert "stdin" in said[-1].hint


def test_a_wrong_key_is_told_from_broken_data(bench, kit):
    bench.spec()
    code, said = bench.command("validate", stdin=io.StringIO(bench.key_line.replace(bench.data_key.hex(), "0" * 64)))
    assert (code, said[-1].code) == (2, "data.unreadable")
    assert "WrongKey" in said[-1].message
    sealed = bench.root / "train.sealed"
    sealed.write_bytes(sealed.read_bytes()[:-1])
    code, said = bench.command("validate")
    assert (code, said[-1].code) == (2, "data.unreadable")
    assert kit.secret not in str(said)


def test_validate_reads_everything_and_writes_nothing(bench, kit):
    bench.spec()
    code, said = bench.command("validate")
    assert code == 0
    assert isinstance(said[-1], events.SpecValid)
    assert said[-1].records == 24 + 6 + 8
    assert [event.split for event in kit.of(events.DataLoaded, said)] == ["train", "validation", "test"]
    assert not bench.out.exists()


def test_all_bad_lines_of_a_shard_are_named_and_none_is_quoted(bench, kit):
    good = kit.records(2)
    bad = [
        b"{not json\n",
        {"id": "x", "messages": []},
        {"id": 5, "messages": good[0]["messages"]},
        {"id": "x", "messages": [{"role": "user", "content": kit.secret}]},
        {"id": "x", "messages": [{"role": "robot", "content": "a"}, {"role": "assistant", "content": 5}]},
        {"id": "x", "messages": [{"role": "assistant", "content": "a", "weight": 2}]},
        b"\xff\xfe\n",
        b"[" * 5000 + b"\n",
    ]
    bench.seal("train", [good[0], *bad, good[1]])
    bench.spec()
    code, said = bench.command("validate")
    assert (code, said[-1].code) == (2, "data.invalid")
    assert [f"train line {number}" in said[-1].message for number in range(1, 11)] == [False, *[True] * 8, False]
    assert kit.secret not in str(said)


def test_an_empty_shard_is_refused(bench):
    bench.seal("train", [])
    bench.spec()
    assert bench.command("validate")[1][-1].code == "data.empty"


def test_unknown_keys_bad_usage_and_missing_files_are_refused(bench):
    bench.spec(colour="red")
    code, said = bench.command("run")
    assert (code, said[-1].code) == (2, "spec.invalid")
    assert "'colour': unknown key" in said[-1].message
    (bench.root / "spec.json").unlink()
    assert bench.command("run")[1][-1].code == "spec.unreadable"
    assert bench.command("run", "--fast")[1][-1].code == "usage"
    bench.spec(model={"path": str(bench.root / "nowhere")})
    assert bench.command("run")[1][-1].code == "model.missing"


def test_a_pinned_model_must_be_that_model(bench):
    bench.spec(model={"path": str(bench.model), "digest": "sha256:" + "0" * 64})
    code, said = bench.command("validate")
    assert (code, said[-1].code) == (2, "model.digest")


def test_trainers_run_without_django():
    code = (
        "import sys; sys.modules['django'] = None\n"
        "import trainers.cli, trainers.run, trainers.evaluation, trainers.serving, trainers.bundled\n"
        "assert not [name for name in sys.modules if name.startswith(('django.', 'steward'))]"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
