"""Remembers the answer to a request that names an idempotency key, so that repeating it has one effect.

Guarantees that of any number of requests with the same owner and key one runs; the others get its answer, or are told
that it is still running. Only answers of success are remembered: a request that failed had no effect and may run again.
Does not notice that a process died between its effect and its answer; after `ABANDONED_SECONDS` the key is free again.

Source: the shape follows draft-ietf-httpapi-idempotency-key-header, sections 2.4 to 2.7.
"""

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from django.db import IntegrityError, models, transaction
from django.utils import timezone

from steward.accounts.models import IdempotentRequest, User
from steward.audit.actor import UserError

KEPT_HOURS = 24
ABANDONED_SECONDS = 600


class KeyConflict(UserError):
    """The key was used for another request, or its request is still running."""

    status = 409


@dataclass(frozen=True, slots=True)
class Replay:
    """The remembered answer."""

    status: int
    answer: Any


def claim(user: User, credential: str, key: str, fingerprint: str) -> IdempotentRequest | Replay:
    """Takes the key for this request, or returns the answer that was given to the same request before.

    Raises:
        KeyConflict: another request used the key, or the same one is still running.
    """
    _forget_old()
    owner = {"user": user, "credential": credential, "key": key}
    try:
        with transaction.atomic():
            return IdempotentRequest.objects.create(**owner, fingerprint=fingerprint)
    except IntegrityError:
        known = IdempotentRequest.objects.filter(**owner).first()
    if known is None:  # released in between
        return claim(user, credential, key, fingerprint)
    if known.fingerprint != fingerprint:
        raise KeyConflict(
            "This Idempotency-Key was used for another request. Use a new key for each different request.",
            code="idempotency_key_reused",
        )
    if known.status is None:
        raise KeyConflict(
            "The first request with this Idempotency-Key is still running. Ask again in a moment.",
            code="idempotency_in_progress",
        )
    return Replay(known.status, known.answer)


def remember(claimed: IdempotentRequest, status: int, answer: Any) -> None:
    """Keeps the answer for the next request with this key."""
    claimed.status = status
    claimed.answer = answer
    claimed.save(update_fields=["status", "answer"])


def release(claimed: IdempotentRequest) -> None:
    """Frees the key: its request had no effect."""
    claimed.delete()


def _forget_old() -> None:
    now = timezone.now()
    old = models.Q(started_at__lt=now - timedelta(hours=KEPT_HOURS))
    abandoned = models.Q(status=None, started_at__lt=now - timedelta(seconds=ABANDONED_SECONDS))
    IdempotentRequest.objects.filter(old | abandoned).delete()
