"""What every resource of the interface shares: the actor, finding rows that he may see, idempotent POSTs.

Guarantees that a row of another workspace is answered exactly as a row that does not exist.
"""

import functools
import json
from collections.abc import Callable
from typing import Any, TypeVar

from django.db.models import Model, QuerySet
from django.http import Http404
from rest_framework import serializers
from rest_framework.exceptions import ValidationError
from rest_framework.renderers import JSONRenderer
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from compliance.canonical import sha256_digest
from steward.accounts import idempotency
from steward.accounts.models import Workspace
from steward.accounts.permissions import permissions_of, workspaces_where
from steward.accounts.roles import Permission
from steward.api.authentication import actor_of, credential_of
from steward.audit.actor import Actor, Denied

M = TypeVar("M", bound=Model)
Handler = Callable[..., Response]
MAX_KEY_LENGTH = 255


class Door(APIView):
    """Base of all resources."""

    @property
    def actor(self) -> Actor:
        return actor_of(self.request)

    def workspaces(self, permission: Permission = Permission.VIEW_WORKSPACE) -> QuerySet[Workspace]:
        """The workspaces in which the caller holds a permission.

        Raises:
            Denied: the token's scopes leave the permission out altogether.
        """
        return workspaces_where(self.actor, permission)

    def find(self, rows: QuerySet[M], **lookup: Any) -> M:
        """The one visible row, or 404: `rows` has a `workspace` and is filtered to the caller's.

        Raises:
            Http404: there is none that the caller may see.
            Denied: the token may not look at workspaces.
        """
        row = rows.filter(workspace__in=self.workspaces(), **lookup).first()
        if row is None:
            raise Http404
        return row

    def find_workspace(self, workspace_id: Any) -> Workspace:
        """The workspace, or 404 for whoever does not belong to it."""
        workspace = self.workspaces().filter(pk=workspace_id).first()
        if workspace is None:
            raise Http404
        return workspace

    def look(self, permission: Permission, workspace: Workspace) -> None:
        """Lets a member go on who may look at this kind of thing. Raises Denied."""
        if permission not in permissions_of(self.actor, workspace):
            raise Denied(f"This needs the permission “{permission}” in this workspace.")

    def checked(self, serializer: type[serializers.Serializer[Any]], data: Any = None) -> dict[str, Any]:
        """The body, checked against `serializer`. Raises ValidationError with every field that is wrong."""
        form = serializer(data=self.request.data if data is None else data)
        form.is_valid(raise_exception=True)
        return dict(form.validated_data)

    def in_workspaces(self, rows: QuerySet[M], permission: Permission = Permission.VIEW_WORKSPACE) -> QuerySet[M]:
        """The rows of the caller's workspaces, narrowed by the query parameter `workspace`."""
        chosen = self.request.query_params.get("workspace")
        rows = rows.filter(workspace__in=self.workspaces(permission))
        return rows if chosen is None else rows.filter(workspace=uuid_of(chosen, "workspace"))


def uuid_of(text: str, field: str) -> Any:
    """A UUID from a query parameter. Raises ValidationError naming `field`."""
    return serializers.UUIDField().run_validation(text) if _is_uuid(text) else _refuse(field)


def _is_uuid(text: str) -> bool:
    return (
        len(text) == 36 and all(character in "0123456789abcdefABCDEF-" for character in text) and text.count("-") == 4
    )


def _refuse(field: str) -> Any:
    raise ValidationError({field: "Must be a valid UUID."}, code="invalid")


def one_of(choices: list[str], text: str | None, field: str) -> str | None:
    """A query parameter that must be one of `choices`. Raises ValidationError."""
    if text is not None and text not in choices:
        raise ValidationError({field: f"Must be one of {', '.join(choices)}."}, code="invalid_choice")
    return text


def idempotent(handler: Handler) -> Handler:
    """Lets a POST be repeated with one effect: with an `Idempotency-Key`, the first answer is given again.

    The answer carries `Idempotent-Replayed: true` when it comes from memory. An upload is compared by its length only,
    as its bytes have not arrived yet; a repeated file is noticed by its content anyway.
    """

    @functools.wraps(handler)
    def handle(self: Door, request: Request, *args: Any, **kwargs: Any) -> Response:
        key = request.headers.get("Idempotency-Key")
        if key is None:
            return handler(self, request, *args, **kwargs)
        if not key.isprintable() or not 1 <= len(key) <= MAX_KEY_LENGTH:
            raise ValidationError({"Idempotency-Key": f"1 to {MAX_KEY_LENGTH} printable characters."}, code="invalid")
        claimed = idempotency.claim(request.user, credential_of(request), key, _fingerprint(request))
        if isinstance(claimed, idempotency.Replay):
            return Response(claimed.answer, claimed.status, headers={"Idempotent-Replayed": "true"})
        try:
            response = handler(self, request, *args, **kwargs)
        except BaseException:
            idempotency.release(claimed)
            raise
        idempotency.remember(claimed, response.status_code, json.loads(JSONRenderer().render(response.data)))
        return response

    handle.is_idempotent = True  # type: ignore[attr-defined]
    return handle


def _fingerprint(request: Request) -> str:
    if request.content_type.startswith("multipart/"):
        body = request.headers.get("Content-Length", "")
    else:
        body = json.dumps(request.data, sort_keys=True, separators=(",", ":"))
    return sha256_digest(f"{request.method} {request.path}\n{body}".encode())
