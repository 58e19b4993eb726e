"""What all of the console's lists and details share: they are read-only, and show one's own workspaces only.

Guarantees that no row can be added, changed or deleted through Django's admin, whatever permission a person was given
in the database; what changes does so on the console's own pages, by actions. A row of another workspace is answered
with 404.
"""

from typing import Any, NoReturn

from django.contrib.admin import SimpleListFilter
from django.db.models import Model, QuerySet
from django.http import Http404, HttpRequest
from django.urls import URLPattern
from unfold.admin import ModelAdmin

from steward.accounts.roles import Permission
from steward.console.access import holds, managed_workspaces, may_open, person, workspaces_for

_KEPT = ("_changelist", "_change")


class WorkspaceFilter(SimpleListFilter):
    """The person's own workspaces; Django's filter would name those of others too."""

    title = "workspace"
    parameter_name = "workspace"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(str(pk), name) for pk, name in managed_workspaces(person(request)).values_list("pk", "name")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        chosen = [pk for pk, _ in self.lookup_choices if pk == self.value()]
        return queryset.filter(workspace=chosen[0]) if chosen else queryset


class ReadingAdmin(ModelAdmin):  # type: ignore[misc]
    """A list and a detail page over rows of the person's workspaces."""

    permission = Permission.VIEW_WORKSPACE
    workspace_path = "workspace"
    change_form_template = "console/detail.html"
    change_list_template = "console/list.html"
    list_per_page = 50
    list_title = ""
    show_full_result_count = False
    actions = None
    list_filter_sheet = False
    list_max_show_all = 0

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        visible = workspaces_for(person(request), self.permission)
        return super().get_queryset(request).filter(**{f"{self.workspace_path}__in": visible})

    def has_module_permission(self, request: HttpRequest) -> bool:
        return may_open(request.user)

    def has_view_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return may_open(request.user) and holds(person(request), self.permission)

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def get_urls(self) -> list[URLPattern]:
        return [each for each in super().get_urls() if str(each.name).endswith(_KEPT)]

    def get_fields(self, request: HttpRequest, obj: Model | None = None) -> Any:
        return self.fields

    def get_readonly_fields(self, request: HttpRequest, obj: Model | None = None) -> Any:
        return self.fields

    def _get_obj_does_not_exist_redirect(self, request: HttpRequest, opts: Any, object_id: str) -> NoReturn:
        raise Http404

    def save_model(self, *args: Any, **kwargs: Any) -> NoReturn:
        raise RuntimeError("the console writes through actions only")

    def delete_model(self, *args: Any, **kwargs: Any) -> NoReturn:
        raise RuntimeError("the console writes through actions only")

    def delete_queryset(self, *args: Any, **kwargs: Any) -> NoReturn:
        raise RuntimeError("the console writes through actions only")

    def tools(self, request: HttpRequest, obj: Any) -> list[dict[str, str]]:
        """Links and buttons above a detail: `{"title", "link", "method"}`."""
        return []

    def list_tools(self, request: HttpRequest) -> list[dict[str, str]]:
        """The same above the list."""
        return []

    def render_change_form(self, request: HttpRequest, context: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        context |= {"console_tools": self.tools(request, kwargs.get("obj")), "title": str(kwargs.get("obj"))}
        return super().render_change_form(request, context, *args, **kwargs)

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> Any:
        title = self.list_title or str(self.model._meta.verbose_name_plural).capitalize()
        extra = {"console_tools": self.list_tools(request), "title": title, **(extra_context or {})}
        return super().changelist_view(request, extra)
