"""Who acts, and the two ways of being turned away.

`Denied` means the person may not do it; `Refused` means a rule of the house forbids it now, whoever asks.
Both are recorded in the ledger by `audited` and carry words for the person, never payload.
"""

from dataclasses import dataclass
from typing import Any, Protocol


class HasPseudonym(Protocol):
    """What `Actor.of` needs of a user: a primary key and the pseudonym under which the ledger knows them."""

    pk: Any
    pseudonym: Any


@dataclass(frozen=True, slots=True)
class Actor:
    """The acting person or process. The ledger sees `pseudonym` only.

    `user_id` is None for the platform itself (`Actor.system`). `scopes` narrows what an API token may do;
    None means that roles alone decide.
    """

    pseudonym: str
    user_id: int | None = None
    scopes: frozenset[str] | None = None

    @classmethod
    def of(cls, user: HasPseudonym, scopes: frozenset[str] | None = None) -> "Actor":
        return cls(pseudonym=str(user.pseudonym), user_id=user.pk, scopes=scopes)

    @classmethod
    def system(cls, process: str) -> "Actor":
        """The platform acting by itself, e.g. `Actor.system("worker")`."""
        return cls(pseudonym=f"system:{process}")

    @property
    def is_system(self) -> bool:
        return self.user_id is None


class UserError(Exception):
    """The person asked for something that cannot be done; `str()` says what, where, and what to do next.

    `code` is stable and machine-readable; `status` is the HTTP status a door should answer with.
    """

    status = 400

    def __init__(self, message: str, *, code: str = "invalid", subject: object | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.subject = subject


class Denied(UserError):
    """The actor lacks the permission. Recorded as outcome `denied`."""

    status = 403

    def __init__(self, message: str, *, code: str = "denied", subject: object | None = None) -> None:
        super().__init__(message, code=code, subject=subject)


class Refused(UserError):
    """A rule forbids the step in this state. Recorded as outcome `refused`."""

    status = 409

    def __init__(self, message: str, *, code: str = "refused", subject: object | None = None) -> None:
        super().__init__(message, code=code, subject=subject)
