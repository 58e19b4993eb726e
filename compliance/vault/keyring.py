"""Root keys in a file, behind a passphrase: the key provider that needs no other system.

Guarantees that the file never holds a root key in clear, that every change to it is complete or did not happen, that
two processes cannot undo each other's changes, and that a destroyed epoch is refused at once by every process that
has the keyring open. It does not reach copies of the file: an older backup of it still holds the wrapped key of a
destroyed epoch, and whoever has that backup and its passphrase can use it. Keep backups of the keyring apart from
those of the data, and no longer than an epoch may live. Blocks of a solid-state disk are not overwritten either.

Example::

    keyring = PassphraseKeyring.create(path, passphrase)
    row.wrapped = keyring.wrap(dataset_key, {"workspace": "w1", "dataset": "d7"})

Source: scrypt, RFC 7914; its cost parameters: OWASP Password Storage Cheat Sheet.
"""

import base64
import fcntl
import json
import os
import struct
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from compliance.canonical import canonical_json
from compliance.vault.errors import Corrupt, KeyDestroyed, VaultError, WrongKey, WrongKeyOrContext
from compliance.vault.files import atomic_output
from compliance.vault.keys import KEY_BYTES, WRAPPED_KEY_BYTES, new_key, unwrap_key, wrap_key

SCHEMA = "steward.keyring/1"
SCRYPT_N = 2**17
SCRYPT_R = 8
SCRYPT_P = 1
#: Above this a file could make us allocate more than 1 GiB before its passphrase is even tried.
_MAX_SCRYPT_N = 2**20
_SALT_BYTES = 16
_MAX_FILE_BYTES = 1 << 20
_EPOCH = struct.Struct(">BI")
_FORMAT = 1


class PassphraseKeyring:
    """A ``KeyProvider`` whose root keys lie in one file. Safe to share between threads and processes.

    What it wraps begins with a format byte and the epoch number, so a row tells under which root key it stands.
    """

    def __init__(self, path: Path, passphrase: str) -> None:
        """Opens an existing keyring. Takes about a third of a second and 128 MiB, on purpose.

        Raises:
            FileNotFoundError: there is no keyring yet; ``create`` makes one.
            WrongKey: the passphrase is not that of this file.
            Corrupt: the file is not a keyring.
        """
        self._path = path
        document = _read(path)
        self._state = _unlock(path, document, _derive(passphrase, document["kdf"]))

    @classmethod
    def create(cls, path: Path, passphrase: str, *, scrypt_n: int = SCRYPT_N) -> Self:
        """Makes a keyring with one epoch, readable by its owner only.

        Args:
            path: where; nothing may be there yet.
            passphrase: not empty. Lost, everything is lost.
            scrypt_n: cost, a power of two; lower it only in tests.

        Raises:
            FileExistsError: there is a keyring already, and replacing it would lose every key under it.
            ValueError: the passphrase is empty.
        """
        with _locked(path):
            if path.exists():
                raise FileExistsError(f"{path} exists; a new keyring would lose every key under the old one")
            kdf = _new_kdf(scrypt_n)
            kek = _derive(passphrase, kdf)
            root = _wrapped_root(kek, 1, new_key())
            with atomic_output(path) as sink:
                sink.write(canonical_json({"schema": SCHEMA, "kdf": kdf, "current": 1, "epochs": {"1": root}}))
        return cls(path, passphrase)

    @property
    def current_epoch(self) -> int:
        """The epoch under which keys are wrapped now."""
        return self._refreshed().current

    def epochs(self) -> dict[int, bool]:
        """Every epoch there ever was, and whether it is still alive."""
        state = self._refreshed()
        return {int(epoch): int(epoch) in state.roots for epoch in state.document["epochs"]}

    def wrap(self, key: bytes, context: Mapping[str, str]) -> bytes:
        """Protects a key of 32 bytes under the current epoch; returns 65 bytes.

        Raises:
            ValueError: the key does not have 32 bytes.
        """
        state = self._refreshed()
        wrapped = wrap_key(state.roots[state.current], key, _bound(context, state.current))
        return _EPOCH.pack(_FORMAT, state.current) + wrapped

    def unwrap(self, wrapped: bytes, context: Mapping[str, str]) -> bytes:
        """Gives back a key of 32 bytes.

        Raises:
            KeyDestroyed: its epoch was shredded.
            WrongKeyOrContext: another context, another keyring, or altered bytes.
            Corrupt: not something a keyring wrapped.
        """
        epoch = epoch_of(wrapped)
        state = self._refreshed()
        if epoch in state.roots:
            return unwrap_key(state.roots[epoch], wrapped[_EPOCH.size :], _bound(context, epoch))
        if str(epoch) in state.document["epochs"]:
            raise KeyDestroyed(f"root epoch {epoch} was shredded; what was wrapped under it cannot be opened any more")
        raise WrongKeyOrContext(f"this keyring never had an epoch {epoch}: the key was wrapped by another keyring")

    def rewrap(self, wrapped: bytes, context: Mapping[str, str]) -> bytes:
        """Moves a wrapped key to the current epoch; the key itself, and all under it, stays as it is.

        Raises: as ``unwrap``.
        """
        return self.wrap(self.unwrap(wrapped, context), context)

    def rotate(self) -> int:
        """Starts a new epoch and returns its number. Older wrapped keys stay readable until ``destroy``."""
        with _locked(self._path):
            state = self._refreshed()
            epoch = max(map(int, state.document["epochs"])) + 1
            epochs = {**state.document["epochs"], str(epoch): _wrapped_root(state.kek, epoch, new_key())}
            self._change({**state.document, "epochs": epochs, "current": epoch}, state.kek)
        return epoch

    def destroy(self, epoch: int) -> None:
        """Shreds an epoch: every key that is wrapped under it, in any backup of the database, is gone.

        Doing it twice changes nothing.

        Raises:
            VaultError: it is the current epoch (rotate and rewrap first), or there never was one of this number.
        """
        with _locked(self._path):
            state = self._refreshed()
            if str(epoch) not in state.document["epochs"]:
                raise VaultError(f"there is no epoch {epoch} in this keyring")
            if epoch == state.current:
                raise VaultError(f"epoch {epoch} is the current one: rotate, rewrap what is to live, then destroy it")
            self._change({**state.document, "epochs": {**state.document["epochs"], str(epoch): None}}, state.kek)

    def change_passphrase(self, passphrase: str) -> None:
        """Locks the same root keys behind another passphrase and a new salt.

        Other processes that have the keyring open must open it again.

        Raises:
            ValueError: the passphrase is empty.
        """
        with _locked(self._path):
            state = self._refreshed()
            kdf = _new_kdf(state.document["kdf"]["n"])
            kek = _derive(passphrase, kdf)
            living = {str(epoch): _wrapped_root(kek, epoch, root) for epoch, root in state.roots.items()}
            self._change({**state.document, "kdf": kdf, "epochs": {**state.document["epochs"], **living}}, kek)

    def _refreshed(self) -> "_State":
        """The state, with what another process changed; costs one ``stat`` when nothing did."""
        if _stamp(self._path) != self._state.stamp:
            self._state = _unlock(self._path, _read(self._path), self._state.kek)
        return self._state

    def _change(self, document: Mapping[str, Any], kek: bytes) -> None:
        """Writes a new document; call it under the lock."""
        with atomic_output(self._path) as sink:
            sink.write(canonical_json(document))
        self._state = _unlock(self._path, _read(self._path), kek)


@dataclass(frozen=True, slots=True)
class _State:
    """What one version of the file says. Replaced as a whole, so that threads never see half a change."""

    stamp: tuple[int, int, int]
    document: Mapping[str, Any]
    roots: Mapping[int, bytes]
    kek: bytes

    @property
    def current(self) -> int:
        return int(self.document["current"])


def epoch_of(wrapped: bytes) -> int:
    """The root epoch under which a keyring wrapped a key; finds the rows that a rotation must rewrap.

    Raises:
        Corrupt: not something a keyring wrapped.
    """
    if len(wrapped) != _EPOCH.size + WRAPPED_KEY_BYTES or wrapped[0] != _FORMAT:
        raise Corrupt("not a key wrapped by a keyring, or of an unknown format")
    epoch: int = _EPOCH.unpack_from(wrapped)[1]
    return epoch


def _bound(context: Mapping[str, str], epoch: int) -> dict[str, Any]:
    """The context of a wrapped key, with its epoch."""
    return {"context": dict(context), "epoch": str(epoch)}


def _root_context(epoch: int) -> dict[str, str]:
    return {"purpose": "keyring root", "epoch": str(epoch)}


def _wrapped_root(kek: bytes, epoch: int, root: bytes) -> str:
    return base64.b64encode(wrap_key(kek, root, _root_context(epoch))).decode()


def _is_wrapped_root(text: str) -> bool:
    return len(base64.b64decode(text, validate=True)) == WRAPPED_KEY_BYTES


def _new_kdf(n: int) -> dict[str, Any]:
    salt = base64.b64encode(os.urandom(_SALT_BYTES)).decode()
    return {"name": "scrypt", "salt": salt, "n": n, "r": SCRYPT_R, "p": SCRYPT_P}


def _derive(passphrase: str, kdf: Mapping[str, Any]) -> bytes:
    if not passphrase:
        raise ValueError("the passphrase is empty")
    salt = base64.b64decode(kdf["salt"])
    return Scrypt(salt, KEY_BYTES, n=kdf["n"], r=kdf["r"], p=kdf["p"]).derive(passphrase.encode())


def _stamp(path: Path) -> tuple[int, int, int]:
    """What changes whenever the file does: every change makes a new file."""
    status = path.stat()
    return status.st_ino, status.st_mtime_ns, status.st_size


def _read(path: Path) -> dict[str, Any]:
    """Reads and checks the file; adds its stamp, taken first so that a change meanwhile is noticed next time."""
    stamp = _stamp(path)
    if stamp[2] > _MAX_FILE_BYTES:
        raise Corrupt(f"{path} is too large for a keyring")
    try:
        document = json.loads(path.read_bytes())
        kdf, epochs = document["kdf"], document["epochs"]
        is_sound = (
            document["schema"] == SCHEMA
            and kdf["name"] == "scrypt"
            and (kdf["r"], kdf["p"]) == (SCRYPT_R, SCRYPT_P)
            and 2 <= kdf["n"] <= _MAX_SCRYPT_N
            and kdf["n"].bit_count() == 1
            and len(base64.b64decode(kdf["salt"], validate=True)) == _SALT_BYTES
            and all(epoch.isdecimal() and (key is None or _is_wrapped_root(key)) for epoch, key in epochs.items())
            and type(document["current"]) is int
        )
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        is_sound = False
    if not is_sound:
        raise Corrupt(f"{path} is not a keyring of format {SCHEMA}; restore it from its backup")
    return {**document, "stamp": stamp}


def _unlock(path: Path, document: dict[str, Any], kek: bytes) -> _State:
    """Unwraps the root keys that are alive."""
    roots = {}
    for epoch, wrapped in document["epochs"].items():
        if wrapped is not None:
            try:
                roots[int(epoch)] = unwrap_key(kek, base64.b64decode(wrapped), _root_context(int(epoch)))
            except WrongKeyOrContext:
                raise WrongKey(
                    f"the passphrase does not open {path}: check for a typing error or another keyboard layout; if it "
                    "was changed while this process ran, start the process again with the new one"
                ) from None
    if document["current"] not in roots:
        raise Corrupt(f"{path} has no current epoch; restore it from its backup")
    return _State(document.pop("stamp"), document, roots, kek)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Keeps other processes from changing the keyring meanwhile (advisory lock on a file beside it)."""
    descriptor = os.open(path.with_name(path.name + ".lock"), os.O_CREAT | os.O_RDWR, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
