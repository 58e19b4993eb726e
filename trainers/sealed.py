"""What a run leaves behind, sealed.

Guarantees: bytes go from memory into a vault object; the file appears complete or not at all; no plaintext and no
temporary plaintext is ever on disk. Does not: keep older versions.

Example:
    >>> written = write_sealed(out / "adapter.sealed", archive, keys.output_key, context)
    >>> read_sealed(out / "adapter.sealed", keys.output_key, context) == archive
    True
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from compliance.vault import ObjectContext, OpenReader, VaultError, atomic_output, open_reader, seal_writer
from trainers.errors import TrainerError

ADAPTER_FILE = "adapter.sealed"
CHECKPOINT_FILE = "checkpoint.sealed"
PREDICTIONS_FILE = "predictions.sealed"


@dataclass(frozen=True)
class Written:
    """Digest of the file, commitment to its key in hexadecimal, and its length."""

    sealed_digest: str
    commitment: str
    bytes: int


def write_sealed(
    path: Path, content: bytes | Iterable[bytes | memoryview], key: bytes, context: ObjectContext
) -> Written:
    """Seals ``content``, whole or in pieces, into ``path``, replacing what was there.

    Raises:
        TrainerError: ``output.unusable``, when the folder cannot be written or is full.
    """
    try:
        with atomic_output(path) as sink, seal_writer(sink, key, context) as writer:
            for piece in [content] if isinstance(content, bytes) else content:
                writer.write(piece)
        with path.open("rb") as sealed:
            digest = hashlib.file_digest(sealed, "sha256").hexdigest()
        return Written(f"sha256:{digest}", writer.commitment.hex(), path.stat().st_size)
    except OSError as fault:
        raise TrainerError(
            "output.unusable", f"{path}: {fault.strerror}", "free space or give another folder, then run again"
        ) from None


def read_sealed(path: Path, key: bytes, context: ObjectContext) -> bytes:
    """The content of an object, verified to its end.

    Raises:
        TrainerError: as ``opened_sealed``.
    """
    with opened_sealed(path, key, context) as reader:
        return reader.readall()


@contextmanager
def opened_sealed(path: Path, key: bytes, context: ObjectContext) -> Iterator[OpenReader]:
    """An object to be read in pieces; verified to its end only where it is read to its end.

    Raises:
        TrainerError: ``output.unreadable``, when key, context or bytes are not those it was sealed with.
    """
    try:
        with path.open("rb") as source, open_reader(source, key, context) as reader:
            yield reader
    except VaultError as fault:
        raise TrainerError(
            "output.unreadable",
            f"{path.name} does not open ({type(fault).__name__})",
            "give the output key and the output context it was made with, or remove the file to start anew",
        ) from None
    except OSError as fault:
        raise TrainerError("output.unreadable", f"{path}: {fault.strerror}", "run the training first") from None
