"""The header of a GGUF file, read without trust: bounded, and checked against the file's length.

Guarantees: counts, lengths and nesting are bounded before anything is allocated; every tensor lies inside the file, and
none overlaps another; what passes here is safe to hand to the ``gguf`` package, which trusts its input. Does not: read
a tensor's numbers, nor big-endian files.

Source: the GGUF specification (ggml, ``docs/gguf.md``), version 2 and 3; block sizes of the gguf package.

Example:
    >>> read_header(Path("model.gguf")).facts["general.architecture"]
    'llama'
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from trainers.errors import TrainerError

MAX_TENSORS, MAX_FACTS, MAX_SIDES = 100_000, 10_000, 4
MAX_STRING_BYTES, MAX_ELEMENTS = 1 << 24, 1 << 22
_NUMBERS = {0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?", 10: "<Q", 11: "<q", 12: "<d"}
_STRING, _ARRAY = 8, 9


@dataclass(frozen=True)
class TensorPlace:
    """A tensor's name, sides (fastest first), number of its type, and where it lies in the data part."""

    name: str
    sides: tuple[int, ...]
    kind: int
    offset: int


@dataclass(frozen=True)
class GgufHeader:
    """Facts by key (arrays of more than a few elements as their length) and tensors."""

    facts: dict[str, Any]
    tensors: tuple[TensorPlace, ...]


def read_header(path: Path) -> GgufHeader:
    """The header of a file.

    Raises:
        TrainerError: ``model.gguf``, for a file that is no GGUF, is cut off, or lies.
    """
    size = path.stat().st_size
    try:
        with path.open("rb") as source:
            return _Reader(source, size).header()
    except (struct.error, UnicodeDecodeError, ValueError, OverflowError) as fault:
        said = str(fault) if type(fault) is ValueError else "its header is cut off or damaged"
        raise TrainerError("model.gguf", f"{path.name}: {said}", "download the file again") from None


class _Reader:
    def __init__(self, source: BinaryIO, size: int) -> None:
        self._source, self._size = source, size

    def header(self) -> GgufHeader:
        if self._take(4) != b"GGUF":
            raise ValueError("not a GGUF file")
        if self._number("<I") not in (2, 3):
            raise ValueError("a version of the format that is not read")
        tensors, facts = self._number("<Q"), self._number("<Q")
        if tensors > MAX_TENSORS or facts > MAX_FACTS:
            raise ValueError("its header says more tensors or facts than any model has")
        known: dict[str, Any] = {}
        for _ in range(facts):
            name = self._string()
            if name in known:
                raise ValueError("a fact appears twice")
            known[name] = self._value(self._number("<I"))
        places = tuple(self._tensor() for _ in range(tensors))
        self._judge(places, known)
        return GgufHeader(known, places)

    def _take(self, count: int) -> bytes:
        if count > self._size - self._source.tell():
            raise ValueError("its header says a length that cannot be right")
        return self._source.read(count)

    def _number(self, form: str) -> Any:
        return struct.unpack(form, self._take(struct.calcsize(form)))[0]

    def _string(self) -> str:
        length = self._number("<Q")
        if length > MAX_STRING_BYTES:
            raise ValueError("its header says a length that cannot be right")
        return self._take(length).decode()

    def _value(self, kind: int) -> Any:
        if kind in _NUMBERS:
            return self._number(_NUMBERS[kind])
        if kind == _STRING:
            return self._string()
        if kind != _ARRAY:
            raise ValueError("a fact of an unknown kind")
        inner, count = self._number("<I"), self._number("<Q")
        if count > MAX_ELEMENTS or inner == _ARRAY:
            raise ValueError("a list of unreasonable length or depth")
        if inner in _NUMBERS:
            self._take(count * struct.calcsize(_NUMBERS[inner]))
        elif inner == _STRING:
            for _ in range(count):
                self._string()
        else:
            raise ValueError("a fact of an unknown kind")
        return count

    def _tensor(self) -> TensorPlace:
        name, sides = self._string(), self._number("<I")
        if sides > MAX_SIDES:
            raise ValueError("a tensor of too many sides")
        shape = tuple(self._number("<Q") for _ in range(sides))
        return TensorPlace(name, shape, self._number("<I"), self._number("<Q"))

    def _judge(self, places: tuple[TensorPlace, ...], facts: dict[str, Any]) -> None:
        import gguf

        alignment = facts.get("general.alignment", 32)
        if not isinstance(alignment, int) or not 8 <= alignment <= 1 << 16 or alignment & (alignment - 1):
            raise ValueError("an alignment that cannot be right")
        begin = -(-self._source.tell() // alignment) * alignment
        if len({place.name for place in places}) != len(places):
            raise ValueError("a tensor appears twice")
        end = 0
        for place in sorted(places, key=lambda each: each.offset):
            try:
                block, width = gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType(place.kind)]
            except (ValueError, KeyError):
                raise ValueError("a tensor of an unknown type") from None
            count = math.prod(place.sides)
            if not place.sides or 0 in place.sides or place.sides[0] % block or place.offset % alignment:
                raise ValueError("a tensor whose shape or place cannot be right")
            if place.offset < end:
                raise ValueError("its tensors overlap")
            end = place.offset + count // block * width
        if begin + end > self._size:
            raise ValueError("its header and its length do not agree")
