"""Style, types and migrations, as `make lint` checks them."""

import subprocess
import sys
from pathlib import Path

import pytest
from django.core.management import call_command

ROOT = Path(__file__).resolve().parents[2]


def run(*arguments: str) -> None:
    done = subprocess.run([sys.executable, "-m", *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_ruff_finds_nothing() -> None:
    run("ruff", "check", "--no-cache", "--output-format", "concise", ".")


def test_everything_is_formatted() -> None:
    run("ruff", "format", "--check", "--no-cache", "--output-format", "concise", ".")


@pytest.mark.slow
def test_types_of_kernel_and_trainers_are_strict() -> None:
    run("mypy")


@pytest.mark.django_db
def test_no_model_was_changed_without_a_migration() -> None:
    call_command("makemigrations", check_changes=True, dry_run=True, verbosity=0)
