"""The offline verifier: does a bundle show what the ledger recorded, all of it and nothing else?

Guarantees, given a key that was handed over out of band, that every entry in the bundle was recorded at its index, that
the other files in it are those whose digest an entry records, and for a full export also that no entry is missing;
given a checkpoint that was kept outside, that nothing before it has been changed since. It does not say that what was
recorded is true, nor that everything that happened was recorded. Without a key it shows only that the bundle agrees
with itself.

It needs the standard library and ``cryptography``, reads a bundle in one pass and writes nothing. Memory grows only by
the identities of the events, about 100 bytes an entry.

Example: ``report = verify_bundle(Path("evidence.tar"), keys=[VerificationKey.parse(text)])``

Imports are relative because these files also run on their own, from inside an evidence bundle.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

from .checkpoint import Checkpoint, NoteError, VerificationKey, open_checkpoint
from .checksums import LEDGER_FOLDER, SUMS, compare_sums
from .members import Bundle, BundleError, VerificationError, open_bundle, read_text
from .merkle import CompactRange, ProofError, verify_consistency, verify_inclusion
from .rows import CHECKPOINTS, CONSISTENCY, ENTRIES, Row, read_consistency, read_notes, read_rows

CHECKPOINT = "ledger/checkpoint"
KEYS = "ledger/keys"

_LEDGER_FILES = {ENTRIES, CHECKPOINT, CHECKPOINTS, CONSISTENCY, KEYS}


@dataclass(slots=True)
class Report:
    """What a bundle was found to show.

    Attributes:
        kind: ``export`` (every entry) or ``evidence`` (some entries, each with its proof).
        origin: name of the ledger.
        entries: how many entries were verified.
        size: entries in the tree of the newest checkpoint.
        root: its root, 32 bytes.
        checkpoints: how many signed checkpoints were verified.
        keys: the keys that were used.
        is_trusted: whether these keys were given, not taken from the bundle.
        held: sizes of the held checkpoints that were found consistent.
        files: how many files fit their checksums; 0 where the bundle has none.
        contents: digest of all files outside ``ledger/``; None where there are none.
        bound_by: index of the entry that records this digest, so that these files are those of that time.
    """

    kind: str
    origin: str
    keys: tuple[VerificationKey, ...]
    is_trusted: bool
    size: int = 0
    root: bytes = b""
    entries: int = 0
    checkpoints: int = 0
    held: list[int] = field(default_factory=list)
    files: int = 0
    contents: str | None = None
    bound_by: int | None = None


def verify_bundle(path: Path, keys: Sequence[VerificationKey] = (), held: Sequence[str] = ()) -> Report:
    """Verifies a bundle.

    Args:
        path: a tar archive or a folder.
        keys: trusted keys; without any, those in the bundle are used and the report is not trusted.
        held: notes of checkpoints that were kept outside the house.

    Raises:
        VerificationError: it does not hold; names the first bad index where there is one.
        BundleError: it is not a bundle, or was made to confuse.
        OSError: it cannot be read.
    """
    bundle = open_bundle(path)
    names = set(bundle.names())
    if (CHECKPOINT in names) == (CHECKPOINTS in names):
        raise BundleError(f"the bundle must have either {CHECKPOINT} or {CHECKPOINTS}")
    strange = sorted(name for name in names - _LEDGER_FILES if name.startswith(LEDGER_FOLDER))
    if strange:
        # No entry records what lies in this folder, so nothing may lie there that is not verified here.
        raise BundleError(f"the bundle has a {strange[0]}, which is no part of a ledger")
    used = tuple(keys) or _embedded_keys(bundle)
    held_checkpoints = sorted((_open(note, used, "the held checkpoint") for note in held), key=lambda c: c.size)
    report = Report("evidence" if CHECKPOINT in names else "export", used[0].name, used, bool(keys))
    has_contents = any(not name.startswith(LEDGER_FOLDER) for name in names - {SUMS})
    changed: list[str] = []
    if SUMS in names or has_contents or report.kind == "evidence":
        report.files, contents, changed = compare_sums(bundle)
        report.contents = contents if has_contents else None
    # The ledger's own files say more precisely what is wrong with them than a checksum can, so they come first.
    if report.kind == "export":
        _verify_export(bundle, report, held_checkpoints)
    else:
        _verify_evidence(bundle, report, held_checkpoints)
    if changed:
        raise VerificationError(f"{changed[0]} was changed: it does not fit its checksum")
    # The checksums are not signed: without such an entry anybody could have exchanged files and checksums alike.
    if report.contents is not None and report.bound_by is None:
        raise VerificationError(
            f"no entry in the bundle records these files ({report.contents}): they were changed after they were "
            "recorded, or the entry that records them was left out"
        )
    return report


def _verify_export(bundle: Bundle, report: Report, held: list[Checkpoint]) -> None:
    """Rebuilds the tree and compares it with every checkpoint on the way."""
    tree = CompactRange()
    signed = _Anchors("signed", _signed_checkpoints(bundle, report.keys))
    kept = _Anchors("held", iter(held))
    events: set[bytes] = set()
    signed.check(tree)
    kept.check(tree)
    for row in _every_row(bundle):
        _check_event(row, events)
        _find_binding(report, row)
        tree.append(row.leaf)
        signed.check(tree)
        kept.check(tree)
    signed.check_end(tree)
    kept.check_end(tree)
    if signed.last is None or signed.last.size != tree.size:
        first = signed.last.size if signed.last else 0
        raise VerificationError(f"entry {first} and those behind it are under no signed checkpoint", first)
    report.origin, report.size, report.root = signed.last.origin, tree.size, tree.root()
    report.entries, report.checkpoints = tree.size, signed.count
    report.held = [checkpoint.size for checkpoint in held]


def _every_row(bundle: Bundle) -> Iterator[Row]:
    """Goes through the rows of a full export, none of which may be missing or unreadable."""
    rows = read_rows(bundle)
    for index in count():
        try:
            row = next(rows, None)
        except BundleError as error:
            raise VerificationError(f"entry {index} cannot be read: {error}", index) from None
        if row is None:
            return
        if row.index != index:
            raise VerificationError(f"entry {index} is missing: the bundle goes on with {row.index}", index)
        yield row


def _verify_evidence(bundle: Bundle, report: Report, held: list[Checkpoint]) -> None:
    """Checks the proof of each entry, and how the checkpoint continues the held ones."""
    note = read_text(bundle, CHECKPOINT)
    checkpoint = _open(note, report.keys, "the checkpoint")
    last = -1
    events: set[bytes] = set()
    for row in read_rows(bundle):
        if row.index <= last:
            raise VerificationError(f"entry {row.index} is repeated or out of order", row.index)
        if row.proof is None:
            raise VerificationError(f"entry {row.index} has no proof", row.index)
        try:
            verify_inclusion(row.leaf, row.index, checkpoint.size, row.proof, checkpoint.root)
        except ProofError as error:
            raise VerificationError(f"entry {row.index} is not in the signed ledger: {error}", row.index) from None
        _check_event(row, events)
        _find_binding(report, row)
        last = row.index
        report.entries += 1
    if not report.entries:
        raise VerificationError("the bundle proves nothing: it has no entries")
    report.origin, report.size, report.root = checkpoint.origin, checkpoint.size, checkpoint.root
    report.checkpoints = 1
    for old in held:
        _check_held(bundle, old, checkpoint)
        report.held.append(old.size)


class _Anchors:
    """Checkpoints in order of size, each compared when the tree has grown to it."""

    def __init__(self, what: str, checkpoints: Iterator[Checkpoint]) -> None:
        self._what = what
        self._waiting = checkpoints
        self._next = next(checkpoints, None)
        self.last: Checkpoint | None = None
        self.count = 0

    def check(self, tree: CompactRange) -> None:
        """Compares every checkpoint of the tree's present size."""
        while self._next is not None and self._next.size == tree.size:
            if self._next.root != tree.root():
                first = self.last.size if self.last else 0
                if first == self._next.size:
                    raise VerificationError(f"two {self._what} checkpoints of size {first} differ: a fork", first)
                raise VerificationError(
                    f"the entries from {first} to {self._next.size - 1} are not those that were recorded: they fit the "
                    f"{self._what} checkpoint of size {first}, but not that of size {self._next.size}",
                    first,
                )
            self.last, self._next = self._next, next(self._waiting, None)
            self.count += 1

    def check_end(self, tree: CompactRange) -> None:
        """Refuses a checkpoint that speaks of more entries than there are, or that came too late."""
        if self._next is None:
            return
        if self._next.size > tree.size:
            raise VerificationError(
                f"entry {tree.size} and those behind it are missing: the {self._what} checkpoint of size "
                f"{self._next.size} shows that they existed",
                tree.size,
            )
        raise VerificationError(f"the {self._what} checkpoint of size {self._next.size} comes after a larger one")


def _check_held(bundle: Bundle, old: Checkpoint, new: Checkpoint) -> None:
    """Checks that the bundle's checkpoint continues a held one."""
    if old.size > new.size:
        raise VerificationError(
            f"the held checkpoint (size {old.size}) is newer than the bundle's (size {new.size}): ask for a full "
            "export, which shows both"
        )
    proof = [] if old.size in (0, new.size) else read_consistency(bundle, old.size, new.size)
    if proof is None:
        raise VerificationError(
            f"the bundle has no consistency proof from the held checkpoint (size {old.size}) to its own (size "
            f"{new.size}): ask for one, or for a full export"
        )
    try:
        verify_consistency(old.size, old.root, new.size, new.root, proof)
    except ProofError as error:
        raise VerificationError(
            f"the checkpoint of size {new.size} does not continue the held one of size {old.size} ({error}): "
            "history was rewritten, or there are two ledgers under one name"
        ) from None


def _check_event(row: Row, events: set[bytes]) -> None:
    event = bytes.fromhex(row.body["event_id"].replace("-", ""))
    if event in events:
        raise VerificationError(f"entry {row.index} repeats an event that was recorded before", row.index)
    events.add(event)


def _find_binding(report: Report, row: Row) -> None:
    """Notes the newest entry among whose facts, or as whose result, the digest of the bundle's files stands."""
    facts = row.body.get("facts")
    values = [*facts.values(), row.body.get("after")] if isinstance(facts, dict) else [row.body.get("after")]
    if report.contents is not None and report.contents in values:
        report.bound_by = row.index


def _signed_checkpoints(bundle: Bundle, keys: Sequence[VerificationKey]) -> Iterator[Checkpoint]:
    origin: str | None = None
    for where, note in read_notes(bundle):
        checkpoint = _open(note, keys, where)
        if checkpoint.origin != (origin or checkpoint.origin):
            raise VerificationError(f"{where} is of another ledger than the lines before it")
        origin = checkpoint.origin
        yield checkpoint


def _open(note: str, keys: Sequence[VerificationKey], what: str) -> Checkpoint:
    try:
        return open_checkpoint(note, keys)
    except NoteError as error:
        raise VerificationError(f"{what} does not hold: {error}") from None


def _embedded_keys(bundle: Bundle) -> tuple[VerificationKey, ...]:
    lines = read_text(bundle, KEYS).splitlines()
    try:
        keys = tuple(VerificationKey.parse(line) for line in lines if line)
    except NoteError as error:
        raise BundleError(f"{KEYS}: {error}") from None
    if not keys:
        raise BundleError(f"{KEYS} is empty; give the key with --key")
    return keys
