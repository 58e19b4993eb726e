"""Django's registration of the web app."""

from django.apps import AppConfig


class WebConfig(AppConfig):
    """The web app."""

    name = "steward.web"
    label = "web"
