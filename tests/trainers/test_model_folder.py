"""A model folder that could run code, or lies about its weights, is refused before anything is loaded."""

import json
import os
import pickle
import shutil
import struct

import pytest

from trainers.base_model import load_base
from trainers.device import choose_device
from trainers.errors import TrainerError
from trainers.inspection import inspect
from trainers.model_folder import MAX_HEADER_BYTES, check_folder


@pytest.fixture
def folder(tiny_model, tmp_path):
    copy = tmp_path / "model"
    shutil.copytree(tiny_model, copy)
    return copy


class Trap:
    def __reduce__(self):
        return (pytest.fail, ("a pickle was loaded",))


def change(path, **values):
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def refusal(folder):
    with pytest.raises(TrainerError) as caught:
        check_folder(folder)
    return str(caught.value)


def test_a_good_folder_has_a_digest_that_follows_its_files(folder):
    first = check_folder(folder)
    assert first.architecture == "LlamaForCausalLM"
    assert first.parameters > 10_000
    (folder / ".hidden").write_text("not loaded, not counted")
    assert check_folder(folder, first.digest).digest == first.digest
    change(folder / "generation_config.json", temperature=0.5)
    with pytest.raises(TrainerError, match="pins"):
        check_folder(folder, first.digest)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "weights.pt", "model.ckpt", "x.pkl", "training_args.BIN"])
def test_pickles_are_refused_unread(folder, name):
    (folder / name).write_bytes(pickle.dumps(Trap()))
    assert "run code" in refusal(folder)


@pytest.mark.parametrize("name", ["modeling_x.py", "tokenization_x.py", "kernel.so", "setup.sh"])
def test_code_is_refused(folder, name):
    (folder / name).write_text("raise SystemExit")
    assert "code" in refusal(folder)


@pytest.mark.parametrize(
    ("file", "values"),
    [
        ("config.json", {"auto_map": {"AutoModel": "modeling_x.X"}}),
        ("config.json", {"text_config": {"auto_map": {"AutoModel": "other/repo--x.X"}}}),
        ("tokenizer_config.json", {"auto_map": {"AutoTokenizer": ["x.X", None]}}),
        ("config.json", {"quantization_config": {"quant_method": "custom"}}),
        ("config.json", {"_attn_implementation": "someone/kernel"}),
        ("generation_config.json", {"custom_generate": "someone/repo"}),
        ("config.json", {"architectures": ["A", "B"]}),
        ("config.json", {"architectures": ["os.system"]}),
        ("config.json", {"transformers_weights": ".other.safetensors"}),
        ("tokenizer_config.json", {"fast_tokenizer_files": ["../elsewhere/tokenizer.1.0.json"]}),
        ("tokenizer_config.json", {"gguf_file": "/elsewhere/x.gguf"}),
    ],
)
def test_settings_that_name_code_or_other_files_are_refused(folder, file, values):
    change(folder / file, **values)
    assert file in refusal(folder)


@pytest.mark.parametrize("name", ["num_hidden_layers", "n_layer"])
def test_more_layers_than_weights_are_refused_before_one_is_made(folder, name):
    change(folder / "config.json", **{name: 10**7})
    assert f"{name} is more than the files have weights" in refusal(folder)
    change(folder / "config.json", **{name: 2, "text_config": {name: 1e9}})
    assert f"{name} is more than the files have weights" in refusal(folder)


@pytest.mark.parametrize("file", ["config.json", "tokenizer_config.json", "generation_config.json"])
def test_settings_deep_within_settings_are_refused(folder, file):
    for opened, closed in (("[", "]"), ('{"a":', "}")):
        deep = opened * 700 + "1" + closed * 700
        whole = (folder / file).read_text()
        (folder / file).write_text(whole.rstrip()[:-1] + f', "chat_template": {deep}}}')
        assert f"{file}: not an object, or one of more than" in refusal(folder)
        (folder / file).write_text(whole)


def weights_with(folder, header, tail=b""):
    raw = json.dumps(header).encode() if isinstance(header, dict) else header
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", len(raw)) + raw + tail)


def test_headers_that_lie_are_refused(folder):
    path = folder / "model.safetensors"
    tensor = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}
    path.write_bytes(struct.pack("<Q", MAX_HEADER_BYTES + 1) + b"{}")
    assert "length" in refusal(folder)
    path.write_bytes(b"\x01")
    assert "length" in refusal(folder)
    for header, tail, word in [
        (b"[" * 10_000, b"", "sound"),
        ({"a": tensor | {"shape": [3]}}, b"\0" * 8, "sound"),
        ({"a": tensor | {"shape": [-2]}}, b"\0" * 8, "sound"),
        ({"a": tensor | {"dtype": "PICKLE"}}, b"\0" * 8, "sound"),
        # Whose product alone would take a minute.
        ({"a": tensor | {"shape": [2**62] * 20_000}}, b"\0" * 8, "sound"),
        ({"a": tensor, "b": tensor}, b"\0" * 8, "overlap"),
        ({"a": tensor}, b"\0" * 9, "agree"),
        ({"a": tensor}, b"", "agree"),
    ]:
        weights_with(folder, header, tail)
        assert word in refusal(folder)


@pytest.mark.parametrize("name", ["/etc/passwd", "../other/model.safetensors", "absent.safetensors"])
def test_an_index_that_points_elsewhere_is_refused(folder, name):
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": name}}))
    assert "not a weight file of this folder" in refusal(folder)


def sharded(folder, first):
    """The folder with its weights in two files, the ``first`` of them in one of them, and an index."""
    from safetensors.torch import load_file, save_file

    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    names = sorted(weights)
    parts = {"model-1.safetensors": names[:first], "model-2.safetensors": names[first:]}
    for file, held in parts.items():
        save_file({name: weights[name] for name in held}, folder / file, {"format": "pt"})
    index = {"metadata": {}, "weight_map": {name: file for file, held in parts.items() for name in held}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return index


def test_weights_in_several_files_want_an_index_that_names_what_they_hold(folder):
    index = sharded(folder, 5)
    whole = check_folder(folder).parameters
    load_base(check_folder(folder), choose_device("fp32"))
    assert inspect(folder).folder.parameters == whole
    (folder / "model.safetensors.index.json").unlink()
    assert "no model.safetensors, and no model.safetensors.index.json" in refusal(folder)
    index["weight_map"]["model.layers.7.mlp.up_proj.weight"] = "model-1.safetensors"
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    assert "tensors that its files do not hold" in refusal(folder)
    index["weight_map"]["a"] = ["model-1.safetensors"]
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    assert "not a weight file of this folder" in refusal(folder)


def test_weights_that_are_not_all_there_are_not_taken_in(folder):
    """It used to come in, and the first run on it failed."""
    from safetensors.torch import load_file, save_file

    weights = load_file(folder / "model.safetensors")
    gone = next(name for name in weights if "up_proj" in name)
    save_file({name: each for name, each in weights.items() if name != gone}, folder / "model.safetensors")
    with pytest.raises(TrainerError, match=f"1 weights are missing, first {gone}"):
        inspect(folder)


def test_links_out_of_the_folder_and_odd_files_are_refused(folder, tmp_path):
    (tmp_path / "secret.json").write_text("{}")
    (folder / "added_tokens.json").symlink_to(tmp_path / "secret.json")
    (folder / "original").mkdir()
    (folder / "notes.xyz").write_text("")
    said = refusal(folder)
    assert "leaves the folder" in said
    assert "a folder" in said
    assert "not a file a model folder needs" in said


def test_hidden_files_that_something_might_load_are_refused(folder):
    """They are not in the digest, so a setting that names them would bring in what nobody pinned."""
    for name in (".gitattributes", ".gitignore", ".DS_Store"):
        (folder / name).write_text("harmless")
    check_folder(folder)
    (folder / ".other.safetensors").write_bytes(b"")
    (folder / ".x.model").write_bytes(b"")
    said = refusal(folder)
    assert "'.other.safetensors': hidden" in said
    assert "'.x.model': hidden" in said


@pytest.mark.parametrize("name", ["config.json", "model.safetensors.index.json", "chat_template.jinja"])
def test_a_file_that_was_refused_is_not_read(folder, name):
    """A device or a pipe behind such a name would never end."""
    (folder / name).unlink(missing_ok=True)
    (folder / name).symlink_to("/dev/zero")
    assert "leaves the folder" in refusal(folder)
    (folder / name).unlink()
    os.mkfifo(folder / name)
    assert "not a plain file" in refusal(folder)


def test_texts_of_absurd_size_are_refused_by_their_length(folder):
    for name in ("chat_template.jinja", "tokenizer.json", "README.md"):
        with (folder / name).open("wb") as sink:
            sink.truncate(1 << 40)
    said = refusal(folder)
    for name in ("chat_template.jinja", "tokenizer.json", "README.md"):
        assert f"'{name}': larger than" in said


def test_numbers_of_thousands_of_digits_are_no_fault_of_ours(folder):
    (folder / "generation_config.json").write_text('{"top_k": ' + "9" * 5000 + "}")
    assert "generation_config.json: not JSON" in refusal(folder)


def test_a_model_that_is_no_causal_one_is_refused_by_the_command(bench, folder):
    change(folder / "config.json", architectures=["LlamaForSequenceClassification"])
    bench.model = folder
    bench.spec()
    code, said = bench.command("run")
    assert (code, said[-1].code) == (2, "model.unknown")


def test_weights_that_do_not_fit_the_configuration_are_refused(bench, folder):
    change(folder / "config.json", intermediate_size=40)
    bench.model = folder
    bench.spec()
    code, said = bench.command("run")
    assert (code, said[-1].code) == (2, "model.broken")


@pytest.mark.parametrize(
    "template",
    [
        "{{ ''['_' ~ '_class__']['_' ~ '_mro__'] }}",
        "{{ cycler['_' ~ '_init__']['_' ~ '_globals__'].os.system('touch ' + messages[0]['content']) }}",
        "{% set _ = messages.append({'role': 'user', 'content': 'x'}) %}{{ messages }}",
        "{{ raise_exception(messages[0]['content']) }}",
        "{{ range(10000000) | list }}",
    ],
)
def test_a_malicious_template_runs_in_a_sandbox_and_quotes_nothing(bench, folder, kit, template):
    (folder / "chat_template.jinja").write_text(template)
    bench.model = folder
    bench.spec()
    code, said = bench.command("validate")
    assert (code, said[-1].code) == (2, "model.template")
    assert kit.secret not in str(said)


@pytest.mark.parametrize(
    ("template", "word"),
    [
        ("{{ ''.__class__.__mro__[1].__subclasses__() }}", "reaches for __class__"),
        ("{{ cycler . __init__.__globals__.os.system('id') }}", "reaches for __init__"),
        ("{{ lipsum['__globals__']['os'] }}", "reaches for __globals__"),
        ("{{ messages | map(attribute='__class__') | list }}", "reaches for __class__"),
        ("{% set x = ('' | attr('_' ~ '_class__')) %}", "the filter attr"),
        ("{%- include '/etc/passwd' %}", "another template"),
        ("{{ 'unfinished", "not written as templates are"),
        ("x" * (1 << 20) + "{{ 1 }}", "longer than"),
    ],
)
@pytest.mark.parametrize("place", ["chat_template.jinja", "chat_template.json", "tokenizer_config.json"])
def test_a_template_that_reaches_out_is_refused_before_anything_is_loaded(bench, folder, place, template, word):
    if place.endswith(".jinja"):
        (folder / place).write_text(template)
    elif place == "chat_template.json":
        (folder / place).write_text(json.dumps({"chat_template": template}))
    else:
        change(folder / place, chat_template=[{"name": "default", "template": template}])
    said = refusal(folder)
    assert f"{place}: the template" in said
    assert word in said
    bench.model = folder
    bench.spec()
    code, events = bench.command("run")
    assert (code, events[-1].code) == (2, "model.refused")


def test_templates_as_released_models_have_them_are_accepted(folder, kit):
    """Tool calls, namespaces, loop controls, generation marks and double underscores in plain text."""
    (folder / "chat_template.jinja").write_text(
        "{%- set ns = namespace(found=false) %}{# __class__ in a comment #}{{ '<__start__>' }} __init__ "
        "{%- for m in messages %}{%- if m.role == 'tool' %}{% continue %}{% endif %}{% generation %}"
        "{{ m['content'] | trim }}{{ m.tool_calls | default([]) | tojson }}{% endgeneration %}{% endfor %}"
    )
    assert check_folder(folder).architecture == "LlamaForCausalLM"
