"""How the description of this interface names the token; `accounts.bearer` says who calls."""

from typing import Any

from drf_spectacular.extensions import OpenApiAuthenticationExtension

from steward.accounts.bearer import TokenAuthentication, actor_of, credential_of

__all__ = ["TokenAuthentication", "TokenScheme", "actor_of", "credential_of"]


class TokenScheme(OpenApiAuthenticationExtension):
    """How the OpenAPI description names the token."""

    target_class = "steward.accounts.bearer.TokenAuthentication"
    name = "token"

    def get_security_definition(self, auto_schema: Any) -> dict[str, Any]:
        return {
            "type": "http",
            "scheme": "bearer",
            "description": "An API token, made in the console or with `manage.py create_token NAME --scope SCOPE`.",
        }
