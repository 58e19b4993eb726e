"""The curves of fine-tunes: thinned for a screen, and whole as a file."""

from typing import Any
from uuid import UUID

from django.http import HttpResponseBase
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from steward.api.door import Door, one_of
from steward.runs.curves import MOST_POINTS, QUANTITIES, SPLITS, curves_of
from steward.runs.downloads import FORMS, measurements_file
from steward.runs.models import FineTune

_RUNS = FineTune.objects.select_related("workspace")
_POINT = serializers.ListField(child=serializers.FloatField(), min_length=2, max_length=2)


class CurvesShape(serializers.Serializer[Any]):
    state = serializers.CharField()
    is_over = serializers.BooleanField()
    after = serializers.IntegerField(help_text="Give this back as `after` to get only what came since.")
    curves = serializers.DictField(
        child=serializers.DictField(child=serializers.ListField(child=_POINT)),
        help_text=f"By split ({', '.join(SPLITS)}) and quantity ({', '.join(QUANTITIES)}): points [step, value].",
    )


class FineTuneCurves(Door):
    @extend_schema(
        responses=CurvesShape,
        parameters=[OpenApiParameter("after", int)],
        operation_id="get_curves",
        tags=["fine-tunes"],
        description=f"The curves of a run, each thinned to {MOST_POINTS} points; of every stretch of a longer one the "
        "lowest and the highest point stay. A point that was measured again after a resume comes again and replaces "
        "the earlier one of its step.",
    )
    def get(self, request: Request, fine_tune_id: UUID) -> Response:
        """The curves of a run, or what came to them behind `after`."""
        fine_tune = self.find(_RUNS, pk=fine_tune_id)
        after = request.query_params.get("after")
        field = serializers.IntegerField(min_value=0, max_value=2**62)
        place = None if after is None else _checked(field, after)
        return Response(
            {
                "state": fine_tune.state,
                "is_over": fine_tune.is_over,
                "after": fine_tune.event_offset,
                "curves": curves_of(fine_tune, place),
            }
        )


def _checked(field: serializers.IntegerField, text: str) -> int:
    try:
        return int(field.run_validation(text))
    except serializers.ValidationError as error:
        raise serializers.ValidationError({"after": error.detail}) from None


class MeasurementsFile(Door):
    @extend_schema(
        responses={(200, "application/octet-stream"): OpenApiTypes.BINARY},
        parameters=[OpenApiParameter("form", str, OpenApiParameter.PATH, enum=list(FORMS))],
        operation_id="download_measurements",
        tags=["fine-tunes"],
    )
    def get(self, request: Request, fine_tune_id: UUID, form: str) -> HttpResponseBase:
        """All measurements of a run as a file: a CSV table, a JSON list, or an event file of TensorBoard."""
        fine_tune = self.find(_RUNS, pk=fine_tune_id)
        chosen = one_of(list(FORMS), form, "form")
        assert chosen is not None
        return measurements_file(fine_tune, chosen)
