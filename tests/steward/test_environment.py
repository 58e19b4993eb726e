"""Environment variables are understood or refused by name, never guessed."""

from pathlib import Path

import pytest
from django.core.exceptions import ImproperlyConfigured

from steward import environment, secret_key


@pytest.mark.parametrize(("value", "expected"), [("1", True), ("Yes", True), ("off", False), ("", False)])
def test_flags_are_read(monkeypatch: pytest.MonkeyPatch, value: str, expected: bool) -> None:
    monkeypatch.setenv("STEWARD_X", value)
    assert environment.flag("STEWARD_X", default=not expected) is expected


def test_a_flag_that_is_neither_yes_nor_no_is_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STEWARD_X", "maybe")
    with pytest.raises(ImproperlyConfigured, match="STEWARD_X must be one of"):
        environment.flag("STEWARD_X", default=False)


@pytest.mark.parametrize("value", ["0", "65536", "8000x", "1.5"])
def test_numbers_out_of_range_are_refused_with_the_range(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("STEWARD_X", value)
    with pytest.raises(ImproperlyConfigured, match="from 1 to 65535"):
        environment.whole_number("STEWARD_X", default=8000, minimum=1, maximum=65535)


def test_a_folder_must_not_be_a_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("STEWARD_X", str(tmp_path / "file"))
    with pytest.raises(ImproperlyConfigured, match="STEWARD_X must name a folder"):
        environment.folder("STEWARD_X", tmp_path)


def test_a_database_url_is_taken_apart() -> None:
    found = environment.database("postgresql://ann:p%40ss@db.internal:5433/steward?sslmode=verify-full")
    assert (found["USER"], found["PASSWORD"], found["HOST"], found["PORT"]) == ("ann", "p@ss", "db.internal", "5433")
    assert found["NAME"] == "steward"
    assert found["OPTIONS"] == {"sslmode": "verify-full"}


def test_a_socket_folder_can_be_named_in_the_url() -> None:
    assert environment.database("postgresql:///steward?host=/run/postgresql")["HOST"] == "/run/postgresql"


@pytest.mark.parametrize("url", ["mysql://u:geheim@h/x", "postgresql://u:geheim@h", "postgresql://u:geheim@h:port/x"])
def test_a_wrong_database_url_is_refused_without_repeating_its_password(url: str) -> None:
    with pytest.raises(ImproperlyConfigured, match="Example: DATABASE_URL=") as refused:
        environment.database(url)
    assert "geheim" not in str(refused.value)


def test_the_secret_key_is_made_once_for_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "home" / "secrets" / "django.key"
    key = secret_key.load_or_create(path)
    assert len(key) >= 50
    assert secret_key.load_or_create(path) == key
    assert path.stat().st_mode & 0o077 == 0
    assert path.parent.stat().st_mode & 0o077 == 0
    assert [found.name for found in path.parent.iterdir()] == ["django.key"]


def test_a_damaged_secret_key_is_not_used(tmp_path: Path) -> None:
    path = tmp_path / "django.key"
    path.write_text("short")
    with pytest.raises(ImproperlyConfigured, match="damaged"):
        secret_key.load_or_create(path)
