"""Greedy answers from a model to many prompts at once.

Guarantees: greedy answers depend on model and prompt alone up to rounding; prompts of like length are answered
together, padded at their left and masked; an answer ends at the model's end tokens or at the limit.
Does not: draw with a temperature, nor stream; ``trainers.engine`` does.

Example:
    >>> for indices, answers in answer_all(model, prompts, stops, max_new_tokens=12): ...
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch

#: Padded prompt tokens answered at once; more gains little on a CPU and costs key/value memory.
GROUP_TOKENS = 4096
#: How much longer than the longest reference a free answer may become before it is broken off: room for other words.
ROOM = 1.25


@torch.inference_mode()
def answer_group(
    model: Any,
    prompts: list[list[int]],
    stops: set[int],
    max_new_tokens: int,
    check: Callable[[], None] = lambda: None,
) -> list[list[int]]:
    """Greedy answers (without the end token) of prompts that go through the model together.

    Args:
        model: a causal model of transformers.
        prompts: token ids, none empty.
        stops: ids that end an answer.
        max_new_tokens: at least 1.
        check: called before each token; what it raises ends the answer.
    """
    device = model.get_input_embeddings().weight.device
    width = max(map(len, prompts))
    pad = min(stops, default=0)
    tokens = torch.tensor([[pad] * (width - len(each)) + each for each in prompts], device=device)
    mask = torch.tensor([[0] * (width - len(each)) + [1] * len(each) for each in prompts], device=device)
    answers: list[list[int]] = [[] for _ in prompts]
    is_open = [True] * len(prompts)
    positions = (mask.cumsum(-1) - 1).clamp(min=0)
    past = None
    for _ in range(max_new_tokens):
        check()
        out = model(
            input_ids=tokens,
            attention_mask=mask,
            position_ids=positions,
            past_key_values=past,
            use_cache=True,
            logits_to_keep=1,
        )
        past = out.past_key_values
        chosen = out.logits[:, -1].argmax(-1)
        for index, token in enumerate(chosen.tolist()):
            is_open[index] = is_open[index] and token not in stops
            if is_open[index]:
                answers[index].append(token)
        if not any(is_open):
            break
        tokens = chosen[:, None]
        positions = positions[:, -1:] + 1
        mask = torch.cat([mask, torch.ones_like(tokens)], dim=1)
    return answers


def answer_all(
    model: Any,
    prompts: list[list[int]],
    stops: set[int],
    max_new_tokens: int,
    check: Callable[[], None] = lambda: None,
) -> Iterator[tuple[list[int], list[list[int]]]]:
    """Answers all prompts in groups of like length; yields indices into ``prompts`` and their answers."""
    order = sorted(range(len(prompts)), key=lambda index: len(prompts[index]))
    group: list[int] = []
    for index in order:
        if group and (len(group) + 1) * (len(prompts[index]) + max_new_tokens) > GROUP_TOKENS:
            yield group, answer_group(model, [prompts[each] for each in group], stops, max_new_tokens, check)
            group = []
        group.append(index)
    if group:
        yield group, answer_group(model, [prompts[each] for each in group], stops, max_new_tokens, check)
