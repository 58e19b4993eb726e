"""`manage.py workspace SLUG --domain … --member ana=analyst …`: a workspace with its people, in one go."""

from typing import Any

from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError, CommandParser

from steward.accounts import actions
from steward.accounts.models import Membership, User, Workspace
from steward.accounts.policy import RULES
from steward.accounts.roles import Role
from steward.audit.actor import Actor, UserError


class Command(BaseCommand):
    help = "Makes a workspace, or adds people to it; users that do not exist yet are made."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("slug")
        parser.add_argument("--name", default="")
        parser.add_argument("--domain", default="", help="needed for a new workspace")
        parser.add_argument("--member", action="append", default=[], metavar="USER=ROLE", help=", ".join(Role.values))
        parser.add_argument("--policy", action="append", default=[], metavar="RULE=NUMBER", help=", ".join(RULES))
        parser.add_argument("--as", dest="username", default="", help="who changes the policy")

    def handle(self, *args: Any, slug: str, name: str, domain: str, member: list[str], **options: Any) -> None:
        call_command("migrate", interactive=False, verbosity=0)  # for many, this is the first command in a new home
        actor = Actor.system("console")
        pairs = [self._pair(text) for text in member]
        try:
            workspace = Workspace.objects.filter(slug=slug).first() or actions.create_workspace(
                actor=actor, slug=slug, name=name or slug, domain=domain
            )
            for username, role in pairs:
                user = User.objects.filter(username=username).first() or actions.create_user(
                    actor=actor, username=username
                )
                if not Membership.objects.filter(user=user, workspace=workspace, role=role).exists():
                    actions.grant_role(actor=actor, workspace=workspace, user=user, role=role)
            if options["policy"]:
                self._change_policy(workspace, options["policy"], options["username"])
        except UserError as error:
            raise CommandError(str(error)) from None
        people = ", ".join(f"{m.user} ({m.get_role_display().lower()})" for m in workspace.memberships.order_by("pk"))
        self.stdout.write(f"{workspace.name}: domain {workspace.domain}; {people or 'nobody yet'}")

    @staticmethod
    def _change_policy(workspace: Workspace, pairs: list[str], username: str) -> None:
        officer = User.objects.filter(username=username, is_active=True).first()
        if officer is None:
            raise CommandError("Say with --as which compliance officer changes the policy.")
        policy: dict[str, object] = dict(workspace.policy)
        for text in pairs:
            rule, _, number = text.partition("=")
            policy[rule] = int(number) if number.isdecimal() else number
        actions.change_policy(actor=Actor.of(officer), workspace=workspace, policy=policy)

    @staticmethod
    def _pair(text: str) -> tuple[str, Role]:
        username, _, role = text.partition("=")
        if not username or role not in Role.values:
            raise CommandError(f"--member wants USER=ROLE with a role of {', '.join(Role.values)}, not {text!r}.")
        return username, Role(role)
