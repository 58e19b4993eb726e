"""An archive of a model, unpacked without trust: tar, tar.gz or zip, as a stream, into a fresh folder.

Guarantees: nothing is written outside the folder, and nothing but plain files (no links, devices, folders in folders);
names are plain, one folder around all of them apart; headers, number of files, bytes written, and how much more comes
out than went in are bounded, by what arrives and not by what is declared; memory stays flat. What fails leaves nothing.
Does not: judge the files; ``trainers.model_folder`` does. zstd is not read: Python 3.11 brings no reader of it.

Example:
    >>> unpack(Path("model.tar.gz"), Path("staging"), max_bytes=20 << 30)
    ['config.json', 'model.safetensors', …]
"""

from __future__ import annotations

import gzip
import shutil
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO, Any

from trainers.bounds import bounded
from trainers.errors import TrainerError

MAX_FILES = 2000
MAX_NAME_CHARS = 200
#: Of a header that holds a long name or extended facts; tarfile reads these into memory whole.
MAX_META_BYTES = 1 << 20
#: Weights hardly shrink; what grows more than this many times was made to fill a disk.
MAX_GROWTH, FREE_GROWTH_BYTES = 50, 64 << 20
#: For the list of files at the end of a zip, which zipfile reads and keeps whole, however long it is.
MAX_LIST_BYTES, MAX_LIST_SECONDS = 128 << 20, 60.0
CHUNK_BYTES = 1 << 20


def kind_of(path: Path) -> str:
    """``tar``, ``tar.gz``, ``zip`` or ``zstd`` by content; '' for no archive."""
    with path.open("rb") as source:
        head = source.read(512)
    if head[:2] == b"\x1f\x8b":
        return "tar.gz"
    if head[:4] == b"PK\x03\x04":
        return "zip"
    if head[:4] == b"\x28\xb5\x2f\xfd":
        return "zstd"
    return "tar" if head[257:262] == b"ustar" else ""


def unpack(path: Path, target: Path, max_bytes: int) -> list[str]:
    """Unpacks into ``target``, which is made and must not be there yet; returns the names.

    Args:
        path: of the archive.
        target: a folder.
        max_bytes: of all files together.

    Raises:
        TrainerError: ``model.archive``: no archive that is read here, damaged, or one that breaks a rule above.
    """
    kind = kind_of(path)
    members = {"tar": _tar_members, "tar.gz": _tar_members, "zip": _zip_members}.get(kind)
    if members is None:
        named = "zstd is not read here" if kind == "zstd" else "not a tar, tar.gz or zip archive"
        raise _refusal(named)
    target.mkdir(mode=0o700)
    try:
        with _explained():
            return _written(members(path), target, max_bytes, path.stat().st_size)
    except BaseException:
        shutil.rmtree(target, ignore_errors=True)
        raise


def _refusal(problem: str) -> TrainerError:
    return TrainerError("model.archive", f"the archive: {problem}", "pack the model's own files, plainly, again")


@contextmanager
def _explained() -> Iterator[None]:
    try:
        yield
    except (tarfile.TarError, zipfile.BadZipFile, gzip.BadGzipFile, zlib.error, EOFError, NotImplementedError) as fault:
        raise _refusal(f"damaged or of a kind that is not read ({type(fault).__name__})") from None
    except (ValueError, OverflowError, RuntimeError) as fault:
        raise _refusal(f"its headers do not make sense ({type(fault).__name__})") from None


def _written(members: Iterator[tuple[str, int, IO[bytes]]], target: Path, max_bytes: int, packed: int) -> list[str]:
    names: list[str] = []
    around: str | None = None
    total = 0
    most = min(max_bytes, max(packed * MAX_GROWTH, FREE_GROWTH_BYTES))
    for name, declared, source in members:
        folder, plain = _plain(name)
        if names and folder != around:
            raise _refusal("its files lie in several folders")
        around = folder
        if plain in names:
            raise _refusal("a name appears twice")
        if len(names) >= MAX_FILES:
            raise _refusal(f"more than {MAX_FILES} files")
        if total + declared > most:
            raise _refusal(f"more than {most} bytes, or far more than went in")
        names.append(plain)
        size = 0
        with (target / plain).open("xb") as sink:
            while chunk := source.read(CHUNK_BYTES):
                size += len(chunk)
                total += len(chunk)
                if size > declared or total > most:
                    raise _refusal("a file is longer than its header says")
                sink.write(chunk)
        if size != declared:
            raise _refusal("a file is shorter than its header says")
    if not names:
        raise _refusal("no file in it")
    return names


def _plain(name: str) -> tuple[str, str]:
    """The folder around a file ('' for none) and its plain name."""
    path = PurePosixPath(name)
    parts = [part for part in path.parts if part != "."]
    is_odd = path.is_absolute() or ".." in parts or "\\" in name or "\0" in name or not name.isprintable()
    if is_odd or not 1 <= len(parts) <= 2 or len(name) > MAX_NAME_CHARS or ":" in name:
        raise _refusal("a name that leaves the folder, or is no plain one")
    return ("/".join(parts[:-1]), parts[-1])


class _Info(tarfile.TarInfo):
    """A header whose extended parts are bounded before they are read into memory."""

    def _proc_member(self, archive: tarfile.TarFile) -> Any:
        if self.type in (tarfile.GNUTYPE_SPARSE,):
            raise _refusal("sparse files")
        is_plain = self.type in (tarfile.REGTYPE, tarfile.AREGTYPE)
        if not is_plain and not 0 <= self.size <= MAX_META_BYTES:
            raise _refusal("a header of unreasonable length")
        return super()._proc_member(archive)  # type: ignore[misc]


def _tar_members(path: Path) -> Iterator[tuple[str, int, IO[bytes]]]:
    with tarfile.open(path, mode="r|*", tarinfo=_Info) as archive:
        met = 0
        for member in archive:
            met += 1
            if met > 2 * MAX_FILES:
                raise _refusal("too many entries")
            archive.members = []  # type: ignore[attr-defined]  # or it remembers every header
            if member.isdir():
                continue
            if not member.isreg() or member.issparse():
                raise _refusal("a link, a device or a sparse file")
            source = archive.extractfile(member)
            assert source is not None
            yield member.name, member.size, source


def _zip_members(path: Path) -> Iterator[tuple[str, int, IO[bytes]]]:
    try:
        with bounded(seconds=MAX_LIST_SECONDS, more_bytes=MAX_LIST_BYTES):
            archive = zipfile.ZipFile(path)
    except (MemoryError, TimeoutError):
        raise _refusal("a list of files of unreasonable length") from None
    with archive:
        if len(archive.infolist()) > 2 * MAX_FILES:
            raise _refusal("too many entries")
        for info in archive.infolist():
            if info.is_dir():
                continue
            if info.external_attr >> 28 not in (0, 0o10):
                raise _refusal("a link or a device")
            if info.flag_bits & 1:
                raise _refusal("an encrypted file")
            with archive.open(info) as source:
                yield info.orig_filename, info.file_size, source
