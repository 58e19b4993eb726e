"""Database roles: what the serving processes may do to the ledger, enforced by PostgreSQL.

Guarantees, where the migrating role may create roles, that the long-running processes (web, worker, sealer connect as
`steward_app`) can read the ledger and add to its outbox and nothing else; that sealing needs the role
`steward_sealer`, taken for one transaction; and that the ledger's tables belong to a role nobody can log in as. Does
not bind a superuser. Rights change in one transaction, so that whoever works meanwhile has the old or the new ones.

On a server of your own, run migrations as the database's owner and give the services a `DATABASE_URL` with a login
role that is a member of `steward_app`.
"""

from typing import Any

from django.apps import AppConfig
from django.db import connections, transaction

OWNER, APP, SEALER = "steward_ledger_owner", "steward_app", "steward_sealer"
SEALED_TABLES = ("ledger_entry", "ledger_node", "ledger_checkpoint")
TABLES = ("ledger_outbox", *SEALED_TABLES)

# NOINHERIT: membership in `steward_sealer` gives the app nothing until it says SET ROLE.
_CREATE = f"""
DO $$ BEGIN
    IF NOT EXISTS (SELECT 1 FROM pg_roles WHERE rolname = '{OWNER}') THEN CREATE ROLE {OWNER} NOLOGIN; END IF;
    IF NOT EXISTS (SELECT 1 FROM pg_roles WHERE rolname = '{SEALER}') THEN CREATE ROLE {SEALER} NOLOGIN; END IF;
    IF NOT EXISTS (SELECT 1 FROM pg_roles WHERE rolname = '{APP}') THEN CREATE ROLE {APP} LOGIN NOINHERIT; END IF;
EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL;  -- another database of this server was faster
END $$;
GRANT {SEALER} TO {APP};
"""  # noqa: S608 - constants of this file
_GRANT = f"""
GRANT USAGE ON SCHEMA public TO {APP}, {SEALER}, {OWNER};
GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO {APP};
GRANT USAGE, SELECT, UPDATE ON ALL SEQUENCES IN SCHEMA public TO {APP}, {SEALER};
GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA public TO {APP}, {SEALER};
"""


def arrange_roles(sender: AppConfig, using: str, **_: Any) -> None:
    """Creates the roles and sets their rights; runs after every migrate, so that new tables are covered."""
    with transaction.atomic(using=using), connections[using].cursor() as cursor:
        cursor.execute("SELECT rolsuper OR rolcreaterole FROM pg_roles WHERE rolname = current_user")
        if not cursor.fetchone()[0]:
            return  # a managed server: its administrator arranges the roles, and `manage.py doctor` says whether
        cursor.execute(_CREATE)
        cursor.execute(_GRANT)
        # Only where it is needed: another owner takes a lock that the sealer would have to wait for.
        cursor.execute(
            "SELECT relname FROM pg_class WHERE oid::regclass::text = ANY(%s) AND relowner <> %s::regrole",
            [list(TABLES), OWNER],
        )
        for (table,) in cursor.fetchall():
            cursor.execute(f"ALTER TABLE {table} OWNER TO {OWNER}")
        for table in TABLES:
            cursor.execute(f"REVOKE ALL ON {table} FROM {APP}")
            cursor.execute(f"GRANT SELECT ON {table} TO {APP}, {SEALER}")
        cursor.execute(f"GRANT INSERT ON ledger_outbox TO {APP}, {SEALER}")
        cursor.execute(f"GRANT DELETE ON ledger_outbox TO {SEALER}")
        for table in SEALED_TABLES:
            cursor.execute(f"GRANT INSERT ON {table} TO {SEALER}")
