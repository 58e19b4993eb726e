"""A safetensors file in pieces, so that memory never holds it beside its tensors.

Guarantees: safetensors itself reads what the pieces make; equal tensors give equal bytes. Does not: copy a tensor that
lies contiguous in main memory.

Source: the format description of the safetensors project.

Example:
    >>> for piece in pieces_of_file({"w": weight}, {"format": "pt"}):
    ...     sink.write(piece)
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

NAMES = {torch.bfloat16: "BF16", torch.float32: "F32", torch.float16: "F16", torch.uint8: "U8", torch.int8: "I8"}
PIECE_BYTES = 8 << 20


def header_of(forms: Mapping[str, tuple[torch.Size, torch.dtype]], metadata: Mapping[str, str]) -> tuple[bytes, int]:
    """The file's beginning for tensors of these shapes, in their order, and how many bytes of tensors follow."""
    header: dict[str, Any] = {"__metadata__": dict(metadata)}
    end = 0
    for name, (shape, dtype) in forms.items():
        begin, end = end, end + shape.numel() * dtype.itemsize
        header[name] = {"dtype": NAMES[dtype], "shape": list(shape), "data_offsets": [begin, end]}
    raw = json.dumps(header, separators=(",", ":")).encode()
    # Aligned to eight bytes by blanks.
    raw += b" " * (-len(raw) % 8)
    return len(raw).to_bytes(8, "little") + raw, end


def pieces_of(tensor: Tensor) -> Iterator[memoryview]:
    """The bytes of a tensor."""
    flat: Any = tensor.detach().contiguous().cpu().reshape(-1).view(torch.uint8).numpy()
    for begin in range(0, flat.size, PIECE_BYTES):
        yield memoryview(flat[begin : begin + PIECE_BYTES])


def pieces_of_file(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> Iterator[bytes | memoryview]:
    """The whole file."""
    yield header_of({name: (each.shape, each.dtype) for name, each in tensors.items()}, metadata)[0]
    for each in tensors.values():
        yield from pieces_of(each)
