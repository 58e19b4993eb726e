"""Fine-tunes: ask for one, watch it, approve a held one, cancel it."""

from typing import Any
from uuid import UUID

from drf_spectacular.utils import OpenApiParameter, extend_schema, extend_schema_field
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from steward.accounts.roles import Permission
from steward.api.devices import GatheringShape, PriorityField, StandingShape
from steward.api.door import Door, idempotent, one_of
from steward.api.ledger import EntryShape
from steward.api.pages import PAGE_PARAMETERS, page, page_of
from steward.api.parameters import KEY, WORKSPACE
from steward.audit.actor import UserError
from steward.audit.models import LedgerEntry
from steward.catalog.models import BaseModel
from steward.datasets.models import DatasetVersion
from steward.runs import actions
from steward.runs.dispatch import gathering, standing
from steward.runs.forecast import foretell
from steward.runs.methods import METHODS, WAYS
from steward.runs.models import FineTune, Measurement, RunState
from steward.runs.recipes import merged_recipe, spec_of, within_positions, workflow_of


class FineTuneShape(serializers.ModelSerializer[FineTune]):
    priority = PriorityField()
    progress_percent = serializers.IntegerField()
    method = serializers.CharField(source="method.name", help_text="What is learnt.")
    way = serializers.CharField(source="way.name", help_text="What is trained.")
    model_version = serializers.UUIDField(source="model_version.pk", default=None, allow_null=True)

    class Meta:
        model = FineTune
        fields = [
            "id",
            "workspace",
            "name",
            "dataset_version",
            "base_model",
            "workflow",
            "cloned_from",
            "method",
            "way",
            "parent",
            "state",
            "priority",
            "step",
            "steps",
            "progress_percent",
            "best_step",
            "best_loss",
            "tokens",
            "train_seconds",
            "failure_code",
            "failure",
            "model_version",
            "requested_by",
            "created_at",
            "started_at",
            "finished_at",
        ]


class FineTuneDetailShape(FineTuneShape):
    recipe = serializers.DictField()
    facts = serializers.DictField(help_text="What the trainer said of device, precision and data.")
    queue = serializers.SerializerMethodField(help_text="Its place among what waits for devices, and why it waits.")
    gathering = serializers.SerializerMethodField(help_text="The nodes of a cluster that it waits for.")

    class Meta(FineTuneShape.Meta):
        fields = [*FineTuneShape.Meta.fields, "recipe", "facts", "flops", "queue", "gathering"]

    @extend_schema_field(StandingShape(allow_null=True))
    def get_queue(self, fine_tune: FineTune) -> dict[str, Any] | None:
        waits = standing(fine_tune.pk)
        return None if waits is None else dict(StandingShape(waits).data)

    @extend_schema_field(GatheringShape(allow_null=True))
    def get_gathering(self, fine_tune: FineTune) -> dict[str, Any] | None:
        waits = gathering(fine_tune)
        return None if waits is None else dict(GatheringShape(waits).data)


class NewFineTune(serializers.Serializer[Any]):
    dataset_version = serializers.UUIDField(help_text="An approved version.")
    base_model = serializers.UUIDField()
    name = serializers.CharField(max_length=120)
    workflow = serializers.CharField(max_length=60, required=False, default="", allow_blank=True)
    method = serializers.ChoiceField(list(METHODS), required=False, help_text="By default the workflow's own.")
    way = serializers.ChoiceField(list(WAYS), required=False, help_text="By default the workflow's own.")
    changes = serializers.DictField(
        required=False, default=dict, help_text='Recipe values to replace, e.g. {"epochs": 3, "lora": {"rank": 8}}.'
    )
    priority = PriorityField(
        required=False, help_text="Normal where nothing is said; above takes the permission fine_tunes.prioritise."
    )


class Continuation(serializers.Serializer[Any]):
    epochs = serializers.IntegerField(min_value=1, max_value=1000, help_text="More passes over the training records.")
    name = serializers.CharField(max_length=120, required=False, default="", allow_blank=True)
    changes = serializers.DictField(
        required=False, default=dict, help_text="To the parent's recipe, as when a fine-tune is created."
    )


class MeasurementShape(serializers.ModelSerializer[Measurement]):
    class Meta:
        model = Measurement
        fields = [
            "attempt",
            "split",
            "step",
            "loss",
            "learning_rate",
            "grad_norm",
            "tokens_per_second",
            "memory_bytes",
            "temperature_celsius",
            "power_watts",
            "eta_seconds",
            "at",
        ]


class Missing(UserError):
    """The body names something that is not there, or not the caller's."""

    status = 400


_RUNS = FineTune.objects.select_related("workspace", "model_version")


def _changes(asked: dict[str, Any]) -> dict[str, Any]:
    """What a body changes of the recipe, taken out of it; method and way have places of their own beside `changes`."""
    return asked.pop("changes") | {name: asked.pop(name) for name in ("method", "way") if name in asked}


class FineTunes(Door):
    @extend_schema(
        responses=page_of(FineTuneShape, "FineTune"),
        parameters=[WORKSPACE, OpenApiParameter("state", str, enum=RunState.values), *PAGE_PARAMETERS],
        operation_id="list_fine_tunes",
        tags=["fine-tunes"],
    )
    def get(self, request: Request) -> Response:
        """Fine-tunes of the caller's workspaces, newest first."""
        rows = self.in_workspaces(_RUNS)
        if state := one_of(RunState.values, request.query_params.get("state"), "state"):
            rows = rows.filter(state=state)
        return page(request, rows, FineTuneShape, ("-created_at", "-id"))

    @extend_schema(
        request=NewFineTune,
        responses={201: FineTuneDetailShape},
        parameters=[KEY],
        operation_id="create_fine_tune",
        tags=["fine-tunes"],
    )
    @idempotent
    def post(self, request: Request) -> Response:
        """Queues a fine-tune of an approved version, or holds it where the policy wants a second person."""
        asked = self.checked(NewFineTune)
        version = self.find(
            DatasetVersion.objects.select_related("workspace", "dataset"), pk=asked.pop("dataset_version")
        )
        base_model = BaseModel.objects.filter(pk=asked.pop("base_model")).first()
        if base_model is None:
            raise Missing("No such base model. /api/v1/base-models lists them.", code="base_model_unknown")
        changes = _changes(asked)
        fine_tune = actions.request_fine_tune(
            actor=self.actor, version=version, base_model=base_model, changes=changes, **asked
        )
        return Response(FineTuneDetailShape(fine_tune).data, status=201)


class ForecastShape(serializers.Serializer[Any]):
    fits = serializers.BooleanField()
    memory_bytes = serializers.IntegerField(help_text="Expected peak, of each of several processes.")
    free_bytes = serializers.IntegerField(help_text="For one process.")
    parts = serializers.DictField(child=serializers.IntegerField(), help_text="Bytes by what causes them.")
    micro_tokens = serializers.IntegerField(help_text="Tokens through the model at once.")
    is_recomputed = serializers.BooleanField(help_text="Layers keep their inputs only.")
    advice = serializers.CharField(help_text="A change that would fit; empty where it fits.")
    longest_record = serializers.IntegerField(
        help_text="Tokens that are read of one, at most what the base model tells apart."
    )
    longer_records = serializers.IntegerField(help_text="Training records that are likely longer: left out, or cut.")
    tokens = serializers.IntegerField()
    steps = serializers.IntegerField()
    seconds = serializers.FloatField(allow_null=True, help_text="None before the first run of the model.")
    basis = serializers.CharField(help_text="The run whose pace was taken.")
    processes = serializers.IntegerField(help_text="That learn together, on all machines; each has a device.")
    watt_hours = serializers.FloatField(allow_null=True)
    cost = serializers.FloatField(allow_null=True)
    currency = serializers.CharField()


class FineTuneForecast(Door):
    @extend_schema(request=NewFineTune, responses=ForecastShape, operation_id="forecast_fine_tune", tags=["fine-tunes"])
    def post(self, request: Request) -> Response:
        """What a fine-tune would need of memory, time and money; nothing is queued."""
        asked = self.checked(NewFineTune)
        version = self.find(DatasetVersion.objects.select_related("workspace", "dataset"), pk=asked["dataset_version"])
        self.look(Permission.START_FINE_TUNE, version.workspace)
        base_model = BaseModel.objects.filter(pk=asked["base_model"]).first()
        if base_model is None:
            raise Missing("No such base model. /api/v1/base-models lists them.", code="base_model_unknown")
        domain = version.workspace.domain
        workflow = workflow_of(domain, version.dataset.workflow, asked["workflow"])
        recipe = within_positions(merged_recipe(domain, workflow, _changes(asked), version), base_model)
        told = foretell(version, base_model, spec_of(recipe, METHODS[recipe["method"]]))
        if told is None:
            raise Missing("The model's folder or the training records are not there yet.", code="forecast_impossible")
        return Response(ForecastShape(told).data)


class FineTuneDetail(Door):
    @extend_schema(responses=FineTuneDetailShape, operation_id="get_fine_tune", tags=["fine-tunes"])
    def get(self, request: Request, fine_tune_id: UUID) -> Response:
        """One fine-tune with its recipe."""
        return Response(FineTuneDetailShape(self.find(_RUNS, pk=fine_tune_id)).data)


class FineTuneMeasurements(Door):
    @extend_schema(
        responses=page_of(MeasurementShape, "Measurement"),
        parameters=[OpenApiParameter("split", str, enum=["train", "validation"]), *PAGE_PARAMETERS],
        operation_id="list_measurements",
        tags=["fine-tunes"],
    )
    def get(self, request: Request, fine_tune_id: UUID) -> Response:
        """The curves of a run, by step: go on from `next`, or from the last cursor, while it runs."""
        rows = Measurement.objects.filter(fine_tune=self.find(_RUNS, pk=fine_tune_id))
        if split := one_of(["train", "validation"], request.query_params.get("split"), "split"):
            rows = rows.filter(split=split)
        return page(request, rows, MeasurementShape, ("step", "id"))


class FineTuneEvents(Door):
    @extend_schema(
        responses=page_of(EntryShape, "FineTuneEvent"),
        parameters=PAGE_PARAMETERS,
        operation_id="list_fine_tune_events",
        tags=["fine-tunes"],
    )
    def get(self, request: Request, fine_tune_id: UUID) -> Response:
        """What happened to a fine-tune, as the ledger has it, oldest first."""
        fine_tune = self.find(_RUNS, pk=fine_tune_id)
        self.look(Permission.VIEW_LEDGER, fine_tune.workspace)
        rows = LedgerEntry.objects.filter(object_type="finetune", object_id=str(fine_tune.pk))
        return page(request, rows, EntryShape, ("index",))


class FineTuneApproval(Door):
    @extend_schema(
        request=None, responses=FineTuneShape, parameters=[KEY], operation_id="approve_fine_tune", tags=["fine-tunes"]
    )
    @idempotent
    def post(self, request: Request, fine_tune_id: UUID) -> Response:
        """Lets a held fine-tune start; by an officer who did not ask for it."""
        fine_tune = actions.approve_fine_tune(actor=self.actor, fine_tune=self.find(_RUNS, pk=fine_tune_id))
        return Response(FineTuneShape(fine_tune).data)


class FineTuneCancellation(Door):
    @extend_schema(
        request=None, responses=FineTuneShape, parameters=[KEY], operation_id="cancel_fine_tune", tags=["fine-tunes"]
    )
    @idempotent
    def post(self, request: Request, fine_tune_id: UUID) -> Response:
        """Stops a fine-tune: at once if it waits, within seconds if it runs."""
        fine_tune = actions.cancel_fine_tune(actor=self.actor, fine_tune=self.find(_RUNS, pk=fine_tune_id))
        return Response(FineTuneShape(fine_tune).data)


class FineTunePause(Door):
    @extend_schema(
        request=None, responses=FineTuneShape, parameters=[KEY], operation_id="pause_fine_tune", tags=["fine-tunes"]
    )
    @idempotent
    def post(self, request: Request, fine_tune_id: UUID) -> Response:
        """Frees the device and keeps what was learnt: at once if it is queued, within seconds if it runs."""
        fine_tune = actions.pause_fine_tune(actor=self.actor, fine_tune=self.find(_RUNS, pk=fine_tune_id))
        return Response(FineTuneShape(fine_tune).data)


class FineTuneResumption(Door):
    @extend_schema(
        request=None, responses=FineTuneShape, parameters=[KEY], operation_id="resume_fine_tune", tags=["fine-tunes"]
    )
    @idempotent
    def post(self, request: Request, fine_tune_id: UUID) -> Response:
        """Queues a paused fine-tune; it goes on from its checkpoint."""
        fine_tune = actions.resume_fine_tune(actor=self.actor, fine_tune=self.find(_RUNS, pk=fine_tune_id))
        return Response(FineTuneShape(fine_tune).data)


class FineTuneContinuation(Door):
    @extend_schema(
        request=Continuation,
        responses={201: FineTuneDetailShape},
        parameters=[KEY],
        operation_id="continue_fine_tune",
        tags=["fine-tunes"],
    )
    @idempotent
    def post(self, request: Request, fine_tune_id: UUID) -> Response:
        """Queues a fine-tune that goes on from the result of a finished one: same data, base model, method and way."""
        parent = self.find(_RUNS, pk=fine_tune_id)
        fine_tune = actions.continue_fine_tune(actor=self.actor, parent=parent, **self.checked(Continuation))
        return Response(FineTuneDetailShape(fine_tune).data, status=201)
