"""The vault object: a stream of authenticated segments, in the wire format of Tink's AES256_GCM_HKDF_1MB.

Guarantees that a reader hands out a segment's plaintext only after its tag has been checked, in order, and that it
reports an end only where the writer put one: segments that were reordered, dropped, appended or cut are errors.
It does not know that the object is complete before the end was read: whoever acts on the beginning of an object must
still read to its end. It hides neither the length of the content nor who else holds the key.

Example::

    with seal_writer(sink, key, context) as writer:
        writer.write(b"one line\\n")
    lines = io.BufferedReader(open_reader(source, key, context, writer.commitment), 1 << 20)

Layout and source: see ``segments``.
"""

import io
import os
from types import TracebackType
from typing import TYPE_CHECKING, BinaryIO, Self

from cryptography.exceptions import InvalidTag

from compliance.vault.context import ObjectContext
from compliance.vault.errors import Corrupt, VaultError, WrongKeyOrContext
from compliance.vault.keys import TAG_BYTES, check_commitment, check_key, commitment
from compliance.vault.segments import HEADER_BYTES, PREFIX_BYTES, SALT_BYTES, SEGMENT_BYTES, SegmentCipher

if TYPE_CHECKING:
    from typing_extensions import Buffer


class SealWriter:
    """Seals what is written to it. Made by ``seal_writer``.

    Only ``close`` writes the last segment, without which nothing opens. Leaving the ``with`` block by an exception,
    or forgetting to close, therefore leaves no valid object. (That is why this class is not an ``io.IOBase``: those
    close themselves when they are collected.) The sink stays open; it is its owner's.

    Attributes:
        commitment: 32 bytes to keep with the object's row.
        plaintext_bytes: how much was written so far.
    """

    def __init__(self, sink: BinaryIO, key: bytes, context: ObjectContext) -> None:
        check_key(key)
        self.commitment = commitment(key, context)
        self.plaintext_bytes = 0
        self.closed = False
        self._is_void = False
        header = bytes([HEADER_BYTES]) + os.urandom(SALT_BYTES + PREFIX_BYTES)
        self._cipher = SegmentCipher(key, header, context)
        self._sink = sink
        self._plain = bytearray()
        self._sealed = bytearray()
        self._capacity = SEGMENT_BYTES - TAG_BYTES - HEADER_BYTES
        self._put(header)

    def write(self, data: "Buffer") -> int:
        """Takes all of ``data`` (any contiguous bytes) and returns its length in bytes.

        Raises:
            ValueError: the writer is closed.
            OSError: the sink failed; the object is then void.
        """
        if self.closed:
            raise ValueError("the sealed object is closed")
        view = memoryview(data).cast("B")
        size = view.nbytes
        # A full segment waits for one more byte, so that the last one is never empty behind a full one.
        while len(self._plain) + view.nbytes > self._capacity:
            step = self._capacity - len(self._plain)
            self._seal(view[:step], is_last=False)
            view = view[step:]
        self._plain += view
        self.plaintext_bytes += size
        return size

    def close(self) -> None:
        """Writes the last segment: now, and only now, the object is valid. Closing twice does nothing.

        Raises:
            ValueError: the object was given up before, by ``abort`` or because the sink failed.
            OSError: the sink failed.
        """
        if self._is_void:
            raise ValueError("the sealed object was given up; seal it anew")
        if self.closed:
            return
        self.closed = True
        self._seal(memoryview(b""), is_last=True)

    def abort(self) -> None:
        """Gives the object up: what is in the sink will never open."""
        self.closed = self._is_void = True
        self._plain = bytearray()

    def writable(self) -> bool:
        """Always true; ``io`` wrappers ask."""
        return True

    def flush(self) -> None:
        """Does nothing: a segment leaves when it is full."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        else:
            self.abort()

    def _seal(self, rest: memoryview, *, is_last: bool) -> None:
        """Seals what is waiting and the ``rest`` of the segment behind it, which is not copied for that."""
        size = len(self._plain) + rest.nbytes + TAG_BYTES
        if len(self._sealed) < size:
            self._sealed = bytearray(size if is_last else SEGMENT_BYTES)
        sealed = memoryview(self._sealed)[:size]
        try:
            self._cipher.seal((memoryview(self._plain), rest), sealed, is_last=is_last)
            self._put(sealed)
        except BaseException:
            # Half a segment may be out; going on could only make a stream with a hole in it.
            self.abort()
            raise
        self._plain = bytearray()
        self._capacity = SEGMENT_BYTES - TAG_BYTES

    def _put(self, data: "Buffer") -> None:
        view = memoryview(data)
        while view.nbytes:
            taken = self._sink.write(view)
            if not taken:
                raise OSError("the sink takes no more bytes")
            view = view[taken:]


class OpenReader(io.RawIOBase):
    """Reads a sealed object. Made by ``open_reader``.

    A raw stream: wrap it in ``io.BufferedReader(reader, 1 << 20)`` to go through it by lines. After an error every
    further read repeats that error. The source stays open; it is its owner's. Holds two segments in memory.
    """

    def __init__(self, source: BinaryIO, key: bytes, context: ObjectContext, commitment: bytes | None = None) -> None:
        super().__init__()
        check_key(key)
        if commitment is not None:
            check_commitment(commitment, key, context)
        self._is_committed = commitment is not None
        self._source = source
        header = bytearray(HEADER_BYTES)
        if self._take(memoryview(header)) < HEADER_BYTES or header[0] != HEADER_BYTES:
            raise Corrupt("not a vault object, or cut within its header")
        self._cipher = SegmentCipher(key, bytes(header), context)
        # One byte more than a segment: whether it is the last one shows in whether anything follows it.
        self._sealed = bytearray(SEGMENT_BYTES + 1)
        self._plain = bytearray()
        self._ahead = 0
        self._segment_bytes = SEGMENT_BYTES - HEADER_BYTES
        self._rest = memoryview(b"")
        self._is_last = False
        self._error: VaultError | None = None

    def readable(self) -> bool:
        """Always true; ``io`` wrappers ask."""
        return True

    def readinto(self, buffer: "Buffer", /) -> int:
        """Fills ``buffer`` as far as the current segment goes; 0 at the verified end.

        Raises:
            Corrupt: altered, cut or extended from this segment on.
            WrongKeyOrContext: the first segment does not open and no commitment was given to say more.
        """
        target = memoryview(buffer).cast("B")
        if not self._rest.nbytes:
            # A buffer that holds any segment gets the next one without a detour.
            if target.nbytes >= SEGMENT_BYTES - TAG_BYTES:
                return self._next_segment(target).nbytes
            self._rest = self._next_segment(self._own_buffer())
        step = min(target.nbytes, self._rest.nbytes)
        target[:step] = self._rest[:step]
        self._rest = self._rest[step:]
        return step

    def readall(self) -> bytes:
        """Everything that is left, in one piece; the errors are those of ``readinto``."""
        parts = [bytes(self._rest)]
        self._rest = self._rest[:0]
        while segment := self._next_segment(self._own_buffer()):
            parts.append(bytes(segment))
        return b"".join(parts)

    def peek(self, size: int = 0, /) -> bytes:
        """A few of the next bytes without taking them; lets ``readline`` look for the end of the line."""
        self._rest = self._rest or self._next_segment(self._own_buffer())
        return bytes(self._rest[: max(size, 4096)])

    def close(self) -> None:
        """Forgets the plaintext that is still held. Says nothing about whether the object was complete."""
        if not self.closed:
            self._rest = memoryview(b"")
            self._plain = bytearray()
        super().close()

    def _own_buffer(self) -> memoryview:
        """Room for any segment's plaintext, made when a caller first asks for less than a segment."""
        if not self._plain:
            self._plain = bytearray(SEGMENT_BYTES - TAG_BYTES)
        return memoryview(self._plain)

    def _next_segment(self, target: memoryview) -> memoryview:
        """Opens the next segment at the beginning of ``target``; gives the part it takes, nothing at the end."""
        self._checkClosed()
        if self._error is not None:
            raise self._error
        if self._is_last:
            return target[:0]
        try:
            return self._open_segment(target)
        except VaultError as error:
            self._error = error
            raise

    def _open_segment(self, target: memoryview) -> memoryview:
        number = self._cipher.number
        wanted = self._segment_bytes + 1
        have = self._ahead + self._take(memoryview(self._sealed)[self._ahead : wanted])
        self._is_last = have < wanted
        size = have if self._is_last else self._segment_bytes
        # A writer never puts an empty segment behind a full one; one that is there was not put by a writer.
        if size < TAG_BYTES or (size == TAG_BYTES and number > 0):
            raise Corrupt(f"cut within segment {number}")
        plain = target[: size - TAG_BYTES]
        try:
            self._cipher.open(memoryview(self._sealed)[:size], plain, is_last=self._is_last)
        except InvalidTag:
            raise self._refusal(number) from None
        self._sealed[0] = self._sealed[self._segment_bytes]
        self._ahead = 1
        self._segment_bytes = SEGMENT_BYTES
        return plain

    def _refusal(self, number: int) -> VaultError:
        if number or self._is_committed:
            return Corrupt(f"segment {number} was altered, moved, cut or extended")
        return WrongKeyOrContext(
            "segment 0 does not open: another key, another context, or altered bytes. "
            "The object's commitment, when given, tells these apart."
        )

    def _take(self, target: memoryview) -> int:
        """Reads until ``target`` is full or the source ends; returns the number of bytes read."""
        readinto = getattr(self._source, "readinto", self._readinto_by_copy)
        filled = 0
        while filled < target.nbytes:
            size = readinto(target[filled:])
            if not size:
                break
            filled += size
        return filled

    def _readinto_by_copy(self, target: memoryview) -> int:
        data = self._source.read(target.nbytes)
        target[: len(data)] = data
        return len(data)


def seal_writer(sink: BinaryIO, key: bytes, context: ObjectContext) -> SealWriter:
    """Starts a sealed object in ``sink``.

    Args:
        sink: where the sealed bytes go, at its current position.
        key: 32 bytes, used for this object or for others as well (each object has a salt of its own).
        context: where the object belongs.

    Raises:
        ValueError: the key does not have 32 bytes.
        OSError: the sink failed.
    """
    return SealWriter(sink, key, context)


def open_reader(source: BinaryIO, key: bytes, context: ObjectContext, commitment: bytes | None = None) -> OpenReader:
    """Opens a sealed object for reading.

    Args:
        source: the sealed bytes, from its current position to its end.
        key: 32 bytes.
        context: where the object belongs.
        commitment: what the writer's ``commitment`` was; checked before anything is read.

    Raises:
        ValueError: the key does not have 32 bytes.
        WrongKeyOrContext: the commitment is not that of this key and context.
        Corrupt: the header is not that of a vault object.
    """
    return OpenReader(source, key, context, commitment)
