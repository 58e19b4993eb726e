"""Reading a bundle: the files in a tar archive or a folder, taken as hostile.

Guarantees bounded memory, that nothing is unpacked or written, that a name means one regular file inside the bundle,
and that no byte of the archive escapes notice. It understands plain ustar archives only, neither compressed ones nor
links nor extended headers: what is not understood is refused.

Example::

    bundle = open_bundle(Path("evidence.tar"))
    for line in read_lines(bundle, "ledger/entries.jsonl"):
        ...

Source: POSIX.1-2017 pax, "ustar Interchange Format".
"""

import io
import os
import re
import stat
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Protocol

if TYPE_CHECKING:
    from typing_extensions import Buffer

MAX_MEMBERS = 10_000
#: An entry of 4 KiB in base64 and a proof of 64 levels have less than 10 KiB.
MAX_LINE_BYTES = 16 * 1024
MAX_SMALL_BYTES = 4 * 1024 * 1024
BLOCK_BYTES = 512
#: Names that every system keeps as they are, with nothing that climbs out, hides or needs quoting.
NAME = re.compile(r"(?=.{1,200}\Z)[A-Za-z0-9_][A-Za-z0-9._-]*(/[A-Za-z0-9_][A-Za-z0-9._-]*)*")

_BUFFER_BYTES = 1 << 18


class BundleError(ValueError):
    """The bundle is not one: unreadable, in another format, or made to confuse."""


class VerificationError(Exception):
    """The bundle does not hold.

    Attributes:
        index: the first bad entry, or the first that may be bad where only a range is known; None where the trouble is
            not with an entry.
    """

    def __init__(self, message: str, index: int | None = None) -> None:
        super().__init__(message)
        self.index = index


class Bundle(Protocol):
    """The files of a bundle by their names."""

    def names(self) -> list[str]:
        """Names of all files, sorted."""

    def open(self, name: str) -> BinaryIO:
        """Opens a file for reading; ``BundleError`` where there is none of this name."""


def open_bundle(path: Path) -> Bundle:
    """Opens a tar archive or a folder.

    Raises:
        BundleError: neither of them, or one that holds more than plain files.
        OSError: it cannot be read.
    """
    return _Folder(path) if path.is_dir() else _Tar(path)


def read_small(bundle: Bundle, name: str) -> bytes:
    """The whole content of a small file.

    Raises:
        BundleError: there is no such file, or it has more than 4 MiB.
    """
    with bundle.open(name) as source:
        data = source.read(MAX_SMALL_BYTES + 1)
    if len(data) > MAX_SMALL_BYTES:
        raise BundleError(f"{name} has more than {MAX_SMALL_BYTES} bytes")
    return data


def read_text(bundle: Bundle, name: str) -> str:
    """The whole content of a small text file.

    Raises:
        BundleError: there is no such file, it has more than 4 MiB, or it is not UTF-8.
    """
    try:
        return read_small(bundle, name).decode()
    except UnicodeDecodeError:
        raise BundleError(f"{name} is not text") from None


def read_lines(bundle: Bundle, name: str) -> Iterator[bytes]:
    """Goes through a file by its lines, without their newlines.

    Raises:
        BundleError: there is no such file, a line has more than 16 KiB, or the last one has no newline.
    """
    with bundle.open(name) as source:
        for number in count(1):
            line = source.readline(MAX_LINE_BYTES + 1)
            if not line:
                return
            if not line.endswith(b"\n"):
                raise BundleError(f"line {number} of {name} is cut, or longer than {MAX_LINE_BYTES} bytes")
            yield line[:-1]


class _Folder:
    """A folder and everything below it; links and special files are refused."""

    def __init__(self, root: Path) -> None:
        self._files: dict[str, Path] = {}
        waiting = [("", root)]
        seen = 0
        while waiting:
            prefix, folder = waiting.pop()
            with os.scandir(folder) as items:
                for item in items:
                    name = _checked_name(prefix + item.name, seen)
                    seen += 1
                    if item.is_dir(follow_symlinks=False):
                        waiting.append((name + "/", Path(item.path)))
                    elif item.is_file(follow_symlinks=False):
                        self._files[name] = Path(item.path)
                    else:
                        raise BundleError(f"{name} is neither a file nor a folder")

    def names(self) -> list[str]:
        return sorted(self._files)

    def open(self, name: str) -> BinaryIO:
        if name not in self._files:
            raise BundleError(f"the bundle has no {name}")
        # Not through a link that took the file's place since the folder was listed.
        descriptor = os.open(self._files[name], os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        source = os.fdopen(descriptor, "rb", buffering=_BUFFER_BYTES)
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            source.close()
            raise BundleError(f"{name} is not a file any more")
        return source


class _Tar:
    """A plain ustar archive in a regular file."""

    def __init__(self, path: Path) -> None:
        # A pipe or device in the place of the file would block or never end.
        if not path.is_file():
            raise BundleError("the bundle is neither a folder nor a regular file")
        self._path = path
        self._places: dict[str, tuple[int, int]] = {}
        with path.open("rb") as source:
            self._list(source, path.stat().st_size)

    def names(self) -> list[str]:
        return sorted(self._places)

    def open(self, name: str) -> BinaryIO:
        if name not in self._places:
            raise BundleError(f"the bundle has no {name}")
        offset, size = self._places[name]
        source = self._path.open("rb", buffering=0)
        source.seek(offset)
        return io.BufferedReader(_Part(source, size), _BUFFER_BYTES)

    def _list(self, source: BinaryIO, total_bytes: int) -> None:
        while header := source.read(BLOCK_BYTES):
            if header.startswith(b"\x1f\x8b") and not self._places:
                raise BundleError("the bundle is compressed; unpack it first, this verifier does not decompress")
            if not header.strip(b"\0"):
                _check_end(source)
                return
            name, size, is_folder = _parse_header(header)
            if not is_folder:
                if _checked_name(name, len(self._places)) in self._places:
                    raise BundleError(f"the bundle has {name} twice")
                self._places[name] = (source.tell(), size)
            following = source.tell() + -(-size // BLOCK_BYTES) * BLOCK_BYTES
            if following > total_bytes:
                break
            source.seek(following)
        raise BundleError("the archive is cut: it has no end")


class _Part(io.RawIOBase):
    """A range of a file of its own."""

    def __init__(self, source: io.FileIO, size: int) -> None:
        super().__init__()
        self._source = source
        self._left = size

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: "Buffer", /) -> int:
        view = memoryview(buffer).cast("B")
        size = self._source.readinto(view[: self._left])
        self._left -= size
        return size

    def close(self) -> None:
        self._source.close()
        super().close()


def _parse_header(header: bytes) -> tuple[str, int, bool]:
    """Name, size in bytes and whether it is a folder, of one archive header."""
    checksum = sum(header) - sum(header[148:156]) + 8 * 0x20
    if len(header) < BLOCK_BYTES or header[257:262] != b"ustar" or _octal(header[148:156]) != checksum:
        raise BundleError("not a plain tar archive, or a damaged one")
    kind = header[156:157]
    if kind not in (b"0", b"\0", b"5"):
        raise BundleError(f"the archive holds something else than files and folders (type {kind!a})")
    raw_name = header[:100].split(b"\0")[0]
    # Only the POSIX kind keeps the beginning of long names here; in GNU's these bytes are times.
    if header[257:263] == b"ustar\0" and (prefix := header[345:500].split(b"\0")[0]):
        raw_name = prefix + b"/" + raw_name
    # "tar cf bundle.tar ." writes such a beginning.
    name = raw_name.decode("ascii", "backslashreplace").removeprefix("./")
    return name, 0 if kind == b"5" else _octal(header[124:136]), kind == b"5"


def _octal(field: bytes) -> int:
    digits = field.strip(b" \0")
    if not re.fullmatch(rb"[0-7]{1,12}", digits):
        raise BundleError("a number in an archive header is malformed")
    return int(digits, 8)


def _check_end(source: BinaryIO) -> None:
    """Behind the first empty block there is another, and nothing but padding."""
    tail_bytes = 0
    while data := source.read(_BUFFER_BYTES):
        if data.strip(b"\0"):
            raise BundleError("the archive goes on behind its end")
        tail_bytes += len(data)
    if tail_bytes < BLOCK_BYTES:
        raise BundleError("the archive is cut within its end")


def _checked_name(name: str, count: int) -> str:
    if count >= MAX_MEMBERS:
        raise BundleError(f"the bundle has more than {MAX_MEMBERS} files")
    if not NAME.fullmatch(name):
        # Quoted, so that a name cannot write to the terminal of whoever reads this.
        raise BundleError(f"the bundle has a file with a name that is not allowed: {name[:80]!a}")
    return name
