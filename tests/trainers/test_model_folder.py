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
from trainers.model_folder import check_folder
from trainers.weight_files import MAX_HEADER_BYTES


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
        ("tokenizer_config.json", {"merges_file": "/elsewhere/merges.txt"}),
        ("tokenizer_config.json", {"sp_model_kwargs": {"model_file": "/elsewhere/x.model"}}),
        ("tokenizer_config.json", {"init_inputs": ["/elsewhere/vocab.txt"]}),
    ],
)
def test_settings_that_name_code_or_other_files_are_refused(folder, file, values):
    change(folder / file, **values)
    assert file in refusal(folder)


@pytest.mark.parametrize("key", ["tokenizer_file", "chat_template", "vocab_file"])
def test_special_tokens_that_are_none_are_refused(folder, key):
    """They outdo what lies in the folder: a tokenizer from elsewhere was read, and a template that was never judged."""
    (folder / "special_tokens_map.json").write_text(json.dumps({"eos_token": "<|end|>", key: "/elsewhere"}))
    assert f"special_tokens_map.json: {key} is no special token" in refusal(folder)
    (folder / "special_tokens_map.json").write_text('{"eos_token": "<|end|>", "additional_special_tokens": []}')
    check_folder(folder)


@pytest.mark.parametrize("name", ["num_hidden_layers", "n_layer"])
def test_more_layers_than_weights_are_refused_before_one_is_made(folder, name):
    change(folder / "config.json", **{name: 10**7})
    assert f"{name} is more than the files have weights" in refusal(folder)
    change(folder / "config.json", **{name: 2, "text_config": {name: 1e9}})
    assert f"{name} is more than the files have weights" in refusal(folder)


@pytest.mark.parametrize(
    ("values", "word"),
    [
        ({"rms_norm_eps": float("nan")}, "rms_norm_eps is no finite number"),
        ({"anything": {"at": [1, float("inf")]}}, "at is no finite number"),
        ({"anything": {"__float__": "NaN"}}, "anything is no finite number"),
        ({"num_hidden_layers": 0}, "num_hidden_layers is 0"),
        ({"max_position_embeddings": -1}, "max_position_embeddings is -1"),
        ({"max_position_embeddings": 10**12}, "max_position_embeddings is 1000000000000;"),
        ({"max_position_embeddings": 10**400}, "max_position_embeddings is 10000000000000000000…;"),
        ({"text_config": {"num_attention_heads": 0}}, "num_attention_heads is 0"),
        ({"attention_dropout": 2.0}, "attention_dropout is 2"),
        ({"rope_parameters": {"rope_theta": 0, "rope_type": "default"}}, "rope_theta is 0"),
        ({"rope_parameters": {"full_attention": {"rope_theta": -1}}}, "rope_theta is -1"),
        ({"rope_theta": 1e-300}, "rope_theta is 1e-300"),
        ({"rope_scaling": {"type": "evil", "factor": 2.0}}, "a scaling of rotary positions that is not known"),
        ({"rope_scaling": {"rope_type": "linear", "factor": 0}}, "factor is 0"),
        ({"rope_scaling": {"rope_type": "longrope", "short_factor": [1, 0]}}, "short_factor is 0"),
        ({"rope_scaling": {"rope_type": "yarn", "beta_fast": 1, "beta_slow": 32}}, "beta_slow must be less than"),
    ],
)
def test_numbers_that_no_model_can_have_are_refused_by_name(folder, values, word):
    change(folder / "config.json", **values)
    assert word in refusal(folder)


def test_numbers_of_released_models_are_accepted(folder):
    """Of Mamba 2, Hunyuan, Llama 3.1, Qwen2-VL, DeepSeek and Gemma 3."""
    for values in (
        {"time_step_limit": [0.0, float("inf")]},
        {"rope_scaling": {"alpha": 1000.0, "beta_fast": 32, "beta_slow": 1, "factor": 1.0, "type": "dynamic"}},
        {"rope_scaling": {"rope_type": "llama3", "factor": 32.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}},
        {"rope_scaling": {"type": "mrope", "mrope_section": [16, 24, 24]}},
        {"rope_scaling": {"type": "yarn", "factor": 40, "mscale": 0.707, "beta_fast": 32, "beta_slow": 1}},
        {"rope_local_base_freq": 10000, "rope_theta": 1e6, "rope_scaling": None, "num_key_value_heads": None},
    ):
        change(folder / "config.json", **values)
        check_folder(folder)


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
        # Of which one reader takes the first and another the last.
        (b'{"a": %s, "a": %s}' % ((json.dumps(tensor).encode(),) * 2), b"\0" * 8, "sound"),
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


def test_a_tensor_in_two_files_is_refused(folder):
    """Which of the two is meant depends on who reads them."""
    shutil.copy(folder / "model.safetensors", folder / "other.safetensors")
    assert "other.safetensors: holds 'model.embed_tokens.weight', which model.safetensors holds too" in refusal(folder)


def test_a_weight_in_a_file_that_nobody_opens_does_not_count(folder):
    """It came in, and the first run on it failed."""
    index = sharded(folder, 5)
    used = {name: file for name, file in index["weight_map"].items() if file == "model-1.safetensors"}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index | {"weight_map": used}))
    with pytest.raises(TrainerError, match="weights are missing"):
        inspect(folder)


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
    (folder / "vocab.txt").symlink_to("vocab.txt")  # a circle
    said = refusal(folder)
    assert "'added_tokens.json': a link that leaves the folder" in said
    assert "'vocab.txt': a link that leaves the folder" in said
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


@pytest.mark.parametrize(
    ("values", "fault", "word"),
    [
        ({"intermediate_size": 40}, "model.broken", "6 weights have another shape"),
        ({"vocab_size": 10**9}, "model.broken", "another shape"),
        ({"num_attention_heads": 10**6}, "model.broken", "no model can be made"),
        # Which trained a model cut short.
        ({"num_hidden_layers": 1}, "model.broken", "leaves out 9 weights of layers, first model.layers.1."),
        ({"pad_token_id": -5}, "model.tokenizer", "pad_token_id is no token of this model"),
    ],
)
def test_a_configuration_that_is_of_another_model_is_refused_alike_by_every_command(bench, folder, values, fault, word):
    change(folder / "config.json", **values)
    bench.model = folder
    bench.spec()
    for command in ("validate", "fit", "run"):
        code, said = bench.command(command)
        assert (code, said[-1].code, word in said[-1].message) == (2, fault, True), said[-1]


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
