"""Django's registration of the api app."""

from django.apps import AppConfig


class ApiConfig(AppConfig):
    """The api app."""

    name = "steward.api"
    label = "api"
