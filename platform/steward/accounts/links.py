"""One-time sign-in links, for the first start and for people without a password."""

from steward.accounts import actions
from steward.accounts.models import User
from steward.audit.actor import Actor


def sign_in_url(base_url: str, user: User) -> str:
    """Makes a fresh link for `user`, e.g. `http://127.0.0.1:8000/sign-in/link/…/`. Works once, for twelve hours."""
    token = actions.create_sign_in_link(actor=Actor.system("console"), user=user)
    return f"{base_url.rstrip('/')}/sign-in/link/{token}/"


def first_sign_in_links(base_url: str) -> list[tuple[str, str]]:
    """(who, link) for each person who has never signed in. Empty once everybody has."""
    people = User.objects.filter(last_login__isnull=True, is_active=True).order_by("pk")
    return [(str(user), sign_in_url(base_url, user)) for user in people]
