"""A base model looked at closely before it is admitted: folder, architecture, tokenizer, template; no weight is loaded.

Guarantees: the folder was judged first (``trainers.model_folder``); the class is a causal one of transformers, and the
weights' shapes are those its configuration asks for; special tokens exist and are in range; the vocabulary fits the
embedding; a conversation, rendered and cut into tokens, comes back as it was, with no beginning or end doubled. All
that is wrong is said at once. Does not: judge what the model answers.

Example:
    >>> inspect(Path("models/base")).architecture
    'LlamaForCausalLM'
"""

from __future__ import annotations

import itertools
import json
import math
import re
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainers.base_model import TRY_BYTES, TRY_SECONDS, causal_class, load_tokenizer
from trainers.bounds import apart, bounded
from trainers.encoding import PLAIN_TEMPLATE, as_tokens, segments
from trainers.errors import TrainerError
from trainers.model_folder import ModelFolder, check_folder
from trainers.positions import positions_of
from trainers.shards import Message

#: What a tokenizer may take to load and, with its template, for the short talk below: no more than where a run begins.
#: The largest that we know take two seconds and some hundred MiB.
TALK_SECONDS, TALK_BYTES = TRY_SECONDS, TRY_BYTES
#: What the model's modules may take to be made, without weights, with what transformers loads for them.
MODEL_SECONDS = 120.0
_TALK = (
    Message("user", "How much is 12 + 7? Größe, naïve, 東京, ½."),
    Message("assistant", "It is 19."),
)
_NAMED = ("bos_token_id", "eos_token_id", "pad_token_id", "decoder_start_token_id")


@dataclass(frozen=True)
class Inspection:
    """What was found; ``licence`` is what the model's own card says of itself, '' for nothing usable."""

    folder: ModelFolder
    context_length: int
    vocabulary: int
    embedding_rows: int
    has_template: bool
    licence: str
    bytes: int

    @property
    def architecture(self) -> str:
        """The class of transformers."""
        return self.folder.architecture


def inspect(path: Path, digest: str | None = None) -> Inspection:
    """Looks at a folder.

    Raises:
        TrainerError: as ``check_folder``; ``model.unknown``; ``model.broken``, ``model.tokenizer``, ``model.template``
            with everything that is wrong.
    """
    folder = check_folder(path, digest)
    causal_class(folder)
    shapes = shapes_in(path)
    try:
        with bounded(seconds=MODEL_SECONDS, more_bytes=TALK_BYTES):
            rows = _check_shapes(folder, shapes)
    except (MemoryError, TimeoutError):
        raise TrainerError(
            "model.broken",
            f"{path}: a model without weights wants more than {MODEL_SECONDS:g} s or {TALK_BYTES >> 20} MiB",
            "check the download; config.json must be that of the release",
        ) from None
    try:
        tried = apart(lambda: _try_tokenizer(folder, rows), seconds=TALK_SECONDS, more_bytes=TALK_BYTES)
    except TimeoutError:
        raise TrainerError(
            "model.template",
            f"{path}: a short talk wants more than {TALK_SECONDS:g} s or {TALK_BYTES >> 20} MiB",
            "use the tokenizer and the template that the model was released with",
        ) from None
    return Inspection(
        folder=folder,
        context_length=positions_of(folder.config) or 0,
        vocabulary=tried["vocabulary"],
        embedding_rows=rows,
        has_template=tried["has_template"],
        licence=licence_of(path),
        bytes=sum(each.stat().st_size for each in path.iterdir() if each.is_file()),
    )


def shapes_in(path: Path) -> dict[str, tuple[int, ...]]:
    """Shape of every tensor of a judged folder, by name."""
    shapes: dict[str, tuple[int, ...]] = {}
    for each in sorted(path.glob("*.safetensors")):
        with each.open("rb") as source:
            header = json.loads(source.read(struct.unpack("<Q", source.read(8))[0]))
        header.pop("__metadata__", None)
        shapes |= {name: tuple(entry["shape"]) for name, entry in header.items()}
    return shapes


def _check_shapes(folder: ModelFolder, shapes: dict[str, tuple[int, ...]]) -> int:
    """Rows of the embedding, after the shapes were held against the configuration's own."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    try:
        config = AutoConfig.from_pretrained(str(folder.path), local_files_only=True, trust_remote_code=False)
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(config, trust_remote_code=False)
    except (MemoryError, TimeoutError):
        raise
    except Exception as fault:  # noqa: BLE001 - a configuration of unknown origin may raise anything
        raise TrainerError(
            "model.broken",
            f"{folder.path}: no model can be made by config.json ({type(fault).__name__})",
            "check the download; config.json must be that of the release",
        ) from None
    wanted = {name: tuple(each.shape) for name, each in model.named_parameters()}
    other = sorted(name for name in wanted.keys() & shapes.keys() if wanted[name] != shapes[name])
    if other or not wanted.keys() & shapes.keys():
        named = f"{len(other)} weights have another shape, first {other[0][:80]}" if other else "no weight has its name"
        raise TrainerError(
            "model.broken", f"{folder.path}: by config.json {named}", "config.json and the weights must be of one model"
        )
    lacking = sorted(wanted.keys() - shapes.keys())
    # Of some families the files name parts of a weight; what is all there is as large as what is wanted.
    if lacking and _elements(shapes) < _elements(wanted):
        raise TrainerError(
            "model.broken",
            f"{folder.path}: {len(lacking)} weights are missing, first {lacking[0][:80]}",
            "check the download; every part of the weights must be there",
        )
    return int(model.get_input_embeddings().weight.shape[0])


def _elements(shapes: dict[str, tuple[int, ...]]) -> int:
    return sum(math.prod(shape) for shape in shapes.values())


def token_problems(tokenizer: Any, config: dict[str, Any], generation: dict[str, Any], rows: int) -> list[str]:
    """What is wrong with a tokenizer beside a model whose embedding has ``rows`` rows."""
    problems = []
    if len(tokenizer) > rows:
        problems.append(f"{len(tokenizer)} tokens, but the embedding has {rows} rows")
    words = tokenizer.get_vocab()
    for word in tokenizer.all_special_tokens:
        if word not in words or not 0 <= words[word] < rows:
            problems.append(f"the special token {word[:40]!r} does not exist or has no row")
    for where, settings in (("config.json", config), ("generation_config.json", generation)):
        for name in _NAMED:
            value = settings.get(name)
            for token in value if isinstance(value, list) else [value]:
                if token is not None and not (isinstance(token, int) and 0 <= token < rows):
                    problems.append(f"{where}: {name} is no token of this model")
    ends = generation.get("eos_token_id", config.get("eos_token_id"))
    if ends is not None and tokenizer.eos_token_id not in (ends if isinstance(ends, list) else [ends]):
        problems.append("the tokenizer's end of text is none that the model stops at")
    return problems


def _try_tokenizer(folder: ModelFolder, rows: int) -> dict[str, Any]:
    """Tries the tokenizer and its template; what is to be known of them. Loading already compiles the template.

    Raises:
        TrainerError: ``model.tokenizer``, ``model.template``.
    """
    tokenizer, path = load_tokenizer(folder), folder.path
    problems = token_problems(tokenizer, folder.config, _json(path / "generation_config.json"), rows)
    if getattr(getattr(getattr(tokenizer, "backend_tokenizer", None), "model", None), "dropout", None):
        problems.append("it cuts a text by chance, differently each time (dropout)")
    if problems:
        raise TrainerError(
            "model.tokenizer", f"{path}: " + "; ".join(problems), "use the tokenizer that the model was released with"
        )
    _check_template(path, tokenizer)
    return {"vocabulary": len(tokenizer), "has_template": tokenizer.chat_template != PLAIN_TEMPLATE}


def _check_template(path: Path, tokenizer: Any) -> None:
    """A talk through the template and back.

    Raises:
        TrainerError: ``model.template``.
    """
    pieces = segments(tokenizer, _TALK)
    text = "".join(piece for piece, _ in pieces)
    read = [token for piece in as_tokens(tokenizer, [text for text, _ in pieces]) for token in piece]
    said = tokenizer.decode(read, skip_special_tokens=False, clean_up_tokenization_spaces=False)
    problems = []
    if said.replace(" ", "") != text.replace(" ", ""):
        problems.append("a conversation does not come back from its tokens as it was")
    if any(message.content not in text for message in _TALK):
        problems.append("the template leaves parts of a message out")
    begin, end = tokenizer.bos_token_id, tokenizer.eos_token_id
    if begin is not None and read[:2] == [begin, begin]:
        problems.append("the beginning of text is doubled")
    if any(pair == (end, end) for pair in itertools.pairwise(read)):
        problems.append("the end of text is doubled")
    if problems:
        raise TrainerError("model.template", f"{path}: " + "; ".join(problems), "use the template of the release")


def licence_of(path: Path) -> str:
    """The licence in the card's front matter, where it is one short word. Source: the hub's model card format."""
    card = path / "README.md"
    if not card.is_file():
        return ""
    with card.open("rb") as source:
        text = source.read(1 << 16).decode(errors="replace")
    found = re.match(r"---\n(?:.*\n)*?licen[sc]e:\s*[\"']?([A-Za-z0-9.+-]{1,40})[\"']?\s*\n", text)
    return found.group(1) if found else ""


def _json(path: Path) -> dict[str, Any]:
    """A judged JSON object, or nothing where there is no file."""
    return dict(json.loads(path.read_bytes())) if path.is_file() else {}
