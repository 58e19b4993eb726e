"""The offline verifier on the command line: ``verify BUNDLE [--key VKEY] [--checkpoint OLD]``.

Guarantees exit 0 only if everything that was asked for holds; 1 with the first bad index and the reason if it does not;
2 if the question was wrong. What it does and does not show: see ``verify``.

Example: ``python -m compliance.ledger verify evidence.tar --key "$(cat key-from-the-contract.txt)"``
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from .checkpoint import MAX_NOTE_BYTES, NoteError, VerificationKey
from .members import BundleError, VerificationError
from .verify import Report, verify_bundle


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit status."""
    parser = argparse.ArgumentParser(
        prog="ledger", description="Verifies ledger exports and evidence bundles, offline."
    )
    commands = parser.add_subparsers(required=True)
    verify = commands.add_parser("verify", help="verify a bundle (a tar file or a folder)")
    verify.add_argument("bundle", type=Path, metavar="BUNDLE")
    verify.add_argument(
        "--key",
        action="append",
        default=[],
        type=_key,
        metavar="VKEY",
        help="a trusted key, name+id+base64, from the contract or a printed sheet; may be repeated after a key change",
    )
    verify.add_argument(
        "--checkpoint",
        action="append",
        default=[],
        type=_note,
        metavar="OLD",
        help="a file with a checkpoint that was kept outside the house; may be repeated",
    )
    options = parser.parse_args(arguments)
    try:
        report = verify_bundle(options.bundle, options.key, options.checkpoint)
    except (VerificationError, BundleError) as error:
        print(f"NOT VERIFIED: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"cannot read the bundle: {error.strerror}", file=sys.stderr)
        return 2
    for name, value in _summary(report):
        print(f"{name:<12} {value}")
    return 0


def _summary(report: Report) -> list[tuple[str, str]]:
    kind = "full export, every entry" if report.kind == "export" else "evidence, each entry with its proof"
    lines = [
        ("bundle", kind),
        ("ledger", report.origin),
        ("entries", f"{report.entries} verified"),
        ("tree size", str(report.size)),
        ("root", report.root.hex()),
        ("checkpoints", f"{report.checkpoints} signed, all consistent"),
    ]
    lines += [("held", f"continues the checkpoint of size {size}") for size in report.held]
    if report.files:
        lines.append(("files", f"{report.files} fit their checksums"))
    if report.bound_by is not None:
        lines.append(("", f"entry {report.bound_by} records them: they have not been changed since"))
    lines += [("key", str(key)) for key in report.keys]
    if report.is_trusted:
        lines.append(("result", "VERIFIED under the key that you gave"))
    else:
        lines.append(("WARNING", "the key came out of the bundle itself; whoever made the bundle may have chosen it."))
        lines.append(("", "TRUST IS NOT ESTABLISHED. Repeat with --key and a key that you were handed another way."))
        lines.append(("result", "consistent with itself"))
    return lines


def _key(text: str) -> VerificationKey:
    try:
        return VerificationKey.parse(text)
    except NoteError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _note(path: str) -> str:
    try:
        with Path(path).open("rb") as source:
            return source.read(MAX_NOTE_BYTES + 1).decode()
    except (OSError, UnicodeDecodeError):
        raise argparse.ArgumentTypeError("the checkpoint file cannot be read as text") from None


if __name__ == "__main__":
    sys.exit(main())
