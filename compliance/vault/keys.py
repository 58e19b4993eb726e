"""Keys, commitments to them, wrapping, and the one interface of every key provider.

Guarantees that a wrapped key opens only under the wrapping key and the context it was wrapped for. It does not erase
keys from the memory of the process: Python cannot promise that.

Example: ``unwrap_key(kek, wrap_key(kek, key, {"dataset": "d7"}), {"dataset": "d7"}) == key``
"""

import hmac
import os
from collections.abc import Mapping
from typing import Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from compliance.canonical import canonical_json
from compliance.vault.context import ObjectContext
from compliance.vault.errors import Corrupt, WrongKeyOrContext

KEY_BYTES = 32
#: Nonce and tag of AES-GCM. Source: NIST SP 800-38D sections 5.2.1.1 and 5.2.1.2.
NONCE_BYTES = 12
TAG_BYTES = 16
WRAPPED_KEY_BYTES = NONCE_BYTES + KEY_BYTES + TAG_BYTES

_COMMIT_LABEL = b"steward/commit\x00"
_WRAP_LABEL = b"steward/wrap\x00"


def new_key() -> bytes:
    """A fresh random key of 32 bytes."""
    return os.urandom(KEY_BYTES)


def check_key(key: bytes) -> None:
    """Refuses a key of the wrong length.

    Raises:
        ValueError: the key does not have 32 bytes.
    """
    if len(key) != KEY_BYTES:
        raise ValueError(f"a key has {KEY_BYTES} bytes, this one has {len(key)}")


def commitment(key: bytes, context: ObjectContext) -> bytes:
    """A public value of 32 bytes that fits this key in this context and no other pair that anybody can find.

    AES-GCM alone commits to neither: one ciphertext can be made that opens under two keys. Kept beside the object,
    the commitment is compared before the first segment is touched.

    Raises:
        ValueError: the key does not have 32 bytes.

    Source: HKDF as in RFC 5869; why one needs it: Grubbs, Lu, Ristenpart, "Message Franking via Committing
    Authenticated Encryption" (CRYPTO 2017).
    """
    check_key(key)
    return HKDF(SHA256(), KEY_BYTES, None, _COMMIT_LABEL + context.associated_data()).derive(key)


def check_commitment(expected: bytes, key: bytes, context: ObjectContext) -> None:
    """Compares, in constant time, a stored commitment with that of a key and a context.

    Raises:
        WrongKeyOrContext: they do not fit together.
    """
    if not hmac.compare_digest(expected, commitment(key, context)):
        raise WrongKeyOrContext(
            "the commitment does not fit: this is not the key the object was sealed with, or not the place it "
            "belongs to. Take key and context from the same row of the object."
        )


def wrap_key(kek: bytes, key: bytes, context: Mapping[str, str]) -> bytes:
    """Encrypts a key under another one, bound to a context (AES-256-GCM, random nonce in front).

    Args:
        kek: the wrapping key, 32 bytes; at most 2**32 keys may be wrapped under one.
        key: the key to protect, 32 bytes.
        context: what the key is for; needed again, unchanged, to unwrap.

    Returns:
        60 bytes: nonce, ciphertext, tag.

    Raises:
        ValueError: a key does not have 32 bytes.
    """
    check_key(kek)
    check_key(key)
    nonce = os.urandom(NONCE_BYTES)
    return nonce + AESGCM(kek).encrypt(nonce, key, _WRAP_LABEL + canonical_json(context))


def unwrap_key(kek: bytes, wrapped: bytes, context: Mapping[str, str]) -> bytes:
    """Gives back the key that ``wrap_key`` protected.

    Raises:
        ValueError: the wrapping key does not have 32 bytes.
        Corrupt: the wrapped key does not have 60 bytes.
        WrongKeyOrContext: another wrapping key or context, or altered bytes.
    """
    check_key(kek)
    if len(wrapped) != WRAPPED_KEY_BYTES:
        raise Corrupt(f"a wrapped key has {WRAPPED_KEY_BYTES} bytes, this one has {len(wrapped)}")
    associated_data = _WRAP_LABEL + canonical_json(context)
    try:
        return AESGCM(kek).decrypt(wrapped[:NONCE_BYTES], wrapped[NONCE_BYTES:], associated_data)
    except InvalidTag:
        raise WrongKeyOrContext(
            "the wrapped key does not open: another wrapping key, another context, or altered bytes"
        ) from None


class KeyProvider(Protocol):
    """Whoever holds the root key: a keyring behind a passphrase, or a key management service."""

    def wrap(self, key: bytes, context: Mapping[str, str]) -> bytes:
        """Protects a key under the newest root epoch."""

    def unwrap(self, wrapped: bytes, context: Mapping[str, str]) -> bytes:
        """Gives a key back; ``KeyDestroyed`` where its epoch was shredded."""

    def rewrap(self, wrapped: bytes, context: Mapping[str, str]) -> bytes:
        """Protects the same key under the newest root epoch."""

    def destroy(self, epoch: int) -> None:
        """Shreds a root epoch: what is wrapped under it stays closed for ever."""
