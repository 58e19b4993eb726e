"""Sign-ins, failures and sign-outs go to the ledger, whichever door they come through.

Guarantees one entry for each of Django's authentication signals. A sign-in whose entry cannot be written fails.
"""

import hashlib
from typing import Any

from django.conf import settings
from django.contrib.auth.signals import user_logged_in, user_logged_out, user_login_failed
from django.dispatch import receiver
from django.http import HttpRequest

from compliance.vault import keyed_digest
from steward.accounts import actions
from steward.accounts.models import User
from steward.audit.actor import Actor

NOBODY = User(pk=0, username="nobody")


@receiver(user_logged_in)
def _signed_in(request: HttpRequest | None, user: User, **_: Any) -> None:
    method = "link" if getattr(request, "signed_in_by_link", False) else "password"
    actions.record_sign_in(actor=Actor.of(user), user=user, method=method)


@receiver(user_login_failed)
def _failed(credentials: dict[str, Any], **_: Any) -> None:
    name = str(credentials.get("username", "")).encode()
    account = keyed_digest(hashlib.sha256(settings.SECRET_KEY.encode()).digest(), name)
    actions.record_failed_sign_in(actor=Actor.system("sign-in"), account=account)


@receiver(user_logged_out)
def _signed_out(user: User | None, **_: Any) -> None:
    if user is not None:
        actions.record_sign_out(actor=Actor.of(user), user=user)
