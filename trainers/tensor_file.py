"""A safetensors file in pieces, so that memory never holds it beside its tensors, nor all of these at once.

Guarantees: safetensors itself reads what the pieces make; equal tensors give equal bytes. Does not: copy a tensor that
lies contiguous in main memory.

Source: the format description of the safetensors project.

Example:
    >>> for piece in pieces_of_file({"w": weight}, {"format": "pt"}):
    ...     sink.write(piece)
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from io import RawIOBase
from typing import Any

import torch
from torch import Tensor

NAMES = {torch.bfloat16: "BF16", torch.float32: "F32", torch.float16: "F16", torch.uint8: "U8", torch.int8: "I8"}
PIECE_BYTES = 8 << 20
MOST_HEADER_BYTES = 64 << 20


@dataclass(frozen=True)
class Later:
    """A tensor that is made when its turn comes."""

    shape: torch.Size
    dtype: torch.dtype
    make: Callable[[], Tensor]


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
    """The bytes of a tensor. A piece is good until the next one is asked for.

    Whoever still holds the last piece would otherwise keep the whole tensor, while the next one is made.
    """
    flat: Any = tensor.detach().contiguous().cpu().reshape(-1).view(torch.uint8).numpy()
    for begin in range(0, flat.size, PIECE_BYTES):
        with memoryview(flat[begin : begin + PIECE_BYTES]) as piece:
            yield piece


def pieces_of_file(tensors: Mapping[str, Tensor | Later], metadata: Mapping[str, str]) -> Iterator[bytes | memoryview]:
    """The whole file."""
    yield header_of({name: (each.shape, each.dtype) for name, each in tensors.items()}, metadata)[0]
    for each in tensors.values():
        yield from pieces_of(each.make() if isinstance(each, Later) else each)


def read_file(
    source: RawIOBase, judge: Callable[[dict[str, str]], None], keep: Callable[[str, Tensor], Tensor]
) -> dict[str, Tensor]:
    """Reads such a file to its end, one tensor after the other.

    Args:
        source: the file.
        judge: sees the metadata before any tensor is read, and raises where the rest is not wanted.
        keep: gives what is to be kept of a named tensor.

    Raises:
        ValueError, KeyError, TypeError: it is no such file, or none of ours.
    """
    length = int.from_bytes(_exactly(source, 8), "little")
    if length > MOST_HEADER_BYTES:
        raise ValueError("no header")
    header = json.loads(_exactly(source, length))
    judge(header.pop("__metadata__"))
    dtypes = {name: dtype for dtype, name in NAMES.items()}
    tensors = {}
    at = 0
    for name, facts in header.items():
        begin, end = facts["data_offsets"]
        if begin != at or end < begin:
            raise ValueError("tensors do not follow one another")
        raw, at = _exactly(source, end - begin), end
        flat = (
            torch.frombuffer(raw, dtype=dtypes[facts["dtype"]]) if raw else torch.empty(0, dtype=dtypes[facts["dtype"]])
        )
        tensors[name] = keep(name, flat.view(facts["shape"]))
    if source.read(1):
        raise ValueError("more than was announced")
    return tensors


def _exactly(source: RawIOBase, count: int) -> bytearray:
    found = bytearray(count)
    view, at = memoryview(found), 0
    while at < count:
        step = source.readinto(view[at:])
        if not step:
            raise ValueError("it ends too early")
        at += step
    return found
