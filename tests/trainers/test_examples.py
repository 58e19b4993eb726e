"""Every example of a spec runs and has a forecast, and together they show every method and way."""

import json
from pathlib import Path

import pytest

import trainers
from trainers import events
from trainers.spec import JUDGED, LABELLED, PAIRED, TAGGED, read_spec

# bitsandbytes still asks torch by an old name.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

EXAMPLES = {path.stem: json.loads(path.read_text()) for path in Path(trainers.__file__).parent.glob("examples/*.json")}


def test_the_examples_show_every_method_and_way():
    specs = [read_spec(document) for document in EXAMPLES.values()]
    assert {each.method for each in specs} == {"sft", *PAIRED, *JUDGED, *LABELLED}
    assert {each.way for each in specs} == {"lora", "dora", "full", "prompt"}
    assert {each.quantise.form for each in specs if each.quantise} == {"nf4", "int8"}
    assert all(each.run == name for name, each in zip(EXAMPLES, specs, strict=True))


@pytest.fixture(scope="module")
def blocks_model(tmp_path_factory, kit):
    return kit.make_model(tmp_path_factory.mktemp("blocks"), hidden_size=64, intermediate_size=128, head_dim=16)


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_runs(name, bench, blocks_model, kit):
    document = EXAMPLES[name]
    for split, count in (("train", 24), ("validation", 6), ("test", 6)):
        lines = kit.records(count, name=split[0])
        if document["method"] in PAIRED:
            lines = [line | {"rejected": "perhaps"} for line in lines]
        if document["method"] in JUDGED:
            lines = [line | {"label": index % 2 == 0} for index, line in enumerate(lines)]
        if document["method"] in TAGGED:
            spans = [{"start": 0, "end": 5, "label": "DRUG"}]
            lines = [{"id": line["id"], "text": line["messages"][0]["content"], "spans": spans} for line in lines]
        bench.seal(split, lines)
    bench.model = blocks_model
    theirs = {key: value for key, value in document.items() if key not in ("model", "data", "output")}
    bench.spec(**{"batch_tokens": 2048, "optimiser": {}, "lora": {}} | theirs, max_steps=2)
    code, said = bench.command("run")
    assert code == 0, said[-1]
    assert isinstance(said[-1], events.RunFinished)
    code, said = bench.command("fit")
    assert code == 0, said[-1]
    assert isinstance(said[-1], events.FitChecked)
