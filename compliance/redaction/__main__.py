"""Command line: ``python -m compliance.redaction detect|apply --profile P IN.jsonl OUT.jsonl``, or ``screen IN OUT``.

Guarantees: OUT appears complete or not at all; a malformed line stops the run and is named by its number; no text on
stderr.
Does not: keep surrogates equal between two runs of ``apply`` unless ``--key-file`` names the same key.

Example::

    python -m compliance.redaction detect --profile healthcare notes.jsonl found.jsonl
"""

from __future__ import annotations

import argparse
import json
import os
import secrets
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TextIO

from compliance.redaction.detector import Detector
from compliance.redaction.errors import RedactionError
from compliance.redaction.privilege import THRESHOLD, screen
from compliance.redaction.profile import Profile, load_profile
from compliance.redaction.redactor import privileged_passages, redact


class _BadLine(Exception):
    pass


def main(arguments: list[str] | None = None) -> int:
    """Run the command; 0 on success, 1 on bad input or a refused document, 2 on wrong usage."""
    args = _parser().parse_args(arguments)
    try:
        _convert(Path(args.source), Path(args.target), _worker(args))
    except (RedactionError, _BadLine) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8"
        print(f"error: cannot read or write: {reason}", file=sys.stderr)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m compliance.redaction", description="Find or replace identifiers in JSON lines."
    )
    commands = parser.add_subparsers(dest="command", required=True)
    for name, text in (("detect", "write the spans of each document"), ("apply", "write each document redacted")):
        command = commands.add_parser(name, help=text)
        command.add_argument("--profile", required=True, help="healthcare, finance, legal, or the path of a profile")
        command.add_argument("source", metavar="IN.jsonl", help='lines of {"id", "text"}')
        command.add_argument("target", metavar="OUT.jsonl")
        command.add_argument(
            "--key-file", help="file with at least 32 hex digits; without it a new key is made and forgotten"
        )
    command = commands.add_parser("screen", help="write the likely privileged passages of each document")
    command.add_argument("--threshold", type=float, default=THRESHOLD, help=f"least score, default {THRESHOLD}")
    command.add_argument("source", metavar="IN.jsonl", help='lines of {"id", "text"}')
    command.add_argument("target", metavar="OUT.jsonl")
    return parser


def _worker(args: argparse.Namespace) -> Callable[[dict[str, Any]], dict[str, Any]]:
    if args.command == "screen":
        return lambda row: {"id": row["id"], "passages": [p.to_json() for p in screen(row["text"], args.threshold)]}
    profile = load_profile(args.profile)
    return _detecting(profile) if args.command == "detect" else _applying(profile, _key(args.key_file))


def _key(path: str | None) -> bytes:
    if path is None:
        return secrets.token_bytes(32)
    try:
        key = bytes.fromhex(Path(path).read_text(encoding="ascii").strip())
    except ValueError as error:
        raise RedactionError("the key file must hold hex digits") from error
    if len(key) < 16:
        raise RedactionError("the key file must hold at least 32 hex digits")
    return key


def _detecting(profile: Profile) -> Callable[[dict[str, Any]], dict[str, Any]]:
    detector = Detector(profile)
    return lambda row: {"id": row["id"], "spans": [f.to_json() for f in detector.detect(row["text"])]}


def _applying(profile: Profile, key: bytes) -> Callable[[dict[str, Any]], dict[str, Any]]:
    detector = Detector(profile)

    def apply(row: dict[str, Any]) -> dict[str, Any]:
        subject = row.get("subject")
        made = redact(
            row["text"],
            detector.detect(row["text"]),
            profile=profile,
            key=key,
            subject=None if subject is None else str(subject),
        )
        result = {"id": row["id"], "text": made.text, "findings": [f.to_json() for f in made.findings]}
        if passages := privileged_passages(row["text"], profile):
            result["privileged"] = [p.to_json() for p in passages]
        return result

    return apply


def _convert(source: Path, target: Path, worker: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    docs = chars = 0
    began = time.perf_counter()
    descriptor, partial = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    try:
        with source.open(encoding="utf-8") as lines, os.fdopen(descriptor, "w", encoding="utf-8") as out:
            for number, row in _rows(lines):
                try:
                    result = worker(row)
                except RedactionError as error:
                    raise RedactionError(f"line {number}: {error}") from None
                out.write(json.dumps(result, ensure_ascii=False) + "\n")
                docs += 1
                chars += len(row["text"])
            out.flush()
            os.fsync(out.fileno())
        os.replace(partial, target)
    except BaseException:
        Path(partial).unlink(missing_ok=True)
        raise
    seconds = max(time.perf_counter() - began, 1e-9)
    print(f"{docs} docs, {docs / seconds:.1f} docs/s, {chars / 1000 / seconds:.1f} kchars/s", file=sys.stderr)


def _rows(lines: TextIO) -> Iterator[tuple[int, dict[str, Any]]]:
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (json.JSONDecodeError, RecursionError):
            raise _BadLine(f"line {number}: not JSON") from None
        if not isinstance(row, dict) or not isinstance(row.get("text"), str) or "id" not in row:
            raise _BadLine(f'line {number}: needs an object with "id" and a string "text"')
        yield number, row


if __name__ == "__main__":
    raise SystemExit(main())
