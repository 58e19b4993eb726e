"""Loading of domain packs.

A pack is a folder:

    pack.toml          name, title, description, redaction profile, demo workflow
    catalog.toml       base models (shared ones by name, its own in full)
    labels.toml        label schemas
    gates.toml         gates with their default thresholds
    datasets/*.toml    dataset recipes, public and synthetic, and the phrase files of the synthetic ones
    workflows/*.toml   ready workflows
    probes.jsonl       fairness probes

Guarantees that a loaded pack is whole: every key was understood and every name that one file uses is defined in
another. Does not run anything of a pack: it can only name generators, metrics, measures and conversions that this
package has. A new domain is a new folder, here or in a directory given as `extra`.

Example:
    >>> load_pack("finance").workflow(load_pack("finance").demo_workflow).metric
    'label_match'
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TypeVar

from domains.catalog import CatalogEntry, read_catalog, read_shared_models
from domains.datasets import DatasetRecipe, read_dataset
from domains.gates import Gate, read_gate
from domains.labels import LabelSchema, read_label_schema
from domains.metrics import METRICS, Metric
from domains.probes import Probe, read_probes
from domains.templates import placeholders
from domains.toml_table import NAME, PackError, TomlTable, read_toml
from domains.workflows import Workflow, read_conversations, read_workflow

__all__ = ["Pack", "PackError", "available_packs", "load_pack"]

HERE = Path(__file__).parent
_Named = TypeVar("_Named", CatalogEntry, DatasetRecipe, LabelSchema, Workflow)


@dataclass(frozen=True, slots=True)
class Pack:
    """Everything that is known about one domain.

    `folder` is where it was read from. `redaction_profile` names a shipped profile or is the path of the pack's own.
    `workflows` are its own tasks; `conversations`, the same in every pack, is for records that fit none of them.
    """

    name: str
    title: str
    description: str
    folder: Path
    catalog: tuple[CatalogEntry, ...]
    datasets: tuple[DatasetRecipe, ...]
    label_schemas: tuple[LabelSchema, ...]
    redaction_profile: str
    gates: tuple[Gate, ...]
    workflows: tuple[Workflow, ...]
    demo_workflow: str
    conversations: Workflow
    probes: tuple[Probe, ...]

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """The metrics that the pack's workflows use, by name."""
        return tuple(METRICS[name] for name in sorted({workflow.metric for workflow in self.workflows}))

    def entry(self, name: str) -> CatalogEntry:
        """The catalog entry of this name; KeyError where there is none."""
        return _named(self.catalog, name)

    def dataset(self, name: str) -> DatasetRecipe:
        """The dataset recipe of this name; KeyError where there is none."""
        return _named(self.datasets, name)

    def label_schema(self, name: str) -> LabelSchema:
        """The label schema of this name; KeyError where there is none."""
        return _named(self.label_schemas, name)

    def workflow(self, name: str) -> Workflow:
        """The workflow of this name, the one for conversations among them; KeyError where there is none."""
        return _named(self.all_workflows, name)

    @property
    def all_workflows(self) -> tuple[Workflow, ...]:
        """The pack's tasks, then the workflow for conversations."""
        return (*self.workflows, self.conversations)

    def closed_labels(self, workflow: str, field: str) -> tuple[str, ...]:
        """The labels that a record's field may hold where the workflow answers with it from a closed list, else none.

        A value that is one of them says nothing about a person, so that it need not be redacted; any other value must.
        """
        chosen = self.workflow(workflow)
        answers = (chosen.mapping.assistant, chosen.mapping.rejected)
        if chosen.label_schema is None or not any(field in placeholders(template) for template in answers):
            return ()
        return self.label_schema(chosen.label_schema).names


def _named(things: Iterable[_Named], name: str) -> _Named:
    for thing in things:
        if thing.name == name:
            return thing
    raise KeyError(name)


def available_packs(extra: Path | None = None) -> dict[str, Path]:
    """The packs that can be loaded: name to folder, sorted.

    Args:
        extra: a directory with further pack folders; one that has the name of a shipped pack is an error.

    Raises:
        PackError: an extra pack takes a shipped pack's name, or a folder's name cannot be a pack's.
    """
    found: dict[str, Path] = {}
    for directory in (HERE, *([extra] if extra is not None else [])):
        for marker in sorted(directory.glob("*/pack.toml")):
            folder = marker.parent
            if not NAME.fullmatch(folder.name):
                raise PackError(f"{folder.name}/pack.toml", "", "the folder's name cannot be a pack's name")
            if folder.name in found:
                raise PackError(f"{folder.name}/pack.toml", "name", "a pack of this name is shipped; rename the folder")
            found[folder.name] = folder
    return dict(sorted(found.items()))


def load_pack(name: str, extra: Path | None = None) -> Pack:
    """Loads one pack whole.

    Args:
        name: the folder's name.
        extra: as in `available_packs`.

    Raises:
        KeyError: no pack of this name.
        PackError: a file, key or reference of the pack is wrong; the message says which.
    """
    return _load(available_packs(extra)[name])


@cache
def _load(folder: Path) -> Pack:
    head = read_toml(folder / "pack.toml", source=f"{folder.name}/pack.toml")
    if head.name("name") != folder.name:
        raise head.error("name", f"must be the folder's name, {folder.name!r}")
    gates = _read_gates(_file(folder, "gates.toml"))
    workflows = tuple(read_workflow(table, gates) for table in _files(folder, "workflows"))
    demo = head.name("demo_workflow")
    usual_model = next((each.base_model for each in workflows if each.name == demo), "")
    pack = Pack(
        name=folder.name,
        title=head.text("title"),
        description=head.text("description"),
        folder=folder,
        catalog=read_catalog(_file(folder, "catalog.toml"), shared_models()),
        datasets=tuple(read_dataset(table, folder) for table in _files(folder, "datasets")),
        label_schemas=_read_schemas(_file(folder, "labels.toml")),
        redaction_profile=_read_profile(head, folder),
        gates=tuple(gates.values()),
        workflows=workflows,
        demo_workflow=demo,
        conversations=read_conversations(read_toml(HERE / "conversations.toml"), usual_model),
        probes=read_probes(folder / "probes.jsonl", source=f"{folder.name}/probes.jsonl"),
    )
    head.finish()
    _check_references(pack)
    return pack


@cache
def shared_models() -> dict[str, CatalogEntry]:
    """The models that any pack may list by name, among them the bundled one."""
    return read_shared_models(read_toml(HERE / "models.toml"))


def _file(folder: Path, name: str) -> TomlTable:
    return read_toml(folder / name, source=f"{folder.name}/{name}")


def _files(folder: Path, kind: str) -> list[TomlTable]:
    paths = sorted((folder / kind).glob("*.toml"))
    if not paths:
        raise PackError(f"{folder.name}/{kind}", "", "the folder holds no .toml file")
    return [read_toml(path, source=f"{folder.name}/{kind}/{path.name}") for path in paths]


def _read_profile(head: TomlTable, folder: Path) -> str:
    """A profile's name as it stands, or the full path of a `.toml` file of the pack."""
    profile = head.text("redaction_profile")
    if not profile.endswith(".toml"):
        return profile
    path = (folder / profile).resolve()
    if folder.resolve() not in path.parents or not path.is_file():
        raise head.error("redaction_profile", f"there is no file {profile!r} in the pack's folder")
    return str(path)


def _read_gates(table: TomlTable) -> dict[str, Gate]:
    gates = [read_gate(entry) for entry in table.tables("gates")]
    table.finish()
    if len({gate.name for gate in gates}) != len(gates):
        raise table.error("gates", "two gates have the same name")
    return {gate.name: gate for gate in gates}


def _read_schemas(table: TomlTable) -> tuple[LabelSchema, ...]:
    schemas = tuple(read_label_schema(entry) for entry in table.tables("schemas"))
    table.finish()
    return schemas


def _check_references(pack: Pack) -> None:
    """Raises PackError for the first name that is used but not defined, or defined twice."""
    for kind, things in (
        ("datasets", pack.datasets),
        ("labels.toml", pack.label_schemas),
        ("workflows", pack.all_workflows),
    ):
        names = [thing.name for thing in things]
        if len(set(names)) != len(names):
            raise PackError(f"{pack.name}/{kind}", "name", "the same name is used twice")
    schemas = {schema.name for schema in pack.label_schemas}
    for dataset in pack.datasets:
        if dataset.label_schema is not None:
            _require(pack, f"datasets/{dataset.name}", "label_schema", dataset.label_schema, schemas)
    for workflow in pack.workflows:
        where = f"workflows/{workflow.name}"
        _require(pack, where, "dataset", workflow.dataset, {dataset.name for dataset in pack.datasets})
        _require(pack, where, "base_model", workflow.base_model, {entry.name for entry in pack.catalog})
        if workflow.label_schema is not None:
            _require(pack, where, "label_schema", workflow.label_schema, schemas)
        for field in workflow.mapping.fields:
            _require(pack, where, "messages", field, set(pack.dataset(workflow.dataset).fields))
    workflows = {workflow.name for workflow in pack.workflows}
    _require(pack, "pack.toml", "demo_workflow", pack.demo_workflow, workflows)
    for probe in pack.probes:
        where = f"probes.jsonl {probe.id}"
        _require(pack, where, "workflow", probe.workflow, workflows)
        schema = pack.workflow(probe.workflow).label_schema
        if schema is not None:
            _require(pack, where, "label", probe.label, set(pack.label_schema(schema).names))


def _require(pack: Pack, where: str, key: str, name: str, known: set[str]) -> None:
    if name not in known:
        raise PackError(f"{pack.name}/{where}", key, f"{name!r} is not defined; known: {', '.join(sorted(known))}")
