from django.apps import AppConfig


class RunsConfig(AppConfig):
    name = "steward.runs"
    label = "runs"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from steward.runs import receivers  # noqa: F401 - connects them
