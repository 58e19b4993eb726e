"""A base model comes in from a folder, an archive, a GGUF file or a hub; what could harm is refused, nothing stays."""

import http.server
import io
import json
import os
import pickle
import shutil
import struct
import subprocess
import sys
import tarfile
import threading
import zipfile
from pathlib import Path

import pytest

from trainers import events, gguf_header, gguf_import, model_archive, model_import
from trainers.cli import main
from trainers.errors import TrainerError
from trainers.inspection import inspect, token_problems
from trainers.model_folder import check_folder

COMMIT = "a" * 39 + "1"


@pytest.fixture
def folder(tiny_model, tmp_path):
    copy = tmp_path / "model"
    shutil.copytree(tiny_model, copy)
    return copy


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


def packed(folder, path, kind, inside="model/"):
    if kind == "zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for each in folder.iterdir():
                archive.write(each, inside + each.name)
        return path
    with tarfile.open(path, "w:gz" if kind == "tar.gz" else "w") as archive:
        for each in folder.iterdir():
            archive.add(each, inside + each.name)
    return path


@pytest.mark.parametrize("inside", ["model/", "./", ""])
@pytest.mark.parametrize("kind", ["tar", "tar.gz", "zip"])
def test_an_archive_becomes_the_folder_it_was_made_of(folder, command, tmp_path, kind, inside):
    code, said = command("import", packed(folder, tmp_path / "a.bin", kind, inside), "--to", tmp_path / "target")
    assert code == 0, said
    assert (said.kind, said.digest, said.architecture) == (kind, check_folder(folder).digest, "LlamaForCausalLM")
    assert check_folder(tmp_path / "target").digest == said.digest
    assert [each.name for each in tmp_path.iterdir() if each.name.startswith(".")] == []


def test_a_folder_is_copied_and_looked_at(folder, command, tmp_path):
    (folder / "README.md").write_text("---\ntags: [x]\nlicense: apache-2.0\n---\n# Tiny\n")
    code, said = command("import", folder, "--to", tmp_path / "target")
    assert code == 0, said
    assert (said.licence, said.has_template, said.kind) == ("apache-2.0", True, "folder")
    assert said.vocabulary == said.embedding_rows
    assert command("inspect", tmp_path / "target")[1].digest == said.digest
    assert command("import", folder, "--to", tmp_path / "target")[1].code == "output.unusable"


class Trap:
    def __reduce__(self):
        return (pytest.fail, ("a pickle was loaded",))


def spoil_pickle(folder):
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps(Trap()))


def spoil_hidden_pickle(folder):
    (folder / "tokenizer.model").write_bytes(pickle.dumps(Trap()))


def spoil_torch_zip(folder):
    with zipfile.ZipFile(folder / "vocab.txt", "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps(Trap()))


def spoil_code(folder):
    (folder / "modeling_x.py").write_text("raise SystemExit")


def spoil_auto_map(folder):
    change(folder / "config.json", auto_map={"AutoModelForCausalLM": "modeling_x.X"})


def spoil_template(folder):
    (folder / "chat_template.jinja").write_text("{{ cycler.__init__.__globals__.os.system('touch /tmp/x') }}")


def spoil_sparse(folder):
    header = json.dumps({"a": {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]}}).encode()
    with (folder / "model.safetensors").open("wb") as file:
        file.write(struct.pack("<Q", len(header)) + header)
        file.truncate(10 << 30)


def change(path, **values):
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


@pytest.mark.parametrize(
    ("spoil", "word"),
    [
        (spoil_pickle, "run code"),
        (spoil_hidden_pickle, "by its content a pickle"),
        (spoil_torch_zip, "by its content a zip"),
        (spoil_code, "code"),
        (spoil_auto_map, "auto_map"),
        (spoil_template, "reaches for __init__"),
        (spoil_sparse, "do not agree"),
    ],
)
@pytest.mark.parametrize("kind", ["folder", "tar.gz"])
def test_what_could_harm_is_refused_before_anything_is_loaded(
    folder, command, tmp_path, monkeypatch, kind, spoil, word
):
    spoil(folder)
    monkeypatch.setattr("trainers.inspection.load_tokenizer", lambda _: pytest.fail("it was loaded"))
    if kind == "tar.gz" and spoil is spoil_sparse:
        (folder / "model.safetensors").write_bytes((folder / "model.safetensors").open("rb").read(4096))
    source = folder if kind == "folder" else packed(folder, tmp_path / "a.tgz", kind)
    code, said = command("import", source, "--to", tmp_path / "target")
    assert (code, said.code) == (2, "model.refused")
    assert word in said.message
    assert nothing_left(tmp_path)


def test_links_out_of_a_folder_are_refused(folder, command, tmp_path):
    (tmp_path / "secret").write_text("x")
    (folder / "README.md").symlink_to(tmp_path / "secret")
    code, said = command("import", folder, "--to", tmp_path / "target")
    assert (code, said.code) == (2, "model.refused")
    assert "leaves the folder" in said.message


def tar_with(path, *members, mode="w:gz", **settings):
    with tarfile.open(path, mode, **settings) as archive:
        for info, content in members:
            archive.addfile(info, io.BytesIO(content))
    return path


def entry(name, content=b"{}", **facts):
    info = tarfile.TarInfo(name)
    info.size = len(content)
    for key, value in facts.items():
        setattr(info, key, value)
    return info, content


@pytest.mark.parametrize(
    "members",
    [
        [entry("../config.json")],
        [entry("/etc/config.json")],
        [entry("model/../../config.json")],
        [entry("a/b/config.json")],
        [entry("a\\config.json")],
        [entry("C:config.json")],
        [entry("a/config.json"), entry("b/config.json")],
        [entry("config.json"), entry("config.json")],
        [entry("config.json", b"", type=tarfile.SYMTYPE, linkname="/etc/passwd")],
        [entry("config.json", b"", type=tarfile.LNKTYPE, linkname="../secret")],
        [entry("config.json", b"", type=tarfile.CHRTYPE)],
        [entry("config.json", b"", type=tarfile.FIFOTYPE)],
        [entry(f"f{number}") for number in range(model_archive.MAX_FILES + 1)],
        [],
    ],
    ids=range(14),
)
def test_names_and_kinds_that_leave_the_folder_are_refused(members, tmp_path):
    path = tar_with(tmp_path / "a.tgz", *members)
    with pytest.raises(TrainerError) as caught:
        model_archive.unpack(path, tmp_path / "target", 1 << 30)
    assert caught.value.code == "model.archive"
    assert nothing_left(tmp_path)


def test_zip_slip_links_and_wrong_sizes_are_refused(tmp_path):
    for name in ("../config.json", "/config.json", "a/../../config.json"):
        with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
            archive.writestr(zipfile.ZipInfo(name), "{}")
        with pytest.raises(TrainerError, match="leaves the folder"):
            model_archive.unpack(tmp_path / "a.zip", tmp_path / "target", 1 << 30)
    link = zipfile.ZipInfo("config.json")
    link.external_attr = 0o120777 << 16
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr(link, "/etc/passwd")
    with pytest.raises(TrainerError, match="link"):
        model_archive.unpack(tmp_path / "a.zip", tmp_path / "target", 1 << 30)
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("config.json", "x" * 4000)
    content = (tmp_path / "a.zip").read_bytes()
    for lie in (10, 9000):  # less and more than there is, in both headers
        (tmp_path / "b.zip").write_bytes(content.replace(struct.pack("<I", 4000), struct.pack("<I", lie)))
        with pytest.raises(TrainerError) as caught:
            model_archive.unpack(tmp_path / "b.zip", tmp_path / "target", 1 << 30)
        assert caught.value.code == "model.archive"
    assert nothing_left(tmp_path)


def test_bombs_are_stopped_by_what_comes_out_not_by_what_is_said(tmp_path):
    path = tmp_path / "a.tgz"
    import gzip

    header = entry("model.safetensors")[0]
    header.size = 4 << 30
    with gzip.open(path, "wb") as sink:
        sink.write(header.tobuf())
        for _ in range(200):
            sink.write(bytes(1 << 20))
    with pytest.raises(TrainerError, match="far more than went in"):
        model_archive.unpack(path, tmp_path / "target", 1 << 40)
    # A long name of four gigabytes, which tarfile would read into memory.
    long_name = tarfile.TarInfo("././@LongLink")
    long_name.type, long_name.size = tarfile.GNUTYPE_LONGNAME, 4 << 30
    path.write_bytes(gzip.compress(long_name.tobuf(tarfile.GNU_FORMAT) + bytes(1 << 22)))
    with pytest.raises(TrainerError, match="unreasonable length"):
        model_archive.unpack(path, tmp_path / "target", 1 << 40)
    small = tar_with(path, entry("config.json", bytes(5000)), mode="w")
    with pytest.raises(TrainerError, match="more than 4000 bytes"):
        model_archive.unpack(small, tmp_path / "target", 4000)
    assert nothing_left(tmp_path)


@pytest.mark.parametrize(
    "content", [b"", b"\x28\xb5\x2f\xfd" + bytes(64), b"\x1f\x8b" + bytes(64), b"PK\x03\x04" + bytes(64)]
)
def test_damaged_and_unknown_archives_are_refused(content, tmp_path):
    (tmp_path / "a").write_bytes(content)
    with pytest.raises(TrainerError) as caught:
        model_archive.unpack(tmp_path / "a", tmp_path / "target", 1 << 30)
    assert caught.value.code == "model.archive"
    assert nothing_left(tmp_path)


def test_an_archive_cut_anywhere_is_refused_or_whole(folder, tmp_path):
    whole = packed(folder, tmp_path / "a.tgz", "tar.gz").read_bytes()
    for share in range(1, 20):
        (tmp_path / "b.tgz").write_bytes(whole[: len(whole) * share // 20])
        with pytest.raises(TrainerError):
            model_archive.unpack(tmp_path / "b.tgz", tmp_path / "target", 1 << 30)
        assert nothing_left(tmp_path)


# --- the look -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("file", "values", "code", "word"),
    [
        ("config.json", {"eos_token_id": 9_999_999}, "model.tokenizer", "no token of this model"),
        ("generation_config.json", {"eos_token_id": 7}, "model.tokenizer", "none that the model stops at"),
        ("config.json", {"hidden_size": 64}, "model.broken", "another shape"),
        ("config.json", {"vocab_size": 40}, "model.broken", "another shape"),
        ("config.json", {"architectures": ["BertModel"], "model_type": "bert"}, "model.unknown", "no causal"),
        ("config.json", {"model_type": "nonsense"}, "model.unknown", "no causal"),
        ("config.json", {"num_attention_heads": "many"}, "model.broken", "config.json"),
    ],
)
def test_what_does_not_fit_together_is_refused(folder, file, values, code, word):
    change(folder / file, **values)
    with pytest.raises(TrainerError) as caught:
        inspect(folder)
    assert (caught.value.code, word in str(caught.value)) == (code, True), str(caught.value)


@pytest.mark.parametrize(
    ("template", "word"),
    [
        (
            "{{ bos_token }}{{ bos_token }}{% for m in messages %}{{ m['content'] }}{{ eos_token }}{% endfor %}",
            "doubled",
        ),
        ("{% for m in messages %}{{ m['content'] }}{{ eos_token }}{{ eos_token }}{% endfor %}", "doubled"),
        ("{% for m in messages %}{{ m['content'][:3] }}<|end|>{% endfor %}", "leaves parts"),
        ("{{ messages[0]['content'] ~ messages | length }}", "right after its prompt"),
    ],
)
def test_a_template_that_spoils_a_conversation_is_refused(folder, template, word):
    (folder / "chat_template.jinja").write_text(template)
    with pytest.raises(TrainerError) as caught:
        inspect(folder)
    assert caught.value.code == "model.template"
    assert word in str(caught.value)


def test_a_vocabulary_larger_than_the_embedding_is_noticed(tiny_model):
    from trainers.base_model import load_tokenizer

    tokenizer = load_tokenizer(check_folder(tiny_model))
    problems = token_problems(tokenizer, {}, {}, rows=100)
    assert "but the embedding has 100 rows" in problems[0]
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|late|>"]})
    assert any("<|late|>" in said for said in token_problems(tokenizer, {}, {}, rows=len(tokenizer) - 1))


# --- GGUF -----------------------------------------------------------------------------------------------------------


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
    ("kind", "changes"), [("llama", {"tie_word_embeddings": False}), ("qwen2", {}), ("qwen3", {"head_dim": 128})]
)
def test_a_gguf_file_becomes_a_folder_that_answers_as_it_does(gguf_file, command, tmp_path, kind, changes):
    import torch
    from transformers import AutoModelForCausalLM

    source = gguf_file(kind, **changes)
    header = gguf_header.read_header(source)
    assert header.facts["general.architecture"] == kind
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


# --- hub ------------------------------------------------------------------------------------------------------------


class Hub(http.server.BaseHTTPRequestHandler):
    """The two addresses of a hub that a download uses: what a commit holds, and its files."""

    folder: Path
    asked: list[str]
    sha = COMMIT

    def do_GET(self, *, has_body=True):
        self.asked.append(self.path)
        if self.path.startswith("/api/models/"):
            names = sorted(each.name for each in self.folder.iterdir())
            files = [{"rfilename": name, "size": (self.folder / name).stat().st_size} for name in names]
            return self._send(
                json.dumps({"id": "o/m", "sha": self.sha, "siblings": files}).encode(), "application/json"
            )
        place = self.folder / self.path.rpartition("/")[2].partition("?")[0]
        if not place.is_file():
            self.send_error(404)
            return None
        return self._send(place.read_bytes(), "application/octet-stream", has_body=has_body)

    def do_HEAD(self):
        self.do_GET(has_body=False)

    def _send(self, content, kind, *, has_body=True):
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("ETag", '"e"')
        self.send_header("X-Repo-Commit", self.sha)
        self.end_headers()
        if has_body:
            self.wfile.write(content)

    def log_message(self, *_):
        """Quiet."""


@pytest.fixture
def hub(folder):
    handler = type("Handler", (Hub,), {"folder": folder, "asked": []})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        handler.address = f"http://127.0.0.1:{server.server_port}"
        yield handler
        server.shutdown()


def downloaded(hub, tmp_path, *more, revision=COMMIT):
    """A process of its own: whether a hub may be asked is decided when the library is loaded."""
    command = [sys.executable, "-m", "trainers", "download", "o/m", "--revision", revision, "--to", tmp_path / "target"]
    environment = {**os.environ, "HF_ENDPOINT": hub.address, "HF_HOME": str(tmp_path / "cache")}
    done = subprocess.run([*map(str, command), *more], env=environment, capture_output=True, text=True, check=False)
    return done.returncode, events.decode(done.stdout.splitlines()[-1])


def test_a_commit_of_a_hub_is_taken_without_its_pickles_and_code(hub, folder, tmp_path):
    expected = check_folder(folder).digest
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps(Trap()))
    (folder / "modeling_x.py").write_text("raise SystemExit")
    code, said = downloaded(hub, tmp_path, "--allow-network")
    assert code == 0, said
    assert (said.digest, said.source_digest, said.kind) == (expected, f"git:{COMMIT}", "hub")
    assert not [path for path in hub.asked if path.endswith((".bin", ".py"))]
    assert check_folder(tmp_path / "target").digest == expected


def test_a_hub_is_not_asked_unless_the_site_says_so(hub, tmp_path):
    code, said = downloaded(hub, tmp_path)
    assert (code, said.code, hub.asked) == (2, "network.forbidden", [])


def test_a_branch_is_no_revision_and_another_commit_is_not_taken(hub, tmp_path, monkeypatch):
    with pytest.raises(TrainerError) as caught:
        model_import.download("o/m", "main", tmp_path / "target", "-", is_allowed=True)
    assert caught.value.code == "hub.revision"
    hub.sha = "b" * 40
    code, said = downloaded(hub, tmp_path, "--allow-network")
    assert (code, said.code) == (2, "hub.unusable")
    assert nothing_left(tmp_path)


def test_a_commit_with_pickles_only_is_refused(hub, folder, tmp_path):
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    code, said = downloaded(hub, tmp_path, "--allow-network")
    assert (code, said.code) == (2, "hub.unusable")
    assert "no safetensors" in said.message
