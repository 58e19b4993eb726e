"""The one way a change happens: permission, lock, write, record, commit, in one durable transaction.

Guarantees that a function marked `@audited` either leaves both its rows and its ledger entry or neither, and that a
denial or refusal is itself recorded. Does not decide permissions; the action calls `accounts.permissions.require`.

Example:
    @audited(Event.DATASET_CREATED)
    def create_dataset(*, actor: Actor, workspace: Workspace, name: str) -> Dataset:
        require(actor, Permission.IMPORT_DATA, workspace)
        dataset = Dataset(workspace=workspace, name=name)
        dataset.save()
        record(dataset)
        return dataset
"""

import functools
import uuid
from collections.abc import Callable
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any, ParamSpec, TypeVar

from django.db import models, transaction

from compliance.ledger import entry
from steward.audit.actor import Actor, Denied, Refused, UserError
from steward.audit.events import FACTS, Event
from steward.audit.models import OutboxEntry

P = ParamSpec("P")
R = TypeVar("R")


class UnrecordedAction(RuntimeError):
    """An action ended without calling `record`: a defect of ours, and nothing of it is kept."""


class _Pending:
    """The action under way in this context, so that `record` knows whose and which."""

    def __init__(self, event: Event, actor: Actor) -> None:
        self.event = event
        self.actor = actor
        self.recorded = 0
        self.afterwards: list[Callable[[], object]] = []


_pending: ContextVar[_Pending | None] = ContextVar("pending_action", default=None)


def audited(event: Event) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Marks a function of an `actions` module as the action that `event` records.

    The function takes keyword arguments only, `actor` among them, and calls `record` at least once.

    Raises:
        Denied, Refused: as raised by the function, after the refusal has been recorded.
        UnrecordedAction: if it ended without `record`; its transaction is rolled back.
    """

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        @functools.wraps(function)
        def act(*args: P.args, **kwargs: P.kwargs) -> R:
            if args:
                raise TypeError(f"{function.__name__} takes keyword arguments only")
            actor = kwargs["actor"]
            assert isinstance(actor, Actor)
            if _pending.get() is not None:
                raise RuntimeError(f"{function.__name__} was called inside another action; actions do not nest")
            pending = _Pending(event, actor)
            token = _pending.set(pending)
            try:
                with transaction.atomic(durable=True):
                    result = function(*args, **kwargs)
                    if not pending.recorded:
                        raise UnrecordedAction(f"{function.__name__} recorded nothing for {event}")
                for callback in pending.afterwards:
                    callback()
                return result
            except (Denied, Refused) as refusal:
                _record_refusal(event, actor, refusal)
                raise
            finally:
                _pending.reset(token)

        act.audited_event = event  # type: ignore[attr-defined]
        return act

    return decorate


def after_commit(callback: Callable[[], object]) -> None:
    """Runs `callback` once the action under way is committed, and never if it is not; outside an action, once the
    transaction is. For what cannot be rolled back, such as removing a file."""
    pending = _pending.get()
    if pending is None:
        transaction.on_commit(callback)
    else:
        pending.afterwards.append(callback)


def record(
    subject: models.Model,
    /,
    *,
    event: Event | None = None,
    before: str | None = None,
    after: str | None = None,
    **facts: int | str | bool | None,
) -> uuid.UUID:
    """Puts the ledger entry of the action under way into the outbox, in the action's own transaction.

    Args:
        subject: the row acted upon; its workspace, kind and id go into the entry.
        event: another event than the action's own, where one action does two things.
        before, after: digests (`sha256:…`) of the subject's state.
        facts: declared in `events.FACTS` for this event; counts, digests, enum values, opaque ids.

    Returns:
        The event id, unique over the ledger.
    """
    pending = _pending.get()
    if pending is None:
        raise RuntimeError("record() was called outside an @audited action")
    pending.recorded += 1
    return _append(event or pending.event, pending.actor, "done", subject, before, after, facts)


def record_intent(
    event: Event, subject: models.Model, /, *, actor: Actor, **facts: int | str | bool | None
) -> uuid.UUID:
    """Records and *seals* that `event` is about to happen. Call it before the act, outside any transaction.

    Release, reveal, export, erasure and key destruction announce themselves this way, so that an act whose outcome
    is missing from the ledger stands out.
    """
    from steward.audit.sealer import seal_until

    with transaction.atomic(durable=True):
        event_id = _append(event, actor, "intent", subject, None, None, facts)
    seal_until(event_id)
    return event_id


def _record_refusal(event: Event, actor: Actor, refusal: UserError) -> None:
    outcome = "denied" if isinstance(refusal, Denied) else "refused"
    subject = refusal.subject if isinstance(refusal.subject, models.Model) else None
    with transaction.atomic(durable=True):
        _append(event, actor, outcome, subject, None, None, {"code": refusal.code})


def _append(
    event: Event,
    actor: Actor,
    outcome: str,
    subject: models.Model | None,
    before: str | None,
    after: str | None,
    facts: dict[str, Any],
) -> uuid.UUID:
    undeclared = facts.keys() - FACTS[event] - ({"code"} if outcome in ("denied", "refused") else set())
    if undeclared:
        raise UnrecordedAction(f"{event} may not carry {', '.join(sorted(undeclared))}; declare it in audit.events")
    event_id = uuid.uuid4()
    body = entry.build_body(
        event_id=event_id,
        time=datetime.now(UTC),
        workspace=_workspace_id(subject),
        actor=actor.pseudonym,
        action=str(event),
        outcome=outcome,
        object_type=str(subject._meta.model_name) if subject is not None else "none",
        object_id=str(subject.pk) if subject is not None else None,
        before=before,
        after=after,
        facts={name: value for name, value in facts.items() if value is not None},
    )
    OutboxEntry.objects.create(event_id=event_id, body=body)
    return event_id


def _workspace_id(subject: models.Model | None) -> str | None:
    """The id of the workspace a row belongs to, None for what belongs to the whole installation."""
    if subject is None:
        return None
    if subject._meta.model_name == "workspace":
        return str(subject.pk)
    workspace_id = getattr(subject, "workspace_id", None)
    return None if workspace_id is None else str(workspace_id)
