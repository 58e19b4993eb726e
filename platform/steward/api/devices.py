"""The queue for devices: a workspace's allowance and a fine-tune's place."""

from typing import Any
from uuid import UUID

from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from steward.accounts.models import Workspace
from steward.api.door import Door, idempotent
from steward.api.parameters import KEY
from steward.runs import dispatch_actions
from steward.runs.claims import Priority
from steward.runs.dispatch import usage
from steward.runs.models import FineTune

PRIORITIES = [name.lower() for name in Priority.names]


class PriorityField(serializers.ChoiceField):
    """A priority by its name."""

    def __init__(self, **options: Any) -> None:
        super().__init__(choices=PRIORITIES, **options)

    def to_representation(self, value: Any) -> str:
        """The name of the stored number."""
        return Priority(value).name.lower()

    def to_internal_value(self, data: Any) -> int:
        """The number of the name."""
        return Priority[super().to_internal_value(data).upper()].value


class StandingShape(serializers.Serializer[Any]):
    """Where a fine-tune stands in the queue."""

    position = serializers.IntegerField(help_text="From 1, among all that waits for the same devices.")
    of = serializers.IntegerField()
    reason = serializers.CharField(help_text="devices_busy, gathering, runs_at_once, quota_used or too_few_devices.")
    text = serializers.CharField()


class GatheringShape(serializers.Serializer[Any]):
    """What a fine-tune on nodes of a cluster waits for, while it holds its devices."""

    wanted = serializers.IntegerField(help_text="Nodes that have to be free at once.")
    large = serializers.IntegerField(
        allow_null=True, help_text="Nodes of the cluster that are large enough, free or not; null: it has not said."
    )
    text = serializers.CharField()


class AllowanceShape(serializers.Serializer[Any]):
    device_hours_per_month = serializers.IntegerField(
        source="hours_a_month", allow_null=True, help_text="In a calendar month, UTC; null is no limit."
    )
    runs_at_once = serializers.IntegerField(allow_null=True, help_text="Null is no limit.")
    hours_this_month = serializers.FloatField(help_text="Device hours used since the month began.")
    runs_now = serializers.IntegerField()


class NewAllowance(serializers.Serializer[Any]):
    device_hours_per_month = serializers.IntegerField(allow_null=True)
    runs_at_once = serializers.IntegerField(allow_null=True)


class NewPriority(serializers.Serializer[Any]):
    priority = PriorityField()


class WorkspaceAllowance(Door):
    @extend_schema(responses=AllowanceShape, operation_id="get_allowance", tags=["workspaces"])
    def get(self, request: Request, workspace_id: UUID) -> Response:
        """What the workspace may have of the devices, and what it used this month."""
        return Response(AllowanceShape(usage(self.find_workspace(workspace_id))).data)

    @extend_schema(
        request=NewAllowance,
        responses=AllowanceShape,
        parameters=[KEY],
        operation_id="change_allowance",
        tags=["workspaces"],
    )
    @idempotent
    def post(self, request: Request, workspace_id: UUID) -> Response:
        """Sets the limits; by an officer or administrator of the workspace."""
        workspace: Workspace = self.find_workspace(workspace_id)
        dispatch_actions.change_allowance(actor=self.actor, workspace=workspace, **self.checked(NewAllowance))
        return Response(AllowanceShape(usage(workspace)).data)


class FineTunePriority(Door):
    @extend_schema(
        request=NewPriority,
        responses=NewPriority,
        parameters=[KEY],
        operation_id="change_priority",
        tags=["fine-tunes"],
    )
    @idempotent
    def post(self, request: Request, fine_tune_id: UUID) -> Response:
        """Moves a fine-tune that waits; raising it takes `fine_tunes.prioritise`."""
        found = self.find(FineTune.objects.select_related("workspace"), pk=fine_tune_id)
        moved = dispatch_actions.change_priority(actor=self.actor, fine_tune=found, **self.checked(NewPriority))
        return Response(NewPriority(moved).data)
