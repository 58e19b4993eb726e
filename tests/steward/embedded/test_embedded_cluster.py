"""The embedded server: several holders, killed holders, leftovers, awkward paths."""

import contextlib
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from steward import embedded
from steward.embedded import cluster, folders

ROOT = Path(__file__).resolve().parents[3]
FAST = ("fsync=off",)
HOLDER = textwrap.dedent("""
    import sys
    from pathlib import Path
    from steward import embedded

    with embedded.hold(Path(sys.argv[1]), ["fsync=off"]):
        print("held", flush=True)
        sys.stdin.readline()
    print("running" if embedded.is_running(Path(sys.argv[1])) else "stopped", flush=True)
""")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cluster that each test starts for itself; making one is what takes long."""
    folder = tmp_path_factory.mktemp("cluster") / "home" / "postgres"
    with embedded.hold(folder, FAST):
        pass
    return folder


@contextlib.contextmanager
def holder(folder: Path) -> Iterator[subprocess.Popen[str]]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "platform")}
    command = [sys.executable, "-c", HOLDER, str(folder)]
    with subprocess.Popen(
        command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        yield process
        process.kill()


def said(process: subprocess.Popen[str]) -> str:
    """The next line of a holder: `held`, and when it has let go, `running` or `stopped`."""
    assert process.stdout is not None
    return process.stdout.readline().strip()


def let_go(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()


def test_it_listens_on_a_socket_only_and_stops_with_its_holder(folder: Path) -> None:
    with embedded.hold(folder, FAST), embedded.connect(folder) as connection:
        assert connection.execute("SHOW listen_addresses").fetchone() == ("",)
        assert connection.execute("SHOW log_error_verbosity").fetchone() == ("terse",)
        assert connection.execute("SHOW log_min_error_statement").fetchone() == ("panic",)
    assert not embedded.is_running(folder)


def test_nobody_else_may_enter_its_folder(folder: Path) -> None:
    for private in (folder, folder / "data"):
        assert private.stat().st_mode & 0o077 == 0
    assert folder.parent.stat().st_mode & 0o066 == 0


def test_processes_that_start_at_once_share_one_server_and_the_last_one_stops_it(folder: Path) -> None:
    with holder(folder) as first, holder(folder) as second:
        assert said(first) == said(second) == "held"
        let_go(second)
        assert said(second) == "running"
        let_go(first)
        assert said(first) == "stopped"


def test_a_killed_holder_counts_no_longer(folder: Path) -> None:
    with holder(folder) as process:
        assert said(process) == "held"
        process.kill()
        process.wait()
        assert embedded.is_running(folder)
        with embedded.hold(folder, FAST):
            pass
        assert not embedded.is_running(folder)


def test_it_starts_after_its_server_was_killed_and_keeps_what_was_committed(folder: Path) -> None:
    with embedded.hold(folder, FAST):
        with embedded.connect(folder) as connection:
            connection.execute("CREATE TABLE IF NOT EXISTS kept (x int)")
            connection.execute("INSERT INTO kept VALUES (7)")
        os.kill(int((folder / "data" / "postmaster.pid").read_text().split()[0]), signal.SIGKILL)
        while embedded.is_running(folder):
            time.sleep(0.02)
        embedded.revive(folder, FAST)
        with embedded.connect(folder) as connection:
            assert connection.execute("SELECT max(x) FROM kept").fetchone() == (7,)


def test_a_pid_file_that_names_another_program_does_not_keep_it_from_starting(folder: Path) -> None:
    for leftover in (folder / "data" / "postmaster.pid", folder / f"{folders.SOCKET_NAME}.lock"):
        leftover.write_text(f"{os.getpid()}\n{folder / 'data'}\n")
    with embedded.hold(folder, FAST):
        assert embedded.is_running(folder)


@pytest.mark.slow
def test_a_half_made_cluster_is_thrown_away(tmp_path: Path) -> None:
    folder = tmp_path / "postgres"
    folders.prepare(folder, folders.server_user())
    (folder / "data.making-interrupted").mkdir()
    with embedded.hold(folder, FAST):
        assert embedded.is_running(folder)
    assert not list(folder.glob("data.making-*"))


def test_data_of_another_major_version_are_refused_by_name(folder: Path) -> None:
    version = folder / "data" / "PG_VERSION"
    version.write_text("16\n")
    try:
        with pytest.raises(embedded.EmbeddedDatabaseError, match=r"PostgreSQL 16.*carries 18"), embedded.hold(folder):
            pass
    finally:
        version.write_text("18\n")


def test_a_server_that_cannot_start_says_why(folder: Path) -> None:
    wrong = ["no_such_setting=1"]
    with pytest.raises(embedded.EmbeddedDatabaseError, match="no_such_setting"), embedded.hold(folder, wrong):
        pass


@pytest.mark.parametrize("name", ["a" * 100, 'with "quotes", commas', "back\\slash"])
def test_awkward_paths_get_a_socket_elsewhere(tmp_path: Path, name: str) -> None:
    folder = tmp_path / name / "postgres"
    socket_folder = folders.socket_folder(folder)
    assert socket_folder.parent == Path("/tmp")
    assert socket_folder == folders.socket_folder(folder)
    assert embedded.django_settings(folder)["HOST"] == str(socket_folder)


@pytest.mark.slow
def test_it_runs_where_the_path_is_too_long_for_a_socket(tmp_path: Path) -> None:
    folder = tmp_path / ("long, and " * 12) / "postgres"
    with embedded.hold(folder, FAST), embedded.connect(folder) as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)
    folders.socket_folder(folder).rmdir()


def test_a_folder_that_somebody_else_laid_in_the_way_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "postgres"
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    folder.symlink_to(elsewhere)
    with pytest.raises(embedded.EmbeddedDatabaseError, match="not a folder that only"), embedded.hold(folder):
        pass


@pytest.mark.parametrize("arguments", [["manage.py"], ["manage.py", "check"], ["manage.py", "migrate", "--help"]])
def test_commands_that_need_no_database_start_none(arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "start", pytest.fail)
    with embedded.database_for_command(arguments):
        pass
