"""From documents to a file that the product's runtime reads: an encoder of one layer teaches a student."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer

from compliance.redaction.errors import RedactionError
from compliance.redaction.kinds import word_shape
from compliance.redaction.pieces import Cutter
from compliance.redaction.tagger import Tagger
from trainers.tagger import distilling
from trainers.tagger.distilling import answers, distil
from trainers.tagger.documents import Document
from trainers.tagger.encoding import IGNORED, encode
from trainers.tagger.export import student_model, teacher_model, word_table, write_folder
from trainers.tagger.labels import LABEL_INDEX, LABELS
from trainers.tagger.network import EPSILON, HIDDEN, Network
from trainers.tagger.rampart import installed_folder, starting_weights
from trainers.tagger.scores import predict, score
from trainers.tagger.student import WIDTH, Student, starting_words
from trainers.tagger.training import Settings, mean_loss, padded, train

pytestmark = pytest.mark.slow

PEOPLE = ["Ann Lee", "Bo Marsh", "Cy Young", "Di Stone", "Ed Frost", "Fay Wood"]


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    made = Tokenizer.from_file(str(installed_folder() / "tokenizer.json"))
    made.no_padding()
    made.no_truncation()
    return made


@pytest.fixture(scope="module")
def documents() -> list[Document]:
    texts = [(f"The nurse saw {name} in the clinic.", name) for name in PEOPLE]
    return [Document(t, ((t.find(n), t.find(n) + len(n), "PERSON_MASK"),), n) for t, n in texts] * 4


@pytest.fixture(scope="module")
def trained(tokenizer: Any, documents: list[Document]) -> tuple[Network, list[str]]:
    torch.manual_seed(1)
    told: list[str] = []
    network = Network(layers=1)
    train(network, tokenizer, lambda _: documents, Settings(epochs=12, learning_rate=1e-3), told.append)
    return network, told


@pytest.fixture(scope="module")
def taught(trained: tuple[Network, list[str]], tokenizer: Any, documents: list[Document]) -> Student:
    passages = [passage for document in documents for passage in encode(document, tokenizer)]
    teacher = teacher_model(trained[0])
    torch.manual_seed(2)
    student = Student(starting_words(word_table(teacher)))
    settings = distilling.Settings(pieces=40_000, batch_pieces=256, warmup_steps=20)
    distil(student, answers(teacher, passages), passages, settings, print)
    return student


def test_labels_stand_on_the_first_piece_of_each_word_and_nowhere_else(tokenizer: Any) -> None:
    document = Document("Dr Quackenbush left", ((3, 14, "PERSON_MASK"),), "t", blind=((15, 19),))
    (passage,) = encode(document, tokenizer)
    assert [label for label in passage.labels if label != IGNORED] == [0, LABEL_INDEX["PERSON_MASK"]]
    assert passage.labels[-2] == IGNORED


def test_training_and_use_cut_the_same_pieces_and_see_the_same_shapes(tokenizer: Any) -> None:
    text = "Mr O’Neill-Yıldırım PAID £5,000 to iPad B12 (§ 4) in Łódź."
    (passage,) = encode(Document(text, (), "t"), tokenizer)
    cut = Cutter(tokenizer).cut(text)
    assert passage.ids.tolist() == cut.ids
    assert passage.shapes.tolist() == cut.shapes
    assert np.flatnonzero(passage.is_first).tolist() == cut.firsts
    assert passage.starts[passage.is_first].tolist() == cut.starts


@pytest.mark.parametrize(
    ("word", "shape"), [("ward", 0), ("Ward", 1), ("WARD", 2), ("McCoy", 3), ("B12", 4), ("(", 5), ("I", 6)]
)
def test_each_shape_has_its_number(word: str, shape: int) -> None:
    assert word_shape(word) == shape


def test_the_network_learns_what_a_name_is(trained: tuple[Network, list[str]], tokenizer: Any) -> None:
    network, told = trained
    first, last = (float(told[i].split("loss ")[1].split(",")[0]) for i in (0, -1))
    assert last < first / 5
    unseen = Document("The nurse saw Gil Marsh in the clinic.", ((14, 23, "PERSON_MASK"),), "unseen")
    assert score([unseen], predict(network, tokenizer, [unseen]), 0.5).recall == {"PERSON": (1, 1)}


def test_the_same_seed_trains_the_same_weights(tokenizer: Any, documents: list[Document]) -> None:
    heads = []
    for _ in range(2):
        torch.manual_seed(4)
        network = Network(layers=1)
        train(network, tokenizer, lambda _: documents[:6], Settings(epochs=1), lambda _: None)
        heads.append(network.head.weight.detach().clone())
    assert torch.equal(*heads)


def test_the_exported_encoder_answers_as_the_network_does(
    trained: tuple[Network, list[str]], tokenizer: Any, documents: list[Document]
) -> None:
    network = trained[0].eval()
    passages = [passage for document in documents[:3] for passage in encode(document, tokenizer)]
    ids, mask, shapes, _ = padded(passages)
    with torch.no_grad():
        expected = network(ids, mask, shapes).softmax(-1).numpy()
    for row, answer in enumerate(answers(teacher_model(network), passages)):
        assert np.abs(expected[row, : len(passages[row].ids)][passages[row].is_first] - answer).max() < 0.1


def test_the_student_comes_to_answer_as_the_encoder_does(
    taught: Student, trained: tuple[Network, list[str]], tokenizer: Any, documents: list[Document]
) -> None:
    pairs = zip(predict(taught, tokenizer, documents), predict(trained[0], tokenizer, documents), strict=True)
    assert max(np.abs(ours - theirs).max() for ours, theirs in pairs) < 0.3
    unseen = Document("The nurse saw Gil Marsh in the clinic.", ((14, 23, "PERSON_MASK"),), "unseen")
    assert score([unseen], predict(taught, tokenizer, [unseen]), 0.5).recall == {"PERSON": (1, 1)}


def test_the_exported_student_answers_as_the_student_does_to_texts_of_any_length() -> None:
    import onnxruntime

    torch.manual_seed(6)
    student = Student(torch.randn(300, WIDTH)).eval()
    session = onnxruntime.InferenceSession(student_model(student), providers=["CPUExecutionProvider"])
    for length in (3, 20, 90):
        ids, shapes = torch.randint(0, 300, (1, length)), torch.randint(0, 8, (1, length))
        with torch.no_grad():
            expected = student(ids, torch.ones_like(ids), shapes)[0].softmax(-1).numpy()
        feed = {"ids": ids[0].numpy(), "shapes": shapes[0].numpy(), "firsts": np.arange(length)}
        assert np.abs(session.run(None, feed)[0] - expected).max() < 0.03


def test_padding_changes_nothing_and_a_word_is_seen_as_far_as_the_reach() -> None:
    torch.manual_seed(7)
    student = Student(torch.randn(300, WIDTH)).eval()
    ids = torch.randint(0, 300, (1, 60))
    shapes = torch.zeros_like(ids)
    with torch.no_grad():
        alone = student(ids, torch.ones_like(ids), shapes)
        mask = torch.cat([torch.ones_like(ids), torch.zeros_like(ids)], 1)
        padded_ids = torch.cat([ids, torch.randint(0, 300, (1, 60))], 1)
        assert torch.allclose(student(padded_ids, mask, torch.zeros_like(mask))[:, :60], alone, atol=1e-4)
        other = ids.clone()
        other[0, 0] = (other[0, 0] + 1) % 300
        changed = (student(other, torch.ones_like(ids), shapes) - alone).abs().amax(-1)[0]
    assert changed[student.reach + 1 :].max() == 0 < changed[: student.reach].max()


def test_the_runtime_reads_what_was_exported(taught: Student, tmp_path: Path) -> None:
    write_folder(taught, tmp_path)
    text = "The nurse saw Di Marsh in the clinic."
    (found,) = Tagger(tmp_path).find([text], in_context=True, least={"default": 0.5})
    (person,) = found.findings
    assert (person.start, person.end, person.type, person.rule) == (14, 22, "PERSON", "tagger.person")
    expected = {"The", "nurse", "saw", "in", "the", "clinic", "."}
    assert {text[start:end] for start, end in found.public} == expected


def test_a_file_that_was_changed_is_not_loaded(taught: Student, tmp_path: Path) -> None:
    write_folder(taught, tmp_path)
    raw = bytearray((tmp_path / "tagger.onnx").read_bytes())
    raw[len(raw) // 2] ^= 1
    (tmp_path / "tagger.onnx").write_bytes(raw)
    with pytest.raises(RedactionError, match=r"tagger\.onnx is not the one that was shipped"):
        Tagger(tmp_path)


def test_a_kind_without_a_verdict_is_content_with_either_and_ignored_pieces_count_nothing() -> None:
    logits = torch.full((3, len(LABELS)), -20.0)
    logits[0, LABEL_INDEX["PERSON_KEEP"]] = logits[1, LABEL_INDEX["PERSON_MASK"]] = logits[2, 0] = 20.0
    either = LABEL_INDEX["PERSON_EITHER"]
    assert mean_loss(logits, torch.tensor([either, either, IGNORED]), smoothing=0.0) < 1e-6
    assert mean_loss(logits, torch.tensor([IGNORED, IGNORED, either]), smoothing=0.0) > 10
    plain = torch.randn(4, len(LABELS), generator=torch.Generator().manual_seed(1))
    labels = torch.tensor([0, 3, 2, 7])
    expected = torch.nn.functional.cross_entropy(plain, labels, label_smoothing=0.1)
    assert torch.allclose(mean_loss(plain, labels, smoothing=0.1), expected)


def test_it_computes_what_transformers_computes() -> None:
    from transformers import BertConfig, BertModel

    network = Network(layers=2, dropout=0.0).eval()
    config = BertConfig(
        hidden_size=HIDDEN, intermediate_size=1536, num_attention_heads=12, num_hidden_layers=2, vocab_size=19730,
        type_vocab_size=2, layer_norm_eps=EPSILON,
    )  # fmt: skip
    reference = BertModel(config, add_pooling_layer=False).eval()
    reference.load_state_dict({name: torch.from_numpy(value) for name, value in starting_weights(2).items()})
    ids = torch.randint(5, 19730, (2, 9), generator=torch.Generator().manual_seed(3))
    mask = torch.tensor([[1] * 9, [1] * 6 + [0] * 3])
    with torch.no_grad():
        ours = network.states(ids, mask, torch.zeros_like(ids))
        theirs = reference(input_ids=ids, attention_mask=mask).last_hidden_state
    assert torch.allclose(ours[mask == 1], theirs[mask == 1], atol=1e-4)
