"""The lists and details of the ledger: entries with their checks, checkpoints."""

import json
from typing import Any

from django.contrib import admin
from django.db.models import OuterRef, Subquery, TextField, Value
from django.db.models.functions import Cast, Coalesce, NullIf
from django.http import HttpRequest
from django.utils.html import format_html

from steward.accounts.models import User, Workspace
from steward.accounts.roles import Permission
from steward.audit.models import LedgerCheckpoint, LedgerEntry
from steward.console.access import person, workspaces_for
from steward.console.proving import Check, checks_of
from steward.console.reading import ReadingAdmin
from steward.console.showing import digest, facts, pill
from steward.console.site import site


class OutcomeFilter(admin.SimpleListFilter):
    title = "outcome"
    parameter_name = "outcome"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("done", "Done"), ("denied", "Denied"), ("refused", "Refused"), ("intent", "Announced")]

    def queryset(self, request: HttpRequest, queryset: Any) -> Any:
        return queryset.filter(outcome=self.value()) if self.value() else queryset


class EntryAdmin(ReadingAdmin):
    permission = Permission.VIEW_LEDGER
    list_display = ["index", "time", "action", "shown_outcome", "shown_object", "shown_actor", "shown_workspace"]
    list_filter = [OutcomeFilter]
    search_fields = ["=action", "=object_id", "=actor"]
    search_help_text = "An event, an object's id or an actor's pseudonym, in full"
    fields = [
        "index",
        "time",
        "action",
        "shown_outcome",
        "shown_workspace",
        "shown_actor",
        "actor",
        "object_type",
        "object_id",
        "shown_facts",
        "shown_states",
        "shown_checks",
        "shown_leaf",
        "shown_body",
    ]
    ordering = ["-index"]

    def get_queryset(self, request: HttpRequest) -> Any:
        visible = workspaces_for(person(request), self.permission).values_list("pk", flat=True)
        rows = self.model._default_manager.filter(workspace__in=[str(pk) for pk in visible])
        known = User.objects.annotate(text=Cast("pseudonym", TextField())).filter(text=OuterRef("actor"))
        rooms = Workspace.objects.annotate(text=Cast("pk", TextField())).filter(text=OuterRef("workspace"))
        name = Coalesce(NullIf("display_name", Value("")), "username")
        return rows.annotate(
            actor_name=Subquery(known.annotate(name=name).values("name")[:1]),
            workspace_name=Subquery(rooms.values("name")[:1]),
        )

    @admin.display(description="Outcome", ordering="outcome")
    def shown_outcome(self, row: LedgerEntry) -> Any:
        return pill(row.outcome, row.outcome.capitalize())

    @admin.display(description="Workspace")
    def shown_workspace(self, row: Any) -> Any:
        return row.workspace_name or row.workspace

    @admin.display(description="Who")
    def shown_actor(self, row: Any) -> str:
        return row.actor_name or row.actor

    @admin.display(description="What", ordering="object_id")
    def shown_object(self, row: LedgerEntry) -> Any:
        return format_html('{} <code class="c-digest">{}</code>', row.object_type, (row.object_id or "")[:8])

    @admin.display(description="Facts")
    def shown_facts(self, row: LedgerEntry) -> Any:
        return facts(sorted(json.loads(bytes(row.body))["facts"].items()))

    @admin.display(description="State before and after")
    def shown_states(self, row: LedgerEntry) -> Any:
        body = json.loads(bytes(row.body))
        return facts((name, digest(body[name])) for name in ("before", "after") if body.get(name))

    @admin.display(description="Checked just now")
    def shown_checks(self, row: LedgerEntry) -> Any:
        return facts((check.title, _verdict(check)) for check in checks_of(row))

    @admin.display(description="Leaf hash")
    def shown_leaf(self, row: LedgerEntry) -> Any:
        return digest(bytes(row.leaf_hash).hex())

    @admin.display(description="Body")
    def shown_body(self, row: LedgerEntry) -> Any:
        return format_html('<pre class="c-note">{}</pre>', bytes(row.body).decode())


class CheckpointAdmin(ReadingAdmin):
    permission = Permission.VIEW_LEDGER
    list_display = ["tree_size", "shown_root", "sealed_at"]
    fields = ["tree_size", "shown_root", "sealed_at", "shown_note"]
    ordering = ["-tree_size"]

    def get_queryset(self, request: HttpRequest) -> Any:
        return self.model._default_manager.all()  # a tree head names nobody and nothing

    @admin.display(description="Root hash")
    def shown_root(self, row: LedgerCheckpoint) -> Any:
        return digest(bytes(row.root_hash).hex())

    @admin.display(description="Signed note")
    def shown_note(self, row: LedgerCheckpoint) -> Any:
        return format_html('<pre class="c-note">{}</pre>', row.note)


def _verdict(check: Check) -> Any:
    held = pill("passed", "Holds") if check.has_held else pill("failed", "Does not hold")
    return format_html("{} {}", held, check.explanation)


site.register(LedgerEntry, EntryAdmin)
site.register(LedgerCheckpoint, CheckpointAdmin)
