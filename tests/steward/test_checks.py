"""Unsafe combinations of settings keep the server from starting."""

from pathlib import Path
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured

from steward import checks


def ids(found: list[Any]) -> list[str]:
    return [message.id for message in found]


def test_the_tests_own_settings_are_safe() -> None:
    checks.refuse_unsafe_start()


def test_debugging_and_clear_text_beyond_this_machine_are_errors(settings: Any) -> None:
    settings.STEWARD_BIND, settings.DEBUG, settings.STEWARD_TLS = "0.0.0.0", True, False
    settings.ALLOWED_HOSTS = ["*"]
    assert ids(checks.check_exposure(None)) == ["steward.E001", "steward.E002", "steward.E003"]
    with pytest.raises(ImproperlyConfigured, match="STEWARD_DEBUG"):
        checks.refuse_unsafe_start()


@pytest.mark.parametrize("address", ["127.0.0.1", "127.5.5.5", "::1", "[::1]", "localhost"])
def test_this_machine_may_be_served_in_clear(settings: Any, address: str) -> None:
    settings.STEWARD_BIND, settings.DEBUG = address, True
    assert checks.check_exposure(None) == []


def test_cookies_must_be_secure_behind_tls(settings: Any) -> None:
    settings.STEWARD_TLS, settings.SESSION_COOKIE_SECURE = True, False
    assert ids(checks.check_cookies(None)) == ["steward.E004"]


def test_no_upload_may_be_spooled_to_disk(settings: Any) -> None:
    assert checks.check_uploads(None) == []
    settings.FILE_UPLOAD_HANDLERS = ["django.core.files.uploadhandler.TemporaryFileUploadHandler"]
    assert ids(checks.check_uploads(None)) == ["steward.E005"]


def test_a_home_that_others_can_read_is_an_error(settings: Any, tmp_path: Path) -> None:
    settings.STEWARD_HOME, settings.STEWARD_SECRETS = tmp_path, tmp_path / "secrets"
    settings.STEWARD_PASSPHRASE_FILE = tmp_path / "secrets" / "passphrase"
    tmp_path.chmod(0o711)
    assert checks.check_home(None) == []
    tmp_path.chmod(0o755)
    assert ids(checks.check_home(None)) == ["steward.E006"]


def test_a_keyring_without_its_passphrase_is_an_error(settings: Any, tmp_path: Path) -> None:
    settings.STEWARD_SECRETS, settings.STEWARD_PASSPHRASE_FILE = tmp_path, tmp_path / "elsewhere"
    (tmp_path / "keyring.json").touch()
    assert ids(checks.check_passphrase(None)) == ["steward.E007"]
    settings.STEWARD_PASSPHRASE_FILE.touch()
    assert checks.check_passphrase(None) == []


@pytest.mark.parametrize(("version", "is_refused"), [(140012, True), (150000, False), (180004, False)])
def test_a_database_server_before_15_is_refused(version: int, is_refused: bool) -> None:
    class Connection:
        vendor = "postgresql"
        pg_version = version

    if is_refused:
        with pytest.raises(ImproperlyConfigured, match="PostgreSQL 14, Steward needs 15"):
            checks.refuse_old_server(Connection())
    else:
        checks.refuse_old_server(Connection())
