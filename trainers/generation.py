"""Answers from a model: greedy for many prompts at once, or one at a time with a temperature.

Guarantees: greedy answers depend on model and prompt alone up to rounding; prompts of like length are answered
together, padded at their left and masked; an answer ends at the model's end tokens or at the limit.
Does not: search beams.

Example:
    >>> for indices, answers in answer_all(model, prompts, stops, max_new_tokens=12): ...
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

#: Padded prompt tokens answered at once; more gains little on a CPU and costs key/value memory.
GROUP_TOKENS = 4096


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


def _drawn(logits: Tensor, temperature: float, source: torch.Generator) -> int:
    if temperature <= 0:
        return int(logits.argmax())
    shares = torch.softmax(logits.float() / temperature, -1).cpu()
    return int(torch.multinomial(shares, 1, generator=source))


@torch.inference_mode()
def answer_stream(
    model: Any,
    prompt: list[int],
    stops: set[int],
    max_new_tokens: int,
    temperature: float,
    seed: int,
    wants_more: Callable[[], bool],
) -> Iterator[int]:
    """Yields the tokens of one answer as they come; ends early when ``wants_more`` says no."""
    device = model.get_input_embeddings().weight.device
    source = torch.Generator().manual_seed(seed)
    tokens = torch.tensor([prompt], device=device)
    past = None
    for _ in range(max_new_tokens):
        if not wants_more():
            return
        out = model(input_ids=tokens, past_key_values=past, use_cache=True, logits_to_keep=1)
        past = out.past_key_values
        token = _drawn(out.logits[0, -1], temperature, source)
        if token in stops:
            return
        yield token
        tokens = torch.tensor([[token]], device=device)
