"""Signed checkpoints: the ledger's size and root at one moment, with the ledger's signature.

Guarantees that a checkpoint which opens under a key was signed by its holder, byte for byte. It does not say whether
the holder also signed a different tree of the same size: comparing checkpoints kept by others does.

Example::

    note = sign_checkpoint(Checkpoint("hospital.example/ledger", 3, root), signing_key)
    checkpoint = open_checkpoint(note, [verification_key(origin, signing_key.public_key())])

Source: C2SP signed-note and tlog-checkpoint; Ed25519 as in RFC 8032.
"""

import base64
import binascii
import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

#: Generous for sixteen signatures; a longer note is refused unread.
MAX_NOTE_BYTES = 64 * 1024
_ED25519 = b"\x01"
_SIZE = re.compile(r"0|[1-9][0-9]{0,18}")
_SIGNATURE_BYTES = 64


class NoteError(ValueError):
    """A note, checkpoint or verification key is malformed, or no trusted key signed it."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What a checkpoint says.

    Attributes:
        origin: name of the ledger; also the name of the key that signs.
        size: number of entries.
        root: RFC 6962 root over them, 32 bytes.
    """

    origin: str
    size: int
    root: bytes

    def text(self) -> str:
        """The three lines that are signed."""
        return f"{self.origin}\n{self.size}\n{base64.b64encode(self.root).decode()}\n"


@dataclass(frozen=True, slots=True)
class VerificationKey:
    """A public key with its name, in the form that is handed over out of band (``vkey``)."""

    name: str
    public_bytes: bytes

    @property
    def key_id(self) -> bytes:
        """Four bytes that tell signatures apart; not a secure hash. Source: signed-note, "Signatures"."""
        return hashlib.sha256(self.name.encode() + b"\n" + _ED25519 + self.public_bytes).digest()[:4]

    def __str__(self) -> str:
        key = base64.b64encode(_ED25519 + self.public_bytes).decode()
        return f"{self.name}+{self.key_id.hex()}+{key}"

    @classmethod
    def parse(cls, text: str) -> "VerificationKey":
        """Reads ``name+keyid+base64``.

        Raises:
            NoteError: malformed, of another algorithm than Ed25519, or with a key id that is not its own.
        """
        parts = text.strip().split("+", 2)
        if len(parts) != 3 or not _is_name(parts[0]):
            raise NoteError("a verification key has the form name+keyid+base64")
        data = _base64(parts[2], "the verification key")
        if len(data) != 33 or data[:1] != _ED25519:
            raise NoteError("the verification key is not an Ed25519 key")
        key = cls(parts[0], data[1:])
        if key.key_id.hex() != parts[1]:
            raise NoteError("the verification key's id does not fit its name and bytes: copied wrongly?")
        return key


def verification_key(name: str, public_key: Ed25519PublicKey) -> VerificationKey:
    """The public half of a signing key under its name.

    Raises:
        NoteError: the name is empty or holds white space or a plus sign.
    """
    if not _is_name(name):
        raise NoteError("a key name has no spaces and no plus sign, for example hospital.example/ledger")
    return VerificationKey(name, public_key.public_bytes_raw())


def sign_note(text: str, name: str, key: Ed25519PrivateKey) -> str:
    """Signs a text that ends in a newline.

    Raises:
        NoteError: the text has no final newline or holds control characters, or the name is not allowed.
    """
    if not text.endswith("\n") or _has_control(text):
        raise NoteError("the text of a note ends in a newline and has no other control characters")
    key_id = verification_key(name, key.public_key()).key_id
    signature = base64.b64encode(key_id + key.sign(text.encode())).decode()
    return f"{text}\n— {name} {signature}\n"


def open_note(note: str, keys: Sequence[VerificationKey]) -> tuple[str, VerificationKey]:
    """Verifies a note and gives its text and the first key that signed it.

    Signatures of unknown keys (of witnesses, say) are ignored; a bad one of a known key spoils the note.

    Raises:
        NoteError: malformed, signed by none of the keys, or not as it was signed.
    """
    if len(note) > MAX_NOTE_BYTES or _has_control(note):
        raise NoteError("the note is too long or holds control characters")
    text, blank, signatures = note.rpartition("\n\n")
    if not blank or not signatures.endswith("\n"):
        raise NoteError("not a signed note: text, an empty line, then signatures")
    text += "\n"
    known = {(key.name, key.key_id): key for key in keys}
    signers = []
    for line in signatures[:-1].split("\n"):
        mark, _, rest = line.partition(" ")
        name, _, encoded = rest.partition(" ")
        if mark != "—" or not _is_name(name):
            raise NoteError("a signature line of the note is malformed")
        data = _base64(encoded, "a signature of the note")
        key = known.get((name, data[:4]))
        if key is not None:
            _check_signature(key, data[4:], text)
            signers.append(key)
    if not signers:
        raise NoteError("the note is not signed by a key that was given")
    return text, signers[0]


def sign_checkpoint(checkpoint: Checkpoint, key: Ed25519PrivateKey) -> str:
    """The signed note of a checkpoint; the key's name is the origin.

    Raises:
        NoteError: the origin cannot be a key name.
    """
    return sign_note(checkpoint.text(), checkpoint.origin, key)


def open_checkpoint(note: str, keys: Sequence[VerificationKey]) -> Checkpoint:
    """Verifies a note and reads the checkpoint in it.

    Raises:
        NoteError: as ``open_note``, or the text is no checkpoint of the ledger that the key is named after.
    """
    text, key = open_note(note, keys)
    checkpoint = parse_checkpoint(text)
    if checkpoint.origin != key.name:
        raise NoteError("the checkpoint is of another ledger than the key that signed it")
    return checkpoint


def parse_checkpoint(text: str) -> Checkpoint:
    """Reads the text of a checkpoint, without any signature.

    Raises:
        NoteError: not three lines of origin, size and root. Extension lines are refused: we write none.
    """
    lines = text.split("\n")
    if len(lines) != 4 or lines[3] or not lines[0] or not _SIZE.fullmatch(lines[1]):
        raise NoteError("not a checkpoint: it has the three lines origin, size and root")
    root = _base64(lines[2], "the root")
    if len(root) != hashlib.sha256().digest_size:
        raise NoteError("the root of a checkpoint has 32 bytes")
    return Checkpoint(lines[0], int(lines[1]), root)


def _check_signature(key: VerificationKey, signature: bytes, text: str) -> None:
    try:
        Ed25519PublicKey.from_public_bytes(key.public_bytes).verify(signature, text.encode())
    except InvalidSignature:
        raise NoteError("the signature is not that of this text: the checkpoint was altered") from None


def _base64(text: str, what: str) -> bytes:
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise NoteError(f"{what} is not base64") from None
    # Other spellings of the same bytes (loose trailing bits) would let one note pass for two.
    if base64.b64encode(data).decode() != text:
        raise NoteError(f"{what} is not in the one form of base64")
    return data


def _is_name(name: str) -> bool:
    """Whether this may name a key. We are stricter than the specification: names are shown on terminals."""
    return bool(name) and name.isprintable() and "+" not in name and " " not in name


def _has_control(text: str) -> bool:
    return any(character < " " and character != "\n" for character in text)
