"""Typed reading of environment variables: the one place where Steward looks at its environment.

Guarantees: a value that cannot be understood stops the start with a sentence that names the variable, what was expected
and an example. Does not: carry secrets. Keys and passphrases come from files or standard input, never from here, since
an environment is readable to every process of the same user.

Example:
    >>> import os; os.environ["STEWARD_PORT"] = "8000"
    >>> whole_number("STEWARD_PORT", default=80, minimum=1, maximum=65535)
    8000
"""

import os
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from django.core.exceptions import ImproperlyConfigured

_TRUE = frozenset({"1", "true", "yes", "on"})
_FALSE = frozenset({"0", "false", "no", "off", ""})


def text(name: str, default: str = "") -> str:
    """Return the variable as it stands, without surrounding blanks."""
    return os.environ.get(name, default).strip()


def flag(name: str, *, default: bool) -> bool:
    """Return a yes/no variable.

    Raises:
        ImproperlyConfigured: the value is neither a yes nor a no.
    """
    value = os.environ.get(name)
    if value is None:
        return default
    lowered = value.strip().lower()
    if lowered in _TRUE:
        return True
    if lowered in _FALSE:
        return False
    raise ImproperlyConfigured(f"{name} must be one of 1, 0, true, false, yes, no, on, off. Example: {name}=1")


def whole_number(name: str, *, default: int, minimum: int, maximum: int) -> int:
    """Return an integer variable within `minimum`..`maximum`, both included.

    Raises:
        ImproperlyConfigured: not an integer, or out of range.
    """
    value = os.environ.get(name)
    if value is None or not value.strip():
        return default
    try:
        number = int(value)
    except ValueError:
        number = minimum - 1
    if not minimum <= number <= maximum:
        raise ImproperlyConfigured(
            f"{name} must be a whole number from {minimum} to {maximum}. Example: {name}={default}"
        )
    return number


def one_of(name: str, choices: tuple[str, ...]) -> str:
    """Return a variable that is one of `choices`; the first of them by default.

    Raises:
        ImproperlyConfigured: it is none of them.
    """
    value = text(name) or choices[0]
    if value not in choices:
        raise ImproperlyConfigured(f"{name} must be one of {', '.join(choices)}. Example: {name}={choices[0]}")
    return value


def number(name: str, *, default: float, minimum: float, maximum: float) -> float:
    """Return a number within `minimum`..`maximum`, both included, with a point before its decimals.

    Raises:
        ImproperlyConfigured: not a number, or out of range.
    """
    value = os.environ.get(name)
    if value is None or not value.strip():
        return default
    try:
        found = float(value)
    except ValueError:
        found = float("nan")
    if not minimum <= found <= maximum:
        raise ImproperlyConfigured(f"{name} must be a number from {minimum:g} to {maximum:g}. Example: {name}=1.25")
    return found


def words(name: str, default: tuple[str, ...] = ()) -> list[str]:
    """Return a comma-separated variable as a list without empty items."""
    value = os.environ.get(name)
    if value is None:
        return list(default)
    return [word.strip() for word in value.split(",") if word.strip()]


def folder(name: str, default: Path) -> Path:
    """Return an absolute folder path; `~` is expanded, nothing is created.

    Raises:
        ImproperlyConfigured: the path names something that exists and is no folder.
    """
    value = os.environ.get(name, "").strip()
    path = (Path(value) if value else default).expanduser().absolute()
    if path.exists() and not path.is_dir():
        raise ImproperlyConfigured(f"{name} must name a folder, but there is something else at that path.")
    return path


def file(name: str, default: Path) -> Path:
    """Return an absolute file path; `~` is expanded, the file need not exist yet."""
    return Path(os.environ.get(name, "").strip() or default).expanduser().absolute()


def database(url: str) -> dict[str, Any]:
    """Turn `postgresql://user:password@host:port/name?sslmode=require` into Django's settings for a database.

    Raises:
        ImproperlyConfigured: another scheme than PostgreSQL's, no database name, or a port that is no number. The
            message never repeats the URL, as it may hold a password.
    """
    example = "Example: DATABASE_URL=postgresql://steward@db.internal:5432/steward?sslmode=verify-full"
    parts = urlsplit(url)
    if parts.scheme not in {"postgresql", "postgres"}:
        raise ImproperlyConfigured(
            f"DATABASE_URL must start with postgresql://, PostgreSQL is the only database. {example}"
        )
    name = unquote(parts.path.lstrip("/"))
    if not name:
        raise ImproperlyConfigured(f"DATABASE_URL names no database after the last slash. {example}")
    try:
        port = parts.port
    except ValueError:
        raise ImproperlyConfigured(f"DATABASE_URL holds a port that is no number from 1 to 65535. {example}") from None
    options = dict(parse_qsl(parts.query))
    host = options.pop("host", None) or unquote(parts.hostname or "")
    return {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": name,
        "USER": unquote(parts.username or ""),
        "PASSWORD": unquote(parts.password or ""),
        "HOST": host,
        "PORT": str(port or ""),
        "OPTIONS": options,
    }
