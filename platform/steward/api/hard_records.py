"""The losses of single records of a run."""

from typing import Any
from uuid import UUID

from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from steward.api.door import Door, one_of
from steward.runs.models import FineTune
from steward.runs.output_actions import show_record_losses
from steward.runs.sealed_outputs import PARTS

_RUNS = FineTune.objects.select_related("workspace", "output_key")


class RecordLossShape(serializers.Serializer[Any]):
    record = serializers.CharField(source="record_id", help_text="The record's ordinal in the dataset version.")
    loss = serializers.FloatField(help_text="Mean over its units, nats.")
    first_loss = serializers.FloatField(allow_null=True, help_text="Of the first pass, where it was measured.")
    units = serializers.IntegerField(help_text="Supervised tokens; 1 where a whole record is judged.")


class RecordLossesShape(serializers.Serializer[Any]):
    data = RecordLossShape(many=True)


class FineTuneRecordLosses(Door):
    @extend_schema(
        responses=RecordLossesShape,
        parameters=[OpenApiParameter("part", str, OpenApiParameter.PATH, enum=list(PARTS))],
        operation_id="get_record_losses",
        tags=["fine-tunes"],
    )
    def get(self, request: Request, fine_tune_id: UUID, part: str) -> Response:
        """The loss of each record by the shipped state, worst first, without text. That it was fetched is recorded."""
        fine_tune = self.find(_RUNS, pk=fine_tune_id)
        chosen = one_of(list(PARTS), part, "part")
        assert chosen is not None
        losses = show_record_losses(actor=self.actor, fine_tune=fine_tune, part=chosen)
        return Response({"data": RecordLossShape(losses, many=True).data})
