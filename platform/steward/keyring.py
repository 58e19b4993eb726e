"""This installation's key provider and its two signing keys, for the ledger and for models.

Guarantees that the root key exists only wrapped under the passphrase (or in an outside KMS), and the signing keys only
wrapped under the root. Does not keep the passphrase: it is read from a file that the operator places, never from the
environment or the command line.

The file is `settings.STEWARD_PASSPHRASE_FILE`. The default, `STEWARD_HOME/secrets/passphrase`, is made on first use so
that a laptop can start with one command; `manage.py doctor` says that it lies beside the data it protects.
"""

import contextlib
import functools
import os
import secrets
from collections.abc import Callable
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from django.conf import settings

from compliance.ledger import checkpoint
from compliance.vault import KeyProvider, PassphraseKeyring, WrongKey, new_key
from steward.audit.actor import UserError

LEDGER_KEY = "ledger-signing-key"
MODEL_KEY = "model-signing-key"


def write_secret(path: Path, content: bytes) -> bool:
    """Writes a file only its owner may read, unless it exists already. True if this call made it."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    staging = path.with_name(f".{path.name}.{secrets.token_hex(6)}")
    descriptor = os.open(staging, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    try:
        os.link(staging, path)  # fails if somebody was faster: theirs stands
    except FileExistsError:
        return False
    finally:
        staging.unlink()
    return True


def _passphrase() -> str:
    path = settings.STEWARD_PASSPHRASE_FILE
    if path == settings.STEWARD_SECRETS / "passphrase" and not path.exists():
        write_secret(path, secrets.token_urlsafe(32).encode())
    return path.read_text().strip()


class VaultLocked(UserError):
    """The root key cannot be had, so nothing can be read or sealed."""

    status = 503

    def __init__(self, message: str) -> None:
        super().__init__(message, code="vault_locked")


@functools.cache
def provider() -> KeyProvider:
    """The root of the key hierarchy, unlocked once a process (scrypt takes about half a second).

    Raises:
        VaultLocked: there is no passphrase, or it does not open the keyring.
    """
    try:
        return _unlocked()
    except FileNotFoundError as error:
        raise VaultLocked(
            f"There is no passphrase at {error.filename}. Put it there, or set STEWARD_PASSPHRASE_FILE."
        ) from None
    except WrongKey as error:
        raise VaultLocked(str(error)) from None


def _unlocked() -> KeyProvider:
    path = settings.STEWARD_SECRETS / "keyring.json"
    if not path.exists():
        with contextlib.suppress(FileExistsError):  # another process was faster: its keyring is the one
            return PassphraseKeyring.create(path, _passphrase())
    return PassphraseKeyring(path, _passphrase())


def _wrapped_secret(name: str, make: Callable[[], bytes]) -> bytes:
    """The 32 bytes kept under `name`, wrapped under the root key; made on first use."""
    path, context = settings.STEWARD_SECRETS / f"{name}.wrapped", {"purpose": name}
    if not path.exists():
        write_secret(path, provider().wrap(make(), context))
    return provider().unwrap(path.read_bytes(), context)


@functools.cache
def signing_key() -> Ed25519PrivateKey:
    """The Ed25519 key that signs checkpoints, made on first use and kept wrapped under the root key."""
    return Ed25519PrivateKey.from_private_bytes(_wrapped_secret(LEDGER_KEY, new_key))


@functools.cache
def model_signing_key() -> ec.EllipticCurvePrivateKey:
    """The P-256 key that signs models, kept likewise; OpenSSF model signing knows no Ed25519."""
    scalar = _wrapped_secret(MODEL_KEY, _p256_scalar)
    return ec.derive_private_key(int.from_bytes(scalar, "big"), ec.SECP256R1())


def _p256_scalar() -> bytes:
    return ec.generate_private_key(ec.SECP256R1()).private_numbers().private_value.to_bytes(32, "big")


def verification_key() -> checkpoint.VerificationKey:
    """The public half; its text form (a C2SP vkey) is what auditors are handed out of band."""
    return checkpoint.verification_key(settings.LEDGER_ORIGIN, signing_key().public_key())
