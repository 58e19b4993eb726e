"""A fine-tune asked for with the settings of another one."""

from typing import Any
from uuid import UUID

from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from steward.api.door import Door, idempotent
from steward.api.fine_tunes import FineTuneDetailShape, Missing
from steward.api.parameters import KEY
from steward.catalog.models import BaseModel
from steward.datasets.models import DatasetVersion
from steward.runs import actions
from steward.runs.models import FineTune

_RUNS = FineTune.objects.select_related(
    "workspace", "dataset_version__workspace", "dataset_version__dataset", "base_model"
)


class NewClone(serializers.Serializer[Any]):
    name = serializers.CharField(max_length=120, required=False, help_text="By default the source's, changed.")
    dataset_version = serializers.UUIDField(required=False, help_text="By default the source's own.")
    base_model = serializers.UUIDField(required=False, help_text="By default the source's own.")
    workflow = serializers.CharField(max_length=60, required=False, help_text="By default the source's own.")
    changes = serializers.DictField(
        required=False, default=dict, help_text="To the source's recipe, as when a fine-tune is created."
    )


class FineTuneClones(Door):
    @extend_schema(
        request=NewClone,
        responses={201: FineTuneDetailShape},
        parameters=[KEY],
        operation_id="clone_fine_tune",
        tags=["fine-tunes"],
    )
    @idempotent
    def post(self, request: Request, fine_tune_id: UUID) -> Response:
        """Queues a fine-tune with the settings of another one and some changes; it trains from the start."""
        asked = self.checked(NewClone)
        source = self.find(_RUNS, pk=fine_tune_id)
        version, base_model = source.dataset_version, source.base_model
        if "dataset_version" in asked:
            versions = DatasetVersion.objects.select_related("workspace", "dataset")
            version = self.find(versions, pk=asked["dataset_version"])
        if "base_model" in asked:
            chosen = BaseModel.objects.filter(pk=asked["base_model"]).first()
            if chosen is None:
                raise Missing("No such base model. /api/v1/base-models lists them.", code="base_model_unknown")
            base_model = chosen
        clone = actions.request_fine_tune(
            actor=self.actor,
            version=version,
            base_model=base_model,
            name=asked.get("name") or f"{source.name}, changed",
            workflow=asked.get("workflow") or source.workflow,
            changes=asked["changes"],
            cloned_from=source,
        )
        return Response(FineTuneDetailShape(clone).data, status=201)
