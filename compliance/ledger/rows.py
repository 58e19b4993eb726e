"""The files of a bundle that hold entries and proofs, read line by line.

Guarantees that a row which comes out has a body that fits its leaf hash and can be read in one way only. It does not
check that the leaf hash is in any tree.

Example: ``for row in read_rows(bundle): tree.append(row.leaf)``
"""

import base64
import binascii
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from .members import Bundle, BundleError, VerificationError, read_lines
from .merkle import HASH_BYTES, leaf_hash

ENTRIES = "ledger/entries.jsonl"
CHECKPOINTS = "ledger/checkpoints.jsonl"
CONSISTENCY = "ledger/consistency.jsonl"

MAX_BODY_BYTES = 4096
_SCHEMA = "steward.ledger.entry/"
# Made once: json.loads and json.dumps would look for the encoding, or make an encoder, for every line.
_decode = json.JSONDecoder().decode
_encode = json.JSONEncoder(ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode
_EVENT_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the entries.

    Attributes:
        index: position in the ledger, from 0.
        leaf: RFC 6962 leaf hash of the body, 32 bytes.
        body: what the body says.
        proof: inclusion proof, or None where the line has none.
    """

    index: int
    leaf: bytes
    body: Mapping[str, Any]
    proof: list[bytes] | None


def read_rows(bundle: Bundle) -> Iterator[Row]:
    """Goes through the entries of a bundle.

    Raises:
        VerificationError: a body was changed or cannot be read in one way; names the index.
        BundleError: a line is not the line of an entry.
    """
    for number, line in enumerate(read_lines(bundle, ENTRIES), 1):
        where = f"line {number} of {ENTRIES}"
        row = _json_object(line, {"index", "body", "leaf_hash", "proof", "filed"}, where)
        index = row.get("index")
        if type(index) is not int or not 0 <= index < 1 << 62:
            raise BundleError(f"{where} has no index")
        yield _parse_row(index, row)


def _parse_row(index: int, row: Mapping[str, Any]) -> Row:
    try:
        data = base64.b64decode(row["body"], validate=True)
        stored = bytes.fromhex(row["leaf_hash"])
    except (KeyError, TypeError, ValueError, binascii.Error):
        raise VerificationError(f"entry {index} has no readable body or leaf hash", index) from None
    leaf = leaf_hash(data)
    if leaf != stored:
        raise VerificationError(f"entry {index} was changed: its body does not fit its leaf hash", index)
    body = _parse_body(index, data)
    _check_filed(index, row.get("filed", {}), body)
    proof = _hashes(row["proof"], f"entry {index}") if "proof" in row else None
    return Row(index, leaf, body, proof)


def _check_filed(index: int, filed: object, body: Mapping[str, Any]) -> None:
    """Compares what people are shown (the columns of the row) with what was signed (its body)."""
    if not isinstance(filed, dict):
        raise VerificationError(f"entry {index} is not filed under names", index)
    for name, value in filed.items():
        if name not in body or type(value) is not type(body[name]) or value != body[name]:
            raise VerificationError(f"entry {index} was changed: its column {name[:48]!a} does not fit its body", index)


def _parse_body(index: int, data: bytes) -> Mapping[str, Any]:
    """Reads a body and checks that it can be read in one way only."""
    try:
        text = data.decode()
        body = _decode(text)
        is_canonical = _encode(body) == text
    except (ValueError, RecursionError):
        is_canonical = False
    if not is_canonical or len(data) > MAX_BODY_BYTES:
        raise VerificationError(f"entry {index} is not canonical JSON of at most {MAX_BODY_BYTES} bytes", index)
    if not isinstance(body, dict) or not str(body.get("schema")).startswith(_SCHEMA):
        raise VerificationError(f"entry {index} has an unknown schema", index)
    if not isinstance(body.get("event_id"), str) or not _EVENT_ID.fullmatch(body["event_id"]):
        raise VerificationError(f"entry {index} names no event", index)
    return body


def _json_object(line: bytes, fields: set[str], what: str) -> dict[str, Any]:
    try:
        value = _decode(line.decode())
    except (ValueError, RecursionError):
        raise BundleError(f"{what} is not JSON") from None
    if not isinstance(value, dict) or not value.keys() <= fields:
        raise BundleError(f"{what} is not an object with the fields {', '.join(sorted(fields))}")
    return value


def _hashes(value: object, what: str) -> list[bytes]:
    try:
        hashes = [bytes.fromhex(item) for item in value] if isinstance(value, list) else None
    except (TypeError, ValueError):
        hashes = None
    if hashes is None or any(len(item) != HASH_BYTES for item in hashes):
        raise BundleError(f"{what} has a malformed proof")
    return hashes


def read_notes(bundle: Bundle) -> Iterator[tuple[str, str]]:
    """Goes through the signed notes of a full export, each with the place where it stands.

    Raises:
        BundleError: a line is not that of a note.
    """
    for number, line in enumerate(read_lines(bundle, CHECKPOINTS), 1):
        where = f"line {number} of {CHECKPOINTS}"
        note = _json_object(line, {"note"}, where).get("note")
        if not isinstance(note, str):
            raise BundleError(f"{where} has no note")
        yield where, note


def read_consistency(bundle: Bundle, old_size: int, new_size: int) -> list[bytes] | None:
    """The consistency proof between two sizes, or None where the bundle has none.

    Raises:
        BundleError: a line is not that of a proof.
    """
    if CONSISTENCY in bundle.names():
        for number, line in enumerate(read_lines(bundle, CONSISTENCY), 1):
            where = f"line {number} of {CONSISTENCY}"
            row = _json_object(line, {"old_size", "new_size", "proof"}, where)
            if (row.get("old_size"), row.get("new_size")) == (old_size, new_size):
                return _hashes(row.get("proof"), where)
    return None
