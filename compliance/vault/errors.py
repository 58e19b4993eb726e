"""What can go wrong with the vault, told apart as far as cryptography allows.

Guarantees that no message holds key material or content. It does not tell a wrong key from an altered first segment
where no commitment was kept: nobody can.

Example: ``except WrongKey: ask_for_the_other_passphrase()``
"""


class VaultError(Exception):
    """Base of every error of the vault."""


class WrongKey(VaultError):
    """The key, or the passphrase it comes from, is not the one that was used."""


class WrongContext(VaultError):
    """The thing was made for another place: another workspace, dataset, object, kind, version or purpose."""


class WrongKeyOrContext(WrongKey, WrongContext):
    """Key and context do not fit together; which of the two is wrong cannot be told."""


class Corrupt(VaultError):
    """The bytes were altered, cut or extended, or were never in this format."""


class KeyDestroyed(VaultError):
    """The key was shredded on purpose, and with it everything that it protected."""
