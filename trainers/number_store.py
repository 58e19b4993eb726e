"""Many small numbers, appended once and read in any order: the first in memory, the rest sealed on a disk.

Guarantees: memory stays within ``KEPT_BYTES`` and two blocks however many numbers there are; what goes to the disk is
sealed with AES-256-GCM under a key that exists in this process's memory only, in a file without a name, so nothing can
be read there and nothing is left when the process ends, however it ends. A block that was changed on the disk is an
error.
Does not: hold numbers of more than 31 bits; forget or change one.

Example:
    >>> numbers = NumberStore()
    >>> numbers.extend([5, 6, 7])
    >>> numbers.between(1, 3)
    array('i', [6, 7])
"""

from __future__ import annotations

import os
import tempfile
import weakref
from array import array
from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from trainers.errors import EXIT_FAULT, TrainerError

#: Numbers of a block. Small, because a record is read out of the midst of one and all of it is opened for that.
BLOCK = 1 << 14
KEPT_BYTES = 64 << 20
_SIZE = array("i").itemsize
_TAG_BYTES = 16
#: Of a machine's folders for passing files the one that is meant to lie on a disk; the other may be memory.
_DISK = Path("/var/tmp")  # noqa: S108 - the file has no name there


class NumberStore:
    """An append-only sequence; ``kept_bytes`` is how much of it stays in memory as it is."""

    def __init__(self, kept_bytes: int = KEPT_BYTES) -> None:
        self._most_kept = kept_bytes // (BLOCK * _SIZE)
        self._kept: list[array[int]] = []
        self._blocks = 0
        self._last: array[int] = array("i")
        self._file: BinaryIO | None = None
        # The number of a block is its nonce: no key ever seals two things at one place.
        self._cipher = AESGCM(AESGCM.generate_key(256))
        self._opened: dict[int, array[int]] = {}

    def __len__(self) -> int:
        return self._blocks * BLOCK + len(self._last)

    def extend(self, numbers: Iterable[int]) -> None:
        """Appends numbers.

        Raises:
            TrainerError: ``disk.full``.
        """
        self._last.extend(numbers)
        while len(self._last) >= BLOCK:
            whole, self._last = self._last[:BLOCK], self._last[BLOCK:]
            if self._blocks < self._most_kept:
                self._kept.append(whole)
            else:
                self._put(whole)
            self._blocks += 1

    def between(self, start: int, end: int) -> array[int]:
        """The numbers ``start`` to ``end`` without the last, as a new array.

        Raises:
            TrainerError: ``disk.changed``.
        """
        found: array[int] = array("i")
        while start < end:
            number, at = divmod(start, BLOCK)
            piece = self._block(number)[at : at + end - start]
            if not piece:
                raise IndexError("behind the end")
            found += piece
            start += len(piece)
        return found

    def _block(self, number: int) -> array[int]:
        """A block as it was; of those on the disk the last two that were asked for stay open."""
        if number == self._blocks:
            return self._last
        if number < len(self._kept):
            return self._kept[number]
        if number not in self._opened:
            while len(self._opened) > 1:
                del self._opened[next(iter(self._opened))]
            self._opened[number] = self._open(number)
        return self._opened[number]

    def _put(self, block: array[int]) -> None:
        try:
            if self._file is None:
                self._file = tempfile.TemporaryFile(dir=_folder(), buffering=0)  # noqa: SIM115 - as long as the store
                weakref.finalize(self, self._file.close)
            sealed = self._cipher.encrypt(_nonce(self._blocks), block.tobytes(), None)
            self._file.seek(0, os.SEEK_END)
            if self._file.write(sealed) != len(sealed):
                raise OSError("written in part")
        except OSError as fault:
            raise TrainerError(
                "disk.full",
                f"no room for a large dataset's tokens ({fault.strerror or fault})",
                "free space, or point TMPDIR to a folder with four bytes a token",
                EXIT_FAULT,
            ) from None

    def _open(self, number: int) -> array[int]:
        assert self._file is not None
        size = BLOCK * _SIZE + _TAG_BYTES
        self._file.seek((number - len(self._kept)) * size)
        block: array[int] = array("i")
        try:
            block.frombytes(self._cipher.decrypt(_nonce(number), self._file.read(size), None))
        except (InvalidTag, OSError):
            raise TrainerError(
                "disk.changed",
                "tokens on the disk are not what was written",
                "check the disk, then run again",
                EXIT_FAULT,
            ) from None
        return block


def _nonce(number: int) -> bytes:
    return number.to_bytes(12, "big")


def _folder() -> str | None:
    """Where the file goes: the named folder for passing files, or the one on a disk, or whatever Python finds."""
    return None if os.environ.get("TMPDIR") or not os.access(_DISK, os.W_OK) else str(_DISK)
