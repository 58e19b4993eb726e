"""`manage.py seal [--watch]`: seals waiting events once, or keeps sealing until told to stop."""

import signal
import threading
from typing import Any

from django.core.management.base import BaseCommand, CommandParser
from django.db import OperationalError, connection

from steward.audit.sealer import seal_once

PAUSE_SECONDS = 0.1
RECONNECT_SECONDS = 1.0


class Command(BaseCommand):
    help = "Seals waiting ledger events; with --watch, keeps at it until SIGTERM."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--watch", action="store_true", help="keep sealing until stopped")

    def handle(self, *args: Any, watch: bool, **options: Any) -> None:
        if not watch:
            total = 0
            while sealed := seal_once():
                total += sealed
            self.stdout.write(f"{total} events sealed")
            return
        stop = threading.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: stop.set())
        while not stop.is_set():
            try:
                sealed = seal_once()
            except OperationalError:
                # The database restarts under us: drop the dead connection and try again.
                connection.close()
                stop.wait(RECONNECT_SECONDS)
                continue
            if not sealed:
                stop.wait(PAUSE_SECONDS)
