"""The base model and its tokenizer out of a folder that was judged.

Guarantees: weights come from safetensors only, nothing from the network, no code from the folder; the model stands in
evaluation mode with every weight frozen, quantised where that is asked for; a template that asks for today's date gets
the same one every day, so that a run goes on tomorrow as it would have today.
Does not: judge whether the model fits the device.

Example:
    >>> model, tokenizer = load_base(check_folder(path), choose_device("auto"))
"""

from __future__ import annotations

import contextlib
from datetime import date
from typing import Any

import torch
from jinja2 import TemplateError

from trainers.bounds import bounded
from trainers.chat_template import templates_in
from trainers.device import Device
from trainers.encoding import PLAIN_TEMPLATE
from trainers.errors import TrainerError
from trainers.model_folder import ModelFolder
from trainers.quantised import bits_and_bytes, settle
from trainers.spec import QuantiseSpec

#: What ``strftime_now`` of a template tells. Source: Meta, Llama 3.2's chat template, whose own date this is where
#: nobody gives it one.
ALWAYS = date(2024, 7, 26)

#: What a tokenizer may take to load, its template to compile and to render one word: a bound on what runs away.
TRY_SECONDS = 60.0
TRY_BYTES = 2 << 30


def load_tokenizer(folder: ModelFolder, *, is_clock_running: bool = False) -> Any:
    """The tokenizer; one without a chat template gets ``PLAIN_TEMPLATE``.

    With ``is_clock_running`` its template may ask for the true date, as it should where people are answered.

    Raises:
        TrainerError: ``model.tokenizer``; ``model.template``, where it wants more than the bounds above for one word.
    """
    try:
        with bounded(seconds=TRY_SECONDS, more_bytes=TRY_BYTES):
            tokenizer = _loaded(folder, is_clock_running=is_clock_running)
            _say_a_word(tokenizer)
    except (MemoryError, TimeoutError):
        raise TrainerError(
            "model.template",
            f"{folder.path}: one word wants more than {TRY_SECONDS:g} s or {TRY_BYTES >> 20} MiB",
            "use the tokenizer and the template that the model was released with",
        ) from None
    return tokenizer


def _say_a_word(tokenizer: Any) -> None:
    talk = [{"role": "user", "content": "Hello."}]
    try:
        tokenizer.apply_chat_template(talk, tokenize=False, add_generation_prompt=True)
    except (MemoryError, TimeoutError):
        raise
    except Exception:  # noqa: BLE001 - one that does not take this talk is told of when it is rendered in earnest
        return


def _loaded(folder: ModelFolder, *, is_clock_running: bool) -> Any:
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(
            str(folder.path), local_files_only=True, trust_remote_code=False, use_fast=True
        )
    except (MemoryError, TimeoutError):
        raise
    except Exception as fault:  # noqa: BLE001 - a file of unknown origin may raise anything
        raise TrainerError(
            "model.tokenizer",
            f"{folder.path}: the tokenizer does not load ({type(fault).__name__})",
            "the folder needs tokenizer.json and tokenizer_config.json as the model was released with",
        ) from None
    if tokenizer.chat_template is None:
        tokenizer.chat_template = PLAIN_TEMPLATE
    if tokenizer.eos_token_id is None:
        raise TrainerError(
            "model.tokenizer", f"{folder.path}: no end-of-text token", "name eos_token in tokenizer_config.json"
        )
    if not is_clock_running:
        _stop_clock(tokenizer)
    return tokenizer


def _stop_clock(tokenizer: Any) -> None:
    """Gives the compiled templates, which transformers keeps, a date of their own."""
    from transformers.utils.chat_template_utils import _compile_jinja_template

    for text in templates_in(tokenizer.chat_template):
        # One that does not compile is told of when it is rendered.
        with contextlib.suppress(TemplateError):
            _compile_jinja_template(text).globals["strftime_now"] = ALWAYS.strftime


def causal_class(folder: ModelFolder) -> str:
    """The folder's class, which transformers knows as a causal one.

    Raises:
        TrainerError: ``model.unknown``.
    """
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    known = MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.get(folder.config["model_type"])
    if folder.architecture not in (known if isinstance(known, tuple) else (known,)):
        raise TrainerError(
            "model.unknown",
            f"{folder.path}: {folder.architecture} is no causal language model that transformers knows",
            "choose a causal model; encoders and vision models are not trained here",
        )
    return folder.architecture


def load_base(
    folder: ModelFolder, device: Device, dtype: torch.dtype | None = None, quantise: QuantiseSpec | None = None
) -> Any:
    """The causal model on the device, frozen, in ``dtype`` or else the device's precision.

    Raises:
        TrainerError: ``model.unknown`` (no causal model of transformers), ``model.broken`` (weights do not fit),
            ``machine.quantise``, ``model.quantise``.
    """
    from transformers import AutoModelForCausalLM

    causal_class(folder)
    dtype = dtype or device.dtype
    quantised: dict[str, Any] = {}
    if quantise is not None:
        quantised = {"quantization_config": bits_and_bytes(quantise, dtype), "device_map": {"": device.name}}
    try:
        model, report = AutoModelForCausalLM.from_pretrained(
            str(folder.path),
            local_files_only=True,
            trust_remote_code=False,
            use_safetensors=True,
            dtype=dtype,
            output_loading_info=True,
            **quantised,
        )
    except MemoryError:
        raise
    except Exception as fault:  # noqa: BLE001 - files of unknown origin may raise anything
        raise TrainerError(
            "model.broken",
            f"{folder.path}: the model does not load ({type(fault).__name__})",
            "check the download; config.json and the weights must be of one model",
        ) from None
    lacking = sorted({*report["missing_keys"], *(str(each) for each in report["mismatched_keys"])})
    if lacking:
        raise TrainerError(
            "model.broken",
            f"{folder.path}: {len(lacking)} weights are missing or of another shape, first {lacking[0][:100]}",
            "check the download; config.json and the weights must be of one model",
        )
    freeze(model)
    if quantise is not None:
        settle(model)
        return model
    return model.to(device.name)


def freeze(model: Any) -> None:
    """A model just loaded, as it is to be used here."""
    model.requires_grad_(False)
    model.eval()
    head = model.get_output_embeddings()
    if head is not None:
        # A slice of positions is not contiguous, and torch would then copy the head's weights once for each sequence.
        head.register_forward_pre_hook(lambda _, arguments: (arguments[0].contiguous(), *arguments[1:]))


def stop_tokens(model: Any, tokenizer: Any) -> set[int]:
    """Token ids that end an answer."""
    named = getattr(model.generation_config, "eos_token_id", None)
    listed = named if isinstance(named, list) else [named]
    return {token for token in [*listed, tokenizer.eos_token_id] if isinstance(token, int)}
