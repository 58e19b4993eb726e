"""Compressions of a tuned model: asked for by whoever may evaluate it, done by a job, kept as figures."""

import re
from typing import Any

from django.utils import timezone

from steward.accounts.permissions import require
from steward.accounts.roles import Permission
from steward.assurance.models import Compression, EvaluationState
from steward.audit.actor import Actor, Refused
from steward.audit.events import Event
from steward.audit.recording import audited, record
from steward.runs.dispatch import claim_devices
from steward.runs.models import ModelVersion
from steward.runs.shards import workflow_for

#: As in `trainers.compression`, which would load torch here.
WAY = re.compile(r"int8|int4|(?:magnitude|wanda)-(?:\d{1,2}|2:4)(?:\+heal)?|(?:blocks|groups)-\d{1,3}(?:\+heal)?")
WAYS = ("int8", "int4", "magnitude-50", "wanda-50", "wanda-2:4", "groups-1+heal", "blocks-3+heal")
MAX_WAYS = 12


@audited(Event.COMPRESSION_REQUESTED)
def request_compression(*, actor: Actor, model_version: ModelVersion, ways: list[str]) -> Compression:
    """Queues a comparison of the tuned model with what each way makes of it.

    Args:
        ways: names such as `int8`, `wanda-2:4`, `blocks-3+heal`; see `trainers.compression`.

    Raises:
        Denied: the actor may not evaluate models here.
        Refused: none, too many or unknown ways; a model that is not compressed; or one is under way.
    """
    require(actor, Permission.EVALUATE_MODEL, model_version.workspace, model_version)
    wanted = list(dict.fromkeys(ways))
    if not 1 <= len(wanted) <= MAX_WAYS or not all(WAY.fullmatch(way) for way in wanted):
        raise Refused(
            f"Name 1 to {MAX_WAYS} ways, for example {', '.join(WAYS[:3])}.", code="ways_invalid", subject=model_version
        )
    locked = ModelVersion.objects.select_for_update(of=("self",)).select_related("fine_tune").get(pk=model_version.pk)
    if not locked.fine_tune.is_compressible:
        raise Refused(
            "Classifiers and soft prompts are not compressed: what they add to the base is small already.",
            code="not_compressed",
            subject=locked,
        )
    if Compression.objects.filter(model_version=locked, state=EvaluationState.RUNNING).exists():
        raise Refused("This model is being compressed already.", code="already_running", subject=locked)
    compression = Compression(
        workspace=locked.workspace,
        model_version=locked,
        metric=workflow_for(locked.workspace.domain, locked.fine_tune.workflow).metric,
        ways=wanted,
        requested_by_id=actor.user_id,
    )
    compression.save(force_insert=True)
    record(compression, ways=len(wanted))
    claim_devices(
        workspace=compression.workspace,
        subject=compression.pk,
        task="assurance.run_compression",
        argument="compression_id",
        priority=locked.fine_tune.priority,
    )
    return compression


@audited(Event.COMPRESSION_FINISHED)
def finish_compression(
    *, actor: Actor, compression: Compression, rows: list[dict[str, Any]], digest: str
) -> Compression:
    """Stores the figures.

    Raises:
        Refused: it is over already.
    """
    locked = Compression.objects.select_for_update().get(pk=compression.pk)
    if locked.state != EvaluationState.RUNNING:
        raise Refused("This comparison is over.", code="wrong_state", subject=locked)
    locked.rows, locked.digest = rows, digest
    locked.state, locked.finished_at = EvaluationState.DONE, timezone.now()
    locked.save()
    record(locked, after=digest, ways=len(rows) - 1)
    return locked


@audited(Event.COMPRESSION_FAILED)
def fail_compression(*, actor: Actor, compression: Compression, code: str, message: str) -> Compression:
    """Ends a comparison that could not be made."""
    locked = Compression.objects.select_for_update().get(pk=compression.pk)
    locked.state, locked.finished_at = EvaluationState.FAILED, timezone.now()
    locked.failure = message[:600]
    locked.save()
    record(locked, code=code.replace(" ", "_")[:60])
    return locked
