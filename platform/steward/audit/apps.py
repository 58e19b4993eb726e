from django.apps import AppConfig
from django.db.models.signals import post_migrate


class AuditConfig(AppConfig):
    name = "steward.audit"
    label = "audit"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from steward.audit.database_roles import arrange_roles

        post_migrate.connect(arrange_roles, sender=self)
