"""Addresses of the console."""

from django.urls import path

from steward.console import house, record, tables  # noqa: F401 - register their lists with the site
from steward.console.site import site

urlpatterns = [path("", site.urls)]
