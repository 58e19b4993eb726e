"""One's own API tokens."""

from uuid import UUID

from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.views.decorators.http import require_POST

from steward.accounts import actions
from steward.accounts.models import ApiToken
from steward.console.access import actor_of, person
from steward.console.deciding import attempt
from steward.console.forms import NewToken


def own_tokens(request: HttpRequest) -> HttpResponse:
    """The person's tokens and a form for another; its secret is shown once."""
    from steward.console.site import site

    form = NewToken(request.POST or None)
    if request.method == "POST" and form.is_valid():
        done = "Copy the token now. Only its digest is kept; it is not shown again."
        made = attempt(
            request,
            lambda: actions.create_token(actor=actor_of(request), user=person(request), **form.cleaned_data),
            done,
        )
        if made is not None:
            return site.page(request, "secret", made[0].name, secret=made[1], what="API token")
    return site.page(request, "tokens", "API tokens", form=form, tokens=ApiToken.objects.filter(user=person(request)))


@require_POST
def revoke(request: HttpRequest, token_id: UUID) -> HttpResponse:
    """Ends one of the person's tokens."""
    token = ApiToken.objects.filter(user=person(request), pk=token_id).first()
    if token is None:
        raise Http404
    attempt(
        request,
        lambda: actions.revoke_token(actor=actor_of(request), token=token) or True,
        f"The token “{token}” opens nothing any more.",
    )
    return redirect("admin:tokens")
