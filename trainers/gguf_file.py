"""A tuned model as one GGUF file, which llama.cpp and its friends read: F16 or Q8_0, with tokenizer and chat template.

Guarantees: a model that the format would not carry faithfully (another family, scaled rotary positions, a tokenizer
that is no byte-level BPE known to llama.cpp) is refused before anything is written; norms and biases stay fp32; a row
that does not divide into blocks of Q8_0 is written as F16. The file is made in memory.
Does not: make K-quants, which ``trainers.llama_cpp`` has made of an F16 file.

Source: the GGUF specification and ``constants.py`` of the gguf package; llama.cpp's converter for the order of rotary
halves and the names of pre-tokenizers (``src/llama-vocab.cpp``).

Example:
    >>> check_gguf(bench)
    >>> with MemoryFile("model.gguf") as file:
    ...     write_gguf(file.path, bench, "q8_0", card, stop)
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch

from trainers.errors import TrainerError
from trainers.evaluation import Bench
from trainers.merging import merged, weights_of
from trainers.process import Stop

#: Families and their names in GGUF. Each has the plain layer that transformers and llama.cpp compute alike.
FAMILIES = {"llama": "llama", "qwen2": "qwen2", "qwen3": "qwen3"}
#: transformers takes this for granted in a file, whatever stands there; other heads could not be proven.
READ_QWEN3_HEAD = 128
#: How text is cut before merging, by what tells the rules apart.
_LLAMA3 = r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
_QWEN2 = r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}|"


def check_gguf(bench: Bench) -> None:
    """Whether the format carries this model.

    Raises:
        TrainerError: ``export.family``, ``export.tokenizer``.
    """
    config = bench.adapter.base.config
    rotary = getattr(config, "rope_parameters", None) or {}
    problem = ""
    if bench.adapter.labels:
        problem = "a classifier has no place in GGUF"
    elif config.model_type not in FAMILIES:
        problem = f"the family {config.model_type} is not written; known are {', '.join(FAMILIES)}"
    elif config.model_type == "qwen3" and config.head_dim != READ_QWEN3_HEAD:
        problem = f"transformers reads heads of {READ_QWEN3_HEAD} only from a file of this family"
    elif rotary.get("rope_type", "default") != "default":
        problem = "scaled rotary positions are not written"
    elif config.model_type == "llama" and (config.attention_bias or config.mlp_bias):
        problem = "biases in a Llama layer are not written"
    elif set(getattr(config, "layer_types", None) or ["full_attention"]) != {"full_attention"}:
        problem = "sliding windows are not written"
    if problem:
        raise TrainerError("export.family", problem, "export as merged safetensors, or ship the adapter")
    _pre_tokenizer(json.loads(bench.tokenizer.backend_tokenizer.to_str()))


def _pre_tokenizer(tokenizer: dict[str, Any]) -> str:
    """llama.cpp's name for the way this tokenizer cuts text."""
    cutter = tokenizer["pre_tokenizer"] or {}
    parts = cutter.get("pretokenizers", [cutter])
    patterns = [part.get("pattern", {}).get("Regex", "") for part in parts]
    kinds = [part.get("type") for part in parts]
    name = None
    if kinds == ["ByteLevel"] and cutter.get("use_regex"):
        name = "gpt-2"
    elif kinds == ["Digits", "ByteLevel"] and parts[0].get("individual_digits") and parts[1].get("use_regex"):
        name = "smollm"
    elif kinds == ["Split", "ByteLevel"] and _LLAMA3 in patterns[0]:
        name = "llama-bpe"
    elif kinds == ["Split", "ByteLevel"] and _QWEN2 in patterns[0]:
        name = "qwen2"
    if name is None or tokenizer["model"]["type"] != "BPE" or parts[-1].get("add_prefix_space"):
        raise TrainerError(
            "export.tokenizer",
            "llama.cpp has no name for the way this tokenizer cuts text",
            "export as merged safetensors, or ship the adapter",
        )
    return name


def write_gguf(path: Path, bench: Bench, kind: str, card: str, stop: Stop) -> None:
    """Writes the file; ``kind`` is ``f16`` or ``q8_0``, ``card`` its description."""
    import gguf

    config = bench.adapter.base.config
    family = FAMILIES[config.model_type]
    writer = gguf.GGUFWriter(path, family)
    _describe(writer, config, kind)
    writer.add_description(card)
    _add_tokenizer(writer, bench, config.vocab_size)
    places = weights_of(bench.adapter)
    architecture = next(each for each, name in gguf.MODEL_ARCH_NAMES.items() if name == family)
    names = gguf.get_tensor_name_map(architecture, config.num_hidden_layers)
    heads = {"attn_q.weight": config.num_attention_heads, "attn_k.weight": config.num_key_value_heads}
    for name, place in places.items():
        stop.check()
        target = names.get_name(name, try_suffixes=(".weight", ".bias"))
        if target is None:
            raise TrainerError("export.family", f"GGUF has no name for {name}", "export as merged safetensors")
        values = merged(bench.adapter, name, place.data).float().cpu()
        count = heads.get(target.partition(".")[2].partition(".")[2])
        if count and family == "llama":
            values = _interleaved(values, count)
        quantised, written = _quantised(values, kind)
        writer.add_tensor(target, quantised, raw_dtype=written)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _interleaved(values: torch.Tensor, heads: int) -> torch.Tensor:
    """Rotary halves side by side, as files of the Llama family have them; (rows, columns) stay."""
    rows, columns = values.shape
    return values.reshape(heads, 2, rows // heads // 2, columns).transpose(1, 2).reshape(rows, columns).contiguous()


def _quantised(values: torch.Tensor, kind: str) -> tuple[Any, Any]:
    """The numbers as they are written and the name of their form."""
    import gguf

    kinds = gguf.GGMLQuantizationType
    form = kinds.F32 if values.ndim == 1 else kinds.F16
    if values.ndim == 2 and kind == "q8_0" and values.shape[1] % gguf.GGML_QUANT_SIZES[kinds.Q8_0][0] == 0:
        form = kinds.Q8_0
    return gguf.quantize(values.numpy(), form), form


def _describe(writer: Any, config: Any, kind: str) -> None:
    import gguf

    writer.add_name("tuned model")
    writer.add_vocab_size(config.vocab_size)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    head = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    writer.add_rope_dimension_count(head)
    writer.add_key_length(head)
    writer.add_value_length(head)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(float(config.rope_parameters["rope_theta"]))
    types = gguf.LlamaFileType
    writer.add_file_type(types.MOSTLY_Q8_0 if kind == "q8_0" else types.MOSTLY_F16)
    if kind == "q8_0":
        writer.add_quantization_version(gguf.GGML_QUANT_VERSION)


def _add_tokenizer(writer: Any, bench: Bench, size: int) -> None:
    """Vocabulary, merges, special tokens and the chat template."""
    import gguf

    tokenizer = bench.tokenizer
    document = json.loads(tokenizer.backend_tokenizer.to_str())
    added = {each["id"]: each for each in document["added_tokens"]}
    tokens = {number: token for token, number in document["model"]["vocab"].items()}
    tokens |= {number: each["content"] for number, each in added.items()}
    kinds = gguf.TokenType
    types = []
    for number in range(size):
        if number in added:
            types.append(kinds.CONTROL if added[number]["special"] else kinds.USER_DEFINED)
        else:
            types.append(kinds.NORMAL if number in tokens else kinds.UNUSED)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(_pre_tokenizer(document))
    writer.add_token_list([tokens.get(number, f"[unused{number}]") for number in range(size)])
    writer.add_token_types(types)
    merges = [each if isinstance(each, str) else " ".join(each) for each in document["model"]["merges"]]
    # The format knows no empty list.
    if merges:
        writer.add_token_merges(merges)
    for name in ("bos", "eos", "pad", "unk"):
        number = getattr(tokenizer, f"{name}_token_id")
        if number is not None:
            getattr(writer, f"add_{name}_token_id")(number)
    writer.add_add_bos_token(False)
    writer.add_chat_template(str(tokenizer.chat_template))


def load_gguf(folder: str, name: str) -> Any:
    """The model in a file, by transformers, in fp32, ready to answer.

    Raises:
        TrainerError: ``export.parity``, when it does not load.
    """
    from transformers import AutoModelForCausalLM

    try:
        model = AutoModelForCausalLM.from_pretrained(
            folder, gguf_file=name, local_files_only=True, trust_remote_code=False, dtype=torch.float32
        )
    except MemoryError:
        raise
    except Exception as fault:  # noqa: BLE001 - what does not load is not offered, for whatever reason
        raise TrainerError(
            "export.parity", f"the written file does not load ({type(fault).__name__})", "export as merged safetensors"
        ) from None
    return model.eval()


def told_of_itself(path: Path) -> tuple[list[str], str]:
    """Vocabulary and chat template as they stand in a file."""
    import gguf

    reader = gguf.GGUFReader(path)
    template = reader.get_field("tokenizer.chat_template")
    tokens = reader.get_field("tokenizer.ggml.tokens")
    assert template is not None
    assert tokens is not None
    return [bytes(np.asarray(tokens.parts[at])).decode() for at in tokens.data], str(template.contents())
