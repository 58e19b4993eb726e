"""Encryption of one database row's content, and digests that need a key.

Guarantees confidentiality and integrity of each value, bound to the associated data. It does not hide a value's
length, nor notice that a row was deleted or replaced by an older value of the same row: the ledger's digests do.

Example: ``RecordCipher(subject_key).encrypt(b"text", aad=b"record 7")``
"""

import hashlib
import hmac
import os

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from compliance.vault.errors import Corrupt, WrongKeyOrContext
from compliance.vault.keys import NONCE_BYTES, TAG_BYTES, check_key


class RecordCipher:
    """AES-256-GCM under one key, for many small values.

    A value is ``nonce (12) ‖ ciphertext ‖ tag (16)``. The nonce is random, so one key may encrypt at most 2**32
    values (NIST SP 800-38D section 8.3); a subject's key stays far below that.
    """

    __slots__ = ("_aead",)

    def __init__(self, key: bytes) -> None:
        check_key(key)
        self._aead = AESGCM(key)

    def encrypt(self, plaintext: bytes, aad: bytes) -> bytes:
        """Encrypts a value; ``aad`` (what row, which field) is needed again to decrypt it."""
        nonce = os.urandom(NONCE_BYTES)
        return nonce + self._aead.encrypt(nonce, plaintext, aad)

    def decrypt(self, sealed: bytes, aad: bytes) -> bytes:
        """Gives a value back.

        Raises:
            Corrupt: too short to be a value.
            WrongKeyOrContext: another key or associated data, or altered bytes.
        """
        if len(sealed) < NONCE_BYTES + TAG_BYTES:
            raise Corrupt("too short for an encrypted record")
        try:
            return self._aead.decrypt(sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], aad)
        except InvalidTag:
            raise WrongKeyOrContext(
                "the record does not open: another key, another row or field, or altered bytes"
            ) from None


def encrypt_record(key: bytes, plaintext: bytes, aad: bytes) -> bytes:
    """Encrypts one value; see ``RecordCipher`` for many under the same key."""
    return RecordCipher(key).encrypt(plaintext, aad)


def decrypt_record(key: bytes, sealed: bytes, aad: bytes) -> bytes:
    """Gives back one value; the errors are those of ``RecordCipher.decrypt``."""
    return RecordCipher(key).decrypt(sealed, aad)


def keyed_digest(key: bytes, data: bytes) -> str:
    """A digest of a guessable value (a name, a record number) that nobody can guess back without the key.

    Returns:
        ``hmac:`` and 64 lower-case hexadecimal digits (HMAC-SHA256, RFC 2104).

    Raises:
        ValueError: the key does not have 32 bytes.
    """
    check_key(key)
    return "hmac:" + hmac.new(key, data, hashlib.sha256).hexdigest()
