"""The vault format on plain files: ``seal FILE [OUT]``, ``open FILE [OUT]``, ``info FILE``.

Guarantees that the key is read from standard input (one line of 64 hexadecimal digits) and never shown, and that the
output file appears complete and verified or not at all. It does not remove the input.

Example: ``python -m compliance.vault seal notes.jsonl --dataset d7 < key.hex``
"""

import argparse
import getpass
import json
import sys
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path

from compliance.vault.context import ObjectContext
from compliance.vault.errors import VaultError
from compliance.vault.files import open_file, seal_file
from compliance.vault.keys import KEY_BYTES
from compliance.vault.segments import HEADER_BYTES, SEGMENT_BYTES, plaintext_size

_SUFFIX = ".sealed"
#: A key line and its newline; nothing longer is read.
_MAX_KEY_LINE = 2 * KEY_BYTES + 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns 0, 1 where the object is at fault, or 2 where the question is."""
    parser = _parser()
    options = parser.parse_args(arguments)
    try:
        if options.command == "info":
            report = _info(options.file)
        elif options.command == "seal":
            report = _seal(options)
        else:
            report = _open(options)
    except VaultError as error:
        print(f"{options.file}: {error}", file=sys.stderr)
        return 1
    except (OSError, ValueError) as error:
        print(error, file=sys.stderr)
        return 2
    print(json.dumps(report))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="vault", description="Seals and opens single files. The key comes on stdin.")
    commands = parser.add_subparsers(dest="command", required=True)
    for command, purpose in (("seal", "seal a file"), ("open", "open a sealed file")):
        one = commands.add_parser(command, help=purpose)
        one.add_argument("file", type=Path, metavar="FILE")
        one.add_argument("out", type=Path, metavar="OUT", nargs="?", help=f"default: FILE with or without {_SUFFIX}")
        for field in fields(ObjectContext):
            one.add_argument(f"--{field.name}", default="", help="part of the place the object belongs to")
        if command == "open":
            one.add_argument("--commitment", type=bytes.fromhex, help="what sealing printed; checked first")
    info = commands.add_parser("info", help="what can be said without the key")
    info.add_argument("file", type=Path, metavar="FILE")
    return parser


def _seal(options: argparse.Namespace) -> dict[str, object]:
    out = options.out or options.file.with_name(options.file.name + _SUFFIX)
    context = _context(options)
    commitment = seal_file(options.file, out, _read_key(), context)
    return {"file": str(out), "commitment": commitment.hex(), "context": context.to_json()}


def _open(options: argparse.Namespace) -> dict[str, object]:
    out = options.out
    if out is None:
        if options.file.suffix != _SUFFIX:
            raise ValueError(f"{options.file} does not end in {_SUFFIX}: say what the opened file is to be called")
        out = options.file.with_suffix("")
    size = open_file(options.file, out, _read_key(), _context(options), options.commitment)
    return {"file": str(out), "bytes": size}


def _info(path: Path) -> dict[str, object]:
    sealed_bytes = path.stat().st_size
    size = plaintext_size(sealed_bytes)
    with path.open("rb") as source:
        if source.read(1) != bytes([HEADER_BYTES]):
            raise VaultError("not a vault object")
    return {
        "format": "AES256_GCM_HKDF_1MB",
        "sealed_bytes": sealed_bytes,
        "bytes": size,
        "segments": -(-sealed_bytes // SEGMENT_BYTES),
    }


def _context(options: argparse.Namespace) -> ObjectContext:
    return ObjectContext(**{field.name: getattr(options, field.name) for field in fields(ObjectContext)})


def _read_key() -> bytes:
    line = getpass.getpass("key (64 hexadecimal digits): ") if sys.stdin.isatty() else sys.stdin.readline(_MAX_KEY_LINE)
    try:
        key = bytes.fromhex(line.strip())
    except ValueError:
        # The parser's own message would show what was typed.
        key = b""
    if len(key) != KEY_BYTES:
        raise ValueError(f"standard input must give the key: one line of {2 * KEY_BYTES} hexadecimal digits")
    return key


if __name__ == "__main__":
    sys.exit(main())
