"""Django's registration of the openai_api app."""

from django.apps import AppConfig


class OpenAIApiConfig(AppConfig):
    """The openai_api app."""

    name = "steward.openai_api"
    label = "openai_api"
