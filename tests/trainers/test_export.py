"""A merged export is loaded by transformers, answers as the trained model did, or is not offered."""

import hashlib
import io
import json
import stat
import tarfile
from dataclasses import replace

import pytest
import torch

from trainers import events, export, export_limits, gguf_file
from trainers.cli import EXPORT_FORMATS
from trainers.errors import TrainerError
from trainers.export_limits import Limits
from trainers.model_folder import check_folder


@pytest.fixture
def trained(bench):
    bench.spec(epochs=4)
    assert bench.command("run")[0] == 0
    return bench


def test_the_export_is_a_sealed_folder_that_answers_alike(trained, kit, tmp_path):
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    code, said = trained.command("export")
    assert code == 0, said[-1]
    assert kit.of(events.ExportMeasured, said)[0].offered
    (end,) = kit.of(events.ExportFinished, said)
    assert end.agreement == 1.0
    assert end.divergence == pytest.approx(0, abs=1e-5)
    assert end.positions > 10
    assert kit.files_holding(trained.out, b"__metadata__") == []
    content = trained.opened(end.file, "merged")
    assert end.digest == "sha256:" + hashlib.sha256(content).hexdigest()
    for name, archive in (("merged", content), ("adapter", trained.opened("adapter.sealed", "adapter"))):
        with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
            tar.extractall(tmp_path / name, filter="data")
    assert check_folder(tmp_path / "merged").architecture == "LlamaForCausalLM"
    card = (tmp_path / "merged" / "README.md").read_text()
    assert card.startswith("---\nlibrary_name: transformers\n---\n\n# Adapter of run run-1")
    assert "held-out loss" in card
    assert "exported as merged" in card
    tokens = torch.arange(5, 60)[None]
    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "merged", dtype=torch.float32)(tokens).logits
    base = AutoModelForCausalLM.from_pretrained(trained.model, dtype=torch.float32)
    assert (merged - base(tokens).logits).abs().max() > 0.01
    torch.testing.assert_close(
        merged, PeftModel.from_pretrained(base, tmp_path / "adapter")(tokens).logits, rtol=1e-3, atol=1e-4
    )
    assert trained.command("export")[1][-1].digest == end.digest


def test_an_export_that_answers_otherwise_is_withdrawn(trained, kit, monkeypatch):
    monkeypatch.setattr(export, "merged", lambda adapter, name, weight: weight)
    code, said = trained.command("export", "--plain")
    assert (code, said[-1].code) == (2, "export.parity")
    (measured,) = kit.of(events.ExportMeasured, said)
    assert not measured.offered
    assert measured.loss_difference > 0.05
    assert not list(trained.out.glob("merged*"))


def test_what_bf16_would_round_away_is_written_in_finer_numbers(bench, kit, monkeypatch, tmp_path):
    from transformers import AutoModelForCausalLM

    bench.spec(epochs=4, precision="bf16")
    assert bench.command("run")[0] == 0
    real = export.ask

    def rounded_too_far(sealed, *rest):
        found = real(sealed, *rest)
        content = bench.opened(sealed.path.name, "merged")
        # A model this small hardly loses anything; what a large one loses shows in its answers.
        if b'"dtype": "bfloat16"' in content:
            found = replace(found, answers=replace(found.answers, chances=found.answers.chances.flip(-1)))
        return found

    monkeypatch.setattr(export, "ask", rounded_too_far)
    code, said = bench.command("export")
    assert code == 0, said[-1]
    tried = kit.of(events.ExportMeasured, said)
    assert [(each.precision, each.offered) for each in tried] == [("bf16", False), ("fp16", True)]
    with tarfile.open(fileobj=io.BytesIO(bench.opened(said[-1].file, "merged"))) as tar:
        tar.extractall(tmp_path / "merged", filter="data")
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "merged", dtype="auto")
    assert {each.dtype for each in model.parameters()} == {torch.float16}
    assert "weights in fp16" in (tmp_path / "merged" / "README.md").read_text()


@pytest.fixture
def trained_as(bench, kit, tmp_path):
    """A short run of a family; its vocabulary of bytes has no merges, as no file of the format may be without."""

    def train(kind, **changes):
        bench.model = kit.make_model(tmp_path / kind, kind, **changes)
        bench.spec(epochs=3)
        code, said = bench.command("run")
        assert code == 0, said[-1]
        return bench

    return train


@pytest.mark.filterwarnings("ignore:The given NumPy array is not writable:UserWarning")
@pytest.mark.parametrize("form", ["gguf-f16", "gguf-q8_0"])
@pytest.mark.parametrize(
    ("kind", "changes"),
    [
        ("llama", {"tie_word_embeddings": True}),
        ("llama", {"tie_word_embeddings": False, "intermediate_size": 64, "head_dim": 16}),
        ("qwen2", {"num_key_value_heads": 4, "more": ("<|endoftext|>",)}),
        ("qwen3", {"head_dim": 128}),
    ],
    ids=["llama-tied", "llama", "qwen2", "qwen3"],
)
def test_a_gguf_file_answers_as_the_trained_model(form, kind, changes, trained_as, kit, tmp_path):
    import gguf
    from transformers import AutoModelForCausalLM

    bench = trained_as(kind, **changes)
    code, said = bench.command("export", "--format", form)
    assert code == 0, said[-1]
    (measured,) = kit.of(events.ExportMeasured, said)
    assert measured.divergence < (1e-5 if form == "gguf-f16" else 1e-3)
    assert measured.offered
    assert kit.files_holding(bench.out, b"GGUF") == []
    place = tmp_path / "model.gguf"
    place.write_bytes(bench.opened(said[-1].file, form))
    description = gguf.GGUFReader(place).get_field("general.description").contents()
    assert "held-out loss" in description
    forms = {each.name: each.tensor_type.name for each in gguf.GGUFReader(place).tensors}
    assert forms["blk.0.attn_norm.weight"] == "F32"
    assert forms["blk.0.attn_q.weight"] == {"gguf-f16": "F16", "gguf-q8_0": "Q8_0"}[form]
    tokens = torch.arange(5, 60)[None]
    found = AutoModelForCausalLM.from_pretrained(tmp_path, gguf_file=place.name, dtype=torch.float32)(tokens).logits
    base = AutoModelForCausalLM.from_pretrained(bench.model, dtype=torch.float32)(tokens).logits
    assert (found - base).abs().max() > 0.01


@pytest.mark.parametrize(("form", "inside"), [("gguf-q4_k_m", "Q4_K"), ("gguf-q5_k_m", "Q5_K"), ("gguf-q6_k", "Q6_K")])
def test_a_k_quant_is_made_and_read_back_by_llama_cpp(form, inside, trained_as, kit, tmp_path):
    import gguf

    bench = trained_as("llama", hidden_size=256, intermediate_size=256, head_dim=32, num_attention_heads=8)
    code, said = bench.command("export", "--format", form, "--metric", "exact_match", "--max-new-tokens", "4")
    assert code == 0, said[-1]
    (measured,) = kit.of(events.ExportMeasured, said)
    assert measured.reader == "llama.cpp"
    assert 0 < measured.divergence < measured.most_divergence
    assert measured.scored == 6
    assert measured.trained_score - measured.exported_score <= measured.most_score_loss
    place = tmp_path / "model.gguf"
    place.write_bytes(bench.opened(said[-1].file, form))
    reader = gguf.GGUFReader(place)
    forms = {each.name: each.tensor_type.name for each in reader.tensors}
    assert forms["blk.0.attn_q.weight"] == inside
    assert reader.get_field("tokenizer.chat_template").contents() == kit.template
    assert "held-out loss" in reader.get_field("general.description").contents()


def test_a_k_quant_that_loses_too_much_is_withdrawn(trained, kit, monkeypatch):
    monkeypatch.setitem(export_limits.LIMITS, "gguf-q4_k_m", Limits(1.0, 1e-9, 1e-9, 0.0))
    code, said = trained.command("export", "--format", "gguf-q4_k_m")
    assert (code, said[-1].code) == (2, "export.parity")
    assert not kit.of(events.ExportMeasured, said)[0].offered
    assert not list(trained.out.glob("*.gguf*"))


@pytest.mark.parametrize("form", ["merged", "gguf-q8_0"])
def test_a_file_that_changed_on_disk_is_not_read_back(form, trained, monkeypatch):
    real = export.ask

    def spoil(sealed, *rest):
        content = bytearray(sealed.path.read_bytes())
        content[len(content) // 2] ^= 1
        sealed.path.write_bytes(content)
        return real(sealed, *rest)

    monkeypatch.setattr(export, "ask", spoil)
    code, said = trained.command("export", "--format", form)
    assert (code, said[-1].code) == (2, "export.parity")
    assert not list(trained.out.glob("*unproven")) + list(trained.out.glob(f"{form}*"))


def test_without_llama_cpp_plain_forms_are_read_by_transformers_and_k_quants_refused(trained, kit, monkeypatch):
    monkeypatch.setattr(export.llama_cpp, "is_installed", lambda: False)
    code, said = trained.command("export", "--format", "gguf-q6_k")
    assert (code, said[-1].code) == (2, "export.quantise")


def test_the_exam_goes_through_a_pipe_unchanged(trained):
    from trainers.exam import Exam

    exam = Exam("words", [[1, 2]], [[1]], [2], [[1]], ["a"], [[3]], [1], 4, "{{ x }}", "0" * 64, 2)
    assert Exam.from_json(json.loads(json.dumps(exam.to_json()))) == exam


def test_a_plain_file_is_left_only_when_asked_for_and_is_its_owners(trained, kit):
    assert trained.command("export", "--format", "gguf-q8_0")[0] == 0
    assert kit.files_holding(trained.out, b"GGUF") == []
    code, said = trained.command("export", "--format", "gguf-q8_0", "--plain")
    assert code == 0, said[-1]
    plain = trained.out / "model-q8_0.gguf"
    assert kit.files_holding(trained.out, b"GGUF") == [str(plain)]
    assert stat.S_IMODE(plain.stat().st_mode) == 0o600
    assert said[-1].digest == "sha256:" + hashlib.sha256(plain.read_bytes()).hexdigest()


def test_a_gguf_file_that_answers_otherwise_is_withdrawn(trained, kit, monkeypatch):
    monkeypatch.setattr(gguf_file, "merged", lambda adapter, name, weight: weight)
    code, said = trained.command("export", "--format", "gguf-f16")
    assert (code, said[-1].code) == (2, "export.parity")
    assert not kit.of(events.ExportMeasured, said)[0].offered
    assert not list(trained.out.glob("*.gguf*"))


@pytest.mark.parametrize(
    ("kind", "changes"),
    [
        ("mistral", {"sliding_window": None}),
        ("llama", {"rope_parameters": {"rope_type": "linear", "factor": 2.0, "rope_theta": 10000.0}}),
        ("llama", {"attention_bias": True}),
        ("qwen3", {"head_dim": 8}),
    ],
)
def test_what_the_format_does_not_carry_is_refused(kind, changes, trained_as):
    code, said = trained_as(kind, **changes).command("export", "--format", "gguf-f16")
    assert (code, said[-1].code) == (2, "export.family")


@pytest.mark.parametrize(
    ("cutter", "name"),
    [
        ({"type": "ByteLevel", "use_regex": True, "add_prefix_space": False}, "gpt-2"),
        ({"type": "ByteLevel", "use_regex": True, "add_prefix_space": True}, None),
        ({"type": "Metaspace"}, None),
        (None, None),
        (
            {
                "type": "Sequence",
                "pretokenizers": [
                    {"type": "Digits", "individual_digits": True},
                    {"type": "ByteLevel", "use_regex": True},
                ],
            },
            "smollm",
        ),
    ],
)
def test_only_tokenizers_that_others_cut_alike_are_written(cutter, name):
    document = {"pre_tokenizer": cutter, "model": {"type": "BPE"}}
    if name is not None:
        assert gguf_file._pre_tokenizer(document) == name
        return
    with pytest.raises(TrainerError) as caught:
        gguf_file._pre_tokenizer(document)
    assert caught.value.code == "export.tokenizer"


def test_the_command_knows_the_forms():
    assert set(EXPORT_FORMATS) == set(export.FORMATS)
