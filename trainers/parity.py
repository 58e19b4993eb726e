"""How alike two models answer, in figures.

Guarantees: both are asked at the same places of the same held-out answers, given the same text before; a classifier is
asked for its labels. Does not: say which of them is better.

Example:
    >>> compare(answers(trained, split, "cpu", stop), answers(exported, split, "cpu", stop)).is_reached
    True
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from trainers.encoding import Split
from trainers.label_head import HEAD
from trainers.process import Stop

#: What an export has to reach: share of positions with the same most likely token, mean divergence in nats, and by how
#: much the held-out loss may differ. The last leaves room for the trained model's own bf16: against an F16 file, read
#: in fp32 and with every token the same, the bundled model differed by 0.023 at 18 positions (measured).
LEAST_AGREEMENT = 0.97
MOST_DIVERGENCE = 0.02
MOST_LOSS_DIFFERENCE = 0.05
COMPARED_POSITIONS = 512


@dataclass(frozen=True)
class Answers:
    """(S, V) fp32 log-probabilities, and (S,) what was right."""

    chances: Tensor
    targets: Tensor

    @property
    def loss(self) -> float:
        """Mean negative log-likelihood of what was right."""
        return float(-self.chances.gather(1, self.targets[:, None]).mean())


@dataclass(frozen=True)
class Parity:
    """How alike two models answer at ``positions`` places; ``loss_difference`` is the second's less the first's."""

    positions: int
    agreement: float
    divergence: float
    loss_difference: float

    @property
    def is_reached(self) -> bool:
        """Whether the export may be offered."""
        return (
            self.agreement >= LEAST_AGREEMENT
            and self.divergence <= MOST_DIVERGENCE
            and abs(self.loss_difference) <= MOST_LOSS_DIFFERENCE
        )


def compare(expected: Answers, found: Answers) -> Parity:
    """Two models' answers at the same positions."""
    one, other = expected.chances, found.chances
    agreement = (one.argmax(-1) == other.argmax(-1)).float().mean()
    divergence = (one.exp() * (one - other)).sum(-1).mean()
    return Parity(one.shape[0], float(agreement), float(divergence), found.loss - expected.loss)


@torch.inference_mode()
def answers(model: Any, split: Split, device: str, stop: Stop) -> Answers:
    """What a model says at the supervised positions of a split, as many as are compared.

    Of a classifier: of the labels, at the end of each prompt; of one of tokens, at each that has a tag.
    """
    rows: list[Tensor] = []
    targets: list[int] = []
    for index in range(len(split)):
        stop.check()
        tokens = torch.tensor([list(split.tokens_of(index))], device=device)
        if split.labels is not None:
            state = model.base_model(input_ids=tokens, use_cache=False).last_hidden_state[:, -1]
            logits = state.float() @ model.get_submodule(HEAD).weight.float().T
            targets.append(split.labels[index])
        elif split.tags is not None:
            head = model.get_submodule(HEAD)
            places = torch.nonzero(torch.tensor(split.marks_of(index)))[:, 0].to(device)
            state = model.base_model(input_ids=tokens, use_cache=False).last_hidden_state[0, places]
            logits = state.float() @ head.weight.float().T + head.bias.float()
            tags = split.tags[split.starts[index] : split.starts[index + 1]]
            targets += [tags[place] for place in places.tolist()]
        else:
            places = torch.nonzero(torch.tensor(split.marks_of(index)))[:, 0].to(device)
            logits = model(input_ids=tokens, use_cache=False, logits_to_keep=places - 1).logits[0]
            targets += tokens[0, places].tolist()
        rows.append(torch.log_softmax(logits.float(), -1).cpu())
        if len(targets) >= COMPARED_POSITIONS:
            break
    return Answers(torch.cat(rows)[:COMPARED_POSITIONS], torch.tensor(targets[:COMPARED_POSITIONS]))
