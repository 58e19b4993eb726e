"""Signing in by password or by a one-time link, and signing out.

Guarantees that a link is spent by a press of a button only, never by a preview that fetches it. Does not record: the
session layer of `accounts` does, for every door.
"""

from typing import Any

from django.contrib.auth import login, logout
from django.contrib.auth.views import LoginView
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.debug import sensitive_post_parameters, sensitive_variables
from django.views.decorators.http import require_http_methods, require_POST

from steward.accounts.actions import use_sign_in_link
from steward.audit.actor import Actor
from steward.web.pages import explained

DOOR = Actor.system("sign-in")


class PasswordSignIn(LoginView):
    """The sign-in page."""

    template_name = "web/sign_in.html"
    redirect_authenticated_user = True


sign_in = sensitive_post_parameters("password")(PasswordSignIn.as_view())


@require_http_methods(["GET", "HEAD", "POST"])
@sensitive_variables("token")
@explained
def sign_in_by_link(request: Any, token: str) -> HttpResponse:
    """GET asks whether to go on; POST spends the link and signs its owner in."""
    if request.method != "POST":
        return render(request, "web/sign_in_by_link.html")
    user = use_sign_in_link(actor=DOOR, token=token)
    request.signed_in_by_link = True
    login(request, user, backend="django.contrib.auth.backends.ModelBackend")
    return redirect("web:home")


@require_POST
@explained
def sign_out(request: HttpRequest) -> HttpResponse:
    """Ends the session."""
    logout(request)
    return redirect("web:sign_in")
