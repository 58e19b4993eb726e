"""API tokens: what a program shows instead of a person, narrower than that person and for a limited time.

Guarantees that only a SHA-512 digest of a token is kept, that every token ends, and that a token can do at most what
its owner's roles allow at that moment. Does not guard against a token that was copied from where a program keeps it:
revoke that one.

Example: `ApiToken.objects.filter(user=user).active()` are the tokens of one person that still open something.
"""

import uuid

from django.db import models
from django.utils import timezone
from knox.models import AbstractAuthToken

from steward.accounts.roles import Permission

DEFAULT_LIFETIME_DAYS = 90
MAX_LIFETIME_DAYS = 365
MAX_TOKENS_PER_USER = 20


class ApiTokenQuerySet(models.QuerySet["ApiToken"]):
    def active(self) -> "ApiTokenQuerySet":
        """Tokens that still open something."""
        return self.filter(revoked_at=None, expiry__gt=timezone.now())


class ApiToken(AbstractAuthToken):
    """One token of one person. `scopes` are values of `Permission`; it may do nothing else, whatever its owner may."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    digest = models.CharField(max_length=128, unique=True)
    name = models.CharField(max_length=80)
    scopes = models.JSONField(default=list)
    revoked_at = models.DateTimeField(null=True)

    objects = ApiTokenQuerySet.as_manager()

    class Meta:
        ordering = ["-created"]

    def __str__(self) -> str:
        return self.name

    @property
    def is_active(self) -> bool:
        return self.revoked_at is None and self.expiry is not None and self.expiry > timezone.now()

    @property
    def granted(self) -> frozenset[str]:
        """The scopes that still exist; one that was renamed away opens nothing."""
        return frozenset(self.scopes) & {str(permission) for permission in Permission}
