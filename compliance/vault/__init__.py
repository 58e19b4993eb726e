"""The vault: sealed objects, sealed records, and the keys to them.

Guarantees confidentiality and integrity of what is sealed, bound to the place it belongs to. It does not decide who
may open what, and does not keep a record of it: actions of the platform do both.

Example: see ``compliance.vault.stream``.
"""

from compliance.vault.context import ObjectContext
from compliance.vault.errors import Corrupt, KeyDestroyed, VaultError, WrongContext, WrongKey, WrongKeyOrContext
from compliance.vault.files import atomic_output, open_file, seal_file
from compliance.vault.keyring import PassphraseKeyring, epoch_of
from compliance.vault.keys import KeyProvider, commitment, new_key, unwrap_key, wrap_key
from compliance.vault.records import RecordCipher, decrypt_record, encrypt_record, keyed_digest
from compliance.vault.segments import plaintext_size, sealed_size
from compliance.vault.stream import OpenReader, SealWriter, open_reader, seal_writer

__all__ = [
    "Corrupt",
    "KeyDestroyed",
    "KeyProvider",
    "ObjectContext",
    "OpenReader",
    "PassphraseKeyring",
    "RecordCipher",
    "SealWriter",
    "VaultError",
    "WrongContext",
    "WrongKey",
    "WrongKeyOrContext",
    "atomic_output",
    "commitment",
    "decrypt_record",
    "encrypt_record",
    "epoch_of",
    "keyed_digest",
    "new_key",
    "open_file",
    "open_reader",
    "plaintext_size",
    "seal_file",
    "seal_writer",
    "sealed_size",
    "unwrap_key",
    "wrap_key",
]
