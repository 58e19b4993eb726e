"""Several fine-tunes side by side."""

from typing import Any

from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from steward.api.door import Door, uuid_of
from steward.assurance.comparing import FEWEST, MOST, compare
from steward.runs.models import FineTune

_RUNS = FineTune.objects.select_related("workspace", "dataset_version__dataset", "base_model")


class ComparedScoreShape(serializers.Serializer[Any]):
    estimate = serializers.FloatField()
    low = serializers.FloatField()
    high = serializers.FloatField()
    level = serializers.FloatField()
    n = serializers.IntegerField(help_text="Test records.")
    method = serializers.CharField(help_text="bootstrap, or exact where all records scored alike.")


class ContenderShape(serializers.Serializer[Any]):
    fine_tune = serializers.UUIDField(source="fine_tune.pk")
    name = serializers.CharField(source="fine_tune.name")
    state = serializers.CharField(source="fine_tune.state")
    dataset_version = serializers.UUIDField(source="fine_tune.dataset_version_id")
    base_model = serializers.UUIDField(source="fine_tune.base_model_id")
    best_loss = serializers.FloatField(source="fine_tune.best_loss", allow_null=True)
    tokens = serializers.IntegerField(source="fine_tune.tokens")
    train_seconds = serializers.FloatField(source="fine_tune.train_seconds")
    tokens_per_second = serializers.FloatField(allow_null=True)
    model_version = serializers.UUIDField(source="model_version.pk", default=None, allow_null=True)
    metric = serializers.CharField(source="evaluation.metric", default=None, allow_null=True)
    score = ComparedScoreShape(allow_null=True)


class SettingShape(serializers.Serializer[Any]):
    path = serializers.CharField(help_text="Place in the training spec.")
    values = serializers.ListField(child=serializers.JSONField(allow_null=True), help_text="In the order of `runs`.")
    is_same = serializers.BooleanField()


class PairShape(serializers.Serializer[Any]):
    first = serializers.UUIDField(source="first.fine_tune.pk")
    second = serializers.UUIDField(source="second.fine_tune.pk")
    difference = ComparedScoreShape(
        source="interval", allow_null=True, help_text="Second minus first, paired bootstrap."
    )
    verdict = serializers.CharField(
        help_text="better, worse, not told apart, or why they cannot be set against another"
    )


class ComparisonShape(serializers.Serializer[Any]):
    runs = ContenderShape(many=True, source="contenders")
    settings = SettingShape(many=True)
    pairs = PairShape(many=True)
    warnings = serializers.ListField(child=serializers.CharField())


class FineTuneComparison(Door):
    @extend_schema(
        responses=ComparisonShape,
        parameters=[
            OpenApiParameter(
                "id",
                {"type": "array", "items": {"type": "string", "format": "uuid"}, "minItems": FEWEST, "maxItems": MOST},
                required=True,
                explode=True,
                description="The runs, all of one workspace; the parameter is repeated.",
            )
        ],
        operation_id="compare_fine_tunes",
        tags=["fine-tunes"],
    )
    def get(self, request: Request) -> Response:
        """Two to six runs of one workspace: settings, scores with intervals, and differences on the same records."""
        ids = [uuid_of(text, "id") for text in request.query_params.getlist("id")]
        found = [self.find(_RUNS, pk=pk) for pk in ids[: MOST + 1]]
        if len({run.workspace_id for run in found}) > 1:
            raise serializers.ValidationError({"id": "All must be of one workspace."}, code="invalid")
        return Response(ComparisonShape(compare(found)).data)
