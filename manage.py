#!/usr/bin/env python
"""Steward's command line: `python manage.py up | demo | doctor | migrate | ...`.

Puts `platform/` on the import path and, for the commands that need a database, sees to it that the embedded PostgreSQL
runs. It does not start anything for commands that only read code (`help`, `check`, `collectstatic`, ...).
"""

import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent


def main() -> None:
    """Run one management command.

    Raises:
        SystemExit: with the command's exit status.
    """
    sys.path[:0] = [str(ROOT), str(ROOT / "platform")]
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "steward.settings")
    os.environ.setdefault("HF_HUB_OFFLINE", "1")

    from django.core.management import execute_from_command_line
    from django.db import ProgrammingError
    from psycopg.errors import UndefinedColumn, UndefinedTable

    from steward import embedded
    from steward.audit.actor import UserError
    from steward.operations.presence import wait_while_it_starts

    if embedded.needs_database(sys.argv):
        wait_while_it_starts()
    with embedded.database_for_command(sys.argv):
        try:
            execute_from_command_line(sys.argv)
        except UserError as error:  # the person's to mend: a sentence, not a traceback
            sys.exit(str(error))
        except ProgrammingError as error:
            if not isinstance(error.__cause__, UndefinedTable | UndefinedColumn):
                raise
            sys.exit("The database has no tables yet, or those of an older Steward. Next: python manage.py migrate")


if __name__ == "__main__":
    main()
