"""``SHA256SUMS`` of a bundle, and the one digest of its files that an entry records.

Guarantees that every file of the bundle was compared, and that two different sets of files have different digests. It
does not say who wrote the checksums: only an entry of the signed ledger that records the digest does.

Example: ``files, digest, changed = compare_sums(bundle)``
"""

import hashlib
import re
from collections.abc import Mapping

from .members import Bundle, BundleError, VerificationError, read_text

SUMS = "SHA256SUMS"
#: Files under here change with every sealing, so they stay out of the digest that an entry can carry.
LEDGER_FOLDER = "ledger/"

_SUM_LINE = re.compile(r"([0-9a-f]{64})  (\S+)")
_READ_BYTES = 1 << 18


def contents_digest(sums: Mapping[str, str]) -> str:
    """Digest of all files outside ``ledger/``, from their SHA-256 in hexadecimal, for an entry to carry."""
    return "sha256:" + hashlib.sha256(sums_text(sums, but=LEDGER_FOLDER).encode()).hexdigest()


def sums_text(sums: Mapping[str, str], but: str | None = None) -> str:
    """The lines of ``SHA256SUMS``, sorted by name, leaving out the folder ``but``."""
    return "".join(f"{sums[name]}  {name}\n" for name in sorted(sums) if but is None or not name.startswith(but))


def compare_sums(bundle: Bundle) -> tuple[int, str, list[str]]:
    """Compares every file with its checksum.

    Returns:
        How many files there are, the digest of those outside ``ledger/``, and the names of those that were changed.

    Raises:
        VerificationError: a file is missing, or is not listed.
        BundleError: there are no checksums, or they are malformed.
    """
    sums: dict[str, str] = {}
    for line in read_text(bundle, SUMS).splitlines():
        match = _SUM_LINE.fullmatch(line)
        if match is None or match[2] in sums:
            raise BundleError(f"{SUMS} has a malformed or repeated line")
        sums[match[2]] = match[1]
    names = {name for name in bundle.names() if name != SUMS}
    for name in sorted(names ^ set(sums)):
        trouble = "is not listed in" if name in names else "is missing though listed in"
        raise VerificationError(f"{name[:200]!a} {trouble} {SUMS}")
    changed = [name for name in sorted(names) if _sha256(bundle, name) != sums[name]]
    return len(names), contents_digest(sums), changed


def _sha256(bundle: Bundle, name: str) -> str:
    digest = hashlib.sha256()
    with bundle.open(name) as source:
        while data := source.read(_READ_BYTES):
            digest.update(data)
    return digest.hexdigest()
