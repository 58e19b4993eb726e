"""The trainer as it is, which also leaves a digest of what each process computes with: `python witness.py run …`.

Of weights that are spread it is the digest of those that stay whole, and of the vector that all slices make.
"""

import hashlib
import sys

import torch

from trainers import loop, parallel
from trainers.cli import console

_go, _begin = loop.Loop.go, parallel.Fate.__init__


def go(self):
    """As ever; the digest is of the state behind the last step."""
    _go(self)
    holding, weights = self.holding, self.parts.adapter.weights
    digest = hashlib.sha256()
    if self.parts.adapter.spread is not None and self.parts.adapter.spread.slices is not None:
        for each in self.parts.adapter.spread.residents:
            digest.update(each.weights.detach().numpy().tobytes())
        weights = torch.empty(self.parts.adapter.count)
        holding._slices.spread(holding.mine, weights)
    digest.update(weights.detach().numpy().tobytes())
    (self.out / f"digest-{self.group.rank}").write_text(digest.hexdigest())


def begin(self, rank, command, *rest, **named):
    """The other processes of this machine are witnesses too."""
    _begin(self, rank, [command[0], __file__, *command[command.index("trainers") + 1 :]], *rest, **named)


loop.Loop.go, parallel.Fate.__init__ = go, begin
sys.exit(console())
