"""The console's site: Django's admin with unfold's look, without a way to write around the actions.

Guarantees one sign-in for the whole house, 404 for what is not one's own, and no page that Django's admin would offer
by itself beyond lists and details. Does not decide who may do what: the actions do.
"""

from typing import Any

from django.contrib.auth.views import redirect_to_login
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, URLResolver, path, reverse
from unfold.sites import UnfoldAdminSite

from steward.console.access import may_open
from steward.console.navigation import groups_for

_DROPPED = {"search", "password_change", "password_change_done", "autocomplete", "view_on_site", "app_list"}


class ConsoleSite(UnfoldAdminSite):
    site_title = "Steward console"
    site_header = "Console"
    index_title = "Overview"
    enable_nav_sidebar = True
    final_catch_all_view = False

    def has_permission(self, request: HttpRequest) -> bool:
        return may_open(request.user)

    def login(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        """Hands over to the one sign-in page; whoever is signed in and may not come in is told so."""
        if request.user.is_authenticated:
            if self.has_permission(request):
                return HttpResponseRedirect(reverse("admin:index"))
            raise PermissionDenied
        return redirect_to_login(request.GET.get("next", reverse("admin:index")))

    def index(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> TemplateResponse:
        from steward.console.pages.overview import overview

        return overview(request)

    def get_app_list(self, request: HttpRequest, app_label: str | None = None) -> list[Any]:
        """Nothing: the menu is `navigation.groups_for`, in the order of the work and not by app."""
        return []

    def each_context(self, request: HttpRequest) -> dict[str, Any]:
        context = super().each_context(request)
        if self.has_permission(request):
            context["console_groups"] = groups_for(request)
        return context

    def get_urls(self) -> list[URLPattern | URLResolver]:
        kept = [each for each in super().get_urls() if getattr(each, "name", None) not in _DROPPED]
        return [*self._own_urls(), *kept]

    def _own_urls(self) -> list[URLPattern]:
        from steward.console import pages

        return [path(route, self.admin_view(view), name=name) for route, view, name in pages.ROUTES]

    def page(self, request: HttpRequest, template: str, title: str, **context: Any) -> TemplateResponse:
        """One of the console's own pages, in its frame."""
        request.current_app = self.name  # type: ignore[attr-defined]
        return TemplateResponse(
            request, f"console/{template}.html", {**self.each_context(request), "title": title, **context}
        )


site = ConsoleSite(name="admin")
