"""A run's curves as an event file of TensorBoard.

Guarantees a file that TensorBoard's own reader accepts, record checksums included (the tests read it back with that
reader and compare it byte by byte with another writer's), made in a stream. Does not use a library: the one there is
imports torch, which the platform does not load, and the format is two fixed frames and six fields.

Source: tensorflow/core/lib/io/record_writer.cc (frames), tensorflow/core/util/event.proto and
tensorflow/core/framework/summary.proto (fields), RFC 3720 appendix B.4 (CRC32C).

Example:
    >>> b"".join(event_file(rows))[24:41]
    b'brain.Event:2'
"""

import math
import struct
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from steward.runs.curves import QUANTITIES

SPLIT_NAMES = {"train": "train", "validation": "held_out"}
_MASK_DELTA = 0xA282EAD8
_POLYNOMIAL = 0x82F63B78  # Castagnoli, bits reversed
_MOST_SINGLE = 3.4028234663852886e38
# Field number and wire type of each field, as one byte.
_WALL_TIME, _STEP, _FILE_VERSION, _SUMMARY = b"\x09", b"\x10", b"\x1a", b"\x2a"
_VALUE, _TAG, _SIMPLE_VALUE = b"\x0a", b"\x0a", b"\x15"


def _table() -> tuple[int, ...]:
    entries = []
    for entry in range(256):
        for _ in range(8):
            entry = entry >> 1 ^ (_POLYNOMIAL if entry & 1 else 0)
        entries.append(entry)
    return tuple(entries)


_TABLE = _table()


def event_file(rows: Iterable[Mapping[str, Any]]) -> Iterator[bytes]:
    """The file in pieces: one event a measurement, with a scalar for each quantity it has.

    Args:
        rows: of `Measurement`: `split`, `step`, `at` and the quantities. The file's own time is the first row's.
    """
    is_first = True
    for row in rows:
        seconds = row["at"].timestamp()
        if is_first:
            yield _frame(_WALL_TIME + struct.pack("<d", seconds) + _FILE_VERSION + _sized(b"brain.Event:2"))
            is_first = False
        yield _frame(_event(seconds, row))
    if is_first:
        yield _frame(_WALL_TIME + struct.pack("<d", 0.0) + _FILE_VERSION + _sized(b"brain.Event:2"))


def _event(seconds: float, row: Mapping[str, Any]) -> bytes:
    values = b""
    for quantity in QUANTITIES:
        if row[quantity] is not None:
            tag = f"{SPLIT_NAMES[row['split']]}/{quantity}".encode()
            value = _TAG + _sized(tag) + _SIMPLE_VALUE + struct.pack("<f", _single(row[quantity]))
            values += _VALUE + _sized(value)
    step = _STEP + _varint(row["step"]) if row["step"] else b""
    return _WALL_TIME + struct.pack("<d", seconds) + step + _SUMMARY + _sized(values)


def _single(value: float) -> float:
    """The value within what four bytes hold; beyond it, infinity of its sign."""
    return value if abs(value) <= _MOST_SINGLE else math.copysign(math.inf, value)


def _varint(number: int) -> bytes:
    """Seven bits a byte, lowest first."""
    encoded = bytearray()
    while number > 0x7F:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*encoded, number])


def _sized(content: bytes) -> bytes:
    return _varint(len(content)) + content


def _frame(record: bytes) -> bytes:
    size = struct.pack("<Q", len(record))
    return size + struct.pack("<I", _masked_crc(size)) + record + struct.pack("<I", _masked_crc(record))


def _masked_crc(data: bytes) -> int:
    crc = 0xFFFFFFFF
    for byte in data:
        crc = crc >> 8 ^ _TABLE[(crc ^ byte) & 0xFF]
    crc ^= 0xFFFFFFFF
    return ((crc >> 15 | crc << 17) + _MASK_DELTA) & 0xFFFFFFFF
