"""The console's menu: what a person may open, in the order of the work."""

from dataclasses import dataclass

from django.http import HttpRequest
from django.urls import reverse

from steward.accounts.roles import Permission
from steward.console.access import holds, person
from steward.console.queue import waiting_count, waiting_profiles


@dataclass(frozen=True, slots=True)
class Item:
    """One line of the menu."""

    title: str
    link: str
    is_here: bool
    badge: int = 0


@dataclass(frozen=True, slots=True)
class Group:
    """A heading with its lines."""

    title: str
    items: list[Item]


def groups_for(request: HttpRequest) -> list[Group]:
    """The menu of whoever asks."""
    user = person(request)

    def item(title: str, name: str, badge: int = 0) -> Item:
        link = reverse(f"admin:{name}")
        is_here = request.path == link or (name != "index" and request.path.startswith(link))
        return Item(title, link, is_here, badge)

    def rows(*pairs: tuple[str, str]) -> list[Item]:
        return [item(title, f"{name}_changelist") for title, name in pairs]

    first = [item("Overview", "index")]
    if holds(user, Permission.APPROVE_DATASET):
        first.append(item("Approvals", "approvals", waiting_count(user)))
    groups = [Group("", first)]
    if holds(user, Permission.VIEW_WORKSPACE):
        groups.append(
            Group(
                "Data",
                [
                    *rows(
                        ("Datasets", "datasets_dataset"),
                        ("Versions", "datasets_datasetversion"),
                        ("Redactions", "datasets_redactionrun"),
                    ),
                    item("Profiles and lists", "redaction", waiting_profiles(user)),
                ],
            )
        )
        groups.append(
            Group(
                "Models",
                rows(
                    ("Base models", "catalog_basemodel"),
                    ("Fine-tunes", "runs_finetune"),
                    ("Model versions", "runs_modelversion"),
                    ("Releases", "releases_release"),
                ),
            )
        )
    if holds(user, Permission.VIEW_LEDGER):
        record = rows(
            ("Ledger", "audit_ledgerentry"), ("Checkpoints", "audit_ledgercheckpoint"), ("Vault keys", "vault_datakey")
        )
        groups.append(Group("Record", [*record, item("Hand out", "ledger_export")]))
    people = rows(("Workspaces", "accounts_workspace"), ("Members", "accounts_membership"), ("People", "accounts_user"))
    groups.append(Group("House", [*people, item("API tokens", "tokens")]))
    return groups
