"""The spec reader is strict, says everything at once and agrees with the published schema."""

import json
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest

from trainers import spec as specs
from trainers.fields import SpecError

CONTEXT = {"workspace": "w", "dataset": "d", "object": "o", "kind": "shard", "version": "1"}


def minimal() -> dict:
    shard = {"path": "/data/train.sealed", "context": CONTEXT, "commitment": "0" * 64}
    return {
        "schema": "steward.train/1",
        "run": "run-1",
        "model": {"path": "/models/base"},
        "data": {"train": shard, "validation": shard},
        "output": {"context": CONTEXT | {"kind": "adapter"}},
    }


def test_minimal_spec_reads_with_defaults_and_fits_the_schema():
    spec = specs.read_spec(minimal())
    assert (spec.lora.rank, spec.batch_tokens, spec.data.test, spec.too_long) == (16, 2048, None, "refuse")
    jsonschema.Draft202012Validator(specs.json_schema()).validate(minimal())


def test_all_problems_are_reported_at_once_with_their_paths():
    document = minimal() | {"epochs": 0, "speed": "fast", "seed": True, "max_length": 1 << 40}
    document["data"]["train"] = {"path": "x", "context": CONTEXT | {"owner": "me"}, "commitment": "zz"}
    document["optimiser"] = {"learning_rate": float("nan")}
    del document["run"]
    with pytest.raises(SpecError) as caught:
        specs.read_spec(document)
    paths = {problem.split(":")[0] for problem in caught.value.problems}
    assert paths == {
        "run",
        "epochs",
        "'speed'",
        "seed",
        "data.train.context.'owner'",
        "data.train.commitment",
        "optimiser.learning_rate",
        "max_length",
    }
    assert "max_length: must be at most 1,048,576" in caught.value.problems


@pytest.mark.parametrize(
    ("change", "is_accepted"),
    [
        ({"epochs": 3}, True),
        ({"epochs": 1.5}, False),
        ({"max_steps": None}, True),
        ({"lora": {"targets": []}}, False),
        ({"lora": {"dropout": 1.0}}, False),
        ({"method": "guess"}, False),
        ({"model": None}, False),
        ({"unknown": 1}, False),
    ],
)
def test_reader_and_schema_agree(change, is_accepted):
    document = minimal() | change
    assert jsonschema.Draft202012Validator(specs.json_schema()).is_valid(document) is is_accepted
    if is_accepted:
        specs.read_spec(document)
    else:
        with pytest.raises(SpecError):
            specs.read_spec(document)


def test_published_schema_file_equals_the_code():
    published = json.loads(Path(specs.__file__).with_name("spec.schema.json").read_text())
    assert published == json.loads(json.dumps(specs.json_schema()))


def test_load_refuses_doubled_keys_depth_and_broken_json(tmp_path):
    for text, word in [('{"run":"a","run":"b"}', "twice"), ("[" * 100_000, "deeply"), ("{", "not JSON")]:
        path = tmp_path / "spec.json"
        path.write_text(text)
        with pytest.raises(SpecError, match=word):
            specs.load_spec(path)


def test_identity_ignores_how_long_and_where_but_not_what():
    first = specs.read_spec(minimal())
    longer = specs.read_spec(minimal() | {"epochs": 5, "micro_tokens": 64, "model": {"path": "/elsewhere"}})
    other = specs.read_spec(minimal() | {"seed": 1})
    assert specs.identity(first) == specs.identity(longer) != specs.identity(other)


def test_a_spec_of_the_first_version_keeps_its_identity():
    """Checkpoints that were made before a setting existed can be taken up after it came."""
    first = "sha256:1a8bae3811d2382a05dce242e38cc8ad886970d3b6a8f2343f20cde5b65f5a8e"
    assert specs.identity(specs.read_spec(minimal())) == first
    explicit = minimal()
    for name, default in specs.LATER.items():
        place, _, key = name.rpartition(".")
        held = explicit.setdefault(place, {}) if place else explicit
        held[key] = dict(default) if isinstance(default, dict) else default
    assert specs.identity(specs.read_spec(explicit)) == first
    for change in ({"prompt": {"tokens": 3}}, {"optimiser": {"warmup_steps": 3}}, {"average_decay": 0.9}):
        assert specs.identity(specs.read_spec(minimal() | change)) != first


def test_what_is_answered_on_the_way_counts_only_where_it_decides():
    asked = minimal() | {"answers": {"prompts": 4, "metric": "exact_match"}}
    assert specs.identity(specs.read_spec(asked)) == specs.identity(specs.read_spec(minimal()))
    deciding = [
        specs.read_spec(asked | {"best_by": "metric", "answers": {"prompts": count, "metric": "exact_match"}})
        for count in (4, 5)
    ]
    assert len({specs.identity(each) for each in [*deciding, specs.read_spec(minimal())]}) == 3
    for wrong in ({"answers": {"metric": "charm"}}, {"best_by": "metric"}):
        with pytest.raises(SpecError, match=r"metric"):
            specs.read_spec(minimal() | wrong)


def test_spec_and_events_load_neither_torch_nor_django():
    code = "import sys, trainers.spec, trainers.events; print({'torch', 'django', 'transformers'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "set()\n"
