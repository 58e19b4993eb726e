"""An encrypted channel between the platform and a trainer on another machine, over one TCP connection.

Each side has an X25519 key: the trainer makes one when it starts and says its public half; the platform's public half
is in the arguments that the trainer was started with, so that it answers nobody else. Both halves, the run's
name and both nonces go into the keys of a session (HKDF-SHA256), one for each direction (AES-256-GCM, counted frames).

Guarantees, against whoever reads or changes the network between the two and whoever reads the job's arguments,
environment, metadata or logs: nothing sent is learnt; nothing is changed, repeated, left out or put in another order
without an error; a recorded session cannot be played again. The platform's key is derived from the run's data key, so
that a worker's successor has it, too, and nobody has it any more once the run is over and that key is destroyed.
Does not defend against whoever controls the machine the trainer runs on (it has the data in its memory), nor against
whoever can change what the cluster tells the platform of a job: the trainer's public half comes from there. That
takes a cluster whose control is authenticated and goes over TLS.

Source: the shape of HPKE's authenticated mode (RFC 9180, section 5.1.3), with a static and an ephemeral key; counted
nonces as in TLS 1.3 (RFC 8446, section 5.3).

Example:
    >>> session = connect(stream, "run-1", own=platform_key, peer=trainer_public)
    >>> session.send(b"hello")
    >>> session.receive()
"""

from __future__ import annotations

import secrets
import struct
from typing import BinaryIO, Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

MAX_FRAME_BYTES = (1 << 20) + 4096
NONCE_BYTES = 32
_LABEL = b"steward remote trainer 1"
_HELLO = b"steward-channel-1"


class ChannelError(Exception):
    """The other side is not who it should be, the line was tampered with, or it broke off."""


class Stream(Protocol):
    """What a channel needs of a connection: blocking reads and writes, as of `socket.makefile`."""

    def read(self, size: int, /) -> bytes | None:
        """At most that many bytes; fewer only at the end."""

    def write(self, data: bytes, /) -> int | None:
        """Takes all of them."""

    def flush(self) -> None:
        """Sends what was written."""


class Session:
    """One connection after its handshake; frames are numbered in each direction."""

    def __init__(self, stream: Stream | BinaryIO, sending: bytes, receiving: bytes) -> None:
        self._stream = stream
        self._sending, self._receiving = AESGCM(sending), AESGCM(receiving)
        self._sent = self._received = 0

    def send(self, content: bytes) -> None:
        """Sends one frame of at most 1 MiB.

        Raises:
            ChannelError: it is too long, or the line broke.
        """
        if len(content) > MAX_FRAME_BYTES - 16:
            raise ChannelError("the frame is too long")
        sealed = self._sending.encrypt(self._sent.to_bytes(12, "big"), content, None)
        self._sent += 1
        try:
            self._stream.write(struct.pack(">I", len(sealed)) + sealed)
            self._stream.flush()
        except OSError:
            raise ChannelError("the connection broke") from None

    def receive(self) -> bytes:
        """The next frame.

        Raises:
            ChannelError: the line broke, or what came is not what was sent next.
        """
        (length,) = struct.unpack(">I", _exactly(self._stream, 4))
        if not 16 <= length <= MAX_FRAME_BYTES:
            raise ChannelError("a frame has a length that no frame has")
        try:
            content = self._receiving.decrypt(self._received.to_bytes(12, "big"), _exactly(self._stream, length), None)
        except InvalidTag:
            raise ChannelError("a frame does not open") from None
        self._received += 1
        return content


def connect(stream: Stream | BinaryIO, run: str, own: X25519PrivateKey, peer: bytes) -> Session:
    """The platform's side.

    Args:
        peer: the trainer's public key, 32 bytes.

    Raises:
        ChannelError: the other side does not hold that key, or expects somebody else.
    """
    nonce = secrets.token_bytes(NONCE_BYTES)
    _write(stream, _HELLO + nonce)
    other = _exactly(stream, NONCE_BYTES)
    ours, theirs = _keys(own, peer, run, public(own), peer, nonce + other)
    session = Session(stream, ours, theirs)
    _prove(session)
    return session


def accept(stream: Stream | BinaryIO, run: str, own: X25519PrivateKey, peer: bytes) -> Session:
    """The trainer's side; `peer` is the platform's public key.

    Raises:
        ChannelError: as `connect`.
    """
    if _exactly(stream, len(_HELLO)) != _HELLO:
        raise ChannelError("that is no platform")
    other = _exactly(stream, NONCE_BYTES)
    nonce = secrets.token_bytes(NONCE_BYTES)
    _write(stream, nonce)
    theirs, ours = _keys(own, peer, run, peer, public(own), other + nonce)
    session = Session(stream, ours, theirs)
    _prove(session)
    return session


def _prove(session: Session) -> None:
    """Each side's first frame shows that it has the keys, before anything else is said."""
    session.send(_HELLO)
    if session.receive() != _HELLO:
        raise ChannelError("a frame does not open")


def public(key: X25519PrivateKey) -> bytes:
    """The public half, 32 bytes."""
    return key.public_key().public_bytes_raw()


def key_from(secret: bytes, run: str, attempt: int) -> X25519PrivateKey:
    """The platform's key for one attempt of a run, derived, so that a worker's successor has it, too.

    Args:
        secret: 32 bytes that only the platform and this run's trainers know.
    """
    info = _LABEL + b" key\x00" + f"{run}/{attempt}".encode()
    return X25519PrivateKey.from_private_bytes(HKDF(SHA256(), 32, None, info).derive(secret))


def ring_secret(secret: bytes, run: str, attempt: int) -> bytes:
    """32 bytes for the links between the machines of one attempt (`trainers.ring`); `secret` as in `key_from`."""
    return HKDF(SHA256(), 32, None, _LABEL + b" ring\x00" + f"{run}/{attempt}".encode()).derive(secret)


def _keys(
    own: X25519PrivateKey, peer: bytes, run: str, platform: bytes, trainer: bytes, nonces: bytes
) -> tuple[bytes, bytes]:
    """Session keys: of what the platform sends, and of what the trainer sends."""
    try:
        shared = own.exchange(X25519PublicKey.from_public_bytes(peer))
    except ValueError:
        raise ChannelError("the other side's key is none") from None
    info = _LABEL + b" session\x00" + run.encode() + b"\x00" + platform + trainer
    material = HKDF(SHA256(), 64, nonces, info).derive(shared)
    return material[:32], material[32:]


def _exactly(stream: Stream | BinaryIO, size: int) -> bytes:
    found = b""
    while len(found) < size:
        try:
            more = stream.read(size - len(found))
        except OSError:
            raise ChannelError("the connection broke") from None
        if not more:
            raise ChannelError("the connection ended")
        found += more
    return found


def _write(stream: Stream | BinaryIO, data: bytes) -> None:
    try:
        stream.write(data)
        stream.flush()
    except OSError:
        raise ChannelError("the connection broke") from None
