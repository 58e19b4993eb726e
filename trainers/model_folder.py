"""A folder of a base model, judged before anything in it is loaded.

Guarantees: only named kinds of plain files are accepted (safetensors, JSON, text, the template); pickles and other
executable formats, code, ``auto_map``, kernels from a hub, quantisation plug-ins, links that leave the folder,
safetensors headers that are oversized or lie about their offsets, and settings or index entries that name other files
are refused, and so is a chat template that reaches out of its sandbox; the digest covers every accepted file, and no
other is ever loaded; a file that was refused is not read, and of none more is read than its kind may have.
Does not: judge what the weights do, nor load them; a template is rendered in a sandbox later.

Example:
    >>> folder = check_folder(Path("/models/base"), digest=None)
    >>> folder.digest
    'sha256:…'
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainers.chat_template import MAX_TEMPLATE_CHARS, template_problems, templates_in
from trainers.errors import TrainerError
from trainers.model_settings import number_problems, odd_numbers
from trainers.weight_files import INDEX, SINGLE, Place, places_in

MAX_CONFIG_BYTES = 64 << 20
#: Of any file but weights; the largest vocabularies that were released take 35 MB.
MAX_PLAIN_BYTES = 256 << 20
#: Of a setting within settings; what was released stays below ten.
MAX_DEPTH = 64

_WEIGHTS = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*\.safetensors")
_PLAIN = re.compile(
    r"config\.json|generation_config\.json|tokenizer\.json|tokenizer_config\.json|special_tokens_map\.json"
    r"|added_tokens\.json|vocab\.json|vocab\.txt|merges\.txt|tokenizer\.model|spiece\.model|chat_template\.(?:jinja|json)"
    r"|preprocessor_config\.json|[A-Za-z0-9._-]+\.safetensors\.index\.json"
    r"|(?:README|LICENSE|LICENCE|NOTICE|USE_POLICY|CITATION|MODEL_CARD)(?:\.[A-Za-z]{2,8})?|[A-Za-z0-9._-]+\.(?:md|png|svg)"
)
_EXECUTABLE = {".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".joblib", ".npy", ".npz", ".h5", ".msgpack", ".mar"}
_CODE = {".py", ".pyc", ".so", ".sh", ".ipynb", ".dll", ".js"}
_WORDS_TO_REFUSE = (
    "auto_map",
    "custom_pipelines",
    "quantization_config",
    "trust_remote_code",
    "custom_generate",
    "init_inputs",
)
#: Settings by which transformers opens another file than the one that is judged here. Source: transformers 5.23,
#: ``modeling_utils``, ``tokenization_utils_base`` and ``tokenization_utils_tokenizers``.
_WORDS_FOR_FILES = (
    "transformers_weights",
    "fast_tokenizer_files",
    "gguf_file",
    "vocab_file",
    "vocab",
    "merges_file",
    "merges",
    "spm_file",
    "source_spm",
    "target_spm",
    "model_file",
    "model_proto",
)
#: Files that hold templates.
_TEMPLATE_FILES = ("chat_template.jinja", "chat_template.json", "tokenizer_config.json")
#: All that ``special_tokens_map.json`` may say: what stands there outdoes what the library found in the folder.
_SPECIAL_TOKENS = re.compile(r"\w*_token|(?:additional|extra)_special_tokens")
#: Suffixes of what is loaded from a folder, by name or by looking for it.
_LOADED = {".safetensors", ".json", ".model", ".jinja", ".txt", ".gguf"}

_MAGIC = {b"PK\x03\x04": "a zip archive", b"\x89HDF": "HDF5", b"\x7fELF": "a program", b"\x1f\x8b": "gzip"}


@dataclass(frozen=True)
class ModelFolder:
    """A folder that may be loaded. ``digest`` is over names and contents of all accepted files."""

    path: Path
    digest: str
    config: dict[str, Any]
    architecture: str
    parameters: int


def check_folder(path: Path, digest: str | None = None) -> ModelFolder:
    """Judges a folder and computes its digest.

    Args:
        path: of the folder.
        digest: what it has to be, or None where nothing is pinned.

    Raises:
        TrainerError: ``model.missing``, ``model.refused`` (all reasons at once), ``model.digest``.
    """
    files, config, architecture, parameters = _judged(path)
    found = _digest(files)
    if digest is not None and digest != found:
        raise TrainerError(
            "model.digest",
            f"{path}: the files have digest {found}, the spec pins {digest}",
            "restore the pinned files, or pin this digest after the change was reviewed",
        )
    return ModelFolder(path, found, config, architecture, parameters)


def refuse_folder(path: Path) -> None:
    """Raises what ``check_folder`` would, without reading the weights.

    Raises:
        TrainerError: ``model.missing``, ``model.refused``.
    """
    _judged(path)


def _judged(path: Path) -> tuple[list[Path], dict[str, Any], str, int]:
    """The accepted files, the configuration, the class and the number of parameters."""
    if not path.is_dir():
        raise TrainerError("model.missing", f"no such model folder: {path}", "give the folder that holds config.json")
    files, problems = _sort_files(path)
    weights = [each for each in files if _WEIGHTS.fullmatch(each.name)]
    if not weights:
        problems.append("no *.safetensors file")
    config: dict[str, Any] = {}
    if path / "config.json" in files:
        config = _read_json(path / "config.json", problems)
    else:
        problems.append("config.json: missing or not readable")
    for each in files:
        if (
            each.suffix == ".json"
            and each.name != "config.json"
            and not each.name.startswith(("vocab", "tokenizer.json"))
        ):
            settings = _read_json(each, problems)
            _judge_words(settings, each.name, problems)
            if each.name == "special_tokens_map.json":
                strange = [str(key)[:40] for key in settings if not _SPECIAL_TOKENS.fullmatch(str(key))]
                problems += [f"{each.name}: {name} is no special token" for name in strange]
    _judge_words(config, "config.json", problems)
    _judge_templates(files, problems)
    headers = {each.name: _judge_header(each, problems) for each in weights}
    parameters = sum(place.count for tensors in headers.values() for place in tensors.values())
    problems += [f"config.json: {said}" for said in number_problems(config, sum(map(len, headers.values())))]
    _judge_index(files, headers, problems)
    architecture = _architecture(config, problems)
    if problems:
        raise TrainerError(
            "model.refused",
            f"{path}: " + "; ".join(problems[:20]),
            "use a safetensors release of the model without code; convert pickled weights elsewhere, never here",
        )
    return files, config, architecture, parameters


def _sort_files(path: Path) -> tuple[list[Path], list[str]]:
    files, problems = [], []
    root = path.resolve()
    for each in sorted(path.iterdir()):
        name = repr(each.name[:80])
        if each.name.startswith("."):
            # What git and hubs leave behind. Nothing hidden is ever loaded, so it is not part of the digest either.
            if each.suffix.lower() in _LOADED | _EXECUTABLE:
                problems.append(f"{name}: hidden, so it would not count in the digest")
            continue
        if not is_within(each, root):
            problems.append(f"{name}: a link that leaves the folder")
        elif each.is_dir():
            problems.append(f"{name}: a folder; only the model's own files belong here")
        elif each.suffix.lower() in _EXECUTABLE:
            problems.append(f"{name}: a format that can run code when it is read")
        elif each.suffix.lower() in _CODE:
            problems.append(f"{name}: code")
        elif not is_accepted(each.name):
            problems.append(f"{name}: not a file a model folder needs")
        elif not each.is_file():
            problems.append(f"{name}: not a plain file")
        elif each.suffix != ".safetensors" and each.stat().st_size > MAX_PLAIN_BYTES:
            problems.append(f"{name}: larger than {MAX_PLAIN_BYTES} bytes")
        elif said := _looks_like(each):
            problems.append(f"{name}: by its content {said}, whatever its name says")
        else:
            files.append(each)
    return files, problems


def is_within(path: Path, root: Path) -> bool:
    """Whether a path leads into a folder whose own path has no links; a circle of links leads nowhere."""
    try:
        return path.resolve(strict=True).is_relative_to(root)
    except (OSError, RuntimeError):
        return False


def is_accepted(name: str) -> bool:
    """Whether a file of that name may lie in a model folder; a plain name, nothing of a folder in it."""
    return bool(_WEIGHTS.fullmatch(name) or _PLAIN.fullmatch(name))


def _looks_like(path: Path) -> str:
    """What a file is by its first bytes, where that is something that can run code when it is read; else ''.

    Source: the pickle protocol's PROTO opcode (Python, ``pickletools``), the magic numbers of zip (which torch writes
    pickles into), HDF5, ELF and gzip.
    """
    with path.open("rb") as source:
        head = source.read(8)
    if head[:1] == b"\x80" and head[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05"):
        # A safetensors file begins with its header's length, which may look the same; there the header decides.
        return "" if path.suffix == ".safetensors" and head[6:8] == bytes(2) else "a pickle"
    for magic, said in _MAGIC.items():
        if head.startswith(magic):
            return said
    return ""


def _read_json(path: Path, problems: list[str]) -> dict[str, Any]:
    try:
        if path.stat().st_size > MAX_CONFIG_BYTES:
            problems.append(f"{path.name}: larger than {MAX_CONFIG_BYTES} bytes")
            return {}
        document = json.loads(path.read_bytes())
    except OSError:
        problems.append(f"{path.name}: missing or not readable")
    except (ValueError, RecursionError):  # of numbers with thousands of digits, too
        problems.append(f"{path.name}: not JSON")
    else:
        if not isinstance(document, dict) or _is_deep(document):
            problems.append(f"{path.name}: not an object, or one of more than {MAX_DEPTH} levels")
            return {}
        problems += [f"{path.name}: {name[:40]} is no finite number" for name in sorted(set(odd_numbers(document)))]
        return document
    return {}


def _is_deep(document: dict[str, Any]) -> bool:
    """Whether settings lie so deep within settings that whatever walks down them runs out of stack."""
    level: list[Any] = [document]
    for _ in range(MAX_DEPTH):
        within = [each.values() if isinstance(each, dict) else each for each in level]
        level = [value for values in within for value in values if isinstance(value, dict | list)]
    return bool(level)


def _judge_words(value: Any, where: str, problems: list[str]) -> None:
    """Looks at every depth for settings by which a configuration names code, or files that were not judged."""
    if isinstance(value, list):
        for each in value:
            _judge_words(each, where, problems)
    if not isinstance(value, dict):
        return
    for key, each in value.items():
        if key in _WORDS_TO_REFUSE and each not in (None, False, []):
            problems.append(f"{where}: {key}")
        elif key in _WORDS_FOR_FILES and each is not None:
            problems.append(f"{where}: {key} names another file to load")
        elif "attn_implementation" in str(key) and each not in (None, "eager", "sdpa", "flash_attention_2"):
            problems.append(f"{where}: {str(key)[:40]} names an attention kernel from elsewhere")
        else:
            _judge_words(each, where, problems)


def _judge_templates(files: list[Path], problems: list[str]) -> None:
    for each in files:
        if each.name in _TEMPLATE_FILES:
            found = (said for text in _templates_of(each) for said in template_problems(text))
            problems.extend(f"{each.name}: the template {said}" for said in found)


def _templates_of(file: Path) -> list[str]:
    """The templates in one of the files that hold some; whether it is JSON at all is judged elsewhere."""
    if file.suffix == ".json":
        return templates_in(_read_json(file, []).get("chat_template"))
    with file.open("rb") as source:
        return [source.read(MAX_TEMPLATE_CHARS * 4 + 1).decode(errors="replace")]


def template_words(path: Path) -> str:
    """All templates of a judged folder, one after the other, as text; '' where it has none."""
    files = (path / name for name in _TEMPLATE_FILES)
    return "\n".join(text for file in files if file.is_file() for text in _templates_of(file))


def _judge_index(files: list[Path], headers: dict[str, dict[str, Place]], problems: list[str]) -> None:
    """Holds each index against the tensors that its files really have; several files want one, and share no tensor."""
    met: dict[str, str] = {}
    for name, tensors in headers.items():
        if shared := sorted(met.keys() & tensors.keys()):
            problems.append(f"{name}: holds {shared[0][:80]!r}, which {met[shared[0]]} holds too")
        met |= dict.fromkeys(tensors, name)
    if headers and SINGLE not in headers and not any(each.name == INDEX for each in files):
        problems.append(f"no model.safetensors, and no {INDEX} that says which file holds what")
    for each in files:
        if not each.name.endswith(".safetensors.index.json"):
            continue
        shards = _read_json(each, problems).get("weight_map")
        if not isinstance(shards, dict) or not shards:
            problems.append(f"{each.name}: no weight_map")
            continue
        strange = {str(name)[:80] for name in shards.values() if str(name) not in headers}
        problems.extend(f"{each.name}: names {name!r}, which is not a weight file of this folder" for name in strange)
        if not strange and any(tensor not in headers[str(name)] for tensor, name in shards.items()):
            problems.append(f"{each.name}: names tensors that its files do not hold")


def _judge_header(path: Path, problems: list[str]) -> dict[str, Place]:
    """The tensors of a safetensors file whose header is sound; of another none."""
    try:
        return places_in(path)
    except ValueError as fault:
        problems.append(f"{path.name}: {fault}")
        return {}


def _architecture(config: dict[str, Any], problems: list[str]) -> str:
    names = config.get("architectures")
    if not isinstance(names, list) or len(names) != 1 or not isinstance(names[0], str):
        problems.append("config.json: architectures must name exactly one class")
        return ""
    if not re.fullmatch(r"[A-Za-z0-9_]{1,80}", names[0]) or not isinstance(config.get("model_type"), str):
        problems.append("config.json: no usable architecture and model_type")
        return ""
    return names[0]


def _digest(files: list[Path]) -> str:
    """sha256 over lines of "<sha256 of the file>  <name>", in the order of names."""
    whole = hashlib.sha256()
    for each in files:
        with each.open("rb") as source:
            whole.update(f"{hashlib.file_digest(source, 'sha256').hexdigest()}  {each.name}\n".encode())
    return f"sha256:{whole.hexdigest()}"
