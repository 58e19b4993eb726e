"""Everything that changes people, workspaces and roles."""

import hashlib
import secrets
from datetime import timedelta

from django.utils import timezone
from knox.models import get_digest_token
from knox.settings import CONSTANTS

from compliance.canonical import canonical_json, sha256_digest
from steward.accounts import policy as policies
from steward.accounts.models import Membership, SignInLink, User, Workspace
from steward.accounts.permissions import require
from steward.accounts.roles import Permission, Role
from steward.accounts.tokens import DEFAULT_LIFETIME_DAYS, MAX_LIFETIME_DAYS, MAX_TOKENS_PER_USER, ApiToken
from steward.audit.actor import Actor, Denied, Refused
from steward.audit.events import Event
from steward.audit.recording import audited, record


def _policy_digest(policy: object) -> str:
    return sha256_digest(canonical_json(policy))


def _require_installer(actor: Actor, subject: object | None = None) -> None:
    """The platform itself or a superuser: who may make users and workspaces before any role exists."""
    if actor.is_system or User.objects.filter(pk=actor.user_id, is_superuser=True, is_active=True).exists():
        return
    raise Denied("Only an administrator of the installation may do this.", subject=subject)


@audited(Event.USER_CREATED)
def create_user(
    *, actor: Actor, username: str, display_name: str = "", email: str = "", is_administrator: bool = False
) -> User:
    """Makes a person who may sign in by link until a password is set.

    Args:
        is_administrator: may use the console's user and workspace pages; grants no access to data.

    Raises:
        Refused: the name is taken.
    """
    _require_installer(actor)
    if User.objects.filter(username=username).exists():
        raise Refused(f"The user name {username!r} is taken. Choose another.", code="username_taken")
    user = User(
        username=username,
        display_name=display_name,
        email=email,
        is_staff=is_administrator,
        is_superuser=is_administrator,
    )
    user.set_unusable_password()
    user.save()
    record(user, kind="administrator" if is_administrator else "person")
    return user


@audited(Event.WORKSPACE_CREATED)
def create_workspace(*, actor: Actor, slug: str, name: str, domain: str) -> Workspace:
    """Makes a workspace for a domain pack.

    Raises:
        Refused: the slug is taken or no such pack is installed.
    """
    from domains.packs import available_packs

    _require_installer(actor)
    if Workspace.objects.filter(slug=slug).exists():
        raise Refused(f"The workspace {slug!r} exists already. Choose another name.", code="slug_taken")
    if domain not in available_packs():
        raise Refused(
            f"No domain pack {domain!r} is installed. Installed: {', '.join(sorted(available_packs()))}.",
            code="pack_unknown",
        )
    workspace = Workspace(slug=slug, name=name, domain=domain)
    workspace.save()
    record(workspace, domain=domain, policy=_policy_digest(workspace.policy))
    return workspace


@audited(Event.POLICY_CHANGED)
def change_policy(*, actor: Actor, workspace: Workspace, policy: dict[str, object]) -> Workspace:
    """Replaces the policy; the ledger keeps the digests before and after.

    Raises:
        Refused: naming each key that is unknown or out of range.
    """
    require(actor, Permission.MANAGE_POLICY, workspace)
    locked = Workspace.objects.select_for_update().get(pk=workspace.pk)
    before = _policy_digest(locked.policy)
    locked.policy = policies.validate(policy)
    locked.policy_version += 1
    locked.save(update_fields=["policy", "policy_version"])
    record(locked, before=before, after=_policy_digest(locked.policy))
    return locked


@audited(Event.MEMBERSHIP_GRANTED)
def grant_role(*, actor: Actor, workspace: Workspace, user: User, role: Role) -> Membership:
    """Gives a person a role in a workspace.

    Raises:
        Refused: to oneself, or if the person already holds it.
    """
    if not actor.is_system:
        _require_manager(actor, workspace)
    if actor.user_id == user.pk:
        raise Refused("Nobody grants a role to himself. Ask another administrator.", code="self_grant")
    if Membership.objects.filter(user=user, workspace=workspace, role=role).exists():
        raise Refused(f"{user} is {Role(role).label} here already.", code="already_granted")
    membership = Membership(user=user, workspace=workspace, role=role, granted_by_id=actor.user_id)
    membership.save()
    record(workspace, role=str(Role(role)), member=str(user.pseudonym))
    return membership


@audited(Event.MEMBERSHIP_REVOKED)
def revoke_role(*, actor: Actor, membership: Membership) -> None:
    """Takes a role away at once."""
    workspace = membership.workspace
    _require_manager(actor, workspace)
    record(workspace, role=membership.role, member=str(membership.user.pseudonym))
    membership.delete()


def _require_manager(actor: Actor, workspace: Workspace) -> None:
    if not User.objects.filter(pk=actor.user_id, is_superuser=True, is_active=True).exists():
        require(actor, Permission.MANAGE_WORKSPACE, workspace)


@audited(Event.SIGN_IN_LINK_CREATED)
def create_sign_in_link(*, actor: Actor, user: User) -> str:
    """Makes a one-time token for `/sign-in/link/<token>/`. Only its hash is stored; it is returned this once."""
    _require_installer(actor, user)
    token = secrets.token_urlsafe(32)
    link = SignInLink(
        user=user,
        token_sha256=hashlib.sha256(token.encode()).hexdigest(),
        expires_at=timezone.now() + SignInLink.lifetime(),
    )
    link.save()
    record(user, lifetime_seconds=int(SignInLink.lifetime().total_seconds()))
    return token


@audited(Event.SIGN_IN_LINK_USED)
def use_sign_in_link(*, actor: Actor, token: str) -> User:
    """Spends a one-time token and returns whom it signs in.

    Raises:
        Denied: unknown, spent or expired; the message does not say which.
    """
    digest = hashlib.sha256(token.encode()).hexdigest()
    link = SignInLink.objects.select_for_update().select_related("user").filter(token_sha256=digest).first()
    if link is None or not link.is_usable or not link.user.is_active:
        raise Denied(
            "This sign-in link was used or has expired. Ask for a new one: `manage.py sign_in_link NAME`.",
            code="link_unusable",
        )
    link.used_at = timezone.now()
    link.save(update_fields=["used_at"])
    record(link.user)
    return link.user


@audited(Event.USER_SIGNED_IN)
def record_sign_in(*, actor: Actor, user: User, method: str) -> None:
    """Notes a successful sign-in; called by the session layer."""
    record(user, method=method)


@audited(Event.USER_SIGN_IN_FAILED)
def record_failed_sign_in(*, actor: Actor, account: str) -> None:
    """Notes a failed sign-in. `account` is a keyed digest of the name that was tried, since it may be a password."""
    from steward.accounts.sessions import NOBODY

    record(NOBODY, method="password", account=account)


@audited(Event.USER_SIGNED_OUT)
def record_sign_out(*, actor: Actor, user: User) -> None:
    """Notes a sign-out; called by the session layer."""
    record(user)


@audited(Event.TOKEN_CREATED)
def create_token(
    *, actor: Actor, user: User, name: str, scopes: list[str], lifetime_days: int = DEFAULT_LIFETIME_DAYS
) -> tuple[ApiToken, str]:
    """Makes an API token for oneself and returns it with the secret, which is shown this once and never stored.

    Args:
        scopes: values of `Permission`; the token may do these and nothing else.
        lifetime_days: 1 to 365.

    Raises:
        Denied: for somebody else, or by means of another token.
        Refused: no name, no or unknown scopes, a lifetime out of range, or too many tokens.
    """
    if not actor.is_system and (actor.user_id != user.pk or actor.scopes is not None):
        raise Denied("A person makes tokens for himself, signed in, not by means of a token.", subject=user)
    if not name.strip():
        raise Refused("Give the token a name that says where it is used.", code="name_missing", subject=user)
    unknown = sorted(set(scopes) - {str(permission) for permission in Permission})
    if unknown or not scopes:
        raise Refused(
            f"No such scope: {', '.join(unknown) or 'none was given'}. There are: {', '.join(Permission)}.",
            code="scope_unknown",
            subject=user,
        )
    if not 1 <= lifetime_days <= MAX_LIFETIME_DAYS:
        raise Refused(f"A token lives from 1 to {MAX_LIFETIME_DAYS} days.", code="lifetime_out_of_range", subject=user)
    User.objects.select_for_update().get(pk=user.pk)  # two requests at once do not pass the limit together
    if ApiToken.objects.filter(user=user).active().count() >= MAX_TOKENS_PER_USER:
        raise Refused(
            f"You have {MAX_TOKENS_PER_USER} tokens. Revoke one that is no longer used.",
            code="too_many_tokens",
            subject=user,
        )
    digest, secret = get_digest_token()
    token = ApiToken(
        user=user,
        name=name.strip()[:80],
        scopes=sorted(set(scopes)),
        digest=digest,
        token_key=secret[: CONSTANTS.TOKEN_KEY_LENGTH],
        expiry=timezone.now() + timedelta(days=lifetime_days),
    )
    token.save(force_insert=True)
    record(token, scopes=sha256_digest(canonical_json(token.scopes)), lifetime_days=lifetime_days)
    return token, secret


@audited(Event.TOKEN_REVOKED)
def revoke_token(*, actor: Actor, token: ApiToken) -> None:
    """Ends a token at once: one's own, or anybody's by an administrator of the installation."""
    if actor.user_id != token.user_id:
        _require_installer(actor, token)
    locked = ApiToken.objects.select_for_update().get(pk=token.pk)
    if locked.revoked_at is not None:
        raise Refused("This token was revoked before.", code="already_revoked", subject=locked)
    locked.revoked_at = timezone.now()
    locked.save(update_fields=["revoked_at"])
    record(locked)


@audited(Event.LEDGER_EXPORTED)
def record_ledger_export(*, actor: Actor, user: User, tree_size: int) -> None:
    """Notes that the whole ledger was handed out; called by `ledger_exports` after the intent was sealed."""
    record(user, tree_size=tree_size)
