"""Writing bundles: full exports, evidence, and the verifier that travels with it.

Guarantees that the same files give the same archive, byte for byte, and that each is listed in ``SHA256SUMS``. It does
not verify what it writes; ``verify`` does.

Layout: ``SHA256SUMS``, ``ledger/entries.jsonl`` (a line each: index, body in base64, leaf hash, columns, proof),
``ledger/checkpoints.jsonl`` (export: every note) or ``ledger/checkpoint`` (evidence: one note),
``ledger/consistency.jsonl`` (evidence, optional), ``ledger/keys``; beside these, any other files.

Example::

    files = {"model-card.md": card, **verifier_source()}
    digest = contents_digest_of(files)       # record this in the ledger, let it be sealed, then
    write_bundle(path, files | evidence_ledger(entries, note, keys))
"""

import base64
import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from compliance.ledger.checkpoint import VerificationKey
from compliance.ledger.checksums import SUMS, contents_digest, sums_text
from compliance.ledger.members import BLOCK_BYTES, NAME
from compliance.ledger.rows import CHECKPOINTS, CONSISTENCY, ENTRIES
from compliance.ledger.verify import CHECKPOINT, KEYS
from compliance.vault.files import atomic_output

_VERIFIER_FILES = ("__init__", "__main__", "checkpoint", "checksums", "members", "merkle", "rows", "verify")
_VERIFIER_START = '''"""Verifies a bundle: python verify.py BUNDLE [--key VKEY] [--checkpoint OLD]."""

import sys
from pathlib import Path

# The verifier leaves the folder it checks as it is.
sys.dont_write_bytecode = True
sys.path.insert(0, str(Path(__file__).resolve().parent))

from ledger_verifier.__main__ import main

if __name__ == "__main__":
    sys.exit(main(["verify", *sys.argv[1:]]))
'''
_COPY_BYTES = 1 << 20
#: The largest size that fits the eleven octal digits of a header. Source: POSIX.1-2017 pax, "ustar Interchange Format".
_MAX_MEMBER_BYTES = 8**11 - 1


@dataclass(frozen=True, slots=True)
class ExportedEntry:
    """An entry as it lies in the ledger.

    Attributes:
        index: position, from 0.
        body: canonical JSON.
        leaf_hash: RFC 6962 leaf hash as stored, 32 bytes (what was stored, so that the verifier can compare).
        proof: inclusion proof against the bundle's checkpoint; only in evidence.
        filed: fields of the body that the ledger also keeps in columns, as they stand there, to be compared.
    """

    index: int
    body: bytes
    leaf_hash: bytes
    proof: Sequence[bytes] | None = None
    filed: Mapping[str, str | None] = field(default_factory=dict)

    def line(self) -> bytes:
        """The entry as one line of ``ledger/entries.jsonl``."""
        row: dict[str, object] = {
            "index": self.index,
            "body": base64.b64encode(self.body).decode(),
            "leaf_hash": self.leaf_hash.hex(),
        }
        if self.filed:
            row["filed"] = dict(self.filed)
        if self.proof is not None:
            row["proof"] = [value.hex() for value in self.proof]
        return _line(row)


@dataclass(frozen=True, slots=True)
class ConsistencyProof:
    """A proof that an older, kept checkpoint is continued by the one in the bundle."""

    old_size: int
    new_size: int
    proof: Sequence[bytes]


class TarWriter:
    """A deterministic ustar archive: fixed owner, mode and time, files in the order they come.

    Args of the constructor: a seekable sink, written from its current position.
    """

    def __init__(self, sink: BinaryIO) -> None:
        self._sink = sink
        self.sums: dict[str, str] = {}

    def add(self, name: str, data: bytes | Path) -> None:
        """Adds a file from memory or from disk.

        Raises:
            ValueError: the name is not allowed or there already, or the file has 8 GiB or more.
        """
        with self.member(name) as member:
            if isinstance(data, bytes):
                member.write(data)
            else:
                with data.open("rb") as source:
                    while part := source.read(_COPY_BYTES):
                        member.write(part)

    @contextmanager
    def member(self, name: str) -> Iterator["TarMember"]:
        """Adds a file whose length shows only when it has been written.

        Raises: as ``add``.
        """
        if not NAME.fullmatch(name) or len(name) > 100 or name in self.sums:
            raise ValueError("the name of a file in a bundle is not allowed, or there already")
        start = self._sink.tell()
        self._sink.write(bytes(BLOCK_BYTES))
        member = TarMember(self._sink)
        yield member
        self._sink.write(bytes(-member.size_bytes % BLOCK_BYTES))
        end = self._sink.tell()
        self._sink.seek(start)
        self._sink.write(_header(name, member.size_bytes))
        self._sink.seek(end)
        self.sums[name] = member.digest.hexdigest()

    def finish(self) -> None:
        """Adds ``SHA256SUMS`` over all files and ends the archive; the sink stays open."""
        self.add(SUMS, sums_text(self.sums).encode())
        self._sink.write(bytes(2 * BLOCK_BYTES))


class TarMember:
    """A file that is being written into an archive."""

    def __init__(self, sink: BinaryIO) -> None:
        self._sink = sink
        self.size_bytes = 0
        self.digest = hashlib.sha256()

    def write(self, data: bytes) -> None:
        """Appends to the file."""
        self._sink.write(data)
        self.digest.update(data)
        self.size_bytes += len(data)


def write_ledger(
    path: Path, *, entries: Iterable[ExportedEntry], checkpoints: Iterable[str], keys: Iterable[VerificationKey]
) -> None:
    """Writes a full export, streaming; the file appears when it is complete.

    Args:
        path: the archive to write.
        entries: all of them, from index 0, up to the size of the newest checkpoint.
        checkpoints: every signed note, oldest first.
        keys: the keys these were signed with.

    Raises:
        OSError: the file cannot be written.
    """
    with atomic_output(path) as sink:
        tar = TarWriter(sink)
        with tar.member(ENTRIES) as member:
            for entry in entries:
                member.write(entry.line())
        with tar.member(CHECKPOINTS) as member:
            for note in checkpoints:
                member.write(_line({"note": note}))
        tar.add(KEYS, _key_lines(keys))
        tar.finish()


def evidence_ledger(
    entries: Iterable[ExportedEntry],
    note: str,
    keys: Iterable[VerificationKey],
    consistency: Iterable[ConsistencyProof] = (),
) -> dict[str, bytes]:
    """The files under ``ledger/`` of an evidence bundle, by name.

    Args:
        entries: those that matter, in order of their index, each with its proof against the checkpoint in ``note``.
        note: the signed checkpoint.
        keys: the keys it was signed with.
        consistency: proofs from checkpoints that others keep.

    Raises:
        ValueError: an entry has no proof.
    """
    lines = []
    for entry in entries:
        if entry.proof is None:
            raise ValueError(f"entry {entry.index} has no proof")
        lines.append(entry.line())
    files = {ENTRIES: b"".join(lines), CHECKPOINT: note.encode(), KEYS: _key_lines(keys)}
    proofs = [
        _line({"old_size": c.old_size, "new_size": c.new_size, "proof": [value.hex() for value in c.proof]})
        for c in consistency
    ]
    return {**files, CONSISTENCY: b"".join(proofs)} if proofs else files


def write_bundle(path: Path, files: Mapping[str, bytes | Path]) -> None:
    """Writes files as a deterministic archive, sorted by name, with ``SHA256SUMS`` at its end.

    Args:
        path: the archive to write; it appears when it is complete.
        files: content or path on disk, by name.

    Raises:
        ValueError: a name is not allowed (letters, digits, ``._-`` and ``/``, at most 100).
        OSError: a file cannot be read or written.
    """
    with atomic_output(path) as sink:
        tar = TarWriter(sink)
        for name in sorted(files):
            tar.add(name, files[name])
        tar.finish()


def contents_digest_of(files: Mapping[str, bytes | Path]) -> str:
    """Digest of all files outside ``ledger/``, to be recorded before the bundle is written.

    An entry with it as its ``after`` (or among its facts) binds these files to the signed ledger; that entry must be in
    the bundle, or it will not verify.
    """
    return contents_digest({name: _file_sha256(data) for name, data in files.items()})


def verifier_source() -> dict[str, bytes]:
    """The offline verifier as files for a bundle: ``verifier/verify.py`` and the package beside it.

    It runs with Python 3.11 and ``cryptography``: ``python verifier/verify.py BUNDLE``.
    """
    here = Path(__file__).parent
    files = {f"verifier/ledger_verifier/{name}.py": (here / f"{name}.py").read_bytes() for name in _VERIFIER_FILES}
    return {**files, "verifier/verify.py": _VERIFIER_START.encode()}


def _file_sha256(data: bytes | Path) -> str:
    if isinstance(data, bytes):
        return hashlib.sha256(data).hexdigest()
    with data.open("rb") as source:
        return hashlib.file_digest(source, "sha256").hexdigest()


def _key_lines(keys: Iterable[VerificationKey]) -> bytes:
    return "".join(f"{key}\n" for key in keys).encode()


def _line(row: Mapping[str, object]) -> bytes:
    return json.dumps(row, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"


def _header(name: str, size_bytes: int) -> bytes:
    """A ustar header. Source: POSIX.1-2017 pax, "ustar Interchange Format"."""
    if size_bytes > _MAX_MEMBER_BYTES:
        raise ValueError(f"{name} has 8 GiB or more, which the archive format cannot say")
    fields = [
        name.encode().ljust(100, b"\0"),
        b"0000644\0",
        b"0000000\0" * 2,
        b"%011o\0" % size_bytes,
        b"00000000000\0",
        b" " * 8,
        b"0".ljust(101, b"\0"),
        b"ustar\x0000",
    ]
    header = bytearray(b"".join(fields).ljust(BLOCK_BYTES, b"\0"))
    header[148:156] = b"%06o\0 " % sum(header)
    return bytes(header)
