"""The import job: from the sealed upload to sealed records, all or nothing.

Guarantees that a file with any bad line leaves no record and a list of all that is wrong, and that running the job
twice, or killing it anywhere, ends in the same state. Memory does not grow with the file.
"""

from collections.abc import Iterator

from domains.packs import load_pack
from domains.workflows import Workflow
from steward.audit.actor import Actor
from steward.datasets import actions
from steward.datasets.formats import ImportedBefore, ImportProblems, Problems, rows
from steward.datasets.models import Dataset, DatasetVersion, VersionState
from steward.datasets.sealing import Incoming, RecordSealer, SubjectShredded
from steward.datasets.shapes import ColumnMapping, Row, converter
from steward.recovery import CONNECTION_LOST, unforeseen
from steward.vault.objects import open_object

WORKER = Actor.system("worker")


def workflow_of(dataset: Dataset) -> Workflow | None:
    """The pack's workflow the dataset was made for, None for chat data."""
    return load_pack(dataset.workspace.domain).workflow(dataset.workflow) if dataset.workflow else None


def import_version(version_id: str) -> DatasetVersion:
    """Imports an uploaded version, or does nothing if that was done before."""
    version = DatasetVersion.objects.select_related("dataset__key", "dataset__workspace", "source__key").get(
        pk=version_id
    )
    if version.state != VersionState.IMPORTING:
        return version
    try:
        return _import(version)
    except ImportedBefore:  # by another process, while this one was at it: `manage.py import` beside a worker
        version.refresh_from_db()
        return version


def _import(version: DatasetVersion) -> DatasetVersion:
    problems = Problems()
    try:
        return actions.finish_import(
            actor=WORKER, version=version, fill=lambda sealer: _fill(version, sealer, problems), problems=problems
        )
    except ImportProblems:
        return actions.fail_import(actor=WORKER, version=version, problems=problems)
    except (ImportedBefore, *CONNECTION_LOST):
        raise
    except Exception as error:
        problems.add(0, "", "internal_error", unforeseen(error))
        actions.fail_import(actor=WORKER, version=version, problems=problems)
        raise


def _fill(version: DatasetVersion, sealer: RecordSealer, problems: Problems) -> None:
    with open_object(version.source) as source:
        parsed = rows(source, version.source_format, problems)
        try:
            sealer.seal(incoming(parsed, ColumnMapping.from_json(version.mapping), problems))
        except SubjectShredded:
            problems.add(0, "", "subject_shredded", "The file holds a person who was erased from this dataset.")
    if not problems.count and not sealer.tally.records:
        problems.add(1, "", "empty_file", "The file holds no records.")


def incoming(parsed: Iterator[tuple[int, Row]], mapping: ColumnMapping, problems: Problems) -> Iterator[Incoming]:
    """Converts rows; after the first problem it goes on only to find the others, and yields nothing more."""
    convert = converter(mapping, problems)
    subject_column, group_column = mapping.subject, mapping.group
    for line, row in parsed:
        payload = convert(line, row)
        subject = _identity(line, row, subject_column, problems)
        group = _identity(line, row, group_column, problems)
        if payload is not None and not problems.count:
            yield Incoming(line, payload, subject, group)


def _identity(line: int, row: Row, column: str | None, problems: Problems) -> str | None:
    if column is None:
        return None
    value = row.get(column)
    if isinstance(value, str | int) and str(value).strip():
        return str(value)
    problems.add(line, column, "subject_missing", "Every row must name its subject in this column.")
    return None
