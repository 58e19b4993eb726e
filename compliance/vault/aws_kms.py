"""Root keys in AWS KMS: a key provider over one KMS key for each epoch.

Guarantees that the root keys never leave KMS, and that a wrapped key comes back only for the context it was wrapped for
(KMS's encryption context, which AWS writes to its own trail: keep identifiers in it opaque). It does not shred at once:
AWS keeps a key that is to be destroyed for at least seven days, disabled.

Example::

    provider = KmsProvider(boto3.client("kms"), ["arn:aws:kms:…:key/first", "arn:aws:kms:…:key/second"])
    wrapped = provider.wrap(key, {"workspace": "w1"})

Source: AWS Key Management Service API Reference, version 2014-11-01. Needs the extra ``kms``.
"""

import struct
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from compliance.vault.errors import Corrupt, KeyDestroyed, VaultError, WrongKeyOrContext
from compliance.vault.keys import check_key

#: The shortest that AWS allows. Source: ScheduleKeyDeletion, PendingWindowInDays.
PENDING_WINDOW_DAYS = 7

_EPOCH = struct.Struct(">BI")
_FORMAT = 2
_GONE = {"DisabledException", "KMSInvalidStateException", "NotFoundException"}
_WRONG = {"InvalidCiphertextException", "IncorrectKeyException"}


class KmsProvider:
    """A ``KeyProvider`` whose epoch ``n`` is the ``n``-th of the given KMS keys; the last one wraps."""

    def __init__(self, client: Any, key_ids: Sequence[str]) -> None:
        """Takes what it needs to speak with KMS.

        Args:
            client: ``boto3.client("kms")``.
            key_ids: identifiers or ARNs of symmetric keys, oldest first. Keep destroyed ones in the list.

        Raises:
            ValueError: the list is empty.
        """
        if not key_ids:
            raise ValueError("name at least one KMS key")
        self._client = client
        self._key_ids = list(key_ids)

    def wrap(self, key: bytes, context: Mapping[str, str]) -> bytes:
        """Protects a key of 32 bytes under the newest KMS key.

        Raises:
            ValueError: the key does not have 32 bytes.
            VaultError: KMS refuses or is out of reach.
        """
        check_key(key)
        epoch = len(self._key_ids)
        with _kms_errors():
            answer = self._client.encrypt(KeyId=self._key_id(epoch), Plaintext=key, EncryptionContext=dict(context))
        return _EPOCH.pack(_FORMAT, epoch) + bytes(answer["CiphertextBlob"])

    def unwrap(self, wrapped: bytes, context: Mapping[str, str]) -> bytes:
        """Gives back a key of 32 bytes.

        Raises:
            KeyDestroyed: its KMS key is disabled, to be deleted, or gone.
            WrongKeyOrContext: another key or context, or altered bytes.
            Corrupt: not something this provider wrapped.
            VaultError: KMS refuses or is out of reach.
        """
        epoch, blob = self._split(wrapped)
        with _kms_errors():
            answer = self._client.decrypt(
                KeyId=self._key_id(epoch), CiphertextBlob=blob, EncryptionContext=dict(context)
            )
        return bytes(answer["Plaintext"])

    def rewrap(self, wrapped: bytes, context: Mapping[str, str]) -> bytes:
        """Moves a wrapped key to the newest KMS key; inside KMS, so the key does not come here.

        Raises: as ``unwrap``.
        """
        epoch, blob = self._split(wrapped)
        newest = len(self._key_ids)
        with _kms_errors():
            answer = self._client.re_encrypt(
                CiphertextBlob=blob,
                SourceKeyId=self._key_id(epoch),
                SourceEncryptionContext=dict(context),
                DestinationKeyId=self._key_id(newest),
                DestinationEncryptionContext=dict(context),
            )
        return _EPOCH.pack(_FORMAT, newest) + bytes(answer["CiphertextBlob"])

    def destroy(self, epoch: int) -> None:
        """Disables the KMS key of an epoch at once and has AWS delete it after seven days.

        Raises:
            VaultError: it is the newest epoch (add a key and rewrap first), there is none of this number, or KMS
                refuses or is out of reach.
        """
        if epoch == len(self._key_ids):
            raise VaultError(
                f"epoch {epoch} is the current one: add a KMS key, rewrap what is to live, then destroy it"
            )
        with _kms_errors():
            self._client.disable_key(KeyId=self._key_id(epoch))
            self._client.schedule_key_deletion(KeyId=self._key_id(epoch), PendingWindowInDays=PENDING_WINDOW_DAYS)

    def _key_id(self, epoch: int) -> str:
        if not 1 <= epoch <= len(self._key_ids):
            raise VaultError(f"no KMS key is configured for epoch {epoch}")
        return self._key_ids[epoch - 1]

    def _split(self, wrapped: bytes) -> tuple[int, bytes]:
        if len(wrapped) <= _EPOCH.size or wrapped[0] != _FORMAT:
            raise Corrupt("not a key wrapped by AWS KMS")
        return _EPOCH.unpack_from(wrapped)[1], wrapped[_EPOCH.size :]


@contextmanager
def _kms_errors() -> Iterator[None]:
    """Turns the client's errors into ours; only AWS's error code is passed on."""
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        yield
    except ClientError as error:
        code = str(error.response.get("Error", {}).get("Code", "unknown"))
        if code in _GONE:
            raise KeyDestroyed(f"the KMS key of this epoch is disabled, to be deleted or gone ({code})") from None
        if code in _WRONG:
            raise WrongKeyOrContext(
                f"KMS cannot open this: another key or context, or altered bytes ({code})"
            ) from None
        raise VaultError(f"KMS refuses ({code}): check the role's permission for this key") from None
    except BotoCoreError as error:
        raise VaultError(f"KMS cannot be used now ({type(error).__name__}): network, region, credentials?") from None
