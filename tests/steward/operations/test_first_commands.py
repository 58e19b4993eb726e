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
    assert run_manage("sign_in_link", "ana").returncode == 0
