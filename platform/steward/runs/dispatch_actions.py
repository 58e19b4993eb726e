"""Changes to who gets devices: a workspace's allowance, a fine-tune's priority."""

from steward.accounts.models import User, Workspace
from steward.accounts.permissions import require
from steward.accounts.roles import Permission
from steward.audit.actor import Actor, Refused
from steward.audit.events import Event
from steward.audit.recording import audited, record
from steward.runs.claims import Allowance, Priority
from steward.runs.dispatch import place_waiting, reorder
from steward.runs.models import FineTune, RunState

MOST_HOURS = 1_000_000
MOST_RUNS = 1_000


@audited(Event.ALLOWANCE_CHANGED)
def change_allowance(
    *, actor: Actor, workspace: Workspace, device_hours_per_month: int | None, runs_at_once: int | None
) -> Allowance:
    """Sets what a workspace may have of the devices; None is no limit, 0 hours is none at all.

    By an officer or administrator of the workspace, or an administrator of the installation. What runs goes on; what
    waits starts, or goes on waiting, by the new limits.

    Raises:
        Refused: a limit is out of range.
    """
    if not User.objects.filter(pk=actor.user_id, is_superuser=True, is_active=True).exists():
        require(actor, Permission.MANAGE_DEVICES, workspace)
    for name, value, low, high in (
        ("device_hours_per_month", device_hours_per_month, 0, MOST_HOURS),
        ("runs_at_once", runs_at_once, 1, MOST_RUNS),
    ):
        if value is not None and not low <= value <= high:
            raise Refused(
                f"{name}: give a whole number from {low} to {high:,}, or nothing for no limit.",
                code="allowance_invalid",
                subject=workspace,
            )
    allowance, _ = Allowance.objects.update_or_create(
        workspace=workspace,
        defaults={"device_hours_per_month": device_hours_per_month, "runs_at_once": runs_at_once},
    )
    record(workspace, device_hours_per_month=device_hours_per_month, runs_at_once=runs_at_once)
    place_waiting()
    return allowance


@audited(Event.FINE_TUNE_PRIORITISED)
def change_priority(*, actor: Actor, fine_tune: FineTune, priority: int) -> FineTune:
    """Moves a fine-tune that waits. Whoever may start fine-tunes may lower it; raising it takes a permission.

    Raises:
        Refused: no such priority, or the fine-tune no longer waits.
    """
    locked = FineTune.objects.select_for_update(of=("self",)).select_related("workspace").get(pk=fine_tune.pk)
    is_raised = priority > locked.priority
    needed = Permission.RAISE_PRIORITY if is_raised else Permission.START_FINE_TUNE
    require(actor, needed, locked.workspace, locked)
    if priority not in Priority.values:
        raise Refused("priority: give low, normal or high.", code="priority_unknown", subject=locked)
    if locked.state not in (RunState.QUEUED, RunState.AWAITING_APPROVAL):
        raise Refused(f"{locked} does not wait; its priority decides nothing.", code="wrong_state", subject=locked)
    locked.priority = priority
    locked.save(update_fields=["priority"])
    reorder(locked.pk, priority)
    record(locked, priority=Priority(priority).name.lower())
    return locked
