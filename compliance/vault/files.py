"""Whole files in and out of the vault format, and files that appear complete or not at all.

Guarantees that a target file exists only after everything in it was verified and is on disk, and that a file which
stood there before stays until then. Where the system offers nameless files (Linux), even a killed process leaves
nothing behind. It does not overwrite the blocks of a file that was replaced.

Example: ``row.commitment = seal_file(Path("a.jsonl"), Path("a.sealed"), key, context)``
"""

import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from compliance.vault.context import ObjectContext
from compliance.vault.stream import open_reader, seal_writer

_COPY_BYTES = 1 << 20


@contextmanager
def atomic_output(path: Path) -> Iterator[BinaryIO]:
    """A file for writing, readable by its owner only, that gets its name when the block ends without an exception.

    Raises:
        OSError: the folder is missing, full or not ours to write to.
    """
    staged = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        descriptor, is_nameless = _open_staged(staged)
        with os.fdopen(descriptor, "wb") as sink:
            yield sink
            sink.flush()
            os.fsync(descriptor)
            if is_nameless:
                # Given a folder, the call follows the link in /proc to the file; without one it would not.
                os.link(f"/proc/self/fd/{descriptor}", staged.name, dst_dir_fd=folder, follow_symlinks=True)
        os.replace(staged, path)
        os.fsync(folder)
    finally:
        # After a success the name is gone already.
        staged.unlink(missing_ok=True)
        os.close(folder)


def seal_file(source: Path, target: Path, key: bytes, context: ObjectContext) -> bytes:
    """Seals a file into another one.

    Returns:
        The commitment, 32 bytes, to keep where the object is listed.

    Raises:
        OSError: a file cannot be read or written.
        ValueError: the key does not have 32 bytes.
    """
    with source.open("rb") as plain, atomic_output(target) as sink, seal_writer(sink, key, context) as writer:
        shutil.copyfileobj(plain, writer, _COPY_BYTES)
    return writer.commitment


def open_file(source: Path, target: Path, key: bytes, context: ObjectContext, commitment: bytes | None = None) -> int:
    """Opens a sealed file into another one, which appears only after the end of the object was verified.

    Returns:
        Length of the content in bytes.

    Raises:
        VaultError: as from ``open_reader`` and from reading it; the target is then as it was before.
        OSError: a file cannot be read or written.
    """
    with (
        source.open("rb") as sealed,
        open_reader(sealed, key, context, commitment) as reader,
        atomic_output(target) as sink,
    ):
        shutil.copyfileobj(reader, sink, _COPY_BYTES)
        return sink.tell()


def _open_staged(staged: Path) -> tuple[int, bool]:
    """Opens a file without a name where that works, else one with a hidden name; tells which."""
    if hasattr(os, "O_TMPFILE") and os.path.isdir("/proc/self/fd"):
        # File systems without O_TMPFILE (some network ones) answer EOPNOTSUPP; any other trouble shows again below.
        with suppress(OSError):
            return os.open(staged.parent, os.O_TMPFILE | os.O_WRONLY, 0o600), True
    return os.open(staged, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), False
