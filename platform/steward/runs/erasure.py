"""Erasing one person from a dataset: announced in the ledger before, carried out, and what had learnt of them by then.

Guarantees that the intent is sealed before the key is destroyed, so that an erasure without an outcome stands out.
Does not undo what a model learnt: it names the models, and the runs whose sealed shards hold the person's redacted
records until they end. Who decides what becomes of them is an officer.

Source: GDPR articles 17(1) and 19.

Example:
    >>> erase_subject(actor=officer, dataset=dataset, subject="MRN 4711", ground="objection").records
    6
"""

from dataclasses import dataclass

from steward.accounts.permissions import can
from steward.accounts.roles import Permission
from steward.audit.actor import Actor
from steward.audit.events import Event
from steward.audit.recording import record_intent
from steward.datasets.erasure_actions import ERASURE_GROUNDS, shred_subject
from steward.datasets.models import Dataset, DatasetVersion, Split
from steward.datasets.sealing import DatasetDigests, subject_in_ledger
from steward.runs.models import TERMINAL_STATES, FineTune, ModelVersion


@dataclass(frozen=True, slots=True)
class Erased:
    """What an erasure came to: records that nobody can read any more, models that were trained or chosen with some of
    them, and fine-tunes that are not over and hold them in their shards."""

    records: int
    models: list[ModelVersion]
    running: list[FineTune]


def erase_subject(*, actor: Actor, dataset: Dataset, subject: str, ground: str) -> Erased:
    """Erases a person from every version of a dataset; errors as `shred_subject`.

    Who may not do it is denied before anything is announced.
    """
    models: list[ModelVersion] = []
    running: list[FineTune] = []
    if can(actor, Permission.SHRED_SUBJECT, dataset.workspace) and ground in ERASURE_GROUNDS:
        learnt = _learnt_from(dataset, subject)
        models = list(ModelVersion.objects.filter(fine_tune__in=learnt).select_related("fine_tune"))
        running = [each for each in learnt if each.state not in TERMINAL_STATES]
        record_intent(
            Event.SUBJECT_SHREDDED,
            dataset,
            actor=actor,
            subject=subject_in_ledger(dataset, subject),
            ground=ground,
        )
    records = shred_subject(actor=actor, dataset=dataset, subject=subject, ground=ground)
    return Erased(records, models, running)


def _learnt_from(dataset: Dataset, subject: str) -> list[FineTune]:
    """The fine-tunes whose shards were sealed with records of the person: those of the test part are in none."""
    person = dataset.subjects.filter(digest=DatasetDigests(dataset).subject(subject), wrapped__isnull=False)
    versions = DatasetVersion.objects.filter(records__subject__in=person.exclude(split=Split.TEST))
    return list(FineTune.objects.filter(dataset_version__in=versions, run_key__isnull=False))
