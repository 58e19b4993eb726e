"""How far columns of a version single people out: ask for a measurement, read the figures."""

from typing import Any
from uuid import UUID

from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from steward.api.door import Door, idempotent
from steward.api.pages import PAGE_PARAMETERS, page, page_of
from steward.api.parameters import KEY
from steward.datasets import review_actions
from steward.datasets.models import DatasetVersion, RiskMeasurement

_VERSIONS = DatasetVersion.objects.select_related("workspace", "dataset__workspace", "redaction")


class RiskMeasurementShape(serializers.ModelSerializer[RiskMeasurement]):
    quasi_identifiers = serializers.ListField(child=serializers.CharField())
    figures = serializers.DictField(
        child=serializers.IntegerField(), help_text="Counts, k, l, and risks in parts per million; empty while it runs."
    )

    class Meta:
        model = RiskMeasurement
        fields = [
            "id",
            "version",
            "run",
            "quasi_identifiers",
            "sensitive",
            "state",
            "figures",
            "failure",
            "requested_at",
        ]


class NewRiskMeasurement(serializers.Serializer[Any]):
    quasi_identifiers = serializers.ListField(
        child=serializers.CharField(max_length=120), min_length=1, help_text="Columns that an outsider may know."
    )
    sensitive = serializers.CharField(max_length=120, required=False, allow_blank=True, default="")


class VersionRiskMeasurements(Door):
    @extend_schema(
        responses=page_of(RiskMeasurementShape, "RiskMeasurement"),
        parameters=PAGE_PARAMETERS,
        operation_id="list_risk_measurements",
        tags=["versions"],
    )
    def get(self, request: Request, version_id: UUID) -> Response:
        """Measurements of the version, newest first. They hold counts, never a value."""
        rows = RiskMeasurement.objects.filter(version=self.find(_VERSIONS, pk=version_id))
        return page(request, rows, RiskMeasurementShape, ("-requested_at", "-id"))

    @extend_schema(
        request=NewRiskMeasurement,
        responses={202: RiskMeasurementShape},
        parameters=[KEY],
        operation_id="measure_risk",
        tags=["versions"],
    )
    @idempotent
    def post(self, request: Request, version_id: UUID) -> Response:
        """Queues a measurement over the redacted values of some columns."""
        version = self.find(_VERSIONS, pk=version_id)
        measured = review_actions.measure_risk(actor=self.actor, version=version, **self.checked(NewRiskMeasurement))
        return Response(RiskMeasurementShape(measured).data, status=202)
