"""The body of a ledger entry: who did what to which thing, without any content.

Guarantees that equal facts give equal bytes, and that neither free text nor a float nor more than 4 KiB gets in.
It does not notice an identifying word that looks like a token: which facts an event may carry is declared per event.

Example::

    body = build_body(event_id=uuid4(), time=now, workspace="w1", actor="user:3f", action="dataset.approved",
                      outcome="done", object_type="dataset_version", object_id="8d", before=None,
                      after="sha256:…", facts={"records": 1200})
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID

from compliance.canonical import CanonicalError, canonical_json

SCHEMA = "steward.ledger.entry/1"
MAX_BODY_BYTES = 4096
MAX_FACTS = 32
OUTCOMES = ("done", "denied", "refused", "intent")

Fact = int | bool | str

_TOKEN = re.compile(r"[A-Za-z][A-Za-z0-9._:/+-]{0,63}")
_IDENTIFIER = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/+-]{0,127}")
_DIGEST = re.compile(r"(sha256|hmac):[0-9a-f]{64}")
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_ACTION = re.compile(r"[a-z][a-z0-9_]{0,31}(\.[a-z][a-z0-9_]{0,31}){1,3}")
_FACT_NAME = re.compile(r"[a-z][a-z0-9_]{0,47}")
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z")


class EntryError(ValueError):
    """The body of an entry is not what it must be; names the field and never its value."""


@dataclass(frozen=True, slots=True)
class Entry:
    """What a body says.

    Attributes:
        event_id: identity of the event; no two entries share one.
        time: UTC, when the action was recorded.
        workspace: its identifier, or None for what concerns the whole house.
        actor: pseudonym of whoever acted.
        action: a noun and what happened to it, ``dataset.approved``.
        outcome: ``done``, ``denied`` (no permission), ``refused`` (by a rule) or ``intent`` (about to happen).
        object_type: what kind of thing it happened to.
        object_id: which one, or None.
        before: digest of its state before, or None.
        after: digest of its state after, or None.
        facts: counts, flags, short tokens and digests.
    """

    event_id: UUID
    time: datetime
    workspace: str | None
    actor: str
    action: str
    outcome: str
    object_type: str
    object_id: str | None
    before: str | None
    after: str | None
    facts: Mapping[str, Fact]

    def body(self) -> bytes:
        """Canonical JSON of the entry, at most 4 KiB.

        Raises:
            EntryError: a field has a form that is not allowed, or the body is too long.
        """
        document = {
            "schema": SCHEMA,
            "event_id": str(self.event_id),
            "time": time_text(self.time),
            "workspace": _matching("workspace", self.workspace, _IDENTIFIER, is_optional=True),
            "actor": _matching("actor", self.actor, _IDENTIFIER),
            "action": _matching("action", self.action, _ACTION),
            "outcome": self.outcome,
            "object_type": _matching("object_type", self.object_type, _TOKEN),
            "object_id": _matching("object_id", self.object_id, _IDENTIFIER, is_optional=True),
            "before": _matching("before", self.before, _DIGEST, is_optional=True),
            "after": _matching("after", self.after, _DIGEST, is_optional=True),
            "facts": _checked_facts(self.facts),
        }
        if self.outcome not in OUTCOMES:
            raise EntryError(f"outcome is none of {', '.join(OUTCOMES)}")
        try:
            body = canonical_json(document)
        except CanonicalError as error:
            raise EntryError(str(error)) from None
        if len(body) > MAX_BODY_BYTES:
            raise EntryError(f"the entry has {len(body)} bytes, at most {MAX_BODY_BYTES} are allowed")
        return body


def build_body(
    *,
    event_id: UUID | str,
    time: datetime,
    workspace: str | None,
    actor: str,
    action: str,
    outcome: str,
    object_type: str,
    object_id: str | None,
    before: str | None,
    after: str | None,
    facts: Mapping[str, Fact],
) -> bytes:
    """Makes the body of an entry; the arguments are the attributes of ``Entry``.

    Returns:
        RFC 8785 canonical JSON, at most 4 KiB.

    Raises:
        EntryError: a field has a form that is not allowed, or the body is too long.
    """
    try:
        identity = event_id if isinstance(event_id, UUID) else UUID(event_id)
    except ValueError:
        raise EntryError("event_id is not a UUID") from None
    return Entry(identity, time, workspace, actor, action, outcome, object_type, object_id, before, after, facts).body()


def time_text(time: datetime) -> str:
    """A time as it stands in a body: UTC, microseconds.

    Raises:
        EntryError: the time has no time zone.
    """
    if time.tzinfo is None:
        raise EntryError("time has no time zone")
    return time.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def parse_body(body: bytes) -> Entry:
    """Reads a body and checks that it is exactly what ``build_body`` would have made.

    Raises:
        EntryError: not JSON, another schema, a missing or unknown field, a form that is not allowed, or not canonical.
    """
    if len(body) > MAX_BODY_BYTES:
        raise EntryError(f"the entry has {len(body)} bytes, at most {MAX_BODY_BYTES} are allowed")
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        raise EntryError("the body is not JSON") from None
    if not isinstance(document, dict) or document.pop("schema", None) != SCHEMA:
        raise EntryError(f"the body is not a {SCHEMA}")
    if set(document) != set(Entry.__slots__):
        raise EntryError("the body has a missing or an unknown field")
    time = document["time"]
    if not isinstance(time, str) or not _TIME.fullmatch(time):
        raise EntryError("time is not of the form 2026-01-31T23:59:59.000000Z")
    if not isinstance(document["event_id"], str) or not _UUID.fullmatch(document["event_id"]):
        raise EntryError("event_id is not a UUID")
    try:
        moment = datetime.fromisoformat(time)
    except ValueError:
        raise EntryError("time is no time of the calendar") from None
    entry = Entry(**{**document, "event_id": UUID(document["event_id"]), "time": moment})
    if entry.body() != body:
        raise EntryError("the body is not canonical JSON")
    return entry


def _matching(name: str, value: object, form: re.Pattern[str], *, is_optional: bool = False) -> str | None:
    if value is None and is_optional:
        return None
    if not isinstance(value, str) or not form.fullmatch(value):
        raise EntryError(f"{name} has a form that is not allowed: no free text, no spaces")
    return value


def _checked_facts(facts: object) -> dict[str, Fact]:
    if not isinstance(facts, Mapping) or len(facts) > MAX_FACTS:
        raise EntryError(f"facts is not a flat mapping of at most {MAX_FACTS} names")
    for name, value in facts.items():
        if not isinstance(name, str) or not _FACT_NAME.fullmatch(name):
            raise EntryError("the name of a fact has a form that is not allowed")
        if isinstance(value, str):
            if not any(form.fullmatch(value) for form in (_TOKEN, _UUID, _DIGEST)):
                raise EntryError(f"fact {name} is neither a short token nor a UUID nor a digest")
        elif not isinstance(value, int):
            raise EntryError(f"fact {name} is no integer, flag or token; scores go as parts per million")
    return dict(facts)
