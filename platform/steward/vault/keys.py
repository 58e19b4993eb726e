"""Unwrapping and making keys, inside actions and jobs. Key bytes live in memory as long as the caller holds them.

Guarantees that a destroyed key, or a child of one, cannot be unwrapped, and that a wrapped key cannot be used in
another place of the hierarchy (the wrap is bound to workspace, level and id).
"""

from django.utils import timezone

from compliance.vault import KeyDestroyed, new_key, unwrap_key, wrap_key
from steward.accounts.models import Workspace
from steward.keyring import provider
from steward.vault.models import DataKey, KeyLevel


def _context(key: DataKey) -> dict[str, str]:
    return {"workspace": str(key.workspace_id), "level": key.level, "key": str(key.id)}


def _wrap(key: DataKey, secret: bytes) -> bytes:
    if key.parent is None:
        return provider().wrap(secret, _context(key))
    return wrap_key(open_key(key.parent), secret, _context(key))


def make_key(workspace: Workspace, level: KeyLevel, parent: DataKey | None = None) -> DataKey:
    """Makes and stores a key; without `parent` it hangs under the workspace's own key, which is made if need be."""
    if level is not KeyLevel.WORKSPACE and parent is None:
        parent = workspace_key(workspace)
    secret = new_key()
    key = DataKey(workspace=workspace, level=level, parent=parent)
    key.wrapped = _wrap(key, secret)
    key.save(force_insert=True)
    return key


def workspace_key(workspace: Workspace) -> DataKey:
    """The workspace's living key, made on first use."""
    Workspace.objects.select_for_update().get(pk=workspace.pk)  # two first uses at once make one key
    found = DataKey.objects.filter(workspace=workspace, level=KeyLevel.WORKSPACE, destroyed_at=None).first()
    return found or make_key(workspace, KeyLevel.WORKSPACE)


def open_key(key: DataKey) -> bytes:
    """The key's 32 bytes.

    Raises:
        KeyDestroyed: it, or a key above it, was shredded.
        WrongKey: the passphrase or the row is not the right one.
    """
    if key.wrapped is None:
        raise KeyDestroyed(f"{key} was destroyed; what it sealed cannot be read again.")
    if key.parent_id is None:
        return provider().unwrap(bytes(key.wrapped), _context(key))
    parent = DataKey.objects.select_related("parent").get(pk=key.parent_id)
    return unwrap_key(open_key(parent), bytes(key.wrapped), _context(key))


def destroy_key(key: DataKey) -> None:
    """Shreds the key: its bytes leave the row, so nothing it sealed can be read again, nor under its children."""
    key.wrapped = None
    key.destroyed_at = timezone.now()
    key.save(update_fields=["wrapped", "destroyed_at"])
