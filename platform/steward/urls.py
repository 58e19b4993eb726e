"""Addresses: the web pages at the root, the console for officers and administrators, the REST interface,
and the OpenAI-compatible one."""

from django.urls import include, path

urlpatterns = [
    path("console/", include("steward.console.urls")),
    path("api/v1/", include("steward.api.urls")),
    path("v1/", include("steward.openai_api.urls")),
    path("", include("steward.web.urls")),
]
