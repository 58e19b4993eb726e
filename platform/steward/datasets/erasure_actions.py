"""Erasing a person from a dataset, by an officer."""

from django.utils import timezone

from steward.accounts.permissions import require
from steward.accounts.roles import Permission
from steward.audit.actor import Actor, Refused
from steward.audit.events import Event
from steward.audit.recording import audited, record
from steward.datasets.models import Dataset, DatasetVersion, Subject, VersionState
from steward.datasets.sealing import DatasetDigests, subject_in_ledger
from steward.datasets.signals import trainable_records_changed
from steward.profiles.lists import forget

#: Why a person is erased, as the ledger says it. Source: GDPR article 17(1)(a) to (e).
ERASURE_GROUNDS = {
    "not_needed": "No longer needed for the purpose (a)",
    "consent_withdrawn": "Consent was withdrawn (b)",
    "objection": "The person objects (c)",
    "unlawful": "Processed unlawfully (d)",
    "obligation": "A law demands it (e)",
}


@audited(Event.SUBJECT_SHREDDED)
def shred_subject(*, actor: Actor, dataset: Dataset, subject: str, ground: str = "objection") -> int:
    """Destroys a person's key, and with it all their records in every version of the dataset. Cannot be undone.

    `runs.erasure.erase_subject` announces it in the ledger before.

    Args:
        subject: the value of the subject column.
        ground: a word of `ERASURE_GROUNDS`.

    Returns:
        How many records can no longer be read.

    Raises:
        Denied: no compliance officer.
        Refused: an unknown ground, or nobody of that name is in the dataset.
    """
    require(actor, Permission.SHRED_SUBJECT, dataset.workspace, dataset)
    if ground not in ERASURE_GROUNDS:
        raise Refused(f"Give a ground: {', '.join(ERASURE_GROUNDS)}.", code="ground_missing", subject=dataset)
    digest = DatasetDigests(dataset).subject(subject)
    found = Subject.objects.select_for_update().filter(dataset=dataset, digest=digest, wrapped__isnull=False).first()
    if found is None:
        raise Refused("No readable records of this subject are in the dataset.", code="no_subject", subject=dataset)
    found.wrapped = None
    found.shredded_at = timezone.now()
    found.save(update_fields=["wrapped", "shredded_at"])
    count = found.records.count()
    phrases = forget(dataset.workspace, str(found.pk))
    record(dataset, records=count, subject=subject_in_ledger(dataset, subject), phrases=phrases, ground=ground)
    for version in DatasetVersion.objects.filter(dataset=dataset, state=VersionState.APPROVED):
        trainable_records_changed.send(DatasetVersion, version=version)
    return count
