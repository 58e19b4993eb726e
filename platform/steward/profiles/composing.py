"""The profile that a redaction really uses: the shipped one, the workspace's approved changes, its lists.

Guarantees that what is composed went through `parse_profile`, that an approved version whose shipped profile changed
underneath is refused rather than used, and that the digest of a profile with lists gives no phrase away: the lists go
into it by a keyed digest. Does not decide who may change what; `actions` does.

Example:
    >>> effective_profile(workspace, "healthcare").digest
    'sha256:...'
"""

import json
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

from compliance.canonical import canonical_json, sha256_digest
from compliance.redaction import Profile, ProfileError
from compliance.redaction.profile import SHIPPED, available_profiles, parse_profile
from compliance.vault import keyed_digest
from steward.accounts.models import Workspace
from steward.audit.actor import Refused
from steward.profiles.lists import Phrase, lists_key, open_entries
from steward.profiles.models import ListEntry, ListKind, ProfileVersion

#: Beside the entity types, overrides may name the profile's limits on re-identification under this.
LIMITS = "reidentification"
LIMIT_NAMES = ("k_min", "l_min", "max_risk", "average_risk", "small_cells")
CHANGEABLE = ("on", "threshold", "operator", "reversible", "reason", "citation")
Overrides = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class EffectiveProfile:
    """What one redaction uses. `data` is plain and crosses to other processes; `version` is None for the shipped one.

    `policy_digest` is the digest without the lists, `digest` the one with them.
    """

    data: dict[str, Any]
    version: ProfileVersion | None
    entry_ids: tuple[str, ...]
    policy_digest: str
    digest: str

    @cached_property
    def profile(self) -> Profile:
        return parse_profile(self.data)


@lru_cache
def _shipped_text(name: str) -> str:
    return (SHIPPED / f"{name}.toml").read_text(encoding="utf-8")


def shipped(name: str) -> dict[str, Any]:
    """A shipped profile as plain data. Raises Refused for any other name: no path of this machine is read."""
    if name not in available_profiles():
        known = ", ".join(available_profiles())
        raise Refused(f"There is no redaction profile of that name. Known: {known}.", code="profile_unknown")
    data = tomllib.loads(_shipped_text(name))
    for policy in data["entities"].values():
        policy.setdefault("reversible", False)
    return data


def composed(name: str, overrides: Overrides) -> dict[str, Any]:
    """The shipped profile with changed entity policies and limits; a limit of None is none.

    Raises:
        Refused: an entity type the profile does not have, a setting that cannot be changed, or a value out of range.
    """
    data = shipped(name)
    for kind, changes in overrides.items():
        if kind == LIMITS:
            limits = {**data.get(LIMITS, {}), **changes}
            data[LIMITS] = {name: limit for name, limit in limits.items() if limit is not None}
            continue
        if kind not in data["entities"] or not set(changes) <= set(CHANGEABLE):
            raise Refused(
                f"The profile {name} has no such setting under {kind[:30]!r}. Of each type it has, these can be "
                f"changed: {', '.join(CHANGEABLE)}.",
                code="override_unknown",
            )
        data["entities"][kind] = {**data["entities"][kind], **changes}
    try:
        parse_profile(data, source=name)
    except ProfileError as error:
        raise Refused(f"The profile would not be valid: {error}", code="profile_invalid") from None
    return data


def policy_digest(name: str, overrides: Overrides) -> str:
    """Digest of the composed policy without lists."""
    return parse_profile(composed(name, overrides)).digest


def effective_profile(workspace: Workspace, name: str) -> EffectiveProfile:
    """What a redaction that starts now uses.

    Raises:
        Refused: no such profile, or the shipped one was changed since the workspace's version was approved.
    """
    version = ProfileVersion.objects.in_force(workspace, name)
    return _built(workspace, name, version, list(ListEntry.objects.in_force(workspace)))


def recomposed(
    workspace: Workspace, name: str, version: ProfileVersion | None, entry_ids: Iterable[str]
) -> EffectiveProfile:
    """What a redaction used, from what its row names. A phrase erased since is left out, and the digest shows it."""
    rows = ListEntry.objects.filter(workspace=workspace, pk__in=list(entry_ids), ciphertext__isnull=False)
    return _built(workspace, name, version, list(rows.order_by("decided_at", "id")))


def policy_of(name: str, version: ProfileVersion | None) -> Profile:
    """The policy without lists, for a page that explains a finding; nothing is decrypted."""
    return parse_profile(composed(name, version.overrides if version else {}))


def _built(
    workspace: Workspace, name: str, version: ProfileVersion | None, entries: list[ListEntry]
) -> EffectiveProfile:
    data = composed(name, version.overrides if version else {})
    digest = parse_profile(data).digest
    if version is not None and version.digest != digest:
        raise Refused(
            f"The shipped profile {name} has changed since {version} was approved. An officer has to propose the "
            "changes again, and another to approve them.",
            code="profile_outdated",
            subject=version,
        )
    phrases = open_entries(workspace, entries) if entries else []
    whole = digest
    if phrases:
        data = _with_lists(data, phrases)
        keyed = keyed_digest(lists_key(workspace), json.dumps([list(each) for each in phrases]).encode())
        whole = sha256_digest(canonical_json({"policy": digest, "lists": keyed}))
    return EffectiveProfile(data, version, tuple(str(entry.pk) for entry in entries), digest, whole)


def _with_lists(data: dict[str, Any], phrases: list[Phrase]) -> dict[str, Any]:
    """Denied phrases of a type that the profile does not have are masked as another identifier of its own."""
    fallback = "OTHER_ID" if "OTHER_ID" in data["entities"] else next(iter(data["entities"]))
    denied = {
        each.text: each.entity_type if each.entity_type in data["entities"] else fallback
        for each in phrases
        if each.kind == ListKind.DENY
    }
    allowed = [each.text for each in phrases if each.kind == ListKind.ALLOW]
    return {**data, "allow": [*data.get("allow", ()), *allowed], "deny": {**data.get("deny", {}), **denied}}


def differences(name: str, before: Overrides, after: Overrides) -> list[dict[str, Any]]:
    """Which settings two versions over one shipped profile treat differently: type, setting, before, after."""
    was, will_be = composed(name, before), composed(name, after)
    old, new = was["entities"], will_be["entities"]
    limits = [(limit, was.get(LIMITS, {}).get(limit), will_be.get(LIMITS, {}).get(limit)) for limit in LIMIT_NAMES]
    changed = [{"type": LIMITS, "setting": limit, "before": a, "after": b} for limit, a, b in limits if a != b]
    return changed + [
        {"type": kind, "setting": setting, "before": old[kind][setting], "after": new[kind][setting]}
        for kind in old
        for setting in CHANGEABLE
        if old[kind][setting] != new[kind][setting]
    ]
