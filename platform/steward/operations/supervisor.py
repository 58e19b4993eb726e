"""`manage.py up`: database, web server, worker and sealer under one supervisor.

Guarantees: one supervisor a home; the schema is up to date before anything serves, and commands that are started beside
it wait for that; a part that dies is started again;
on Ctrl-C or SIGTERM the web server stops first and the sealer last, so that every event that committed is also sealed;
the embedded database stops when its last user has gone. Does not: stop trainers. A running fine-tune goes on, and the
next worker finds it.

Example:
    Supervisor(address="127.0.0.1", port=8000, threads=8, say=print).run()
"""

import contextlib
import errno
import fcntl
import json
import os
import signal
import socket
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from typing import IO

from django.conf import settings
from django.core.management import call_command
from django.db import connections

from compliance.vault import VaultError
from steward import embedded, keyring
from steward.audit.database_roles import APP
from steward.checks import refuse_unsafe_start
from steward.operations.children import Child
from steward.operations.presence import local_address, note_path, public_address, read_note
from steward.runs.dispatch import pools

LOOK_EVERY_SECONDS = 0.2
LOOK_AT_DATABASE_EVERY_SECONDS = 2.0
WEB_READY_SECONDS = 60.0
LOCK_TRIES = 5
LOCK_PAUSE_SECONDS = 0.05


class CannotStart(Exception):
    """Steward cannot start here and now; the message says why and what to do."""


class Supervisor:
    """Runs the parts until it is told to stop.

    Args:
        address: where the web server listens.
        port: 1..65535.
        threads: requests served at the same time.
        say: prints one line for people.
        shows_links: one-time sign-in links are printed; not where the output ends up in a log.
    """

    def __init__(
        self, *, address: str, port: int, threads: int, say: Callable[[str], None], shows_links: bool = True
    ) -> None:
        self.address = address
        self.port = port
        self.threads = threads
        self.say = say
        self.shows_links = shows_links
        self.is_stopping = False
        self.children = self._children()

    @property
    def base_url(self) -> str:
        """The address to type into a browser on this machine."""
        return local_address(self.address, self.port)

    def run(self) -> None:
        """Start everything, keep it running, stop it cleanly.

        Raises:
            CannotStart: another supervisor runs in this home, the port is taken, or the vault does not open.
            embedded.EmbeddedDatabaseError: the database cannot start.
            django.core.exceptions.ImproperlyConfigured: a system check refuses the settings.
        """
        refuse_unsafe_start()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._note_stop)
        with _only_supervisor(self.base_url) as note, contextlib.ExitStack() as stack:
            refuse_taken_port(self.address, self.port)
            refuse_locked_vault()
            if not settings.STEWARD_DATABASE_URL:
                stack.enter_context(embedded.hold(settings.STEWARD_POSTGRES))
            self.say("Bringing the database up to date ...")
            call_command("migrate", interactive=False, verbosity=0)
            connections.close_all()
            try:
                self._serve(note)
            finally:
                self._stop_children()

    def _serve(self, note: IO[str]) -> None:
        for child in self.children:
            if not self.is_stopping:
                child.start()
        _write_note(note, self.base_url, self.children)
        if self._web_answers():
            self._greet()
        next_look_at_database = 0.0
        while not self.is_stopping:
            for child in self.children:
                if told := child.watch():
                    self.say(told)
            _write_note(note, self.base_url, self.children)
            if time.monotonic() >= next_look_at_database:
                self._revive_database()
                next_look_at_database = time.monotonic() + LOOK_AT_DATABASE_EVERY_SECONDS
            time.sleep(LOOK_EVERY_SECONDS)

    def _revive_database(self) -> None:
        if settings.STEWARD_DATABASE_URL or embedded.is_running(settings.STEWARD_POSTGRES):
            return
        self.say("the database ended; starting it again")
        try:
            embedded.revive(settings.STEWARD_POSTGRES)
        except embedded.EmbeddedDatabaseError as error:
            self.say(f"The embedded database: {error}")

    def _web_answers(self) -> bool:
        """Wait for the first answer of the web server, any answer."""
        deadline = time.monotonic() + WEB_READY_SECONDS
        while time.monotonic() < deadline and not self.is_stopping:
            if told := self.children[-1].watch():
                self.say(told)
            try:
                urllib.request.urlopen(self.base_url, timeout=5).close()  # noqa: S310 (always http, always ours)
            except urllib.error.HTTPError:
                return True
            except OSError:
                time.sleep(LOOK_EVERY_SECONDS)
            else:
                return True
        return False

    def _greet(self) -> None:
        self.say(f"Steward runs at {self.base_url}  (Ctrl-C stops it)")
        from steward.accounts.links import first_sign_in_links

        _ensure_somebody()
        if not self.shows_links:
            connections.close_all()
            return
        links = first_sign_in_links(public_address() or self.base_url)
        connections.close_all()
        if links:
            self.say("One-time links for those who have not signed in yet:")
        for person, link in links:
            self.say(f"  {person}: {link}")

    def _stop_children(self) -> None:
        self.say("Stopping ...")
        # Web first: no new work. The sealer last: it seals what the others committed while they stopped.
        for child in reversed(self.children):
            child.ask_to_stop()
            if not child.wait_until_stopped():
                self.say(f"{child.name} did not stop in {child.grace_seconds:.0f} s and was killed")
        self.say("Stopped.")

    def _note_stop(self, number: int, frame: object) -> None:
        self.is_stopping = True

    def _children(self) -> list[Child]:
        web = [sys.executable, "-m", "granian", "--interface", "wsgi", "--host", self.address, "--port", str(self.port)]
        web += ["--blocking-threads", str(self.threads), "--workers", "1", "--no-ws", "--log-level", "error"]
        web += ["--workers-kill-timeout", "8", "steward.wsgi:application"]
        environment = {**_environment(), "STEWARD_BIND": self.address, "STEWARD_PORT": str(self.port)}
        return [*background_children(), Child("web", web, environment, grace_seconds=10)]


def background_children() -> list[Child]:
    """The sealer and the worker, not started: all that is needed to carry out queued work without serving anything."""
    manage = [sys.executable, str(settings.ROOT / "manage.py")]
    # Whatever holds a device keeps a job busy; the others are for what needs none.
    jobs = settings.STEWARD_WORKER_JOBS - 1 + sum(len(devices) for devices in pools().values())
    return [
        Child("sealer", [*manage, "seal", "--watch"], _environment(), grace_seconds=10),
        Child("worker", [*manage, "work", "--concurrency", str(jobs)], _environment(), grace_seconds=25),
    ]


def _environment() -> dict[str, str]:
    """What every child runs with."""
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(settings.ROOT), str(settings.ROOT / "platform")]),
        "DJANGO_SETTINGS_MODULE": "steward.settings",
        "PYTHONUNBUFFERED": "1",
        "STEWARD_HOME": str(settings.STEWARD_HOME),
        "HF_HUB_OFFLINE": "1",
        "STEWARD_DATABASE_ROLE": APP,
    }


def _ensure_somebody() -> None:
    """Make an administrator where nobody exists yet; without one nobody could ever sign in."""
    from steward.accounts import actions
    from steward.accounts.models import User
    from steward.audit.actor import Actor

    if not User.objects.exists():
        actions.create_user(
            actor=Actor.system("supervisor"),
            username="administrator",
            display_name="Administrator",
            is_administrator=True,
        )


def refuse_taken_port(address: str, port: int) -> None:
    """Refuse an address that cannot be listened on.

    Raises:
        CannotStart: it is taken, or this user or machine may not use it.
    """
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        # As the web server does; without it a port would seem taken for a minute after every stop.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise CannotStart(
                    f"Port {port} on {address} is in use by another program. "
                    f"Choose another: python manage.py up --port {port + 1}"
                ) from error
            raise CannotStart(
                f"Cannot listen on {address}:{port} ({error.strerror}). Choose another with --port."
            ) from error


def refuse_locked_vault() -> None:
    """Refuse to serve an installation in which nothing can be read, and no event be sealed.

    Raises:
        CannotStart: the passphrase is missing or does not open the keyring, or the keyring is damaged.
    """
    try:
        keyring.provider()
    except (keyring.VaultLocked, VaultError) as error:
        raise CannotStart(
            f"The vault does not open: {error}. Put the right passphrase into {settings.STEWARD_PASSPHRASE_FILE}; "
            "manage.py doctor shows more."
        ) from error
    finally:
        keyring.provider.cache_clear()  # the root key is for those who need it; the supervisor does not


@contextlib.contextmanager
def _only_supervisor(base_url: str) -> Iterator[IO[str]]:
    """Hold this home's supervisor lock; its file tells others who holds it.

    Raises:
        CannotStart: another supervisor holds it.
    """
    with open(note_path(), "a+") as note:
        os.chmod(note.name, 0o600)
        if not _locked(note):
            running = read_note()
            raise CannotStart(
                f"Steward already runs in {settings.STEWARD_HOME} (process {running.get('pid', 'unknown')}, "
                f"{running.get('address', 'address unknown')}). "
                "Stop it first, or choose another home with STEWARD_HOME."
            )
        note.truncate(0)  # of one that was killed; empty says that this one is starting
        try:
            yield note
        finally:
            note.truncate(0)


def _locked(note: IO[str]) -> bool:
    """Take the lock; a command that only looks whether it is held holds it itself for a moment."""
    for _ in range(LOCK_TRIES):
        try:
            fcntl.flock(note, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(LOCK_PAUSE_SECONDS)
        else:
            return True
    return False


def _write_note(note: IO[str], base_url: str, children: list[Child]) -> None:
    pids = {child.name: child.process.pid for child in children if child.process is not None}
    written = json.dumps({"pid": os.getpid(), "address": base_url, "children": pids})
    note.seek(0)
    if note.read() != written:
        note.truncate(0)
        note.write(written)
        note.flush()
