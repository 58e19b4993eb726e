"""What every page goes through: who asks, in which workspace, and how a refusal is put into words.

Guarantees that a page of a workspace is shown to its members only (others get 404, as if it did not exist), is never
kept by a cache, and answers a `UserError` with its message and status instead of a failure. Does not decide what a
member may do: actions do, and pages that only read ask `demand`.

Example:
    @in_workspace
    def dataset_list(request: WorkspaceRequest) -> HttpResponse: ...
"""

import functools
import uuid
from collections.abc import Callable
from typing import Any, TypeVar

from django.conf import settings
from django.contrib.auth.views import redirect_to_login
from django.db import models
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBase, JsonResponse
from django.shortcuts import get_object_or_404, render
from django.utils.cache import add_never_cache_headers

from steward.accounts.models import Workspace
from steward.accounts.permissions import permissions_of, require
from steward.accounts.roles import Permission
from steward.audit.actor import Actor, UserError

View = Callable[..., HttpResponseBase]
Row = TypeVar("Row", bound=models.Model)


class WorkspaceRequest(HttpRequest):
    """A request as `in_workspace` hands it on. Only a type: the attributes are set on Django's own request."""

    actor: Actor
    workspace: Workspace
    permissions: frozenset[Permission]


def explained(view: View) -> View:
    """A view whose `UserError`s become words, and whose answer no cache keeps."""

    @functools.wraps(view)
    def answer(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        try:
            response = view(request, *args, **kwargs)
        except UserError as error:
            response = refusal(request, error)
        add_never_cache_headers(response)
        return response

    return answer


def signed_in(view: View) -> View:
    """A view for people who signed in; sets `request.actor`."""

    @functools.wraps(view)
    def answer(request: Any, *args: Any, **kwargs: Any) -> HttpResponseBase:
        if not request.user.is_authenticated:
            return _ask_to_sign_in(request)
        request.actor = Actor.of(request.user)
        return view(request, *args, **kwargs)

    return explained(answer)


def in_workspace(view: View) -> View:
    """A view of one workspace, for its members; sets `request.workspace` and `request.permissions`."""

    @functools.wraps(view)
    def answer(request: Any, slug: str, *args: Any, **kwargs: Any) -> HttpResponseBase:
        request.workspace = get_object_or_404(Workspace.objects.visible_to(request.actor), slug=slug)
        request.permissions = permissions_of(request.actor, request.workspace)
        return view(request, *args, **kwargs)

    return signed_in(answer)


def _ask_to_sign_in(request: HttpRequest) -> HttpResponse:
    """A page leads to the sign-in; what a page fetched by itself tells that page to go there."""
    if wants_json(request) or request.headers.get("HX-Request"):
        return HttpResponse(status=401, headers={"HX-Redirect": settings.LOGIN_URL})
    return redirect_to_login(request.get_full_path() if request.method == "GET" else _page_before(request))


def _page_before(request: HttpRequest) -> str:
    """The page of ours that a form was sent from, or the first page."""
    before, ours = request.META.get("HTTP_REFERER", ""), f"{request.scheme}://{request.get_host()}"
    return before.removeprefix(ours) if before.startswith(f"{ours}/") else "/"


def wants_json(request: HttpRequest) -> bool:
    """Whether a script of ours asks, rather than a person."""
    return request.headers.get("Accept", "").startswith("application/json")


def refusal(request: HttpRequest, error: UserError) -> HttpResponse:
    """What a person, or a script, is told when something cannot be done."""
    if wants_json(request):
        return JsonResponse({"code": error.code, "message": str(error)}, status=error.status)
    context = {"error": error, "status": error.status, "back": _page_before(request)}
    return render(request, "web/refusal.html", context, status=error.status)


def demand(request: WorkspaceRequest, permission: Permission) -> None:
    """Lets a reading page go on. Raises Denied, naming the roles that may."""
    require(request.actor, permission, request.workspace)


def row_or_404(request: WorkspaceRequest, rows: models.QuerySet[Row], pk: uuid.UUID) -> Row:
    """The row of this id in the workspace of the request; another workspace's is as absent as none."""
    return get_object_or_404(rows.filter(workspace=request.workspace), pk=pk)


def whole_number(request: HttpRequest, name: str, default: int, most: int = 2**31 - 1) -> int:
    """A number of the query string, 0 to `most`. Raises Http404 for anything else: no page of ours links there."""
    text = request.GET.get(name, "")
    if not text:
        return default
    if not text.isascii() or not text.isdigit() or int(text[:12]) > most:
        raise Http404
    return int(text)
