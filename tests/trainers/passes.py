"""A few packed records, what a way makes of them, and torch's plain attention in place of its flash kernel."""

import torch

from trainers import forward as ways
from trainers.head_loss import Head


def batch():
    """Three sequences of which eight positions are supervised."""
    source = torch.Generator().manual_seed(2)
    lengths = [9, 3, 21]
    tokens = torch.randint(2, 250, (33,), generator=source)
    rows = torch.tensor([0, 4, 7, 9, 10, 12, 20, 31])
    return ways.MicroBatch(tokens, lengths, rows, tokens[rows + 1], torch.tensor([0, 0, 0, 1, 1, 2, 2, 2]))


def losses_and_grads(forward, adapter):
    """(8,) losses, and the gradients of a sum in which no two of them weigh the same."""
    adapter.clear_grads()
    forward.refresh()
    losses = forward.losses(batch())
    (losses * torch.linspace(0.1, 1, len(losses))).sum().backward()
    return losses.detach(), adapter.grads.clone()


def check_equal(adapter, forward):
    """A way's losses and gradients are the padded way's."""
    losses, grads = losses_and_grads(forward, adapter)
    plain_losses, plain_grads = losses_and_grads(ways.BucketForward(adapter, Head.of(adapter), ""), adapter)
    torch.testing.assert_close(losses, plain_losses, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(grads, plain_grads, rtol=1e-3, atol=1e-5)
    assert grads.abs().max() > 0


def varlen_by_masks(q, k, v, starts, other_starts, longest, other_longest, *, scale, window_size, enable_gqa):
    """What torch's flash kernel gives for sequences of many lengths, by its plain attention; (T, H, d)."""
    assert starts.dtype == torch.int32
    assert (longest, window_size[1]) == (int(starts.diff().max()), 0)
    total = q.shape[0]
    owner = torch.bucketize(torch.arange(total), starts[1:], right=True)
    ago = torch.arange(total)[:, None] - torch.arange(total)
    mask = (owner[:, None] == owner) & (ago >= 0) & ((ago <= window_size[0]) | (window_size[0] < 0))
    parts = (each.transpose(0, 1)[None] for each in (q, k, v))
    out = torch.nn.functional.scaled_dot_product_attention(*parts, mask, scale=scale, enable_gqa=enable_gqa)
    return out[0].transpose(0, 1)
