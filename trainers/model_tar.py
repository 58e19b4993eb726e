"""A model folder as one tar, written as a stream: texts first, then one safetensors file, tensor by tensor.

Guarantees: the same bytes for the same content (no time, no owner, members in the order of their names); memory holds
one tensor beside the model. Does not: split weights over several files; safetensors knows no limit that would ask for
it.

Source: the format description of the safetensors project; POSIX ustar.

Example:
    >>> for chunk in tar_of({"config.json": b"{}"}, {"w": (weight.shape, weight.dtype)}, {"w": weight}.__getitem__):
    ...     sink.write(chunk)
"""

from __future__ import annotations

import tarfile
from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType

import torch
from torch import Tensor

from trainers.archive import MODEL_WEIGHTS
from trainers.tensor_file import header_of, pieces_of


def tar_of(
    texts: Mapping[str, bytes],
    forms: Mapping[str, tuple[torch.Size, torch.dtype]],
    value_of: Callable[[str], Tensor],
    about: Mapping[str, str] = MappingProxyType({}),
) -> Iterator[bytes | memoryview]:
    """The archive in pieces.

    Args:
        texts: small files by name.
        forms: shape and precision of each weight, by name.
        value_of: the weight itself, asked for once, in the order of names.
        about: more words for the head of the safetensors file.
    """
    for name in sorted(texts):
        yield _member(name, len(texts[name]))
        yield texts[name] + _padding(len(texts[name]))
    beginning, size = header_of(forms, {"format": "pt", **about})
    total = len(beginning) + size
    yield _member(MODEL_WEIGHTS, total)
    yield beginning
    for name in forms:
        yield from pieces_of(value_of(name))
    yield _padding(total) + bytes(2 * tarfile.BLOCKSIZE)


def _member(name: str, size: int) -> bytes:
    info = tarfile.TarInfo(name)
    info.size, info.mode = size, 0o644
    # GNU's way of writing sizes where eight gigabytes are not enough for ustar.
    return info.tobuf(tarfile.GNU_FORMAT if size >= 8 << 30 else tarfile.USTAR_FORMAT)


def _padding(size: int) -> bytes:
    return bytes(-size % tarfile.BLOCKSIZE)
