"""The shape of the tree: where files may be, how long they may get, what must not be written in them."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PRODUCT = ("compliance", "domains", "trainers", "platform")
LONGEST_FILE_LINES = 500
LONGEST_FUNCTION_LINES = 80
BANNED_NAMES = {"utils", "util", "helpers", "helper", "manager", "managers", "service", "services", "common", "misc"}
TOP_LEVEL = {
    "manage.py", "pyproject.toml", "platform", "domains", "compliance", "trainers", "tests", "deploy",
    "README.md", "ARCHITECTURE.md", "CHANGELOG.md", "SECURITY.md", "LICENSE", "Makefile", "constraints.txt",
}  # fmt: skip
# What building and testing leave at the top; .gitignore names the same.
LEFT_BEHIND = {"build", "dist", "bench.json"}
TEXT = {".py", ".md", ".toml", ".txt", ".yaml", ".yml", ".json", ".html", ".css", ".js", ".cfg", ".service", ".sh", ""}
# Written in pieces, so that this file does not contain what it looks for.
NEVER_WRITTEN = [
    "py" + "pi.org", "pythonhosted" + ".org", "--index" + "-url", "index_" + "url", "/opt/" + "py" + "pi",
    "/work" + "/main",    "/work" + "/shared", "TO" + "DO", "FIX" + "ME", "XX" + "X:", "trust_remote_code=" + "True",
]  # fmt: skip


def python_files(*folders: str) -> Iterator[Path]:
    for folder in folders:
        yield from sorted(path for path in (ROOT / folder).rglob("*.py") if "__pycache__" not in path.parts)


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def test_the_top_level_is_fixed() -> None:
    found = {path.name for path in ROOT.iterdir() if not path.name.startswith(".")}
    extra = {name for name in found - TOP_LEVEL - LEFT_BEHIND if not name.endswith(".egg-info")}
    assert not extra


def test_platform_and_tests_are_no_packages() -> None:
    assert not (ROOT / "platform" / "__init__.py").exists()
    assert not list((ROOT / "tests").rglob("__init__.py"))


def test_files_and_functions_stay_short() -> None:
    found = []
    for path in python_files(*PRODUCT, "tests"):
        text = path.read_text()
        if len(text.splitlines()) > LONGEST_FILE_LINES:
            found.append(f"{name_of(path)} has {len(text.splitlines())} lines")
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                lines = (node.end_lineno or node.lineno) - node.lineno + 1
                if lines > LONGEST_FUNCTION_LINES:
                    found.append(f"{name_of(path)}: {node.name} has {lines} lines")
    assert not found


def test_modules_are_named_after_things() -> None:
    named = [name_of(path) for path in python_files(*PRODUCT) if BANNED_NAMES & {path.stem, path.parent.name}]
    assert not named


def test_every_module_says_what_it_is_for() -> None:
    exempt = {"migrations", "management"}
    silent = [
        name_of(path)
        for path in python_files(*PRODUCT)
        if not exempt & set(path.parts)
        and path.name != "apps.py"
        and path.read_text().strip()
        and ast.get_docstring(ast.parse(path.read_text())) is None
    ]
    assert not silent


def test_nothing_unpickles_or_evaluates() -> None:
    found = []
    for path in python_files(*PRODUCT):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import | ast.ImportFrom):
                names = (
                    {alias.name.split(".")[0] for alias in node.names}
                    if isinstance(node, ast.Import)
                    else {node.module}
                )
                if names & {"pickle", "cPickle", "dill", "joblib", "marshal", "shelve", "cloudpickle"}:
                    found.append(f"{name_of(path)}:{node.lineno} imports {names}")
            elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in {"eval", "exec"}:
                found.append(f"{name_of(path)}:{node.lineno} calls {node.func.id}")
    assert not found


def test_committed_text_names_no_registry_machine_path_or_unfinished_business() -> None:
    found = []
    for path in written_files():
        text = path.read_text(errors="replace")
        found += [f"{name_of(path)}: {word}" for word in NEVER_WRITTEN if word in text]
    assert not found


def written_files() -> Iterator[Path]:
    skipped = re.compile(r"__pycache__|\.egg-info|/\.|^\.venv|^\.git/")
    for path in sorted(ROOT.rglob("*")):
        name = name_of(path)
        # Data sets and word lists are data: what a public text says is not ours to change.
        if skipped.search(name) or name.split("/")[0].startswith(
            (".venv", ".git", ".mypy", ".ruff", ".pytest", ".hypo")
        ):
            continue
        if path.is_file() and path.suffix in TEXT and path.suffix != ".json" and path.name != "bench.json":
            yield path
