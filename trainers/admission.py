"""What every command asks of a base model before it loads a weight: import, validation, fit, runs and servers alike.

Guarantees: the folder was judged first (``trainers.model_folder``); the class is a causal one of transformers; the
files hold all the weights that its configuration asks for, in their shapes, and no layer that it leaves out; special
tokens exist and have a row. The tokenizer is opened in a copy of this process first, so that one on which compiled code
aborts or runs on is refused in words and does not end the command.
Does not: read a weight, nor hold a conversation against its template (``trainers.inspection`` does, at import). A text
of later, of a record or a client, may still be one that a hostile tokenizer waited for.

Example:
    >>> folder, tokenizer = admit(Path("models/base"), digest=None)
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from trainers.base_model import TRY_BYTES, TRY_SECONDS, causal_class, load_tokenizer
from trainers.bounds import apart, bounded
from trainers.errors import TrainerError
from trainers.model_folder import ModelFolder, check_folder
from trainers.weight_files import loaded_files, places_in

#: What the model's modules may take to be made, without weights, with what transformers loads for them.
MODEL_SECONDS = 120.0
#: A short text of several scripts, which every tokenizer has to cut.
SAID = "How much is 12 + 7? Größe, naïve, 東京, ½."
_NAMED = ("bos_token_id", "eos_token_id", "pad_token_id", "decoder_start_token_id")
_WHOLE = "config.json and the weights must be of one model"


def admit(path: Path, digest: str | None = None, *, is_clock_running: bool = False) -> tuple[ModelFolder, Any]:
    """The judged folder and its tokenizer, as ``load_tokenizer`` gives it.

    Raises:
        TrainerError: as ``check_model`` and ``try_tokenizer``.
    """
    folder, rows = check_model(path, digest)
    try_tokenizer(folder, rows)
    return folder, load_tokenizer(folder, is_clock_running=is_clock_running)


def check_model(path: Path, digest: str | None = None) -> tuple[ModelFolder, int]:
    """The judged folder, and how many rows the embedding has, after the shapes were held against the configuration's.

    Raises:
        TrainerError: as ``check_folder``; ``model.unknown``, ``model.broken``.
    """
    folder = check_folder(path, digest)
    causal_class(folder)
    shapes = {name: place.shape for file in loaded_files(path) for name, place in places_in(file).items()}
    try:
        with bounded(seconds=MODEL_SECONDS, more_bytes=TRY_BYTES):
            model = _hollow(folder)
            _check_shapes(folder, model, shapes)
    except (MemoryError, TimeoutError):
        raise TrainerError(
            "model.broken",
            f"{path}: a model without weights wants more than {MODEL_SECONDS:g} s or {TRY_BYTES >> 20} MiB",
            "check the download; config.json must be that of the release",
        ) from None
    return folder, int(model.get_input_embeddings().weight.shape[0])


def _hollow(folder: ModelFolder) -> Any:
    """The model on a device that holds no numbers."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    try:
        config = AutoConfig.from_pretrained(str(folder.path), local_files_only=True, trust_remote_code=False)
        with torch.device("meta"):
            return AutoModelForCausalLM.from_config(config, trust_remote_code=False)
    except (MemoryError, TimeoutError):
        raise
    except Exception as fault:  # noqa: BLE001 - a configuration of unknown origin may raise anything
        raise TrainerError(
            "model.broken",
            f"{folder.path}: no model can be made by config.json ({type(fault).__name__})",
            "check the download; config.json must be that of the release",
        ) from None


def _check_shapes(folder: ModelFolder, model: Any, shapes: dict[str, tuple[int, ...]]) -> None:
    wanted = {name: tuple(each.shape) for name, each in model.named_parameters()}
    other = sorted(name for name in wanted.keys() & shapes.keys() if wanted[name] != shapes[name])
    if other or not wanted.keys() & shapes.keys():
        named = f"{len(other)} weights have another shape, first {other[0][:80]}" if other else "no weight has its name"
        raise TrainerError("model.broken", f"{folder.path}: by config.json {named}", _WHOLE)
    lacking = sorted(wanted.keys() - shapes.keys())
    # Of some families the files name parts of a weight; what is all there is as large as what is wanted.
    if lacking and _elements(shapes) < _elements(wanted):
        raise TrainerError(
            "model.broken",
            f"{folder.path}: {len(lacking)} weights are missing, first {lacking[0][:80]}",
            "check the download; every part of the weights must be there",
        )
    if over := _left_out(folder, model, wanted, shapes):
        raise TrainerError(
            "model.broken",
            f"{folder.path}: config.json leaves out {len(over)} weights of layers, first {over[0][:80]}",
            f"{_WHOLE}; a model cut short answers otherwise",
        )


def _left_out(folder: ModelFolder, model: Any, wanted: dict[str, Any], shapes: dict[str, Any]) -> list[str]:
    """Weights named as those of the model's layers are, but of a layer, or an expert, that it does not have."""
    if folder.config.get("num_nextn_predict_layers"):
        return []  # layers for guessing several tokens ahead, numbered behind the others and used by servers only
    ignored = model._keys_to_ignore_on_load_unexpected or ()
    known = {_unnumbered(name) for name in wanted}
    over = (name for name in shapes.keys() - wanted.keys() if _unnumbered(name) in known)
    return sorted(name for name in over if not any(re.search(each, name) for each in ignored))


def _unnumbered(name: str) -> str:
    return re.sub(r"(?<=\.)\d+(?=\.)", "#", name)


def _elements(shapes: dict[str, tuple[int, ...]]) -> int:
    return sum(math.prod(shape) for shape in shapes.values())


def try_tokenizer(folder: ModelFolder, rows: int, look: Callable[[Any], Any] = lambda _: None) -> Any:
    """Opens the tokenizer in a copy of this process, and returns what ``look`` says of it there, of JSON's kinds.

    Args:
        rows: of the embedding.
        look: a further look at the tokenizer.

    Raises:
        TrainerError: ``model.tokenizer``, ``model.template``, ``model.broken``, and as ``look``.
    """

    def work() -> Any:
        tokenizer = load_tokenizer(folder)
        generation = folder.path / "generation_config.json"
        settings = json.loads(generation.read_bytes()) if generation.is_file() else {}
        if problems := token_problems(tokenizer, folder.config, settings, rows):
            raise TrainerError(
                "model.tokenizer",
                f"{folder.path}: " + "; ".join(problems),
                "use the tokenizer that the model was released with",
            )
        tokenizer.encode(SAID)
        return look(tokenizer)

    import transformers.models.auto.tokenization_auto  # noqa: F401 - else the copy alone would have loaded it

    try:
        return apart(work, seconds=TRY_SECONDS, more_bytes=TRY_BYTES)
    except TimeoutError:
        raise TrainerError(
            "model.template",
            f"{folder.path}: its tokenizer or template ends the process that tries it, or wants more than "
            f"{TRY_SECONDS:g} s or {TRY_BYTES >> 20} MiB",
            "use the tokenizer and the template that the model was released with",
        ) from None


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
    if getattr(getattr(getattr(tokenizer, "backend_tokenizer", None), "model", None), "dropout", None):
        problems.append("it cuts a text by chance, differently each time (dropout)")
    return problems
