"""The ground under every test: a home of its own, one PostgreSQL for all, a fresh database in milliseconds.

The schema is migrated once into a template database. Each test process works on a copy of it, and a test that really
commits (`django_db(transaction=True)`) is followed by a new copy: the ledger's tables refuse to be emptied, so Django's
usual way, to flush them, cannot work, and should not.
"""

import contextlib
import fcntl
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck
from hypothesis import settings as hypothesis_settings

# How fast examples are drawn says something of the machine's other work, nothing of the code.
hypothesis_settings.register_profile("house", deadline=None, suppress_health_check=[HealthCheck.too_slow])
hypothesis_settings.load_profile("house")

ROOT = Path(__file__).resolve().parents[1]
if "STEWARD_TEST_HOME" not in os.environ:
    os.environ["STEWARD_TEST_HOME"] = tempfile.mkdtemp(prefix="steward-tests-")
    MADE_HERE = True
else:  # a process of pytest-xdist: its controller made the folder
    MADE_HERE = False
TEST_HOME = Path(os.environ["STEWARD_TEST_HOME"])

# Before anything reads the settings, which is why they are not named in pyproject.toml: pytest-django would read them
# before this file, with the developer's own home.
os.environ["STEWARD_HOME"] = str(TEST_HOME / "home")
os.environ["DJANGO_SETTINGS_MODULE"] = "steward.settings"
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["OMP_NUM_THREADS"] = os.environ.get("OMP_NUM_THREADS", "1")
for name in [*os.environ]:
    if name == "DATABASE_URL" or (name.startswith("STEWARD_") and name not in {"STEWARD_HOME", "STEWARD_TEST_HOME"}):
        del os.environ[name]

from django.conf import settings  # noqa: E402

settings.configured or settings.DATABASES  # noqa: B018  (pytest-django sets Django up only if the settings were read)

TEMPLATE = "steward_template"
# Durability is what the tests do not need.
FAST = ("fsync=off", "synchronous_commit=off", "full_page_writes=off", "autovacuum=off")


def pytest_unconfigure(config: pytest.Config) -> None:
    """Remove the tests' home with everything in it."""
    if MADE_HERE:
        shutil.rmtree(TEST_HOME)


@pytest.fixture(scope="session")
def django_db_setup(django_test_environment: None, django_db_blocker: Any) -> Iterator[None]:
    """Run the cluster and give this process its own copy of the migrated template."""
    from django.test import TransactionTestCase

    from steward import embedded

    folder = settings.STEWARD_POSTGRES
    name = f"steward_{os.environ.get('PYTEST_XDIST_WORKER', 'main')}"
    with embedded.hold(folder, FAST), pytest.MonkeyPatch.context() as patch:
        with django_db_blocker.unblock():
            _make_template()
            _copy_template(name)
            # Instead of emptying every table, which the ledger refuses.
            patch.setattr(TransactionTestCase, "_fixture_teardown", lambda case: _copy_template(name))
        yield
        with django_db_blocker.unblock():
            _close_connections()


def _make_template() -> None:
    from django.core.management import call_command

    from steward import embedded

    with open(TEST_HOME / "template.lock", "ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with embedded.connect(settings.STEWARD_POSTGRES) as server:
            if server.execute("SELECT 1 FROM pg_database WHERE datname = %s", [TEMPLATE]).fetchone():
                return
            server.execute("DROP DATABASE IF EXISTS making_template")
            server.execute("CREATE DATABASE making_template")
            _use_database("making_template")
            call_command("migrate", interactive=False, verbosity=0)
            _close_connections()
            server.execute(f"ALTER DATABASE making_template RENAME TO {TEMPLATE}")


def _copy_template(name: str) -> None:
    from steward import embedded

    _close_connections()
    with embedded.connect(settings.STEWARD_POSTGRES) as server:
        server.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
        server.execute(f"CREATE DATABASE {name} TEMPLATE {TEMPLATE} STRATEGY FILE_COPY")
    _use_database(name)


def _use_database(name: str) -> None:
    from django.db import connections

    _close_connections()
    settings.DATABASES["default"]["NAME"] = name
    connections["default"].settings_dict["NAME"] = name


def _close_connections() -> None:
    from django.db import connections

    connections.close_all()


@pytest.fixture
def other_home(tmp_path: Path) -> Path:
    """An empty STEWARD_HOME for commands that run as processes of their own."""
    return tmp_path / "home"


@pytest.fixture
def run_manage(other_home: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """`manage.py` as a process of its own in `other_home`: `run_manage("doctor", "--json")`."""

    def run(*arguments: str, timeout_seconds: float = 120, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, str(ROOT / "manage.py"), *arguments],
            env={**os.environ, "STEWARD_HOME": str(other_home), **environment},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout_seconds,
        )

    return run


@contextlib.contextmanager
def refused_network() -> Iterator[None]:
    """Let no test reach beyond this machine."""
    import socket

    real = socket.socket.connect

    def connect(self: socket.socket, address: Any) -> None:
        if self.family in {socket.AF_INET, socket.AF_INET6} and address[0] not in {"127.0.0.1", "::1", "localhost"}:
            raise OSError(f"a test tried to reach {address[0]}; tests use no network")
        real(self, address)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", connect)
        yield


@pytest.fixture(autouse=True, scope="session")
def no_network() -> Iterator[None]:
    """Every test runs without a network."""
    with refused_network():
        yield
