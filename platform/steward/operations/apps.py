"""Django's registration of operations: the commands that run, inspect and diagnose an installation."""

from django.apps import AppConfig


class OperationsConfig(AppConfig):
    """Registers the system checks and the version check of the database."""

    name = "steward.operations"
    label = "operations"

    def ready(self) -> None:
        """Load the checks, so that every management command runs them."""
        from django.db.backends.signals import connection_created

        from steward.checks import refuse_old_server

        connection_created.connect(refuse_old_server, dispatch_uid="steward.operations.refuse_old_server")
