"""Weights of a model set to zero: the smallest ones, or the ones that matter least for what the layers read.

Guarantees: only linear layers inside the model's blocks are touched, as in the paper; within each output row the same
share goes (or two of every four neighbours for 2:4); ``wanda`` prunes block after block, each judged by inputs that
come out of the pruned blocks before it. Does not: make anything smaller or faster by itself; what stores or multiplies
sparse weights does.

Source: Sun et al. 2023, "A Simple and Effective Pruning Approach for Large Language Models" (Wanda), arXiv:2306.11695,
section 3 and algorithm 1; Han et al. 2015, arXiv:1506.02626, for magnitude.

Example:
    >>> prune(model, "wanda", Sparsity(0.5), rows)
    0.5
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from trainers.errors import TrainerError


@dataclass(frozen=True)
class Sparsity:
    """The share of each row that goes, or with ``is_2_4`` two of every four neighbours."""

    share: float
    is_2_4: bool = False


def keep_mask(scores: Tensor, sparsity: Sparsity) -> Tensor:
    """(rows, columns) which weights stay, by (rows, columns) scores: high ones stay.

    Of 2:4, columns that ``check_fours`` has passed.
    """
    rows, columns = scores.shape
    if sparsity.is_2_4:
        order = scores.view(rows, columns // 4, 4).argsort(dim=-1, stable=True)
        mask = torch.ones(rows, columns // 4, 4, dtype=torch.bool, device=scores.device)
        return mask.scatter(-1, order[..., :2], value=False).view(rows, columns)
    order = scores.argsort(dim=-1, stable=True)
    mask = torch.ones(rows, columns, dtype=torch.bool, device=scores.device)
    return mask.scatter(-1, order[:, : int(columns * sparsity.share)], value=False)


def wanda_scores(weight: Tensor, norms: Tensor) -> Tensor:
    """|W| times the length of each input over the calibration tokens; (rows, columns) and (columns,), in fp32."""
    return weight.float().abs() * norms.float()[None, :]


def linears_of(block: nn.Module) -> dict[str, nn.Linear]:
    """The linear layers of a block by their names in it."""
    return {name: each for name, each in block.named_modules() if isinstance(each, nn.Linear)}


def blocks_of(model: Any) -> nn.ModuleList:
    """The blocks of a causal model.

    Raises:
        TrainerError: ``compress.family``, when it has no list of blocks where families of transformers have it.
    """
    blocks = getattr(model.base_model, "layers", None)
    if not isinstance(blocks, nn.ModuleList):
        raise TrainerError("compress.family", "this family has no plain list of blocks", "compress by export instead")
    return blocks


def check_fours(model: Any) -> None:
    """Whether every layer that is pruned reads groups of four.

    Raises:
        TrainerError: ``compress.shape``; as ``blocks_of``.
    """
    for index, block in enumerate(blocks_of(model)):
        for name, each in linears_of(block).items():
            if each.in_features % 4:
                raise TrainerError(
                    "compress.shape",
                    f"{name} of block {index} is {each.in_features} wide, which are no groups of four",
                    "prune without 2:4, for example by wanda-50",
                )


class _Reached(Exception):
    """The first block was reached; what it was given is known."""


@torch.no_grad()
def through_blocks(
    model: Any, rows: list[list[int]], visit: Callable[[int, nn.Module, Callable[[], None]], None]
) -> None:
    """Calls ``visit(index, block, read)`` for every block in order; ``read()`` lets the block read all rows.

    What the next block reads comes out of this one as ``visit`` leaves it.
    """
    blocks = blocks_of(model)
    states: list[Tensor] = []
    settings: list[dict[str, Any]] = []

    def catch(_: nn.Module, given: tuple[Any, ...], named: dict[str, Any]) -> None:
        states.append(given[0] if given else named.pop("hidden_states"))
        settings.append({name: value for name, value in named.items() if name != "hidden_states"})
        raise _Reached

    handle = blocks[0].register_forward_pre_hook(catch, with_kwargs=True)
    device = model.get_input_embeddings().weight.device
    try:
        for row in rows:
            try:
                model(input_ids=torch.tensor([row], device=device), use_cache=False)
            except _Reached:
                continue
    finally:
        handle.remove()

    def passed(block: nn.Module, at: int) -> Tensor:
        out: Any = block(states[at], **settings[at])
        whole: Tensor = out[0] if isinstance(out, tuple) else out
        return whole

    for index, block in enumerate(blocks):

        def read(block: nn.Module = block) -> None:
            for at in range(len(states)):
                passed(block, at)

        visit(index, block, read)
        states[:] = [passed(block, at) for at in range(len(states))]


def input_norms(block: nn.Module, read: Callable[[], None]) -> dict[str, Tensor]:
    """(columns,) length of each input of each linear layer over all tokens that ``read`` sends through the block."""
    squares: dict[str, Tensor] = {}

    def listen(name: str) -> Callable[..., None]:
        def note(_: nn.Module, given: tuple[Tensor, ...]) -> None:
            seen = given[0].float().reshape(-1, given[0].shape[-1]).square().sum(0)
            squares[name] = squares[name] + seen if name in squares else seen

        return note

    handles = [each.register_forward_pre_hook(listen(name)) for name, each in linears_of(block).items()]
    try:
        read()
    finally:
        for handle in handles:
            handle.remove()
    return {name: each.sqrt() for name, each in squares.items()}


@torch.no_grad()
def prune(model: Any, way: str, sparsity: Sparsity, rows: list[list[int]]) -> float:
    """Sets weights to zero, in place; returns the share of the blocks' linear weights that are zero afterwards.

    Args:
        model: a causal model of transformers, without adapters.
        way: ``magnitude`` or ``wanda``.
        sparsity: how much.
        rows: token ids of calibration records; read by ``wanda`` only.
    """

    def visit(_: int, block: nn.Module, read: Callable[[], None]) -> None:
        norms = input_norms(block, read) if way == "wanda" else {}
        for name, each in linears_of(block).items():
            weight = each.weight.data
            scores = wanda_scores(weight, norms[name]) if way == "wanda" else weight.float().abs()
            weight *= keep_mask(scores, sparsity)

    if way == "wanda":
        through_blocks(model, rows, visit)
    else:
        for index, block in enumerate(blocks_of(model)):
            visit(index, block, lambda: None)
    return zero_share(model)


def zero_share(model: Any) -> float:
    """Share of zeros among the blocks' linear weights."""
    weights = [each.weight for block in blocks_of(model) for each in linears_of(block).values()]
    return sum(int((each == 0).sum()) for each in weights) / sum(each.numel() for each in weights)
