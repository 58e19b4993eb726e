"""Django's registration of the console app."""

from django.apps import AppConfig


class ConsoleConfig(AppConfig):
    """The console app."""

    name = "steward.console"
    label = "console"
