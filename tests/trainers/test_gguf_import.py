"""A GGUF file is judged by its header before anything else reads it, and becomes a folder that answers alike."""

import io
import struct

import pytest

from trainers import events, gguf_header, gguf_import
from trainers.cli import main
from trainers.errors import TrainerError

# Without it in its vocabulary transformers adds it to every tokenizer of this family.
QWEN = ("<|endoftext|>",)


@pytest.fixture
def command(tmp_path):
    """Exit code and last event of a command that needs no spec."""

    def run(*argv):
        said = io.StringIO()
        code = main([str(each) for each in argv], io.StringIO(), said)
        return code, events.decode(said.getvalue().splitlines()[-1])

    return run


def nothing_left(tmp_path):
    return [each.name for each in tmp_path.iterdir() if each.name.startswith((".target", "target"))] == []


@pytest.fixture
def gguf_file(bench, kit, tmp_path):
    """A file that our own export made and llama.cpp read back."""

    def make(kind, **changes):
        bench.model = kit.make_model(tmp_path / kind, kind, **changes)
        bench.spec(epochs=1)
        assert bench.command("run")[0] == 0
        code, said = bench.command("export", "--format", "gguf-f16", "--plain")
        assert code == 0, said[-1]
        return bench.out / "model-f16.gguf"

    return make


@pytest.mark.parametrize(
    ("kind", "changes"),
    [("llama", {"tie_word_embeddings": False}), ("qwen2", {"more": QWEN}), ("qwen3", {"head_dim": 128, "more": QWEN})],
)
def test_a_gguf_file_becomes_a_folder_that_answers_as_it_does(gguf_file, command, tmp_path, monkeypatch, kind, changes):
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    source = gguf_file(kind, **changes)
    header = gguf_header.read_header(source)
    assert header.facts["general.architecture"] == kind
    if kind == "qwen2":
        # Of this family transformers takes the numbers of special tokens for granted, which a tiny vocabulary lacks.
        own, real = tmp_path / kind, AutoTokenizer.from_pretrained
        monkeypatch.setattr(
            AutoTokenizer,
            "from_pretrained",
            lambda path, gguf_file=None, **more: real(str(own), **more) if gguf_file else real(path, **more),
        )
    code, said = command("import", source, "--to", tmp_path / "target")
    assert code == 0, said
    assert (said.kind, said.has_template) == ("file", True)
    tokens = torch.arange(5, 60)[None]
    found = AutoModelForCausalLM.from_pretrained(tmp_path / "target", dtype=torch.float32)(tokens).logits
    theirs = AutoModelForCausalLM.from_pretrained(source.parent, gguf_file=source.name, dtype=torch.float32)
    torch.testing.assert_close(found, theirs(tokens).logits, rtol=0, atol=0.1)  # ours went through bf16
    assert (found.argmax(-1) == theirs(tokens).logits.argmax(-1)).float().mean() > 0.9


def gguf_bytes(facts=(), tensors=(), counts=None, tail=b"", version=3):
    def text(value):
        return struct.pack("<Q", len(value)) + value

    made = b"GGUF" + struct.pack("<IQQ", version, *(counts or (len(tensors), len(facts))))
    made += b"".join(text(name) + struct.pack("<I", kind) + value for name, kind, value in facts)
    for name, sides, kind, offset in tensors:
        made += text(name) + struct.pack(f"<I{len(sides)}Q", len(sides), *sides) + struct.pack("<IQ", kind, offset)
    return made + bytes(-len(made) % 32) + tail


@pytest.mark.parametrize(
    ("content", "word"),
    [
        (b"GGML" + bytes(60), "not a GGUF"),
        (gguf_bytes(version=99), "version"),
        (gguf_bytes(counts=(1 << 60, 0)), "more tensors"),
        (gguf_bytes(counts=(0, 1 << 60)), "more tensors"),
        (gguf_bytes(facts=[(b"x" * 100, 8, struct.pack("<Q", 1 << 62))]), "length"),
        (gguf_bytes(facts=[(b"a", 9, struct.pack("<IQ", 9, 1))]), "depth"),
        (gguf_bytes(facts=[(b"a", 9, struct.pack("<IQ", 4, 1 << 40))]), "unreasonable"),
        (gguf_bytes(facts=[(b"a", 77, b"")]), "unknown kind"),
        (gguf_bytes(tensors=[(b"t", (8,), 0, 0)], tail=bytes(31)), "length do not agree"),
        (gguf_bytes(tensors=[(b"t", (1 << 62, 4), 0, 0)], tail=bytes(32)), "length do not agree"),
        (gguf_bytes(tensors=[(b"t", (8,), 0, 0), (b"u", (8,), 0, 0)], tail=bytes(64)), "overlap"),
        (gguf_bytes(tensors=[(b"t", (8,), 999, 0)], tail=bytes(64)), "unknown type"),
        (gguf_bytes(tensors=[(b"t", (8,) * 5, 0, 0)], tail=bytes(64)), "sides"),
        (gguf_bytes(tensors=[(b"t", (33,), 8, 0)], tail=bytes(64)), "shape"),
        (gguf_bytes(facts=[(b"general.alignment", 4, struct.pack("<I", 3))]), "alignment"),
    ],
)
def test_gguf_headers_that_lie_are_refused(content, word, command, tmp_path):
    (tmp_path / "x.gguf").write_bytes(content)
    with pytest.raises(TrainerError) as caught:
        gguf_header.read_header(tmp_path / "x.gguf")
    assert caught.value.code == "model.gguf"
    assert word in str(caught.value)
    assert command("import", tmp_path / "x.gguf", "--to", tmp_path / "target")[0] == 2
    assert nothing_left(tmp_path)


def test_a_gguf_header_cut_anywhere_is_refused(tmp_path):
    whole = gguf_bytes(
        facts=[(b"a.b", 8, struct.pack("<Q", 3) + b"abc"), (b"c", 9, struct.pack("<IQII", 4, 2, 1, 2))],
        tensors=[(b"t", (8, 2), 0, 0)],
        tail=bytes(64),
    )
    (tmp_path / "x").write_bytes(whole)
    assert gguf_header.read_header(tmp_path / "x").facts == {"a.b": "abc", "c": 2}
    for length in range(len(whole)):
        (tmp_path / "x").write_bytes(whole[:length])
        with pytest.raises(TrainerError):
            gguf_header.read_header(tmp_path / "x")


def test_other_families_and_odd_tensors_are_refused(tmp_path):
    family = (b"general.architecture", 8, struct.pack("<Q", 5) + b"llama")
    odd = [(b"blk.0.ssm_a.weight", (8,), 0, 0)]
    (tmp_path / "x").write_bytes(gguf_bytes(facts=[family], tensors=odd, tail=bytes(32)))
    with pytest.raises(TrainerError, match="no plain layer"):
        gguf_import.check_source(tmp_path / "x")
    (tmp_path / "x").write_bytes(gguf_bytes(facts=[(b"general.architecture", 8, struct.pack("<Q", 5) + b"mamba")]))
    with pytest.raises(TrainerError, match="not converted"):
        gguf_import.check_source(tmp_path / "x")


@pytest.mark.parametrize("name", [b"llama.rope.scale_linear", b"llama.rope.scaling.factor"])
def test_a_file_of_scaled_positions_is_refused_and_not_read_as_one_of_plain_ones(name, tmp_path):
    family = (b"general.architecture", 8, struct.pack("<Q", 5) + b"llama")
    (tmp_path / "x").write_bytes(gguf_bytes(facts=[family, (name, 6, struct.pack("<f", 8.0))]))
    with pytest.raises(TrainerError, match="positions are scaled"):
        gguf_import.check_source(tmp_path / "x")


def test_facts_that_make_no_model_are_refused_before_a_layer_is_made(command, tmp_path):
    tokens = struct.pack("<IQ", 8, 3) + 3 * (struct.pack("<Q", 1) + b"a")
    family = (b"general.architecture", 8, struct.pack("<Q", 5) + b"llama")
    facts = [family, (b"tokenizer.ggml.tokens", 9, tokens)]
    tensors = [(b"token_embd.weight", (32, 300), 0, 0)]
    source = tmp_path / "x.gguf"
    for layers, code, word in [(10**9, "model.unknown", "more layers"), (1, "model.broken", "no model can be made")]:
        more = [*facts, (b"llama.block_count", 4, struct.pack("<I", layers))]
        source.write_bytes(gguf_bytes(facts=more, tensors=tensors, tail=bytes(32 * 300 * 4)))
        exit_code, said = command("import", source, "--to", tmp_path / "target")
        assert (exit_code, said.code) == (2, code)
        assert word in said.message
        assert nothing_left(tmp_path)
