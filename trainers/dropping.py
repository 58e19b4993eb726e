"""Whole blocks, or whole groups of heads, taken out of a model.

Guarantees: what is left is a smaller model of the same family that transformers loads by its configuration alone;
blocks go by how little they change what passes through them, head groups by how little of what they say is read.
Does not: heal; ``trainers.compression`` trains a few steps afterwards.

Source: Men et al. 2024, "ShortGPT", arXiv:2403.03853 (block influence); the score of a head group is Wanda's, summed
over the columns of the output projection that belong to it (Sun et al. 2023, arXiv:2306.11695).

Example:
    >>> drop_blocks(model, 3, rows)
    [20, 22, 23]
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from trainers.errors import TrainerError
from trainers.pruning import blocks_of, input_norms, through_blocks, wanda_scores


def check_blocks(model: Any, count: int) -> None:
    """Whether so many blocks can be taken out of a model.

    Raises:
        TrainerError: ``compress.shape``, when no block would be left; ``compress.family``, without a list of them.
    """
    if not 0 < count < (there := len(blocks_of(model))):
        raise TrainerError("compress.shape", f"{count} of {there} blocks cannot go", "drop fewer blocks")


def check_head_groups(model: Any, count: int) -> None:
    """Whether so many groups of heads can be taken out of each block of a model.

    Raises:
        TrainerError: ``compress.shape``, when no group would be left; ``compress.family``, for other attention.
    """
    for block in blocks_of(model):
        attention: Any = getattr(block, "self_attn", None)
        if not all(hasattr(attention, f"{side}_proj") for side in "qkvo"):
            raise TrainerError("compress.family", "attention of this family has another form", "drop blocks instead")
    if not 0 < count < (groups := model.config.num_key_value_heads):
        raise TrainerError("compress.shape", f"{count} of {groups} head groups cannot go", "drop fewer groups")


@torch.no_grad()
def drop_blocks(model: Any, count: int, rows: list[list[int]]) -> list[int]:
    """Takes ``count`` blocks out, in place; returns their numbers.

    Raises:
        TrainerError: as ``check_blocks``.
    """
    check_blocks(model, count)
    blocks = blocks_of(model)
    influence = block_influence(model, rows)
    gone = sorted(sorted(range(len(blocks)), key=lambda index: (influence[index], index))[:count])
    kept = [each for index, each in enumerate(blocks) if index not in gone]
    for index, each in enumerate(kept):
        attention: Any = each.self_attn
        attention.layer_idx = index
    model.base_model.layers = nn.ModuleList(kept)
    model.config.num_hidden_layers = len(kept)
    if kinds := getattr(model.config, "layer_types", None):
        model.config.layer_types = [kind for index, kind in enumerate(kinds) if index not in gone]
    return gone


def block_influence(model: Any, rows: list[list[int]]) -> list[float]:
    """One less the mean cosine of what goes into a block and what comes out, block by block; 0 changes nothing."""
    found: list[float] = []

    def visit(_: int, block: nn.Module, read: Callable[[], None]) -> None:
        cosines: list[Tensor] = []

        def note(_: nn.Module, given: tuple[Any, ...], out: Any) -> None:
            out = out[0] if isinstance(out, tuple) else out
            cosines.append(torch.cosine_similarity(given[0].float(), out.float(), dim=-1).reshape(-1))

        handle = block.register_forward_hook(note)
        try:
            read()
        finally:
            handle.remove()
        found.append(1 - float(torch.cat(cosines).mean()))

    through_blocks(model, rows, visit)
    return found


@torch.no_grad()
def drop_head_groups(model: Any, count: int, rows: list[list[int]]) -> list[list[int]]:
    """Takes ``count`` groups (a key-value head with the query heads that read it) out of every block, in place.

    Returns:
        Their numbers, block by block.

    Raises:
        TrainerError: as ``check_head_groups``.
    """
    check_head_groups(model, count)
    config = model.config
    groups, heads = config.num_key_value_heads, config.num_attention_heads
    gone: list[list[int]] = []
    whole: list[int] = []

    def visit(_: int, block: nn.Module, read: Callable[[], None]) -> None:
        attention: Any = block.self_attn
        norms = input_norms(block, read)["self_attn.o_proj"]
        scores = wanda_scores(attention.o_proj.weight, norms).view(-1, groups, norms.numel() // groups).sum((0, 2))
        out = sorted(scores.argsort(stable=True)[:count].tolist())
        kept = torch.tensor([index for index in range(groups) if index not in out])
        for side, share in (("q", heads // groups), ("k", 1), ("v", 1)):
            _keep_rows(getattr(attention, f"{side}_proj"), _places(kept, share * attention.head_dim))
        _keep_columns(attention.o_proj, _places(kept, heads // groups * attention.head_dim))
        gone.append(out)
        whole.append(attention.head_dim)

    through_blocks(model, rows, visit)
    config.head_dim = whole[0]
    config.num_key_value_heads = groups - count
    config.num_attention_heads = heads // groups * (groups - count)
    return gone


def _places(kept: Tensor, width: int) -> Tensor:
    return (kept[:, None] * width + torch.arange(width)[None, :]).reshape(-1)


def _keep_rows(layer: nn.Linear, places: Tensor) -> None:
    layer.weight = nn.Parameter(layer.weight[places.to(layer.weight.device)].clone(), requires_grad=False)
    layer.out_features = len(places)
    if layer.bias is not None:
        layer.bias = nn.Parameter(layer.bias[places.to(layer.bias.device)].clone(), requires_grad=False)


def _keep_columns(layer: nn.Linear, places: Tensor) -> None:
    layer.weight = nn.Parameter(layer.weight[:, places.to(layer.weight.device)].clone(), requires_grad=False)
    layer.in_features = len(places)
