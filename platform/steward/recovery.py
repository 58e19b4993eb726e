"""What becomes of a job that fails in a way nobody foresaw.

Guarantees that a lost database connection is tried again, and, where a job uses `CONNECTION_LOST` as shown, that any
other error ends the work as failed instead of leaving it "running" for ever. The error itself goes on to the worker's
log; its message may hold payload, so only its type is kept.

Example:
    except CONNECTION_LOST:
        raise
    except Exception as error:
        fail(unforeseen(error))
        raise
"""

import psycopg
from django.db import InterfaceError, OperationalError
from procrastinate import RetryStrategy

CONNECTION_LOST = (OperationalError, InterfaceError, psycopg.OperationalError, psycopg.InterfaceError)
#: A database that restarts is back within a minute.
RECONNECT = RetryStrategy(max_attempts=10, wait=6, retry_exceptions=CONNECTION_LOST)


def unforeseen(error: Exception) -> str:
    """A sentence for people about an error of ours, without its message."""
    return f"It stopped ({type(error).__name__}). The worker's log says where; run `manage.py doctor`."
