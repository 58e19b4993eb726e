"""How a vault object is laid out: Tink's AES256_GCM_HKDF_1MB streaming AEAD.

Guarantees that lengths and nonces are those of Tink, so that its libraries open our objects and we theirs. It reads and
writes nothing itself; ``stream`` does.

Layout: ``40 (1 byte) ‖ salt (32) ‖ nonce prefix (7)``, then segments of 1 MiB, each ciphertext and tag (16); the first
is shorter by the header, the last by what is missing. Segment key = HKDF-SHA256(key, salt, info = associated data);
nonce = prefix ‖ segment number (4 bytes, big-endian) ‖ 1 for the last segment, else 0.

Example: ``plaintext_size(path.stat().st_size)`` is the length of the content, known without the key.

Source: Tink, "AES-GCM-HKDF Streaming AEAD" (wire format), after Hoang, Reyhanitabar, Rogaway, Vizár, "Online
Authenticated-Encryption and its Nonce-Reuse Misuse-Resistance" (CRYPTO 2015).
"""

from collections.abc import Sequence

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from compliance.vault.context import ObjectContext
from compliance.vault.errors import Corrupt, VaultError
from compliance.vault.keys import KEY_BYTES, TAG_BYTES

SEGMENT_BYTES = 1 << 20
SALT_BYTES = 32
PREFIX_BYTES = 7
HEADER_BYTES = 1 + SALT_BYTES + PREFIX_BYTES
#: The segment number has four bytes.
MAX_SEGMENTS = 1 << 32


def plaintext_size(sealed_bytes: int) -> int:
    """Length of the content of a sealed object of this length.

    Raises:
        Corrupt: no sealed object has this length.
    """
    segments = max(1, -(-sealed_bytes // SEGMENT_BYTES))
    size = sealed_bytes - HEADER_BYTES - segments * TAG_BYTES
    if size < 0 or sealed_size(size) != sealed_bytes:
        raise Corrupt(f"no vault object has {sealed_bytes} bytes: it was cut or extended")
    return size


def sealed_size(plaintext_bytes: int) -> int:
    """Length of the sealed object that holds this much content."""
    payload = SEGMENT_BYTES - TAG_BYTES
    segments = max(1, -(-(plaintext_bytes + HEADER_BYTES) // payload))
    return HEADER_BYTES + plaintext_bytes + segments * TAG_BYTES


class SegmentCipher:
    """The cipher of one object, applied to its segments in order.

    Attributes:
        number: how many segments were begun.
    """

    def __init__(self, key: bytes, header: bytes, context: ObjectContext) -> None:
        salt = header[1 : 1 + SALT_BYTES]
        self._prefix = header[1 + SALT_BYTES :]
        segment_key = HKDF(SHA256(), KEY_BYTES, salt, context.associated_data()).derive(key)
        self._aead = AESGCM(segment_key)
        self._algorithm = algorithms.AES(segment_key)
        self.number = 0

    def seal(self, parts: Sequence[memoryview], sealed: memoryview, *, is_last: bool) -> None:
        """Encrypts the next segment out of several pieces; ``sealed`` is 16 bytes longer than these together.

        Raises:
            VaultError: the object is full.
        """
        # The plain cipher, not the AEAD interface: that one would need the pieces copied together first.
        encryptor = Cipher(self._algorithm, modes.GCM(self._next_nonce(is_last=is_last))).encryptor()
        filled = 0
        for part in parts:
            filled += encryptor.update_into(part, sealed[filled:])
        encryptor.finalize()
        sealed[filled:] = encryptor.tag

    def open(self, sealed: memoryview, plain: memoryview, *, is_last: bool) -> None:
        """Decrypts the next segment; ``plain`` is 16 bytes shorter than ``sealed``, and zero after an error.

        Raises:
            InvalidTag: it is not the next segment of this object.
            VaultError: the object is longer than any can be.
        """
        try:
            self._aead.decrypt_into(self._next_nonce(is_last=is_last), sealed, None, plain)
        except InvalidTag:
            # The cipher has written there already what must not be seen.
            plain[:] = bytes(plain.nbytes)
            raise

    def _next_nonce(self, *, is_last: bool) -> bytes:
        if self.number >= MAX_SEGMENTS:
            raise VaultError("an object holds at most 4 PiB; split it into several")
        nonce = self._prefix + self.number.to_bytes(4, "big") + (b"\x01" if is_last else b"\x00")
        self.number += 1
        return nonce
