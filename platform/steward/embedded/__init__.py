"""The PostgreSQL that comes with Steward: a cluster under `STEWARD_HOME`, reachable over a Unix socket only.

Guarantees: no TCP port; a data folder and socket that only their owner can enter; any number of processes may hold the
server at once, it starts with the first and stops with the last; what a killed process left behind (a pid file, a
half-made cluster) does not keep the next start from working. Nothing starts on import.

Does not: protect against whoever may become this user: they own the data files. Does not upgrade a cluster that another
major version wrote, and does not work on Windows; `DATABASE_URL` names another server in both cases.

As root the server runs as the system user `steward-postgres`, since PostgreSQL refuses root. That user must be able to
pass through (not to list or read) the folders above the cluster, so they get the execute bit for others.

Example:
    with hold(Path("/srv/steward/postgres")):
        ...  # connect with django_settings(Path("/srv/steward/postgres"))
"""

from steward.embedded.cluster import DATABASE, SUPERUSER, connect, django_settings, is_running, stop
from steward.embedded.errors import EmbeddedDatabaseError
from steward.embedded.holding import database_for_command, hold, needs_database, revive

__all__ = [
    "DATABASE",
    "SUPERUSER",
    "EmbeddedDatabaseError",
    "connect",
    "database_for_command",
    "django_settings",
    "hold",
    "is_running",
    "needs_database",
    "revive",
    "stop",
]
