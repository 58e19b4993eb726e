"""The network: a BERT encoder of a few layers, begun from Rampart's weights, that also sees the shape of each word.

Guarantees: it computes what transformers' ``BertModel`` computes from the same weights (a test compares them).
Does not: quantise; ``export`` does.

Source: Devlin et al. 2019, arXiv:1810.04805.

Example:
    >>> len(Network(layers=3).layers)
    3
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu, scaled_dot_product_attention

from compliance.redaction.kinds import SHAPES
from trainers.tagger.labels import LABELS
from trainers.tagger.rampart import starting_weights

HIDDEN = 384
EPSILON = 1e-12
HEADS = 12
_WIDTH = 1536
# Parameter of a layer here -> its name in Rampart.
_NAMES = {
    "query": "attention.self.query",
    "key": "attention.self.key",
    "value": "attention.self.value",
    "out": "attention.output.dense",
    "attended": "attention.output.LayerNorm",
    "wide": "intermediate.dense",
    "narrow": "output.dense",
    "done": "output.LayerNorm",
}


class Layer(nn.Module):
    """One encoder layer: attention, then a wide layer, each with a residual and a norm."""

    def __init__(self, dropout: float) -> None:
        super().__init__()
        self.query, self.key, self.value, self.out = (nn.Linear(HIDDEN, HIDDEN) for _ in range(4))
        self.attended = nn.LayerNorm(HIDDEN, eps=EPSILON)
        self.wide, self.narrow = nn.Linear(HIDDEN, _WIDTH), nn.Linear(_WIDTH, HIDDEN)
        self.done = nn.LayerNorm(HIDDEN, eps=EPSILON)
        self.dropout = nn.Dropout(dropout)

    def forward(self, state: Tensor, seen: Tensor) -> Tensor:
        """States (B, T, hidden) from states; ``seen`` (B, 1, 1, T) is true where a piece may be looked at."""
        batch, length, _ = state.shape

        def split(projected: Tensor) -> Tensor:
            return projected.view(batch, length, HEADS, HIDDEN // HEADS).transpose(1, 2)

        query, key, value = (split(part(state)) for part in (self.query, self.key, self.value))
        share = self.dropout.p if self.training else 0.0
        mixed = scaled_dot_product_attention(query, key, value, attn_mask=seen, dropout_p=share)
        joined = mixed.transpose(1, 2).reshape(batch, length, HIDDEN)
        state = self.attended(state + self.dropout(self.out(joined)))
        result: Tensor = self.done(state + self.dropout(self.narrow(gelu(self.wide(state)))))
        return result


class Network(nn.Module):
    """Embeddings, encoder layers and one linear head over ``LABELS``.

    Args:
        layers: how many of Rampart's six layers are kept, from the bottom.
        dropout: in the encoder and before the head.
    """

    def __init__(self, layers: int = 3, dropout: float = 0.1) -> None:
        super().__init__()
        weights = {name: torch.from_numpy(value) for name, value in starting_weights(layers).items()}

        def table(name: str, rows: int | None = None) -> nn.Embedding:
            values = weights[f"embeddings.{name}.weight"]
            # Every shape begins as the one token type that Rampart knows.
            values = values[:1].repeat(rows, 1) if rows else values
            return nn.Embedding(len(values), HIDDEN, _weight=values)

        self.words, self.places = table("word_embeddings"), table("position_embeddings")
        self.shapes = table("token_type_embeddings", SHAPES)
        self.norm = nn.LayerNorm(HIDDEN, eps=EPSILON)
        _copy(self.norm, weights, "embeddings.LayerNorm")
        self.layers = nn.ModuleList(Layer(dropout) for _ in range(layers))
        for number, layer in enumerate(self.layers):
            for ours, theirs in _NAMES.items():
                _copy(getattr(layer, ours), weights, f"encoder.layer.{number}.{theirs}")
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(HIDDEN, len(LABELS))

    def states(self, ids: Tensor, mask: Tensor, shapes: Tensor) -> Tensor:
        """States (B, T, hidden) of the last layer for piece ids, attention mask and shapes, each (B, T)."""
        places = torch.arange(ids.shape[1], device=ids.device)
        state: Tensor = self.dropout(self.norm(self.words(ids) + self.shapes(shapes) + self.places(places)))
        seen = mask.bool()[:, None, None, :]
        for layer in self.layers:
            assert isinstance(layer, Layer)
            state = layer.forward(state, seen)
        return state

    def forward(self, ids: Tensor, mask: Tensor, shapes: Tensor) -> Tensor:
        """Logits (B, T, labels) for piece ids, attention mask and shapes, each (B, T)."""
        logits: Tensor = self.head(self.dropout(self.states(ids, mask, shapes)))
        return logits


def _copy(module: nn.Module, weights: dict[str, Tensor], name: str) -> None:
    module.load_state_dict({part: weights[f"{name}.{part}"] for part in ("weight", "bias")})
