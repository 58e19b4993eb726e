"""API tokens of the person who is signed in. Making one takes a session: a token makes no tokens."""

from typing import Any
from uuid import UUID

from django.http import Http404
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from steward.accounts import actions
from steward.accounts.models import ApiToken
from steward.accounts.roles import Permission
from steward.accounts.tokens import DEFAULT_LIFETIME_DAYS, MAX_LIFETIME_DAYS
from steward.api.door import Door
from steward.api.pages import PAGE_PARAMETERS, page, page_of
from steward.audit.actor import Denied


class TokenShape(serializers.ModelSerializer[ApiToken]):
    is_active = serializers.BooleanField()
    scopes = serializers.ListField(child=serializers.CharField())

    class Meta:
        model = ApiToken
        fields = ["id", "name", "scopes", "created", "expiry", "revoked_at", "is_active"]


class NewToken(serializers.Serializer[Any]):
    name = serializers.CharField(max_length=80, help_text="Says where the token is used.")
    scopes = serializers.ListField(
        child=serializers.ChoiceField(choices=[str(each) for each in Permission]),
        min_length=1,
        max_length=len(Permission),
    )
    lifetime_days = serializers.IntegerField(
        min_value=1, max_value=MAX_LIFETIME_DAYS, required=False, default=DEFAULT_LIFETIME_DAYS
    )


class NewTokenShape(TokenShape):
    token = serializers.SerializerMethodField(help_text="Shown this once; only its digest is kept.")

    class Meta(TokenShape.Meta):
        fields = [*TokenShape.Meta.fields, "token"]

    def get_token(self, token: ApiToken) -> str:
        return str(self.context["secret"])


class Tokens(Door):
    @extend_schema(
        responses=page_of(TokenShape, "Token"), parameters=PAGE_PARAMETERS, operation_id="list_tokens", tags=["tokens"]
    )
    def get(self, request: Request) -> Response:
        """One's own tokens, newest first; never their secrets."""
        _need_session(self)
        return page(request, ApiToken.objects.filter(user=request.user), TokenShape, ("-created", "-id"))

    @extend_schema(request=NewToken, responses={201: NewTokenShape}, operation_id="create_token", tags=["tokens"])
    def post(self, request: Request) -> Response:
        """Makes a token. Takes no Idempotency-Key: its answer holds a secret that is not kept."""
        token, secret = actions.create_token(actor=self.actor, user=request.user, **self.checked(NewToken))
        answer = NewTokenShape(token, context={"secret": secret}).data
        return Response(answer, status=201, headers={"Cache-Control": "no-store"})


class TokenDetail(Door):
    @extend_schema(request=None, responses={204: None}, operation_id="revoke_token", tags=["tokens"])
    def delete(self, request: Request, token_id: UUID) -> Response:
        """Revokes one of one's own tokens at once. With a token, only that very token can be revoked."""
        if not (isinstance(request.auth, ApiToken) and request.auth.pk == token_id):
            _need_session(self)
        token = ApiToken.objects.filter(user=request.user, pk=token_id).first()
        if token is None:
            raise Http404
        actions.revoke_token(actor=self.actor, token=token)
        return Response(status=204)


def _need_session(door: Door) -> None:
    if isinstance(door.request.auth, ApiToken):
        raise Denied("Tokens are managed by a person who is signed in, not by means of a token.", code="session_needed")
