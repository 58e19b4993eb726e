"""Tokens are labelled as by transformers' token classifiers, spans survive both ways, and a run finds them."""

import io
import json
import random
import tarfile
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from domains.metrics import score
from trainers import events
from trainers import forward as forwards
from trainers.archive import pack
from trainers.base_model import load_tokenizer
from trainers.device import Device
from trainers.fields import SpecError
from trainers.label_head import head_of
from trainers.model_folder import check_folder
from trainers.run import load_trained
from trainers.shards import Message, Record
from trainers.spans import NO_TAG, Span, chunks, from_words, spans_in, tag_tokens, tags_of, written
from trainers.spec import load_spec
from trainers.token_classification import TokenClassification, encode_tagged

# peft still asks transformers by the old name.
pytestmark = pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated:FutureWarning")

CPU = Device("cpu", "fp32", "test", 1, 1024)
TASK = {"method": "token-classification", "classification": {"labels": ["DRUG", "DOSE"]}}
TAGS = tags_of(("DRUG", "DOSE"))


def text_of(seed, kit):
    """A name, a drug and sometimes a dose; drugs begin with a capital X, doses with a digit."""
    source = random.Random(seed)
    drug = "X" + "".join(source.choice("abc") for _ in range(4))
    text = f"{kit.secret} takes {drug}"
    spans = [{"start": len(text) - 5, "end": len(text), "label": "DRUG"}]
    if source.random() < 0.7:
        spans.append({"start": len(text) + 1, "end": len(text) + 4, "label": "DOSE"})
        text += f" {source.randrange(1, 10)}mg"
    return {"id": f"n{seed}", "text": text + " daily", "spans": spans}


@pytest.fixture
def noted(bench, kit):
    for name, seeds in (("train", range(40)), ("validation", range(100, 108)), ("test", range(200, 208))):
        bench.seal(name, [text_of(seed, kit) for seed in seeds])
    return bench


def record(text, *spans):
    kept = tuple(Span(*each) for each in spans)
    return Record("r", (Message("user", text), Message("assistant", written(kept))), spans=kept)


TEXTS = [
    record("Xabca 5mg twice", (0, 5, "DRUG"), (6, 9, "DOSE")),
    record("nothing here"),
    record("Xb and Xc", (0, 2, "DRUG"), (7, 9, "DRUG")),
]


@pytest.mark.parametrize("way", ["lora", "full"])
@pytest.mark.parametrize("packing", ["auto", "bucket"])
def test_loss_and_gradients_are_those_of_transformers_token_classifier(way, packing, bench, tmp_path):
    from peft import PeftModel
    from transformers import AutoModelForTokenClassification

    folder = check_folder(Path(bench.model))
    tokenizer = load_tokenizer(folder)
    adapter = load_trained(load_spec(bench.spec(**TASK, way=way)), folder, CPU)
    with torch.no_grad():
        adapter.weights.add_(0.02 * torch.randn(adapter.weights.shape, generator=torch.Generator().manual_seed(1)))
    with tarfile.open(fileobj=io.BytesIO(pack(adapter, adapter.weights, folder, "card", tokenizer))) as tar:
        tar.extractall(tmp_path / "shipped", filter="data")
    if way == "full":
        other = AutoModelForTokenClassification.from_pretrained(tmp_path / "shipped", dtype=torch.float32)
        assert other.config.id2label == dict(enumerate(TAGS))
    else:
        base = AutoModelForTokenClassification.from_pretrained(bench.model, num_labels=len(TAGS), dtype=torch.float32)
        other = PeftModel.from_pretrained(base, tmp_path / "shipped", is_trainable=True)

    split = encode_tagged(TEXTS, tokenizer, 200, "refuse", TAGS)
    forward = forwards.choose_forward(adapter, packing)
    forward.refresh()
    method = TokenClassification(head_of(adapter.base), TAGS)
    batch = forwards.micro_batch(split, [0, 1, 2], "cpu")
    losses = method.learn(forward, batch, 1.0)
    expected = []
    for index in range(3):
        tokens = torch.tensor([list(split.tokens_of(index))])
        tags = torch.tensor([list(split.tags_at(index))])
        expected.append(other(input_ids=tokens, labels=tags).loss * method.units(split, index))
    sum(expected).backward()
    assert losses.tolist() == pytest.approx([float(each.detach()) for each in expected], rel=1e-5)
    assert method.measure(forward, batch) == pytest.approx(float(sum(expected).detach()), rel=1e-5)
    grads = {
        name.replace(".modules_to_save", "").replace(".default", ""): each.grad
        for name, each in other.named_parameters()
        if each.requires_grad
    }
    found = adapter.named(adapter.grads)
    # The words' own head has no part in this, and transformers' class does not have it.
    assert set(found) == set(grads)
    for name, grad in grads.items():
        torch.testing.assert_close(found[name], grad, rtol=2e-3, atol=2e-4)


@pytest.mark.parametrize("way", ["lora", "full"])
def test_a_run_finds_spans_resumes_and_is_judged_and_exported(way, noted, kit):
    rate = 0.003 if way == "full" else 0.02
    asked = {"prompts": 4, "metric": "span_f1"}
    noted.spec(
        epochs=12, evaluate_every=9, best_by="metric", answers=asked, **TASK, way=way, optimiser={"learning_rate": rate}
    )
    code, said = noted.command("run")
    assert code == 0, said[-1]
    looks, seen = kit.of(events.EvalLoss, said), kit.of(events.SpansMeasured, said)
    assert min(look.loss for look in looks) < 0.5 * looks[0].loss
    assert max(each.token_f1 for each in seen) > 0.6 > seen[0].token_f1
    assert max(each.span_f1 for each in seen) > 0.5 > seen[0].span_f1
    whole = said[-1].adapter_digest
    for name in ("checkpoint.sealed", "adapter.sealed"):
        (noted.out / name).unlink()

    def cancel(event):
        if isinstance(event, events.TrainStep) and event.step == 7:
            raise BrokenPipeError

    assert noted.command("run", on_event=cancel)[0] == 3
    code, said = noted.command("resume")
    assert code == 0, said[-1]
    assert said[-1].adapter_digest == whole
    assert kit.files_holding(noted.out, kit.secret.encode()) == []

    code, said = noted.command("evaluate", "--metric", "span_f1")
    assert code == 0, said[-1]
    assert said[-1].tuned_mean > 0.5 > said[-1].base_mean
    assert said[-1].tuned_loss < said[-1].base_loss
    lines = [json.loads(line) for line in noted.opened("predictions.sealed", "predictions").decode().splitlines()]
    assert [line["tuned_score"] for line in lines] == [
        score("span_f1", line["tuned"], line["reference"]) for line in lines
    ]
    code, said = noted.command("export")
    assert code == 0, said[-1]
    assert said[-1].agreement == 1.0


def test_words_with_labels_are_the_same_record_as_text_with_spans(noted, kit):
    words = {"id": "w", "tokens": ["Xabca", "5", "mg", "twice"], "labels": ["B-DRUG", "B-DOSE", "I-DOSE", "O"]}
    plain = {"id": "w", "tokens": ["Xabca", "5", "mg", "twice"], "labels": ["DRUG", "DOSE", "DOSE", "O"]}
    spans = [{"start": 0, "end": 5, "label": "DRUG"}, {"start": 6, "end": 10, "label": "DOSE"}]
    digests = set()
    for line in (words, plain, {"id": "w", "text": "Xabca 5 mg twice", "spans": spans}):
        noted.seal("train", [line])
        noted.spec(**TASK, max_steps=1)
        code, said = noted.command("run")
        assert code == 0, said[-1]
        digests.add(said[-1].adapter_digest)
        for left in noted.out.glob("*.sealed"):
            left.unlink()
    assert len(digests) == 1


@pytest.mark.parametrize(
    ("line", "word"),
    [
        ({"text": "a", "spans": [{"start": 0, "end": 2, "label": "DRUG"}]}, "within the text"),
        ({"text": "abc", "spans": [{"start": 1, "end": 1, "label": "DRUG"}]}, "within the text"),
        ({"text": "abc", "spans": [{"start": True, "end": 2, "label": "DRUG"}]}, "within the text"),
        ({"text": "abc", "spans": [{"start": 0, "end": 2}]}, "start, end and label"),
        (
            {"text": "abc", "spans": [{"start": 0, "end": 2, "label": "A"}, {"start": 1, "end": 3, "label": "A"}]},
            "overlap",
        ),
        ({"text": "abc", "spans": {}}, "a list"),
        ({"tokens": ["a"], "labels": []}, "as many"),
        ({"tokens": ["a", " "], "labels": ["O", "O"]}, "as many"),
        ({"messages": []}, "text and spans"),
    ],
)
def test_records_of_another_shape_are_named_by_line_and_not_quoted(line, word, noted, kit):
    noted.seal("train", [text_of(1, kit), {"id": kit.secret, **line}])
    noted.spec(**TASK)
    code, said = noted.command("validate")
    assert (code, said[-1].code) == (2, "data.invalid")
    assert "train line 2" in said[-1].message
    assert word in said[-1].message
    assert kit.secret not in str(said)


def test_a_type_that_was_not_named_is_refused(noted):
    noted.spec(method="token-classification", classification={"labels": ["DRUG"]})
    code, said = noted.command("validate")
    assert (code, said[-1].code) == (2, "data.label")


def test_long_texts_are_refused_or_cut_and_counted(bench):
    tokenizer = load_tokenizer(check_folder(Path(bench.model)))
    long = record("Xabca " + "y" * 100, (0, 5, "DRUG"))
    refused = encode_tagged([long, TEXTS[1]], tokenizer, 50, "refuse", TAGS)
    assert (len(refused), refused.refused) == (1, 1)
    cut = encode_tagged([long], tokenizer, 50, "truncate", TAGS)
    assert (cut.truncated, cut.truncated_tokens, list(cut.lengths), len(cut.tags)) == (1, 56, [50], 50)
    assert chunks(cut.tags_at(0), TAGS) == [(0, 4, "DRUG")]


def test_the_spec_wants_types_and_no_soft_prompt(bench):
    import jsonschema

    from trainers.spec import json_schema

    known = jsonschema.Draft202012Validator(json_schema())
    for changes in (
        {"method": "token-classification"},
        {**TASK, "way": "prompt"},
        {"method": "token-classification", "classification": {"labels": ["A", "A"]}},
    ):
        path = bench.spec(**changes)
        with pytest.raises(SpecError):
            load_spec(path)
        assert not known.is_valid(json.loads(path.read_text()))
    one = bench.spec(method="token-classification", classification={"labels": ["A"]})
    assert load_spec(one).classification.labels == ("A",)
    assert known.is_valid(json.loads(one.read_text()))


@given(
    st.lists(
        st.tuples(st.integers(1, 6), st.booleans(), st.sampled_from(["", "DRUG", "DOSE"])), min_size=1, max_size=30
    )
)
@settings(max_examples=200, deadline=None)
def test_spans_of_whole_tokens_come_back_as_they_were(pieces):
    """Tokens of any width, some with a blank before them, some of them a span each or together with their like."""
    text, offsets, spans = "", [], []
    for width, has_blank, label in pieces:
        start = len(text)
        text += (" " if has_blank else "") + "x" * width
        offsets.append((start, len(text)))
        if label:
            spans.append(Span(start + has_blank, len(text), label))
    offsets.append((len(text), len(text)))
    numbers = tag_tokens(offsets, spans, TAGS)
    assert numbers[-1] == NO_TAG
    assert spans_in(numbers, offsets, text, TAGS) == spans


def test_tags_are_read_as_conlleval_reads_them():
    tags = ["O", "B-DRUG", "I-DRUG", "B-DOSE", "I-DOSE"]
    assert tuple(tags) == TAGS
    read = lambda *names: chunks([tags.index(name) for name in names], tags)  # noqa: E731
    assert read("B-DRUG", "I-DRUG", "O", "I-DRUG") == [(0, 1, "DRUG"), (3, 3, "DRUG")]
    assert read("B-DRUG", "B-DRUG", "I-DOSE", "I-DOSE") == [(0, 0, "DRUG"), (1, 1, "DRUG"), (2, 3, "DOSE")]
    assert from_words(["a", "bc"], ["I-X", "I-Y"]) == ("a bc", [Span(0, 1, "X"), Span(2, 4, "Y")])


def test_scores_of_tags_are_scikit_learns_and_of_spans_those_of_the_metric(bench):
    from sklearn.metrics import f1_score

    tokenizer = load_tokenizer(check_folder(Path(bench.model)))
    split = encode_tagged(TEXTS, tokenizer, 200, "refuse", TAGS)
    batch = forwards.micro_batch(split, [0, 1, 2], "cpu")
    guessed = batch.targets.clone()
    guessed[torch.arange(0, len(guessed), 5)] = 1
    head = torch.nn.Linear(len(TAGS), len(TAGS))
    with torch.no_grad():
        head.weight.copy_(torch.eye(len(TAGS)))
        head.bias.zero_()

    class Given:
        """A model whose states are the guesses."""

        name = "pack"

        def hidden(self, _batch):
            return torch.nn.functional.one_hot(guessed, len(TAGS)).float()

    method = TokenClassification(head, TAGS)
    method.measure(Given(), batch)
    said = method.measured("r", 3)
    wanted = f1_score(batch.targets, guessed, labels=list(range(1, len(TAGS))), average="micro")
    assert said.token_f1 == pytest.approx(wanted)
    pairs = [
        tuple({(owner, *each) for owner in range(3) for each in chunks(side[batch.owners == owner].tolist(), TAGS)})
        for side in (guessed, batch.targets)
    ]
    right = len(set(pairs[0]) & set(pairs[1]))
    assert (said.precision, said.recall) == (right / len(pairs[0]), right / len(pairs[1]))
    assert said.spans == len(pairs[1]) == 4
    assert method.measured("r", 4) is None


@pytest.mark.parametrize("way", ["lora", "full"])
@pytest.mark.parametrize("kind", ["gpt2", "gpt_neox"])
def test_families_whose_taggers_name_their_head_otherwise_ship_it_by_that_name(kind, way, noted, kit):
    from peft import PeftModel
    from transformers import AutoModelForTokenClassification

    sizes = {"n_embd": 32, "n_layer": 2, "n_head": 4} if kind == "gpt2" else {}
    kit.make_model(noted.root / kind, kind, **sizes)
    noted.model = noted.root / kind
    noted.spec(epochs=2, **TASK, way=way)
    code, said = noted.command("run")
    assert code == 0, said[-1]
    code, said = noted.command("export", "--plain")
    assert code == 0, said[-1]
    shipped, released = noted.root / "shipped", noted.root / "released"
    adapter, merged = noted.opened("adapter.sealed", "adapter"), (noted.out / "merged.tar").read_bytes()
    for content, folder in ((adapter, shipped), (merged, released)):
        with tarfile.open(fileobj=io.BytesIO(content)) as tar:
            tar.extractall(folder, filter="data")
    other, report = AutoModelForTokenClassification.from_pretrained(released, output_loading_info=True)
    assert not report["missing_keys"] | report["unexpected_keys"]
    if way == "lora":
        base = AutoModelForTokenClassification.from_pretrained(noted.model, num_labels=len(TAGS))
        tokens = torch.tensor([[5, 6, 7, 8]])
        with torch.no_grad():
            found = PeftModel.from_pretrained(base, shipped).eval()(input_ids=tokens).logits
            torch.testing.assert_close(found, other.eval()(input_ids=tokens).logits, rtol=1e-4, atol=1e-4)
