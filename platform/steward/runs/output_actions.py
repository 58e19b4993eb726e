"""Looking into what a run left sealed. It speaks of single records, and so of people: each look is recorded."""

from steward.accounts.permissions import require
from steward.accounts.roles import Permission
from steward.audit.actor import Actor, Refused
from steward.audit.events import Event
from steward.audit.recording import audited, record
from steward.runs.models import FineTune
from steward.runs.sample_answers import SampleAnswers, sample_answers
from steward.runs.sealed_outputs import PARTS, RecordLoss, answers_of, record_losses


@audited(Event.RECORD_LOSSES_SHOWN)
def show_record_losses(*, actor: Actor, fine_tune: FineTune, part: str) -> list[RecordLoss]:
    """The loss of each record of a part, worst first, to those who may see redacted records.

    Args:
        part: a key of `sealed_outputs.PARTS`.

    Raises:
        Refused: the run left no such losses.
        VaultError, OSError: the file is not what the trainer wrote, or is gone.
    """
    require(actor, Permission.VIEW_REDACTED, fine_tune.workspace, fine_tune)
    if part not in PARTS or part not in fine_tune.facts:
        raise Refused(
            f"{fine_tune} has no losses of single records: a run leaves them when it succeeds.",
            code="no_record_losses",
            subject=fine_tune,
        )
    losses = list(record_losses(fine_tune, part))
    record(fine_tune, part=part, records=len(losses))
    return losses


@audited(Event.SAMPLE_ANSWERS_SHOWN)
def show_sample_answers(*, actor: Actor, fine_tune: FineTune) -> SampleAnswers:
    """What the run answered to some held-out prompts at each of its evaluations so far, to those who may see records.

    Raises:
        Refused: it answered nothing (yet).
        VaultError, OSError: a file is not what the trainer wrote, or is gone.
    """
    require(actor, Permission.VIEW_REDACTED, fine_tune.workspace, fine_tune)
    if not answers_of(fine_tune):
        raise Refused(
            f"{fine_tune} has answered no prompts yet. It does at each evaluation, if its setting “Sample answers” is "
            "not 0.",
            code="no_sample_answers",
            subject=fine_tune,
        )
    found = sample_answers(fine_tune)
    record(fine_tune, records=len(found.asked), steps=len(found.steps))
    return found
