"""System checks for combinations of settings that would leak or lock out, and the door through which entry points ask.

Guarantees: each finding names the cause and the next step. Does not: look at the database or the network; that is
`manage.py doctor`.
"""

import ipaddress
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from django.apps import AppConfig
from django.conf import settings
from django.core import checks
from django.core.exceptions import ImproperlyConfigured

# Source: the oldest release on which the ledger's and the queue's statements were tried.
MINIMUM_POSTGRES = 150000
_OTHERS = stat.S_IRWXO
_GROUP_WRITE = stat.S_IWGRP


def refuse_unsafe_start() -> None:
    """Run the security checks and refuse to serve if one of them is an error.

    Raises:
        ImproperlyConfigured: with every error and its hint.
    """
    errors = [found for found in checks.run_checks(tags=["steward"]) if found.is_serious()]
    if errors:
        raise ImproperlyConfigured("\n".join(f"{error.id}: {error.msg} {error.hint or ''}".strip() for error in errors))


def refuse_old_server(connection: Any, **kwargs: Any) -> None:
    """Refuse a database server that is too old, on the first connection to it.

    Raises:
        ImproperlyConfigured: it is older than PostgreSQL 15.
    """
    if connection.vendor == "postgresql" and connection.pg_version < MINIMUM_POSTGRES:
        raise ImproperlyConfigured(
            f"The server in DATABASE_URL is PostgreSQL {connection.pg_version // 10000}, Steward needs 15 or later. "
            "Upgrade it, or unset DATABASE_URL to use the embedded one."
        )


def is_loopback(address: str) -> bool:
    """Tell whether a bind address is reachable from this machine only."""
    try:
        return ipaddress.ip_address(address.strip("[]")).is_loopback
    except ValueError:
        return address == "localhost"


@checks.register("steward")
def check_exposure(app_configs: Sequence[AppConfig] | None, **kwargs: Any) -> list[checks.CheckMessage]:
    """Refuse to be reachable from outside with debugging on or without TLS."""
    found: list[checks.CheckMessage] = []
    if is_loopback(settings.STEWARD_BIND):
        return found
    if settings.DEBUG:
        found.append(
            checks.Error(
                "Debugging is on while the server listens beyond this machine: error pages would show data.",
                hint="Unset STEWARD_DEBUG, or set STEWARD_BIND=127.0.0.1.",
                id="steward.E001",
            )
        )
    if not settings.STEWARD_TLS:
        found.append(
            checks.Error(
                "The server listens beyond this machine without TLS: cookies and data would travel in clear.",
                hint="Put a TLS proxy in front and set STEWARD_TLS=1, or set STEWARD_BIND=127.0.0.1.",
                id="steward.E002",
            )
        )
    if "*" in settings.ALLOWED_HOSTS:
        found.append(
            checks.Error(
                "STEWARD_HOSTS=* lets anybody choose the address in links that Steward makes.",
                hint="List the names people type, for example STEWARD_HOSTS=steward.hospital.example.",
                id="steward.E003",
            )
        )
    return found


@checks.register("steward")
def check_cookies(app_configs: Sequence[AppConfig] | None, **kwargs: Any) -> list[checks.CheckMessage]:
    """Refuse cookies that a browser would send in clear although TLS was announced."""
    if not settings.STEWARD_TLS or (settings.SESSION_COOKIE_SECURE and settings.CSRF_COOKIE_SECURE):
        return []
    return [
        checks.Error(
            "STEWARD_TLS is set but cookies are not marked secure.",
            hint="Leave SESSION_COOKIE_SECURE and CSRF_COOKIE_SECURE to the settings file.",
            id="steward.E004",
        )
    ]


@checks.register("steward")
def check_uploads(app_configs: Sequence[AppConfig] | None, **kwargs: Any) -> list[checks.CheckMessage]:
    """Refuse any upload handler that writes plaintext to the temporary folder."""
    spooling = [name for name in settings.FILE_UPLOAD_HANDLERS if "TemporaryFile" in name]
    if not spooling:
        return []
    return [
        checks.Error(
            "An upload handler would write uploads to disk unencrypted.",
            hint="Remove TemporaryFileUploadHandler from FILE_UPLOAD_HANDLERS.",
            id="steward.E005",
        )
    ]


@checks.register("steward")
def check_home(app_configs: Sequence[AppConfig] | None, **kwargs: Any) -> list[checks.CheckMessage]:
    """Refuse a home or secrets that other users of the machine can read."""
    found: list[checks.CheckMessage] = []
    for path, forbidden in (
        # Others may pass through the home (the embedded database runs as another user under root), but not list it.
        (settings.STEWARD_HOME, stat.S_IROTH | stat.S_IWOTH | _GROUP_WRITE),
        (settings.STEWARD_SECRETS, _OTHERS | stat.S_IRWXG),
        (settings.STEWARD_SECRETS / "django.key", _OTHERS | stat.S_IRWXG),
        (settings.STEWARD_PASSPHRASE_FILE, _OTHERS | stat.S_IRWXG),
    ):
        if _has_mode(path, forbidden):
            found.append(
                checks.Error(
                    f"{path} is open to other users of this machine.",
                    hint=f"Run: chmod go-rwx {path}",
                    id="steward.E006",
                )
            )
    return found


@checks.register("steward")
def check_passphrase(app_configs: Sequence[AppConfig] | None, **kwargs: Any) -> list[checks.CheckMessage]:
    """Refuse to start with a keyring that nothing can open."""
    if not (settings.STEWARD_SECRETS / "keyring.json").exists() or settings.STEWARD_PASSPHRASE_FILE.exists():
        return []
    return [
        checks.Error(
            f"There is a keyring, but no passphrase at {settings.STEWARD_PASSPHRASE_FILE}: no data could be opened.",
            hint="Put the passphrase into that file (mode 0600), or point STEWARD_PASSPHRASE_FILE at it.",
            id="steward.E007",
        )
    ]


def _has_mode(path: Path, bits: int) -> bool:
    try:
        return bool(path.stat().st_mode & bits)
    except FileNotFoundError:
        return False
