"""Who calls: a person's session, or a token that stands for a person with fewer rights.

Guarantees that an expired or revoked token, or one of an inactive person, opens nothing. Does not remove such rows: the
ledger speaks of them.
"""

from typing import Any

from knox.auth import TokenAuthentication as KnoxAuthentication
from rest_framework.exceptions import AuthenticationFailed
from rest_framework.request import Request

from steward.accounts.models import ApiToken
from steward.audit.actor import Actor


class TokenAuthentication(KnoxAuthentication):
    """`Authorization: Bearer stw_…`, looked up by its first characters and compared by its whole digest."""

    def authenticate_credentials(self, token: bytes) -> tuple[Any, Any]:
        try:
            token.decode("ascii")
        except UnicodeDecodeError:
            raise AuthenticationFailed("Invalid token.") from None
        return super().authenticate_credentials(token)

    def _cleanup_token(self, auth_token: ApiToken) -> bool:
        """Knox asks here whether to pass over a token, and deletes it; rows stay with us."""
        return not auth_token.is_active


def actor_of(request: Request) -> Actor:
    """The acting person, narrowed to the token's scopes where a token acts."""
    token = request.auth
    return Actor.of(request.user, token.granted if isinstance(token, ApiToken) else None)


def credential_of(request: Request) -> str:
    """What the person showed: the token's id, or `session`."""
    return str(request.auth.pk) if isinstance(request.auth, ApiToken) else "session"
