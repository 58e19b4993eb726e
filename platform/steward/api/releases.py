"""Releases: ask for one, decide on one, fetch the evidence."""

from typing import Any
from uuid import UUID

from django.http import FileResponse
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from steward.api.datasets import Reason
from steward.api.door import Door, idempotent, one_of
from steward.api.pages import PAGE_PARAMETERS, page, page_of
from steward.api.parameters import KEY, WORKSPACE
from steward.releases import actions
from steward.releases.models import Audience, Release, ReleaseState
from steward.runs.models import ModelVersion


class ReleaseShape(serializers.ModelSerializer[Release]):
    evidence_digest = serializers.CharField(source="evidence.digest", default=None, allow_null=True)

    class Meta:
        model = Release
        fields = [
            "id",
            "workspace",
            "model_version",
            "adapter_digest",
            "audience",
            "state",
            "purpose",
            "requested_by",
            "trained_by",
            "decided_by",
            "reason",
            "requested_at",
            "decided_at",
            "evidence_digest",
        ]


class NewRelease(serializers.Serializer[Any]):
    model_version = serializers.UUIDField()
    audience = serializers.ChoiceField(choices=Audience.choices)
    purpose = serializers.CharField(max_length=300, help_text="What the model will be used for.")


_RELEASES = Release.objects.select_related("workspace", "evidence", "model_version__fine_tune")


class Releases(Door):
    @extend_schema(
        responses=page_of(ReleaseShape, "Release"),
        parameters=[WORKSPACE, OpenApiParameter("state", str, enum=ReleaseState.values), *PAGE_PARAMETERS],
        operation_id="list_releases",
        tags=["releases"],
    )
    def get(self, request: Request) -> Response:
        """Releases of the caller's workspaces, newest first."""
        rows = self.in_workspaces(_RELEASES)
        if state := one_of(ReleaseState.values, request.query_params.get("state"), "state"):
            rows = rows.filter(state=state)
        return page(request, rows, ReleaseShape, ("-requested_at", "-id"))

    @extend_schema(
        request=NewRelease,
        responses={201: ReleaseShape},
        parameters=[KEY],
        operation_id="request_release",
        tags=["releases"],
    )
    @idempotent
    def post(self, request: Request) -> Response:
        """Asks for a release of a model version whose gates have passed."""
        asked = self.checked(NewRelease)
        models = ModelVersion.objects.select_related("workspace", "fine_tune")
        release = actions.request_release(
            actor=self.actor,
            model_version=self.find(models, pk=asked["model_version"]),
            audience=Audience(asked["audience"]),
            purpose=asked["purpose"],
        )
        return Response(ReleaseShape(release).data, status=201)


class ReleaseDetail(Door):
    @extend_schema(responses=ReleaseShape, operation_id="get_release", tags=["releases"])
    def get(self, request: Request, release_id: UUID) -> Response:
        """One release."""
        return Response(ReleaseShape(self.find(_RELEASES, pk=release_id)).data)


class ReleaseApproval(Door):
    @extend_schema(
        request=Reason, responses=ReleaseShape, parameters=[KEY], operation_id="approve_release", tags=["releases"]
    )
    @idempotent
    def post(self, request: Request, release_id: UUID) -> Response:
        """Gives the release: by an officer who neither asked for it, trained the model nor imported its data."""
        release = self.find(_RELEASES, pk=release_id)
        approved = actions.approve_release(actor=self.actor, release=release, **self.checked(Reason))
        return Response(ReleaseShape(approved).data)


class ReleaseRefusal(Door):
    @extend_schema(
        request=Reason, responses=ReleaseShape, parameters=[KEY], operation_id="refuse_release", tags=["releases"]
    )
    @idempotent
    def post(self, request: Request, release_id: UUID) -> Response:
        """Turns the release down. Give a reason."""
        release = self.find(_RELEASES, pk=release_id)
        refused = actions.refuse_release(actor=self.actor, release=release, **self.checked(Reason))
        return Response(ReleaseShape(refused).data)


class ReleaseEvidence(Door):
    @extend_schema(
        responses={(200, "application/x-tar"): OpenApiTypes.BINARY}, operation_id="get_evidence", tags=["releases"]
    )
    def get(self, request: Request, release_id: UUID) -> FileResponse:
        """The evidence bundle; `python -m compliance.ledger verify FILE` checks it. That it was fetched is recorded."""
        path = actions.export_evidence(actor=self.actor, release=self.find(_RELEASES, pk=release_id))
        return FileResponse(open(path, "rb"), as_attachment=True, filename=f"evidence-{release_id}.tar")
