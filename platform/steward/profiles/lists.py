"""Phrases of the deny and allow lists: sealed when they come in, opened for a redaction or for an officer's decision.

Guarantees that a phrase is stored under a key derived from the workspace's, bound to its row, and that equal phrases
are recognised by a keyed digest only. Does not check permissions; the actions that call this do.
"""

import hmac
import json
import unicodedata
import uuid
from typing import NamedTuple

from compliance.redaction.profile import ENTITY_TYPES
from compliance.vault import RecordCipher, keyed_digest
from steward.accounts.models import Workspace
from steward.audit.actor import Actor, Refused
from steward.profiles.models import EntryState, ListEntry, ListKind
from steward.vault.keys import open_key, workspace_key
from steward.vault.models import DataKey, KeyLevel

MIN_CHARS, MAX_CHARS = 2, 200
MAX_ENTRIES = 5_000


class Phrase(NamedTuple):
    """An entry in the clear."""

    kind: str
    entity_type: str
    text: str


def lists_key(workspace: Workspace) -> bytes:
    """The key of the workspace's lists, derived from its own."""
    key = DataKey.objects.filter(workspace=workspace, level=KeyLevel.WORKSPACE, destroyed_at=None).first()
    return hmac.digest(open_key(key or workspace_key(workspace)), b"steward/redaction-lists", "sha256")


def open_entries(workspace: Workspace, entries: list[ListEntry]) -> list[Phrase]:
    """The phrases of entries that were not erased."""
    cipher = RecordCipher(lists_key(workspace))
    return [
        Phrase(entry.kind, entry.entity_type, json.loads(cipher.decrypt(bytes(entry.ciphertext), _context(entry.pk))))
        for entry in entries
        if entry.ciphertext is not None
    ]


def add_entry(
    workspace: Workspace, actor: Actor, kind: ListKind, entity_type: str, text: str, origin: str = ""
) -> ListEntry:
    """Stores a proposal. Must run inside an action.

    Args:
        origin: the row id of the subject in whose record the phrase stands; `forget` erases by it.

    Raises:
        Refused: too short, too long, of an unknown type, in the lists already, or the lists are full.
    """
    text = " ".join(unicodedata.normalize("NFC", text).split())
    if not MIN_CHARS <= len(text) <= MAX_CHARS or not any(char.isalnum() for char in text):
        raise Refused(
            f"A phrase of the lists has {MIN_CHARS} to {MAX_CHARS} characters, letters or digits among them.",
            code="phrase_unusable",
            subject=workspace,
        )
    if entity_type not in ENTITY_TYPES:
        raise Refused("Say what type of identifier the phrase is.", code="type_unknown", subject=workspace)
    key = lists_key(workspace)
    digest = keyed_digest(key, text.casefold().encode())
    standing = ListEntry.objects.filter(workspace=workspace, state__in=(EntryState.PROPOSED, EntryState.APPROVED))
    if standing.filter(digest=digest).exists():
        raise Refused("This phrase is in the lists already, or waits there.", code="phrase_known", subject=workspace)
    if standing.count() >= MAX_ENTRIES:
        raise Refused(f"The lists hold {MAX_ENTRIES} phrases. Retire some.", code="lists_full", subject=workspace)
    entry = ListEntry(
        id=uuid.uuid4(),
        workspace=workspace,
        kind=kind,
        entity_type=entity_type,
        digest=digest,
        origin=origin,
        proposed_by_id=actor.user_id,
    )
    entry.ciphertext = RecordCipher(key).encrypt(json.dumps(text).encode(), _context(entry.pk))
    entry.save(force_insert=True)
    return entry


def forget(workspace: Workspace, origin: str) -> int:
    """Erases the phrases that were met in a subject's records. Must run inside an action."""
    rows = ListEntry.objects.filter(workspace=workspace, origin=origin, ciphertext__isnull=False)
    return rows.update(ciphertext=None, state=EntryState.ERASED)


def _context(entry_id: uuid.UUID) -> bytes:
    return f"list-entry/{entry_id}".encode()
