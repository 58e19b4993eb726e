"""Everything that changes how a workspace redacts: profile versions and list entries, each by two people."""

from collections.abc import Mapping
from typing import Any

from django.db.models import Max
from django.utils import timezone

from domains.packs import load_pack
from steward.accounts.models import Workspace
from steward.accounts.permissions import require
from steward.accounts.roles import Permission
from steward.audit.actor import Actor, Denied, Refused
from steward.audit.events import Event
from steward.audit.recording import audited, record
from steward.profiles.composing import differences, policy_digest
from steward.profiles.lists import add_entry, open_entries
from steward.profiles.models import EntryState, ListEntry, ListKind, ProfileState, ProfileVersion


@audited(Event.PROFILE_PROPOSED)
def propose_profile(
    *,
    actor: Actor,
    workspace: Workspace,
    overrides: Mapping[str, Mapping[str, Any]],
    reason: str,
    base: str | None = None,
) -> ProfileVersion:
    """Proposes the next version of the workspace's profile. It takes effect once another officer approves it.

    Args:
        overrides: entity type → settings that differ from the shipped profile; the whole of them, not an addition.
        base: a shipped profile; by default the domain's.

    Raises:
        Refused: nothing would change, a proposal waits already, no reason, or the result is no valid profile.
    """
    require(actor, Permission.MANAGE_POLICY, workspace)
    Workspace.objects.select_for_update().get(pk=workspace.pk)  # one version number at a time
    name = base or load_pack(workspace.domain).redaction_profile
    if not reason.strip():
        raise Refused("Say why the profile is changed.", code="reason_missing", subject=workspace)
    versions = ProfileVersion.objects.filter(workspace=workspace)
    if versions.filter(state=ProfileState.PROPOSED).exists():
        raise Refused(
            "A proposal waits for its decision. Decide on that one first.", code="proposal_waits", subject=workspace
        )
    kept = {kind: dict(changes) for kind, changes in overrides.items() if changes}
    digest = policy_digest(name, kept)
    current = ProfileVersion.objects.in_force(workspace, name)
    before = current.digest if current else policy_digest(name, {})
    if digest == before:
        raise Refused("Nothing would change.", code="nothing_changed", subject=workspace)
    version = ProfileVersion(
        workspace=workspace,
        base=name,
        number=(versions.aggregate(Max("number"))["number__max"] or 0) + 1,
        overrides=kept,
        digest=digest,
        reason=reason.strip()[:500],
        proposed_by_id=actor.user_id,
    )
    version.save(force_insert=True)
    changed = differences(name, current.overrides if current else {}, kept)
    record(version, before=before, after=digest, number=version.number, settings=len(changed))
    return version


@audited(Event.PROFILE_APPROVED)
def approve_profile(*, actor: Actor, version: ProfileVersion, reason: str = "") -> ProfileVersion:
    """Puts a proposed version in force for redactions that start from now on.

    Raises:
        Denied: by the person who proposed it.
        Refused: decided already, or the shipped profile changed since it was proposed.
    """
    locked = _lock_version(actor, version)
    if policy_digest(locked.base, locked.overrides) != locked.digest:
        raise Refused(
            "The shipped profile changed since this was proposed. Reject it and propose it again.",
            code="profile_outdated",
            subject=locked,
        )
    current = ProfileVersion.objects.in_force(locked.workspace, locked.base)
    before = current.digest if current else policy_digest(locked.base, {})
    _decide(locked, actor, ProfileState.APPROVED, reason)
    record(locked, before=before, after=locked.digest, number=locked.number)
    return locked


@audited(Event.PROFILE_REJECTED)
def reject_profile(*, actor: Actor, version: ProfileVersion, reason: str) -> ProfileVersion:
    """Closes a proposal. A reason is asked for; by another person than who proposed it."""
    locked = _lock_version(actor, version)
    if not reason.strip():
        raise Refused("Say why the proposal is rejected.", code="reason_missing", subject=locked)
    _decide(locked, actor, ProfileState.REJECTED, reason)
    record(locked, after=locked.digest, number=locked.number)
    return locked


def _lock_version(actor: Actor, version: ProfileVersion) -> ProfileVersion:
    require(actor, Permission.MANAGE_POLICY, version.workspace, version)
    locked = ProfileVersion.objects.select_for_update().get(pk=version.pk)
    if locked.proposed_by_id == actor.user_id:
        raise Denied("You proposed this, so another officer has to decide.", code="same_person", subject=locked)
    if locked.state != ProfileState.PROPOSED:
        raise Refused(f"{locked} was decided on before.", code="wrong_state", subject=locked)
    return locked


def _decide(version: ProfileVersion, actor: Actor, state: ProfileState, reason: str) -> None:
    version.state = state
    version.decided_by_id = actor.user_id
    version.decided_at = timezone.now()
    version.decision_reason = reason.strip()[:500]
    version.save()


@audited(Event.LIST_ENTRY_PROPOSED)
def propose_entry(*, actor: Actor, workspace: Workspace, kind: ListKind, entity_type: str, phrase: str) -> ListEntry:
    """Proposes a phrase that was typed in, not met in a record. It takes effect once an officer approves it.

    Raises:
        Refused: see `lists.add_entry`.
    """
    require(actor, Permission.REVIEW_SAMPLE, workspace)
    Workspace.objects.select_for_update().get(pk=workspace.pk)
    entry = add_entry(workspace, actor, ListKind(kind), entity_type, phrase)
    record(entry, kind=str(entry.kind), type=entity_type, phrase=entry.digest)
    return entry


@audited(Event.LIST_ENTRY_SHOWN)
def show_entry(*, actor: Actor, entry: ListEntry) -> str:
    """Shows an officer a phrase, which may be a name; that it was shown is recorded.

    Raises:
        Refused: it was erased.
    """
    require(actor, Permission.MANAGE_POLICY, entry.workspace, entry)
    phrases = open_entries(entry.workspace, [entry])
    if not phrases:
        raise Refused("The phrase was erased with the person it came from.", code="erased", subject=entry)
    record(entry)
    return phrases[0].text


@audited(Event.LIST_ENTRY_APPROVED)
def approve_entry(*, actor: Actor, entry: ListEntry) -> ListEntry:
    """Puts a phrase in force for redactions that start from now on. Not by the person who proposed it."""
    return _settle(actor, entry, EntryState.APPROVED)


@audited(Event.LIST_ENTRY_REJECTED)
def reject_entry(*, actor: Actor, entry: ListEntry) -> ListEntry:
    """Turns a proposed phrase down. Not by the person who proposed it."""
    return _settle(actor, entry, EntryState.REJECTED)


def _settle(actor: Actor, entry: ListEntry, state: EntryState) -> ListEntry:
    require(actor, Permission.MANAGE_POLICY, entry.workspace, entry)
    locked = ListEntry.objects.select_for_update().get(pk=entry.pk)
    if locked.proposed_by_id == actor.user_id:
        raise Denied("You proposed this, so another officer has to decide.", code="same_person", subject=locked)
    if locked.state != EntryState.PROPOSED:
        raise Refused("This phrase was decided on before.", code="wrong_state", subject=locked)
    locked.state = state
    locked.decided_by_id = actor.user_id
    locked.decided_at = timezone.now()
    locked.save()
    record(locked, kind=str(locked.kind), type=locked.entity_type, phrase=locked.digest)
    return locked


@audited(Event.LIST_ENTRY_RETIRED)
def retire_entry(*, actor: Actor, entry: ListEntry) -> ListEntry:
    """Takes a phrase out of force for redactions that start from now on; runs that used it still name it.

    Raises:
        Denied: a denied phrase by the person who proposed it.
        Refused: it is not in force.
    """
    require(actor, Permission.MANAGE_POLICY, entry.workspace, entry)
    locked = ListEntry.objects.select_for_update().get(pk=entry.pk)
    if locked.state != EntryState.APPROVED:
        raise Refused("This phrase is not in force.", code="wrong_state", subject=locked)
    if locked.kind == ListKind.DENY and locked.proposed_by_id == actor.user_id:
        raise Denied(
            "You proposed this phrase. That it is no longer masked is for another officer to decide.",
            code="same_person",
            subject=locked,
        )
    locked.state = EntryState.RETIRED
    locked.save(update_fields=["state"])
    record(locked, kind=str(locked.kind), type=locked.entity_type, phrase=locked.digest)
    return locked
