"""A classifier is transformers' own, learns, answers with its labels and is exported as one that transformers loads."""

import io
import json
import tarfile
from pathlib import Path

import pytest
import torch

from trainers import events
from trainers import forward as forwards
from trainers.archive import pack
from trainers.base_model import load_tokenizer
from trainers.classification import Classification
from trainers.device import Device
from trainers.encoding import encode_labelled
from trainers.errors import TrainerError
from trainers.label_head import head_of
from trainers.model_folder import check_folder
from trainers.run import load_trained
from trainers.shards import Message, Record
from trainers.spec import SpecError, load_spec

# peft still asks transformers by the old name.
pytestmark = pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated:FutureWarning")

CPU = Device("cpu", "fp32", "test", 1, 1024)
LABELS = ["no", "yes", "perhaps"]
TASK = {"method": "classification", "classification": {"labels": LABELS}}


def unpacked(archive, place):
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        tar.extractall(place, filter="data")
    return place


def labelled(question, label):
    return Record("r", (Message("user", question), Message("assistant", label)))


@pytest.mark.parametrize("way", ["lora", "dora", "full"])
@pytest.mark.parametrize("packing", ["auto", "bucket"])
@pytest.mark.parametrize("is_tied", [True, False])
def test_loss_and_gradients_are_those_of_transformers_classifier(way, packing, is_tied, bench, kit, tmp_path):
    from peft import PeftModel
    from transformers import AutoModelForSequenceClassification

    bench.model = kit.make_model(tmp_path / "base", tie_word_embeddings=is_tied)
    folder = check_folder(Path(bench.model))
    tokenizer = load_tokenizer(folder)
    adapter = load_trained(load_spec(bench.spec(**TASK, way=way)), folder, CPU)
    noise = torch.randn(adapter.weights.shape, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        adapter.weights.add_(0.02 * noise)
    place = unpacked(pack(adapter, adapter.weights, folder, "card", tokenizer), tmp_path / "shipped")
    if way == "full":
        other = AutoModelForSequenceClassification.from_pretrained(place, dtype=torch.float32)
        assert other.config.id2label == dict(enumerate(LABELS))
    else:
        base = AutoModelForSequenceClassification.from_pretrained(bench.model, num_labels=3, dtype=torch.float32)
        other = PeftModel.from_pretrained(base, place, is_trainable=True)
        assert json.loads((place / "labels.json").read_text()) == LABELS

    records = [labelled("one", "yes"), labelled("x" * 20, "no"), labelled("another", "perhaps")]
    split = encode_labelled(records, tokenizer, 200, "refuse", tuple(LABELS))
    forward = forwards.choose_forward(adapter, packing)
    forward.refresh()
    method = Classification(head_of(adapter.base))
    total = method.learn(forward, forwards.micro_batch(split, [0, 1, 2], "cpu"), 1.0).sum()
    expected = sum(
        other(input_ids=torch.tensor([list(split.tokens_of(index))]), labels=torch.tensor([split.labels[index]])).loss
        for index in range(3)
    )
    expected.backward()

    assert float(total) == pytest.approx(float(expected.detach()), rel=1e-5)
    found = adapter.named(adapter.grads)
    grads = {
        name.replace(".modules_to_save", "")
        .replace("vector.default.weight", "vector")
        .replace(".default", ""): each.grad
        for name, each in other.named_parameters()
        if each.requires_grad
    }
    assert set(found) == set(grads)
    for name, grad in grads.items():
        torch.testing.assert_close(found[name], grad, rtol=2e-3, atol=2e-4)


@pytest.mark.parametrize("way", ["lora", "full"])
def test_a_classifier_learns_answers_with_labels_and_is_exported(way, bench, kit, tmp_path):
    from transformers import AutoModelForSequenceClassification

    rate = 0.02 if way == "lora" else 0.003
    bench.spec(epochs=8, way=way, **TASK, optimiser={"learning_rate": rate})
    code, said = bench.command("run")
    assert code == 0, said[-1]
    looks, seen = kit.of(events.EvalLoss, said), kit.of(events.ClassesMeasured, said)
    assert looks[0].loss == pytest.approx(1.0986, rel=0.2)
    assert min(look.loss for look in looks) < looks[0].loss - 0.2
    assert seen[-1].records == 6
    code, said = bench.command("evaluate", "--metric", "exact_match", "--max-new-tokens", "4")
    assert code == 0, said[-1]
    lines = [json.loads(line) for line in bench.opened("predictions.sealed", "predictions").splitlines()]
    assert {line["tuned"] for line in lines} <= set(LABELS)
    assert not {line["base"] for line in lines} <= set(LABELS)
    assert said[-1].tuned_loss < 1.0986

    code, said = bench.command("export")
    assert code == 0, said[-1]
    assert (said[-1].agreement, said[-1].positions) == (1.0, 6)
    place = unpacked(bench.opened(said[-1].file, "merged"), tmp_path / "merged")
    model = AutoModelForSequenceClassification.from_pretrained(place, dtype=torch.float32)
    tokenizer = load_tokenizer(check_folder(Path(bench.model)))
    test = encode_labelled(
        [labelled(record["messages"][0]["content"], "no") for record in kit.records(8, seed=3)],
        tokenizer,
        200,
        "refuse",
        tuple(LABELS),
    )
    answers = [model(torch.tensor([list(test.tokens_of(index))])).logits.argmax(-1).item() for index in range(8)]
    assert [model.config.id2label[number] for number in answers] == [line["tuned"] for line in lines]


def test_records_must_end_in_a_label_and_none_is_quoted(bench, kit):
    bench.seal("train", [*kit.records(3), {"id": "a", "messages": [{"role": "assistant", "content": kit.secret}]}])
    bench.spec(**TASK)
    code, said = bench.command("validate")
    assert (code, said[-1].code) == (2, "data.label")
    assert "1 of 4 records" in said[-1].message
    assert kit.secret not in str(said)


def test_long_prompts_are_refused_or_cut_and_counted(bench):
    tokenizer = load_tokenizer(check_folder(Path(bench.model)))
    records = [labelled("begin " + "x" * 200 + " end", "yes"), labelled("short", "no")]
    refused = encode_labelled(records, tokenizer, 100, "refuse", tuple(LABELS))
    assert (len(refused), refused.refused, list(refused.labels), refused.supervised_count) == (1, 1, [0], 1)
    cut = encode_labelled(records, tokenizer, 100, "truncate", tuple(LABELS))
    assert (cut.truncated, cut.lengths[0], list(cut.labels)) == (1, 100, [1, 0])
    assert tokenizer.decode(cut.tokens_of(0)).endswith("end<|end|>\n<|start|>assistant\n")


@pytest.mark.parametrize(
    "changes",
    [
        {"method": "classification"},
        {"classification": {"labels": ["a", "b"]}},
        {"method": "classification", "classification": {"labels": ["a"]}},
        {"method": "classification", "classification": {"labels": ["a", "a"]}},
        {**TASK, "way": "prompt"},
    ],
)
def test_a_spec_that_does_not_fit_together_is_refused_by_reader_and_schema(changes, bench):
    import jsonschema

    from trainers.spec import json_schema

    path = bench.spec(**changes)
    with pytest.raises(SpecError):
        load_spec(path)
    assert not jsonschema.Draft202012Validator(json_schema()).is_valid(json.loads(path.read_text()))
    good = json.loads(bench.spec(**TASK).read_text())
    assert jsonschema.Draft202012Validator(json_schema()).is_valid(good)


def test_a_family_without_a_classifier_is_refused(monkeypatch):
    from transformers.models.auto import modeling_auto

    from trainers.label_head import classifier_name

    monkeypatch.setattr(modeling_auto, "MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES", {})
    with pytest.raises(TrainerError) as caught:
        classifier_name("llama")
    assert caught.value.code == "model.classifier"
