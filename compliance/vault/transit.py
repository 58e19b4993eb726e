"""Root keys in HashiCorp Vault: a key provider over its Transit engine.

Guarantees that the root key never leaves Vault, and that a wrapped key comes back only for the context it was wrapped
for. It does not keep keys readable while Vault is sealed or out of reach, and Vault sees every key that it wraps.

Example::

    provider = TransitProvider(hvac.Client(url=url, token=token), "steward")
    wrapped = provider.wrap(key, {"workspace": "w1"})

The Transit key may be of any authenticated type (``aes256-gcm96`` is the default); its policy needs ``update`` on
``encrypt``, ``decrypt`` and ``rewrap``, and for ``destroy`` also on ``config`` and ``trim``.

Source: HashiCorp Vault documentation, "Transit secrets engine (API)". Needs the extra ``kms``.
"""

import base64
import hashlib
import hmac
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from compliance.canonical import canonical_json
from compliance.vault.errors import Corrupt, KeyDestroyed, VaultError, WrongContext, WrongKey
from compliance.vault.keys import KEY_BYTES, check_key

_FORMAT = b"vault:v"


class TransitProvider:
    """A ``KeyProvider`` whose epochs are the versions of one Transit key."""

    def __init__(self, client: Any, key_name: str, mount_point: str = "transit") -> None:
        """Takes what it needs to speak with Vault.

        Args:
            client: an authenticated ``hvac.Client``.
            key_name: name of the Transit key; it must exist.
            mount_point: where the engine is mounted.
        """
        self._transit = client.secrets.transit
        self._key = {"name": key_name, "mount_point": mount_point}

    def wrap(self, key: bytes, context: Mapping[str, str]) -> bytes:
        """Protects a key of 32 bytes under the newest version; returns Vault's text, ``vault:v1:…``.

        Raises:
            ValueError: the key does not have 32 bytes.
            VaultError: Vault refuses or is out of reach.
        """
        check_key(key)
        # The context goes inside, behind the key: Transit's own associated data is lost by its rewrap.
        plaintext = base64.b64encode(key + _digest(context)).decode()
        with _vault_errors():
            answer = self._transit.encrypt_data(plaintext=plaintext, **self._key)
        return str(answer["data"]["ciphertext"]).encode()

    def unwrap(self, wrapped: bytes, context: Mapping[str, str]) -> bytes:
        """Gives back a key of 32 bytes.

        Raises:
            KeyDestroyed: its version was shredded.
            WrongContext: it was wrapped for another context.
            WrongKey: wrapped under another key, or altered.
            Corrupt: not something that Transit wrapped.
            VaultError: Vault refuses or is out of reach.
        """
        with _vault_errors():
            answer = self._transit.decrypt_data(ciphertext=_text(wrapped), **self._key)
        content = base64.b64decode(answer["data"]["plaintext"])
        if not hmac.compare_digest(content[KEY_BYTES:], _digest(context)):
            raise WrongContext("the wrapped key belongs to another place")
        return content[:KEY_BYTES]

    def rewrap(self, wrapped: bytes, context: Mapping[str, str]) -> bytes:
        """Moves a wrapped key to the newest version, after checking that it belongs to ``context``.

        Raises: as ``unwrap``.
        """
        return self.wrap(self.unwrap(wrapped, context), context)

    def destroy(self, epoch: int) -> None:
        """Shreds a version of the key **and all older ones**, as Transit does; what they wrapped is gone.

        Args:
            epoch: version number; it must not be the newest, so rotate and rewrap first.

        Raises:
            VaultError: it is the newest version, or Vault refuses or is out of reach.
        """
        with _vault_errors():
            newest = self._transit.read_key(**self._key)["data"]["latest_version"]
        if not 1 <= epoch < newest:
            raise VaultError(f"version {epoch} is not older than the newest, {newest}: rotate and rewrap first")
        with _vault_errors():
            # One after the other, the stricter limit first: the client refuses both at once when they are equal.
            self._transit.update_key_configuration(min_encryption_version=epoch + 1, **self._key)
            self._transit.update_key_configuration(min_decryption_version=epoch + 1, **self._key)
            self._transit.trim_key(min_version=epoch + 1, **self._key)


@contextmanager
def _vault_errors() -> Iterator[None]:
    """Turns the client's errors into ours; their texts may quote what was sent, so they are not passed on."""
    import hvac.exceptions
    import requests.exceptions

    try:
        yield
    except hvac.exceptions.InvalidRequest as error:
        if "too old" in str(error):
            raise KeyDestroyed("this version of the root key was shredded; what it wrapped is gone") from None
        raise WrongKey("Vault cannot open this with the configured key: another key, or altered bytes") from None
    except (hvac.exceptions.Forbidden, hvac.exceptions.Unauthorized):
        raise VaultError("Vault refuses this token: renew it, and check its policy for the Transit key") from None
    except hvac.exceptions.InvalidPath:
        raise VaultError("Vault has no such Transit key or mount: check both names") from None
    except (hvac.exceptions.VaultError, requests.exceptions.RequestException) as error:
        raise VaultError(f"Vault cannot be used now ({type(error).__name__}): is it reachable and unsealed?") from None


def _digest(context: Mapping[str, str]) -> bytes:
    return hashlib.sha256(canonical_json(context)).digest()


def _text(wrapped: bytes) -> str:
    if not wrapped.startswith(_FORMAT) or not wrapped.isascii():
        raise Corrupt("not a key wrapped by Vault's Transit engine")
    return wrapped.decode()
