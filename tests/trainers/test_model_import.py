"""A base model comes in from a folder or an archive; what could harm, or does not fit, is refused; nothing stays."""

import io
import json
import os
import pickle
import resource
import shutil
import signal
import struct
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from trainers import admission, events, model_archive, weight_files
from trainers.admission import token_problems
from trainers.bounds import apart
from trainers.cli import main
from trainers.errors import TrainerError
from trainers.inspection import inspect
from trainers.model_folder import check_folder


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
    monkeypatch.setattr("trainers.admission.load_tokenizer", lambda _: pytest.fail("it was loaded"))
    if kind == "tar.gz" and spoil is spoil_sparse:
        (folder / "model.safetensors").write_bytes((folder / "model.safetensors").open("rb").read(4096))
    source = folder if kind == "folder" else packed(folder, tmp_path / "a.tgz", kind)
    code, said = command("import", source, "--to", tmp_path / "target")
    assert (code, said.code) == (2, "model.refused")
    assert word in said.message
    assert nothing_left(tmp_path)


def test_a_refusal_loads_no_torch(folder, tmp_path):
    spoil_pickle(folder)
    argv = ["import", str(folder), "--to", str(tmp_path / "target")]
    asked = (
        "import sys, io; from trainers.cli import main; "
        f"code = main({argv!r}, io.StringIO(), io.StringIO()); "
        "sys.exit(0 if code == 2 and not {'torch', 'transformers'} & set(sys.modules) else 1)"
    )
    assert subprocess.run([sys.executable, "-c", asked], cwd=Path(__file__).parents[2], check=False).returncode == 0


def test_what_is_no_file_is_not_waited_for(folder, command, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for source in (tmp_path / "pipe", "/dev/zero"):
        assert command("import", source, "--to", tmp_path / "target")[1].code == "model.missing"
    # Beside a GGUF file nothing else is judged, and a name like this cannot be digested.
    (folder / "x.gguf").write_bytes(b"GGUF")
    Path(os.fsdecode(os.fsencode(folder) + b"/\xff")).write_bytes(b"")
    code, said = command("import", folder, "--to", tmp_path / "target")
    assert (code, said.code) == (2, "model.refused")
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


def test_a_zip_with_an_endless_list_of_files_does_not_fill_the_memory(tmp_path):
    entries = 100_000
    facts = struct.pack("<6H3I5H2I", 20, 20, 0, 0, 0, 0, 0, 0, 0, 8, 0, 0, 0, 0, 0, 0)
    listed = b"".join(b"PK\1\2" + facts + b"%08d" % each for each in range(entries))
    # Of which its end says four: zipfile goes by the length.
    end = b"PK\5\6" + struct.pack("<4H2IH", 0, 0, 4, 4, len(listed), 34, 0)
    (tmp_path / "a").write_bytes(b"PK\3\4" + bytes(30) + listed + end)
    # In a process of its own: this one may have so much to spare from tests before that the list fits in.
    script = (
        "import pathlib, sys; from trainers import errors, model_archive; model_archive.MAX_LIST_BYTES = 16 << 20\n"
        "try: model_archive.unpack(pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]), 1 << 30)\n"
        "except errors.TrainerError as refused: print(refused)"
    )
    told = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "a"), str(tmp_path / "target")],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert "list of files of unreasonable length" in told
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


@pytest.mark.parametrize(
    "extra",
    [
        "{{ 'x' * 10**10 }}",
        "{{ ([0] * 10**9)|length }}",
        "{{ 'x'|center(10**11) }}",
        "{{ '%99999999999d' % 1 }}",
        "{% set n = namespace(x='x') %}{% for i in range(60) %}{% set n.x = n.x ~ n.x %}{% endfor %}",
        "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
    ],
)
def test_a_template_that_runs_on_or_asks_for_gigabytes_is_refused(extra, folder, monkeypatch):
    monkeypatch.setattr(admission, "TRY_SECONDS", 2.0)
    before = resource.getrlimit(resource.RLIMIT_DATA), signal.getsignal(signal.SIGALRM)
    path = folder / "chat_template.jinja"
    path.write_text(extra + path.read_text())
    with pytest.raises(TrainerError) as caught:
        inspect(folder)
    assert caught.value.code in {"model.template", "model.tokenizer"}
    assert any(word in str(caught.value) for word in ("MemoryError", "TimeoutError", "wants more than"))
    assert (resource.getrlimit(resource.RLIMIT_DATA), signal.getsignal(signal.SIGALRM)) == before


def change_tokenizer(folder, **values):
    path = folder / "tokenizer.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


@pytest.mark.parametrize(
    "normalizer",
    [
        {"type": "Prepend", "prepend": "x" * 10**7},
        {"type": "Sequence", "normalizers": [{"type": "Replace", "pattern": {"String": "o"}, "content": "oo"}] * 40},
        {"type": "Precompiled", "precompiled_charsmap": "AAAA"},
    ],
)
def test_a_tokenizer_that_makes_compiled_code_abort_panic_or_run_on_is_refused(normalizer, folder, monkeypatch):
    monkeypatch.setattr(admission, "TRY_SECONDS", 2.0)
    change_tokenizer(folder, normalizer=normalizer)
    with pytest.raises(TrainerError) as caught:
        inspect(folder)
    assert caught.value.code in {"model.template", "model.tokenizer", "model.broken"}


def test_a_tokenizer_that_kills_a_process_is_refused_where_a_run_or_a_server_begins(folder, bench, monkeypatch):
    """A file may have been exchanged since the import; it took the run with it, which died by a signal."""
    monkeypatch.setattr(admission, "TRY_SECONDS", 2.0)
    twice = {"type": "Replace", "pattern": {"String": "o"}, "content": "oo"}
    change_tokenizer(folder, normalizer={"type": "Sequence", "normalizers": [twice] * 40})
    bench.model = folder
    bench.spec()
    code, said = bench.command("run")
    assert (code, said[-1].code) == (2, "model.template")
    assert "ends the process that tries it" in said[-1].message
    with pytest.raises(TrainerError, match="ends the process that tries it"):
        admission.admit(folder, is_clock_running=True)  # as a server does


def spoiled(folder, name, value):
    """The folder with one number of one weight exchanged."""
    from safetensors.torch import load_file, save_file

    weights = load_file(folder / "model.safetensors")
    weights[name].view(-1)[-1] = value
    save_file(weights, folder / "model.safetensors", {"format": "pt"})


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_weights_that_are_no_numbers_are_refused_by_name(folder, command, tmp_path, value):
    name = "model.layers.1.mlp.down_proj.weight"
    spoiled(folder, name, value)
    code, said = command("import", folder, "--to", tmp_path / "target")
    assert (code, said.code) == (2, "model.numbers")
    assert f"NaN in {name}" in said.message
    assert nothing_left(tmp_path)


@pytest.mark.parametrize("kind", ["float64", "float32", "float16", "bfloat16", "float8_e5m2", "float8_e4m3fn"])
def test_odd_numbers_are_found_in_every_precision_and_piece(kind, tmp_path, monkeypatch):
    import torch
    from safetensors.torch import save_file

    monkeypatch.setattr(weight_files, "CHUNK_BYTES", 64)
    dtype = getattr(torch, kind)
    largest = torch.finfo(dtype).max
    sound = torch.tensor([-largest, largest, 0.0, -0.0, 1e-7] * 20, dtype=torch.float64).to(dtype)
    odd = [sound.clone() for _ in range(2)]
    for place, each in zip((0, 99), odd, strict=True):
        each[place] = float("nan")
    path = tmp_path / "x.safetensors"
    save_file({"a": sound, "b": odd[0], "c": odd[1], "d": torch.tensor([-1, 2**62])}, path)
    assert list(weight_files.odd_tensors(path)) == ["b", "c"]


def test_a_tokenizer_that_cuts_by_chance_is_refused(folder):
    model = json.loads((folder / "tokenizer.json").read_text())["model"]
    change_tokenizer(folder, model=model | {"dropout": 0.5})
    with pytest.raises(TrainerError, match="by chance"):
        inspect(folder)


@pytest.mark.parametrize(
    "extra", ["{{ 'x' * 10**10 }}", "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}"]
)
def test_a_template_that_runs_on_is_refused_where_a_run_or_a_server_begins(extra, folder, monkeypatch):
    from trainers import base_model

    monkeypatch.setattr(base_model, "TRY_SECONDS", 1.0)
    path = folder / "chat_template.jinja"
    path.write_text(extra + path.read_text())
    with pytest.raises(TrainerError, match="one word wants more"):
        base_model.load_tokenizer(check_folder(folder))


def test_a_template_that_takes_no_lone_word_is_loaded_and_told_of_when_it_is_needed(folder):
    from trainers import base_model
    from trainers.encoding import render
    from trainers.shards import Message

    (folder / "chat_template.jinja").write_text("{{ strftime_now(messages) }}{{ messages[0]['content'].nothing() }}")
    tokenizer = base_model.load_tokenizer(check_folder(folder))
    with pytest.raises(TrainerError, match="chat template of the model failed"):
        render(tokenizer, [Message("user", "Hello.")], is_prompt=True)


def test_work_done_apart_says_what_it_found_and_what_went_wrong():
    assert apart(lambda: {"a": [1]}, seconds=10, more_bytes=1 << 30) == {"a": [1]}
    with pytest.raises(TimeoutError):
        apart(lambda: os._exit(1), seconds=10, more_bytes=1 << 30)
    with pytest.raises(TrainerError, match="KeyError"):
        apart(lambda: {}["a"], seconds=10, more_bytes=1 << 30)
    with pytest.raises(TimeoutError):
        apart(lambda: bytearray(8 << 30), seconds=10, more_bytes=1 << 30)


def test_a_vocabulary_larger_than_the_embedding_is_noticed(tiny_model):
    from trainers.base_model import load_tokenizer

    tokenizer = load_tokenizer(check_folder(tiny_model))
    problems = token_problems(tokenizer, {}, {}, rows=100)
    assert "but the embedding has 100 rows" in problems[0]
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|late|>"]})
    assert any("<|late|>" in said for said in token_problems(tokenizer, {}, {}, rows=len(tokenizer) - 1))
