"""The safetensors files of a model folder: where each tensor lies, which files count, which tensors are not finite.

Guarantees: a header's length, sides and types are bounded before they are used; tensors lie one behind the other and
fill the file, and none is named twice; ``odd_tensors`` reads files as a stream of ``CHUNK_BYTES``.
Does not: load a tensor, nor torch.

Source: the format description of the safetensors project (README, "Format"); IEEE 754 for exponents; Micikevicius et
al. 2022, "FP8 Formats for Deep Learning", arXiv:2209.05433, table 1.

Example:
    >>> places_in(Path("model.safetensors"))["model.norm.weight"].shape
    (576,)
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

MAX_HEADER_BYTES = 32 << 20
#: Of a tensor; no weight of a language model has more than five.
MAX_SIDES = 8
CHUNK_BYTES = 1 << 20
SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"

#: Bytes per element.
_SIZES = {
    **dict.fromkeys(("F64", "I64", "U64"), 8),
    **dict.fromkeys(("F32", "I32", "U32"), 4),
    **dict.fromkeys(("F16", "BF16", "I16", "U16"), 2),
    **dict.fromkeys(("I8", "U8", "BOOL", "F8_E4M3", "F8_E5M2"), 1),
}
#: Of numbers read as whole ones: without their sign, those from here on are infinite or NaN.
_FIRST_ODD = {
    "F64": 0x7FF0 << 48,
    "F32": 0x7F80 << 16,
    "F16": 0x7C00,
    "BF16": 0x7F80,
    "F8_E5M2": 0x7C,
    "F8_E4M3": 0x7F,
}


@dataclass(frozen=True)
class Place:
    """Of a tensor: its type, its shape, and from which byte of the file to before which it lies."""

    kind: str
    shape: tuple[int, ...]
    begin: int
    end: int

    @property
    def count(self) -> int:
        """Elements."""
        return math.prod(self.shape)


def places_in(path: Path) -> dict[str, Place]:
    """The tensors of a file by name.

    Raises:
        ValueError: what is wrong with the file, in words.
    """
    size = path.stat().st_size
    with path.open("rb") as source:
        prefix = source.read(8)
        length = struct.unpack("<Q", prefix)[0] if len(prefix) == 8 else -1
        if not 2 <= length <= min(MAX_HEADER_BYTES, size - 8):
            raise ValueError("its header says a length that cannot be right")
        raw = source.read(length)
    try:
        header = json.loads(raw, object_pairs_hook=_once)
        header.pop("__metadata__", None)
        places = {name: _place(entry, 8 + length) for name, entry in header.items()}
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        raise ValueError("its header is not sound") from None
    end = 8 + length
    for place in sorted(places.values(), key=lambda each: (each.begin, each.end)):
        if place.begin != end:
            raise ValueError("its tensors overlap or leave a gap")
        end = place.end
    if end != size:
        raise ValueError("its header and its length do not agree")
    return places


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object; of a name that comes twice one reader takes the first, another the last."""
    made = dict(pairs)
    if len(made) != len(pairs):
        raise ValueError("twice")
    return made


def _place(entry: dict[str, Any], offset: int) -> Place:
    begin, end = entry["data_offsets"]
    shape = tuple(entry["shape"])
    if len(shape) > MAX_SIDES or not all(type(side) is int and side >= 0 for side in shape):
        raise ValueError("shape")
    place = Place(entry["dtype"], shape, begin + offset, end + offset)
    if not 0 <= begin <= end or end - begin != place.count * _SIZES[place.kind]:
        raise ValueError("offsets")
    return place


def loaded_files(path: Path) -> list[Path]:
    """Of a judged folder the weight files that transformers opens: the single one, or those that the index names."""
    if (path / SINGLE).is_file():
        return [path / SINGLE]
    return sorted({path / name for name in json.loads((path / INDEX).read_bytes())["weight_map"].values()})


def odd_tensors(path: Path) -> Iterator[str]:
    """Names of the tensors of a sound file in which a number is infinite or NaN."""
    import numpy

    with path.open("rb", buffering=0) as source:
        for name, place in sorted(places_in(path).items(), key=lambda each: each[1].begin):
            first_odd = _FIRST_ODD.get(place.kind)
            if first_odd is None:
                continue
            whole = numpy.dtype(f"<u{_SIZES[place.kind]}")
            unsigned = whole.type(numpy.iinfo(whole).max >> 1)
            source.seek(place.begin)
            left = place.count
            while left:
                numbers = numpy.fromfile(source, whole, min(left, CHUNK_BYTES // whole.itemsize))
                if not len(numbers):
                    raise OSError(f"{path.name} became shorter while it was read")
                if numpy.bitwise_and(numbers, unsigned, out=numbers).max() >= first_odd:
                    yield name
                    break
                left -= len(numbers)
