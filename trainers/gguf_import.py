"""A GGUF file of a base model, turned into a safetensors folder that is trained on.

Guarantees: the header is judged before anything else reads the file, and what the libraries make of its facts fails as
an error of the file; numbers are dequantised to bf16 (the next best to what was released: a quantised file cannot give
back what it lost); families whose layers and names are known are taken, others refused.
Does not: keep the quantisation.

Example:
    >>> convert(Path("SmolLM2-135M-Instruct.Q4_1.gguf"), Path("folder"))
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from trainers.errors import TrainerError
from trainers.gguf_header import GgufHeader, read_header

#: GGUF's families and transformers' classes.
FAMILIES = {"llama": "LlamaForCausalLM", "qwen2": "Qwen2ForCausalLM", "qwen3": "Qwen3ForCausalLM"}
#: GGUF's tensor names and transformers'. Source: the gguf package, ``constants.py``.
_BLOCK = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "attn_q_norm": "self_attn.q_norm",
    "attn_k_norm": "self_attn.k_norm",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
_TOP = {"token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head"}


def check_source(source: Path) -> GgufHeader:
    """The judged header of a file that can be converted.

    Raises:
        TrainerError: ``model.gguf``, ``model.unknown`` (another family, scaled positions, tensors of other names).
    """
    header = read_header(source)
    family = header.facts.get("general.architecture")
    problem = ""
    if family not in FAMILIES:
        problem = f"its family {str(family)[:40]!r} is not converted; known are {', '.join(FAMILIES)}"
    elif any(key.startswith(f"{family}.rope.scal") for key in header.facts):  # older files: rope.scale_linear
        problem = "its rotary positions are scaled"
    elif strange := [each.name for each in header.tensors if _target(each.name) is None]:
        problem = f"{len(strange)} tensors have names of no plain layer"
    elif not _is_within(header.facts.get(f"{family}.block_count"), len(header.tensors)):
        problem = "it says more layers than it has tensors"
    elif not isinstance(header.facts.get("tokenizer.ggml.tokens"), int):
        problem = "it carries no tokenizer"
    if problem:
        raise TrainerError("model.unknown", f"{source.name}: {problem}", "import the safetensors release of this model")
    return header


def _is_within(count: Any, most: int) -> bool:
    return isinstance(count, int) and 1 <= count <= most


def _target(name: str) -> str | None:
    """transformers' name of a tensor."""
    part, _, kind = name.rpartition(".")
    block = re.fullmatch(r"blk\.(\d+)\.(\w+)", part)
    if kind not in ("weight", "bias"):
        return None
    if block:
        known = _BLOCK.get(block.group(2))
        return known and f"model.layers.{block.group(1)}.{known}.{kind}"
    return f"{_TOP[part]}.{kind}" if part in _TOP else None


def convert(source: Path, folder: Path) -> None:
    """Writes configuration, tokenizer and weights into ``folder``.

    Raises:
        TrainerError: as ``check_source``; ``model.broken``, when facts and tensors make no model.
    """
    header = check_source(source)
    try:
        _convert(source, folder, header)
    except (TrainerError, MemoryError, OSError):
        raise
    except Exception as fault:  # noqa: BLE001 - facts of unknown origin may make the libraries raise anything
        raise TrainerError(
            "model.broken", f"{source.name}: no model can be made of it ({type(fault).__name__})", "download it again"
        ) from None


def _convert(source: Path, folder: Path, header: GgufHeader) -> None:
    import torch
    from gguf import GGUFReader, dequantize
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    family = header.facts["general.architecture"]
    tokenizer = AutoTokenizer.from_pretrained(str(source.parent), gguf_file=source.name)
    _without_additions(tokenizer, int(header.facts["tokenizer.ggml.tokens"])).save_pretrained(folder)
    config = AutoConfig.from_pretrained(str(source.parent), gguf_file=source.name)
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    config.architectures = [FAMILIES[family]]
    heads = {"attn_q": config.num_attention_heads, "attn_k": config.num_key_value_heads}
    weights: dict[str, Any] = {}
    for tensor in GGUFReader(source).tensors:
        values = torch.from_numpy(dequantize(tensor.data, tensor.tensor_type).copy())
        kind = tensor.name.split(".")[-2]
        if kind in heads and family == "llama":
            values = _unpermuted(values, heads[kind])
        name = _target(tensor.name)
        assert name is not None
        weights[name] = values.to(torch.bfloat16)
    config.tie_word_embeddings = "lm_head.weight" not in weights
    if config.tie_word_embeddings:
        weights["lm_head.weight"] = weights["model.embed_tokens.weight"]
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    try:
        model.load_state_dict(weights, strict=True, assign=True)
    except (RuntimeError, KeyError):
        raise TrainerError(
            "model.broken", f"{source.name}: its tensors are not those of its own description", "download it again"
        ) from None
    model.tie_weights()
    model.save_pretrained(folder)


def _without_additions(tokenizer: Any, size: int) -> Any:
    """The tokenizer without the special tokens that transformers makes up where a file names none (``<unk>``, …)."""
    if len(tokenizer) <= size:
        return tokenizer
    from tokenizers import Tokenizer

    document = json.loads(tokenizer.backend_tokenizer.to_str())
    gone = {each["content"] for each in document["added_tokens"] if each["id"] >= size}
    document["added_tokens"] = [each for each in document["added_tokens"] if each["content"] not in gone]
    named = {name: word for name, word in tokenizer.special_tokens_map.items() if word not in gone}
    kept = {name: word for name, word in named.items() if isinstance(word, str)}
    plain = type(tokenizer)(tokenizer_object=Tokenizer.from_str(json.dumps(document)), **kept)
    plain.chat_template = tokenizer.chat_template
    return plain


def _unpermuted(values: Any, heads: int) -> Any:
    """Undoes the interleaving of rotary halves that GGUF files of the Llama family have; (rows, columns) stay."""
    rows, columns = values.shape
    return values.reshape(heads, rows // heads // 2, 2, columns).transpose(1, 2).reshape(rows, columns)
