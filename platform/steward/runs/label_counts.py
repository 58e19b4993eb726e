"""The labels of an approved version, counted once and kept as long as they hold.

Counting opens every record. A job does it behind an approval, an erasure and a withholding; a request finds the labels
there, and counts by itself only where the job is not done or another workflow was chosen.

Guarantees that what is kept is what counting now would find: the records of an approved version only ever become fewer,
by an erasure or by being withheld, so where no more went than had gone when they were counted, they are the very same
ones. Does not keep a refusal, nor labels that may not be told.

Example:
    >>> kept_labels(version, workflow, Records.LABELS)
    ('allergy', 'medication')
"""

from compliance.canonical import canonical_json, sha256_digest
from domains.workflows import Workflow
from steward.datasets.models import DatasetVersion, PrivilegeDecision, PrivilegeKind, Subject
from steward.runs import labels
from steward.runs.methods import Records
from steward.runs.models import LabelCount


def kept_labels(version: DatasetVersion, workflow: Workflow, records: Records) -> tuple[str, ...]:
    """The labels of all records that may be trained on now, of texts (`Records.LABELS`) or of spans in them.

    Raises:
        Refused: as `labels.labels_of` and `labels.span_labels_of`.
    """
    # Before they are counted: what is erased meanwhile makes the number another one, and the next request counts anew.
    gone = _gone(version)
    place = {"redaction": version.redaction, "rules": _rules(version, workflow, records)}
    kept = LabelCount.objects.filter(**place, gone=gone).first()
    if kept is not None:
        return tuple(kept.labels)
    is_of_spans = records is Records.SPANS
    found = labels.span_labels_of(version) if is_of_spans else labels.labels_of(version, workflow)
    LabelCount.objects.update_or_create(**place, defaults={"gone": gone, "labels": list(found)})
    return found


def _gone(version: DatasetVersion) -> int:
    """People erased from the dataset and records withheld from the version. Neither ever becomes fewer.

    Quick, because there are few; counting what is left would look at every record.
    """
    erased = Subject.objects.filter(dataset=version.dataset_id, wrapped__isnull=True).count()
    withheld = PrivilegeDecision.objects.filter(record__version=version, kind=PrivilegeKind.WITHHELD).count()
    return erased + withheld


def _rules(version: DatasetVersion, workflow: Workflow, records: Records) -> str:
    """Digest of what decides, beside the records, which labels there are: it changes with a pack and with this code."""
    limits = {"most": labels.MAX_LABELS, "least_subjects": labels.LEAST_SUBJECTS}
    decides = {"kind": str(records), **limits}
    if records is Records.LABELS:
        closed = list(labels.closed_list(version, workflow))
        decides |= {"workflow": workflow.name, "label": workflow.mapping.assistant, "closed": closed}
    return sha256_digest(canonical_json(decides))
