"""Compressions of a model, exports of a release, and imports of base models."""

from typing import Any
from uuid import UUID

from django.http import StreamingHttpResponse
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from steward.api.door import Door, idempotent
from steward.api.pages import PAGE_PARAMETERS, page, page_of
from steward.api.parameters import KEY, WORKSPACE
from steward.assurance.compression_actions import MAX_WAYS, WAYS, request_compression
from steward.assurance.models import Compression
from steward.catalog.import_actions import import_base_model
from steward.catalog.models import ModelImport
from steward.releases.export_actions import request_export
from steward.releases.exports import EXPORTS, file_name, hand_out
from steward.releases.models import Export, ExportForm, ExportState, Release
from steward.releases.rules_today import refusal_today
from steward.runs.models import ModelVersion

_MODELS = ModelVersion.objects.select_related("workspace", "fine_tune")
_RELEASES = Release.objects.select_related("workspace", "model_version")


class CompressionShape(serializers.ModelSerializer[Compression]):
    ways = serializers.ListField(child=serializers.CharField())
    rows = serializers.ListField(
        child=serializers.DictField(),
        help_text="Of the tuned model, then of each way: bytes, tokens a second, agreement, loss, score with interval.",
    )

    class Meta:
        model = Compression
        fields = [
            "id",
            "model_version",
            "state",
            "metric",
            "ways",
            "rows",
            "digest",
            "failure",
            "created_at",
            "finished_at",
        ]


class NewCompression(serializers.Serializer[Any]):
    ways = serializers.ListField(
        child=serializers.CharField(max_length=40), min_length=1, max_length=MAX_WAYS, default=list(WAYS)
    )


class ModelCompressions(Door):
    @extend_schema(
        responses=page_of(CompressionShape, "Compression"),
        parameters=PAGE_PARAMETERS,
        operation_id="list_compressions",
        tags=["models"],
    )
    def get(self, request: Request, model_id: UUID) -> Response:
        """What was measured of compressed forms of the model, newest first."""
        rows = Compression.objects.filter(model_version=self.find(_MODELS, pk=model_id))
        return page(request, rows, CompressionShape, ("-created_at", "-id"))

    @extend_schema(
        request=NewCompression,
        responses={202: CompressionShape},
        parameters=[KEY],
        operation_id="compress_model",
        tags=["models"],
    )
    @idempotent
    def post(self, request: Request, model_id: UUID) -> Response:
        """Queues a comparison of the tuned model with what each way of compressing makes of it."""
        found = self.find(_MODELS, pk=model_id)
        made = request_compression(actor=self.actor, model_version=found, **self.checked(NewCompression))
        return Response(CompressionShape(made).data, status=202)


class ExportShape(serializers.ModelSerializer[Export]):
    figures = serializers.DictField(help_text="How it answers beside the trained model, with the limits of its form.")
    refusal = serializers.SerializerMethodField(
        help_text="Of a ready export: the rule of today by which it is not handed out, or empty."
    )

    class Meta:
        model = Export
        fields = [
            "id",
            "release",
            "form",
            "way",
            "state",
            "digest",
            "size_bytes",
            "figures",
            "failure",
            "refusal",
            "requested_by",
            "created_at",
            "finished_at",
        ]

    def get_refusal(self, export: Export) -> str:
        return refusal_today(export) if export.state == ExportState.READY else ""


class NewExport(serializers.Serializer[Any]):
    form = serializers.ChoiceField(choices=ExportForm.choices)
    way = serializers.CharField(
        max_length=40, required=False, default="", help_text="Of `compressed`: one of the newest finished comparison."
    )


class ReleaseExports(Door):
    @extend_schema(
        responses=page_of(ExportShape, "Export"),
        parameters=PAGE_PARAMETERS,
        operation_id="list_exports",
        tags=["releases"],
    )
    def get(self, request: Request, release_id: UUID) -> Response:
        """Exports of a release, newest first."""
        rows = EXPORTS.filter(release=self.find(_RELEASES, pk=release_id))
        return page(request, rows, ExportShape, ("-created_at", "-id"))

    @extend_schema(
        request=NewExport,
        responses={202: ExportShape},
        parameters=[KEY],
        operation_id="export_model",
        tags=["releases"],
    )
    @idempotent
    def post(self, request: Request, release_id: UUID) -> Response:
        """Queues an export; it is offered once it was read back and answered as the trained model."""
        release = self.find(_RELEASES, pk=release_id)
        made = request_export(actor=self.actor, release=release, **self.checked(NewExport))
        return Response(ExportShape(made).data, status=202)


class ExportDetail(Door):
    @extend_schema(responses=ExportShape, operation_id="get_export", tags=["releases"])
    def get(self, request: Request, export_id: UUID) -> Response:
        """One export with its figures."""
        return Response(ExportShape(self.find(EXPORTS, pk=export_id)).data)


class ExportContent(Door):
    @extend_schema(
        responses={(200, "application/x-tar"): OpenApiTypes.BINARY}, operation_id="download_export", tags=["releases"]
    )
    def get(self, request: Request, export_id: UUID) -> StreamingHttpResponse:
        """The model with card, proof and signature; that it is handed out is recorded before and after."""
        export = self.find(EXPORTS, pk=export_id)
        response = StreamingHttpResponse(hand_out(actor=self.actor, export=export), content_type="application/x-tar")
        response["Content-Disposition"] = f'attachment; filename="{file_name(export)}"'
        return response


class ModelImportShape(serializers.ModelSerializer[ModelImport]):
    facts = serializers.DictField(help_text="Architecture, digest of what came in, licence by the model's own card.")

    class Meta:
        model = ModelImport
        fields = [
            "id",
            "workspace",
            "name",
            "licence",
            "kind",
            "location",
            "revision",
            "state",
            "facts",
            "failure",
            "base_model",
            "created_at",
            "finished_at",
        ]


class NewModelImport(serializers.Serializer[Any]):
    workspace = serializers.UUIDField(help_text="In which the caller is an officer or an administrator.")
    name = serializers.CharField(max_length=160)
    licence = serializers.CharField(max_length=80, help_text="SPDX name or title.")
    location = serializers.CharField(max_length=200, help_text="A name in the intake folder, or owner/name at the hub.")
    revision = serializers.CharField(max_length=40, required=False, default="", help_text="The commit, at a hub.")


class ModelImports(Door):
    @extend_schema(
        responses=page_of(ModelImportShape, "ModelImport"),
        parameters=[WORKSPACE, *PAGE_PARAMETERS],
        operation_id="list_model_imports",
        tags=["base models"],
    )
    def get(self, request: Request) -> Response:
        """Imports asked for in the caller's workspaces, newest first."""
        rows = self.in_workspaces(ModelImport.objects.all())
        return page(request, rows, ModelImportShape, ("-created_at", "-id"))

    @extend_schema(
        request=NewModelImport,
        responses={202: ModelImportShape},
        parameters=[KEY],
        operation_id="import_base_model",
        tags=["base models"],
    )
    @idempotent
    def post(self, request: Request) -> Response:
        """Queues the import of a base model from the intake folder, or from the hub where the site allows one."""
        asked = self.checked(NewModelImport)
        workspace = self.find_workspace(asked.pop("workspace"))
        made = import_base_model(actor=self.actor, workspace=workspace, **asked)
        return Response(ModelImportShape(made).data, status=202)
