"""The commands of the README's tutorial in a home where nothing was done yet."""

import subprocess
from collections.abc import Callable

import pytest

pytestmark = pytest.mark.slow


def test_the_tutorial_may_begin_without_any_preparation(
    run_manage: Callable[..., subprocess.CompletedProcess[str]],
) -> None:
    early = run_manage("sign_in_link", "ana")
    assert early.returncode == 1
    assert early.stderr.strip().endswith("Next: python manage.py migrate")
    assert "Traceback" not in early.stderr

    made = run_manage("workspace", "cardiology", "--domain", "healthcare", "--member", "ana=analyst")
    assert (made.returncode, made.stderr) == (0, "")
    assert "ana (analyst)" in made.stdout

    link = run_manage("sign_in_link", "ana", STEWARD_PORT="8123")
    assert link.stdout.startswith("http://127.0.0.1:8123/sign-in/link/")
    assert "Nothing serves this home now" in link.stderr
    behind_proxy = run_manage("sign_in_link", "ana", STEWARD_TLS="1", STEWARD_HOSTS="steward.example,other.example")
    assert behind_proxy.stdout.startswith("https://steward.example/sign-in/link/")
    told = run_manage("sign_in_link", "ana", "--base-url", "https://steward.example:8443/")
    assert told.stdout.startswith("https://steward.example:8443/sign-in/link/")
