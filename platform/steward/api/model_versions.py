"""Model versions with their evaluations and gates."""

from typing import Any
from uuid import UUID

from drf_spectacular.utils import extend_schema, extend_schema_field
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from steward.api.door import Door, idempotent
from steward.api.pages import PAGE_PARAMETERS, page, page_of
from steward.api.parameters import KEY, WORKSPACE
from steward.assurance import actions
from steward.assurance.models import Evaluation, GateResult
from steward.runs.models import ModelVersion


class ModelShape(serializers.ModelSerializer[ModelVersion]):
    name = serializers.CharField(source="fine_tune.name")

    class Meta:
        model = ModelVersion
        fields = ["id", "workspace", "name", "fine_tune", "adapter_digest", "created_at"]


class ScoreShape(serializers.Serializer[Any]):
    score = serializers.FloatField(allow_null=True, help_text="0 to 1; for the gain, -1 to 1.")
    low = serializers.FloatField(allow_null=True, help_text="Lower end of the 95 % bootstrap interval.")
    high = serializers.FloatField(allow_null=True)


class GateShape(serializers.ModelSerializer[GateResult]):
    class Meta:
        model = GateResult
        fields = [
            "gate",
            "title",
            "state",
            "figure",
            "threshold",
            "explanation",
            "limits",
            "adapter_digest",
            "created_at",
        ]


class EvaluationShape(serializers.ModelSerializer[Evaluation]):
    measures = serializers.ListField(
        child=serializers.DictField(),
        help_text="Further figures: base, tuned and gain are [figure, low, high] or null.",
    )
    baseline = serializers.DictField(help_text="What the base stands for where it is no answer of a model.")
    base = serializers.SerializerMethodField()
    tuned = serializers.SerializerMethodField()
    gain = serializers.SerializerMethodField(help_text="Tuned minus base, paired by record.")
    gates = GateShape(source="gate_results", many=True)

    class Meta:
        model = Evaluation
        fields = [
            "id",
            "state",
            "metric",
            "baseline",
            "measures",
            "record_count",
            "shortened_count",
            "done_count",
            "total_count",
            "base",
            "tuned",
            "gain",
            "base_loss",
            "tuned_loss",
            "failure",
            "gates",
            "created_at",
            "finished_at",
        ]

    def _score(self, evaluation: Evaluation, which: str) -> dict[str, float | None]:
        return {part: getattr(evaluation, f"{which}_{part}") for part in ("score", "low", "high")}

    @extend_schema_field(ScoreShape)
    def get_base(self, evaluation: Evaluation) -> dict[str, float | None]:
        return self._score(evaluation, "base")

    @extend_schema_field(ScoreShape)
    def get_tuned(self, evaluation: Evaluation) -> dict[str, float | None]:
        return self._score(evaluation, "tuned")

    @extend_schema_field(ScoreShape)
    def get_gain(self, evaluation: Evaluation) -> dict[str, float | None]:
        return self._score(evaluation, "gain")


class ModelDetailShape(ModelShape):
    evaluations = EvaluationShape(many=True)

    class Meta(ModelShape.Meta):
        fields = [*ModelShape.Meta.fields, "evaluations"]


_MODELS = ModelVersion.objects.select_related("workspace", "fine_tune")


class Models(Door):
    @extend_schema(
        responses=page_of(ModelShape, "Model"),
        parameters=[WORKSPACE, *PAGE_PARAMETERS],
        operation_id="list_models",
        tags=["models"],
    )
    def get(self, request: Request) -> Response:
        """Model versions of the caller's workspaces, newest first."""
        return page(request, self.in_workspaces(_MODELS), ModelShape, ("-created_at", "-id"))


class ModelDetail(Door):
    @extend_schema(responses=ModelDetailShape, operation_id="get_model", tags=["models"])
    def get(self, request: Request, model_id: UUID) -> Response:
        """A model version with its evaluations, newest first, and what each gate found."""
        rows = _MODELS.prefetch_related("evaluations__gate_results")
        return Response(ModelDetailShape(self.find(rows, pk=model_id)).data)


class ModelEvaluations(Door):
    @extend_schema(
        request=None, responses={202: EvaluationShape}, parameters=[KEY], operation_id="evaluate_model", tags=["models"]
    )
    @idempotent
    def post(self, request: Request, model_id: UUID) -> Response:
        """Queues another evaluation of base against tuned."""
        evaluation = actions.request_evaluation(actor=self.actor, model_version=self.find(_MODELS, pk=model_id))
        return Response(EvaluationShape(evaluation).data, status=202)
