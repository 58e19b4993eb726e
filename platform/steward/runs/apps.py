from django.apps import AppConfig


class RunsConfig(AppConfig):
    name = "steward.runs"
    label = "runs"
    default_auto_field = "django.db.models.BigAutoField"
