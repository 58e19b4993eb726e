"""The head of a classifier beside the language-model head of a causal model.

Guarantees: it has the name and the shape that transformers' classifier of the same family gives it, so that this
class loads what is shipped; a family of which transformers knows no such classifier is refused before anything is
trained. Does not: train it.

Example:
    >>> lay_head(model, ("yes", "no"), seed=0).weight.shape
    torch.Size([2, 576])
"""

from __future__ import annotations

import copy
from typing import Any

import torch

from trainers.errors import TrainerError

#: How transformers' classifiers name the head, and with it the weights: taggers of older families the second way.
HEADS = ("score", "classifier")


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
        raise _unknown(f"transformers has no classifier of the family {model_type}")
    return name


def _unknown(what: str) -> TrainerError:
    return TrainerError(
        "model.classifier", what, "choose another base model, or train the labels as answers with method sft"
    )


def head_name(model: Any, head: torch.nn.Linear, *, are_tags: bool = False) -> str:
    """What transformers' classifier of a model's family names a head like this one.

    Raises:
        TrainerError: ``model.classifier``, when the family has no classifier, or one that ends in something else.
    """
    import transformers

    family = model.config.model_type
    config = copy.deepcopy(model.config)
    config.num_labels = head.out_features
    with torch.device("meta"):
        whole = getattr(transformers, classifier_name(family, are_tags=are_tags))(config)
    for name in HEADS:
        theirs = getattr(whole, name, None)
        if isinstance(theirs, torch.nn.Linear) and _shapes(theirs) == _shapes(head):
            return name
    raise _unknown(f"transformers' classifier of the family {family} ends in more than one product")


def _shapes(layer: torch.nn.Linear) -> dict[str, torch.Size]:
    return {name: each.shape for name, each in layer.named_parameters()}


def name_of(model: Any) -> str:
    """The name of the head that lies in a model."""
    return next(name for name in HEADS if isinstance(getattr(model, name, None), torch.nn.Linear))


def head_of(model: Any) -> torch.nn.Linear:
    """The head that lies in a model."""
    head: torch.nn.Linear = getattr(model, name_of(model))
    return head


def lay_head(model: Any, labels: tuple[str, ...], seed: int, *, are_tags: bool = False) -> torch.nn.Linear:
    """Puts a head into a causal model beside its own; drawn from the seed, in fp32. One for tags has a bias, zero.

    Raises:
        TrainerError: as ``head_name``.
    """
    words = model.get_input_embeddings().weight
    source = torch.Generator().manual_seed(seed)
    spread = float(getattr(model.config, "initializer_range", 0.02))
    head = torch.nn.Linear(words.shape[1], len(labels), bias=are_tags, device=words.device)
    with torch.no_grad():
        if are_tags:
            head.bias.zero_()
        head.weight.copy_(torch.randn(head.weight.shape, generator=source) * spread)
    setattr(model, head_name(model, head, are_tags=are_tags), head)
    return head
