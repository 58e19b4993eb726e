"""Making people, and one-time links for them to sign in with."""

from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.views.decorators.http import require_POST

from steward.accounts import actions
from steward.accounts.models import User
from steward.console.access import actor_of, person
from steward.console.deciding import attempt
from steward.console.forms import NewPerson


def new_person(request: HttpRequest) -> HttpResponse:
    """A form for a person who may then sign in by link."""
    from steward.console.site import site

    if not person(request).is_superuser:
        raise Http404
    form = NewPerson(request.POST or None)
    if request.method == "POST" and form.is_valid():
        done = f"{form.cleaned_data['username']} may now sign in. Make a one-time link for the first time."
        user = attempt(request, lambda: actions.create_user(actor=actor_of(request), **form.cleaned_data), done)
        if user is not None:
            return redirect("admin:accounts_user_change", user.pk)
    return site.page(request, "form", "New person", form=form, submit="Make the person")


@require_POST
def sign_in_link(request: HttpRequest, user_id: int) -> HttpResponse:
    """A fresh one-time link, shown this once."""
    from steward.console.site import site

    user = User.objects.filter(pk=user_id, is_active=True).first() if person(request).is_superuser else None
    if user is None:
        raise Http404
    token = attempt(
        request,
        lambda: actions.create_sign_in_link(actor=actor_of(request), user=user),
        f"Hand this link to {user} by a way you trust. It works once, for twelve hours, and is not shown again.",
    )
    if token is None:
        return redirect("admin:accounts_user_change", user_id)
    link = request.build_absolute_uri(f"/sign-in/link/{token}/")
    return site.page(request, "secret", f"Sign-in link for {user}", secret=link, what="One-time link")
