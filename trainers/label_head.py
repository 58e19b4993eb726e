"""The head of a classifier beside the language-model head of a causal model.

Guarantees: it has the name and the shape that transformers' ``AutoModelForSequenceClassification`` gives it; a family
that transformers knows no classifier of is refused before anything is trained. Does not: train it.

Example:
    >>> lay_head(model, ("yes", "no"), seed=0).weight.shape
    torch.Size([2, 576])
"""

from __future__ import annotations

from typing import Any

import torch

from trainers.errors import TrainerError

#: How transformers names the head, and with it the weights.
HEAD = "score"


def classifier_name(model_type: str, *, are_tags: bool = False) -> str:
    """The class of a model family that transformers loads a classifier of sequences, or of tokens, with.

    Raises:
        TrainerError: ``model.classifier``, when the family has none.
    """
    from transformers.models.auto import modeling_auto as known

    names = known.MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES
    if are_tags:
        names = known.MODEL_FOR_TOKEN_CLASSIFICATION_MAPPING_NAMES
    name = names.get(model_type)
    if not isinstance(name, str):
        raise TrainerError(
            "model.classifier",
            f"transformers has no classifier of the family {model_type}",
            "choose another base model, or train the labels as answers with method sft",
        )
    return name


def lay_head(model: Any, labels: tuple[str, ...], seed: int, *, are_tags: bool = False) -> torch.nn.Linear:
    """Puts a head into a causal model beside its own; drawn from the seed, in fp32. One for tags has a bias, zero.

    Raises:
        TrainerError: as ``classifier_name``.
    """
    classifier_name(model.config.model_type, are_tags=are_tags)
    words = model.get_input_embeddings().weight
    source = torch.Generator().manual_seed(seed)
    spread = float(getattr(model.config, "initializer_range", 0.02))
    head = torch.nn.Linear(words.shape[1], len(labels), bias=are_tags, device=words.device)
    with torch.no_grad():
        if are_tags:
            head.bias.zero_()
        head.weight.copy_(torch.randn(head.weight.shape, generator=source) * spread)
    setattr(model, HEAD, head)
    return head
