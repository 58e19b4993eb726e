"""A base model made ready to be served: loaded, taught to take rows, and tried against its plain self.

Guarantees: a model whose answers by rows differ from its own forward pass is refused before anything is served, and
the difference is named. Does not: measure speed.

Example:
    >>> serve(settings, sys.stdin, speak, stop)
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

import torch
from torch import Tensor
from torch.nn.functional import log_softmax

from trainers.adapter_file import OpenedAdapter, open_archive
from trainers.adapter_shelf import Shelf
from trainers.admission import admit
from trainers.base_model import load_base, stop_tokens
from trainers.device import choose_device
from trainers.engine import Ask, Body, Engine, Limits, Row
from trainers.errors import TrainerError
from trainers.forward import tolerance_of
from trainers.model_folder import ModelFolder
from trainers.process import Speaker, Stop, forbid_dumps
from trainers.quantised import form_of, weight_of
from trainers.row_adapters import RowLayers
from trainers.sampling import Sampler
from trainers.serve_requests import read_access
from trainers.serving import Doors, Server
from trainers.spec import QuantiseSpec

#: Lengths of the sequences a model is tried with, and how many of their tokens go through it at once.
_TRIED = ((17, 9), (5, 4), (40, 16))


@dataclass(frozen=True)
class Settings:
    """What ``python -m trainers serve`` was told."""

    model: Path
    digest: str | None
    precision: str
    quantise: QuantiseSpec | None
    doors: Doors
    limits: Limits
    adapter_bytes: int


def serve(settings: Settings, stdin: TextIO, speak: Speaker, stop: Stop) -> None:
    """Loads, tries and serves a base until the server ends.

    Raises:
        TrainerError: for the model, the machine or a door; ``serve.model``, when the model cannot be served by rows.
        SpecError: the first line of stdin holds no access token.
    """
    forbid_dumps()
    access = read_access(stdin.readline(4096))
    folder, tokenizer = admit(settings.model, settings.digest, is_clock_running=True)
    model = load_served(folder, settings.precision, settings.quantise)
    ends = stop_tokens(model, tokenizer)
    layers = try_rows(model)
    engine: Engine

    def closed(adapter: OpenedAdapter) -> None:
        engine.forget(adapter)

    shelf = Shelf(settings.adapter_bytes, lambda content: open_archive(content, model, layers, folder), closed)
    engine = Engine(model, layers, copy.deepcopy(tokenizer), ends, settings.limits, shelf.give_back)
    server = Server(engine, shelf, tokenizer, access, settings.doors, speak, stop)
    server.run(stdin, folder.digest, settings.limits.positions)


def load_served(folder: ModelFolder, precision: str, quantise: QuantiseSpec | None) -> Any:
    """A base as adapters know it: of a quantised one the numbers that its bits stand for, in plain layers.

    Raises:
        TrainerError: as ``load_base``.
    """
    device = choose_device(precision)
    model = load_base(folder, device, quantise=quantise)
    for path, layer in list(model.named_modules()):
        if isinstance(layer, torch.nn.Linear) and form_of(layer):
            plain = torch.nn.Linear(layer.in_features, layer.out_features, bias=layer.bias is not None, device="meta")
            plain.weight = torch.nn.Parameter(weight_of(layer).to(device.dtype), requires_grad=False)
            plain.bias = layer.bias
            model.set_submodule(path, plain)
    return model


@torch.inference_mode()
def try_rows(model: Any) -> RowLayers:
    """Prepares a model for ``Engine`` and compares it with itself as it was.

    Raises:
        TrainerError: ``serve.model``.
    """
    source = torch.Generator().manual_seed(0)
    words = model.get_input_embeddings().weight
    sequences = [torch.randint(0, words.shape[0], (length,), generator=source) for length, _ in _TRIED]
    try:
        expected = [model(input_ids=each[None].to(words.device), use_cache=False).logits[0, -1] for each in sequences]
        layers = RowLayers(model)
        found = _by_rows(Body(model, layers), sequences)
    except (TypeError, ValueError, RuntimeError, NotImplementedError, AssertionError) as fault:
        raise _unservable(f"it does not take rows ({type(fault).__name__})") from None
    difference = max(float(_distance(a, b)) for a, b in zip(expected, found, strict=True))
    if not difference <= tolerance_of(words.dtype):
        raise _unservable(f"its answers by rows differ by {difference:.1e} nats from its own")
    return layers


def _by_rows(body: Body, sequences: list[Tensor]) -> list[Tensor]:
    """Last logits of each sequence, all read side by side in unequal pieces."""
    rows = [
        Row(Ask(each.tolist(), None, Sampler(0, 1, 0), 1, []), len(each), None)  # type: ignore[arg-type]
        for each in sequences
    ]
    first = [(row, piece) for row, (_, piece) in zip(rows, _TRIED, strict=True)]
    body.read(first)
    logits, _ = body.read([(row, row.unread) for row in rows])
    return list(logits)


def _distance(a: Tensor, b: Tensor) -> Tensor:
    """Mean difference of log-probabilities over the vocabulary, weighted by what the first holds likely, in nats."""
    a, b = log_softmax(a.float(), -1), log_softmax(b.float(), -1)
    return (a.exp() * (a - b).abs()).sum()


def _unservable(why: str) -> TrainerError:
    return TrainerError("serve.model", f"this model cannot be served here: {why}", "serve it elsewhere; see deploy/")
