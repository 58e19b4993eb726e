"""The labels of a version, of whole texts or of stretches of them: which there are, and whether they may be told.

Labels leave the vault: they stand in the training spec, the recipe and the evidence. Guarantees that each one either is
of the workflow's closed list, or was left alone by redaction and belongs to more than one person; a version where one
does not is refused as a whole. Does not quote a label in a refusal; it names records by their number.

Example:
    >>> labels_of(version, workflow)
    ('allergy', 'medication')
"""

import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from domains.packs import load_pack
from domains.templates import placeholders
from domains.workflows import Workflow
from steward.audit.actor import Refused
from steward.datasets.models import DatasetVersion, Split
from steward.datasets.reading import OpenRedacted, RecordReader
from steward.datasets.texts import slot_names
from steward.runs.shards import is_set_aside, messages_of

# Source: trainers.spec, ClassificationSpec.
MAX_LABELS = 1_000
_LABEL = re.compile(r"\S(?:[^\n]{0,198}\S)?")
LEAST_SUBJECTS = 2
SHOWN_RECORDS = 5


@dataclass(slots=True)
class _Tally:
    """What was met: of each label its first record and up to two people, and records whose label may not be told."""

    version: DatasetVersion
    closed: tuple[str, ...] = ()
    subjects: dict[str, set[int]] = field(default_factory=lambda: defaultdict(set))
    first: dict[str, int] = field(default_factory=dict)
    masked: list[int] = field(default_factory=list)
    unfit: list[int] = field(default_factory=list)

    def add(self, record: OpenRedacted, label: str, *, was_masked: bool) -> None:
        if self.closed and label not in self.closed:
            self.unfit.append(record.ordinal)
            return
        if not self.closed and was_masked:
            self.masked.append(record.ordinal)
            return
        if not _LABEL.fullmatch(label):
            self.unfit.append(record.ordinal)
            return
        self.first.setdefault(label, record.ordinal)
        if len(self.first) > MAX_LABELS:
            raise Refused(
                f"{self.version} has more than {MAX_LABELS:,} different labels. Classification chooses from a short "
                "list; if the labels are free answers, choose the method for answers.",
                code="labels_too_many",
                subject=self.version,
            )
        if len(self.subjects[label]) < LEAST_SUBJECTS:
            self.subjects[label].add(record.subject_id)


def labels_of(version: DatasetVersion, workflow: Workflow) -> tuple[str, ...]:
    """The labels of all records that may be trained on. Decrypts them one by one; time grows with the version.

    Raises:
        Refused: there are too few or too many labels, or one that may not be told.
    """
    closed = closed_list(version, workflow)
    tally = _Tally(version, closed)
    for record in _records(version):
        tally.add(record, _label(record, workflow), was_masked=_was_masked(record, workflow))
    _refuse_what_may_not_be_told(tally)
    if len(tally.first) < 2:
        raise Refused(
            f"{version} has {'one label' if tally.first else 'no label'}. Classification needs at least two to choose "
            "from.",
            code="labels_too_few",
            subject=version,
        )
    return closed or tuple(sorted(tally.first))


def span_labels_of(version: DatasetVersion) -> tuple[str, ...]:
    """The labels of the stretches of all texts that may be trained on. Decrypts them as `labels_of` does.

    Raises:
        Refused: no text has any, or there is one that may not be told.
    """
    tally = _Tally(version)
    for record in _records(version):
        for label, found in zip(record.payload["labels"], record.findings[1:], strict=True):
            tally.add(record, label, was_masked=bool(found))
    _refuse_what_may_not_be_told(tally)
    if not tally.first:
        raise Refused(
            f"No text of {version} has a labelled span, so there is nothing to find.",
            code="labels_too_few",
            subject=version,
        )
    return tuple(sorted(tally.first))


def _records(version: DatasetVersion) -> Iterator[OpenRedacted]:
    assert version.redaction is not None
    for record in RecordReader(version).redacted(version.redaction, is_for_training=True):
        if not is_set_aside(record.payload):
            yield record


def majority(version: DatasetVersion, workflow: Workflow, names: Sequence[str]) -> tuple[str, float]:
    """The most frequent of these labels in the training records, the first of several, and its share of them."""
    assert version.redaction is not None
    records = RecordReader(version).redacted(version.redaction, split=Split.TRAIN, is_for_training=True)
    counts = Counter(_label(record, workflow) for record in records)
    found = max(names, key=lambda name: counts[name])
    return found, counts[found] / max(1, counts.total())


def _label(record: OpenRedacted, workflow: Workflow) -> str:
    return str(messages_of(record.payload, workflow)[-1]["content"]).strip()


def closed_list(version: DatasetVersion, workflow: Workflow) -> tuple[str, ...]:
    """The workflow's list, where the version was redacted with that list spared; of chat data there is none."""
    if version.dataset.workflow != workflow.name or workflow.label_schema is None:
        return ()
    return load_pack(version.workspace.domain).label_schema(workflow.label_schema).names


def _was_masked(record: OpenRedacted, workflow: Workflow) -> bool:
    """Whether redaction found an identifier in the label."""
    if "messages" in record.payload:
        return bool(record.findings[len(record.payload["messages"]) - 1])
    used = placeholders(workflow.mapping.assistant)
    return any(found for name, found in zip(slot_names(record.payload), record.findings, strict=True) if name in used)


def _refuse_what_may_not_be_told(tally: _Tally) -> None:
    alone = [tally.first[label] for label, subjects in tally.subjects.items() if len(subjects) < LEAST_SUBJECTS]
    single = [] if tally.closed else alone
    reasons: list[tuple[list[int], str, str]] = [
        (
            tally.masked,
            "label_personal",
            "redaction found an identifier in the label. Labels are told in the open, in the recipe and the evidence; "
            "rename them so that they name no person, place or date",
        ),
        (
            tally.unfit,
            "label_unfit",
            "the label is not of the workflow's list"
            if tally.closed
            else "the label is longer than 200 characters or has a line break",
        ),
        (
            single,
            "label_singles_out",
            "the label belongs to one person only, whom it would single out. Give these records a label that others "
            "have too, or leave them out",
        ),
    ]
    for ordinals, code, reason in reasons:
        if ordinals:
            shown = ", ".join(str(number) for number in ordinals[:SHOWN_RECORDS])
            more = f" and {len(ordinals) - SHOWN_RECORDS:,} more" if len(ordinals) > SHOWN_RECORDS else ""
            raise Refused(f"In record {shown}{more} {reason}.", code=code, subject=tally.version)
