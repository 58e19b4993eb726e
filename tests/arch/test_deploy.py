"""The files for installing agree with the code: no variable is unknown, none is undocumented."""

import configparser
import re
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"
# For developers; set by the supervisor.
UNDOCUMENTED = {"STEWARD_DEBUG", "STEWARD_DATABASE_ROLE"}
READ = re.compile(r'environment\.\w+\(\s*"([A-Z_]+)"')
NAMED = re.compile(r"\b(STEWARD_[A-Z_]+|DATABASE_URL)\b")


def variables_read() -> set[str]:
    return set(READ.findall((ROOT / "platform" / "steward" / "settings.py").read_text()))


def test_every_variable_is_in_the_table() -> None:
    table = {
        name for line in (DEPLOY / "README.md").read_text().splitlines() if "|" in line for name in NAMED.findall(line)
    }
    assert variables_read() - UNDOCUMENTED <= table
    assert table <= variables_read()


def test_no_file_sets_a_variable_that_nothing_reads() -> None:
    for path in DEPLOY.iterdir():
        assert set(NAMED.findall(path.read_text())) <= variables_read(), path.name


def test_the_compose_file_publishes_the_proxy_only() -> None:
    services = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]
    assert [name for name, service in services.items() if "ports" in service] == ["proxy"]
    assert services["steward"]["networks"] == services["database"]["networks"] == ["inside"]


def test_the_units_start_what_exists() -> None:
    for path in DEPLOY.glob("*.service"):
        unit = configparser.RawConfigParser(strict=False)
        unit.optionxform = str  # type: ignore[assignment, method-assign]
        unit.read_string(path.read_text())
        command = unit["Service"]["ExecStart"].split()
        assert command[1] == "manage.py"
        commands = ROOT / "platform" / "steward" / "operations" / "management" / "commands"
        assert (commands / f"{command[2]}.py").exists()
