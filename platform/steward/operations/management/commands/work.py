"""`manage.py work [--concurrency N]`: carries out queued work until told to stop.

In place of `manage.py procrastinate worker`, which greets on stderr, in the middle of what a command tells people.
"""

import asyncio
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser
from procrastinate.contrib.django import app
from procrastinate.exceptions import ConnectorException

GRACE_SECONDS = 15.0


class Command(BaseCommand):
    help = "Carries out queued work; SIGTERM lets the jobs under way end, for 15 seconds at most."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--concurrency", type=int, default=settings.STEWARD_WORKER_JOBS, help="jobs at a time")

    def handle(self, *args: Any, concurrency: int, **options: Any) -> None:
        with app.replace_connector(app.connector.get_worker_connector()):
            try:
                asyncio.run(_work(concurrency))
            except ConnectorException as error:
                raise CommandError(
                    f"The worker cannot reach its queue ({type(error.__cause__ or error).__name__})."
                ) from None


async def _work(concurrency: int) -> None:
    async with app.open_async():
        await app.run_worker_async(concurrency=concurrency, shutdown_graceful_timeout=GRACE_SECONDS)
