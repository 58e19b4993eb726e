"""Datasets and their versions: upload, redaction, sample review, decision."""

import json
from typing import Any
from uuid import UUID

from drf_spectacular.utils import extend_schema, extend_schema_field
from rest_framework import serializers
from rest_framework.exceptions import ValidationError
from rest_framework.parsers import MultiPartParser
from rest_framework.request import Request
from rest_framework.response import Response

from compliance.redaction.profile import available_profiles
from steward.api.door import Door, idempotent, one_of
from steward.api.pages import PAGE_PARAMETERS, page, page_of
from steward.api.parameters import KEY, STATE_OF_VERSION, WORKSPACE
from steward.datasets import actions
from steward.datasets.models import Dataset, DatasetVersion, RedactionRun, VersionState
from steward.datasets.residual import residual_risk
from steward.datasets.uploads import SealedUpload, SealedUploadHandler

_DATASETS = Dataset.objects.select_related("workspace", "key")
_VERSIONS = DatasetVersion.objects.select_related("workspace", "dataset__workspace", "redaction")


class DatasetShape(serializers.ModelSerializer[Dataset]):
    class Meta:
        model = Dataset
        fields = ["id", "workspace", "name", "workflow", "purpose", "created_by", "created_at"]


class NewDataset(serializers.Serializer[Any]):
    workspace = serializers.UUIDField()
    name = serializers.CharField(max_length=120)
    purpose = serializers.CharField(max_length=300, help_text="What the data may be used for.")
    workflow = serializers.CharField(max_length=60, required=False, default="", allow_blank=True)


class VersionShape(serializers.ModelSerializer[DatasetVersion]):
    class Meta:
        model = DatasetVersion
        fields = [
            "id",
            "workspace",
            "dataset",
            "number",
            "state",
            "shape",
            "record_count",
            "duplicate_count",
            "subject_count",
            "problem_count",
            "content_digest",
            "imported_by",
            "decided_by",
            "decision_reason",
            "created_at",
            "imported_at",
            "decided_at",
        ]


class FileProblem(serializers.Serializer[Any]):
    line = serializers.IntegerField()
    column = serializers.CharField(allow_blank=True)
    code = serializers.CharField()
    message = serializers.CharField()


class StratumShape(serializers.Serializer[Any]):
    name = serializers.CharField(help_text="`doubtful` or `other`.")
    population = serializers.IntegerField()
    sample_size = serializers.IntegerField(help_text="Reviewed records.")
    misses = serializers.IntegerField(help_text="Reviewed records with a miss.")


class TypeRiskShape(serializers.Serializer[Any]):
    name = serializers.CharField()
    records = serializers.IntegerField()
    identifiers = serializers.IntegerField()
    upper_bound = serializers.FloatField(help_text="Of this type alone, 0 to 1.")


class SecondReadingsShape(serializers.Serializer[Any]):
    wanted = serializers.IntegerField()
    given = serializers.IntegerField()
    agreed = serializers.IntegerField()
    kappa = serializers.FloatField(allow_null=True, help_text="Cohen's, on whether an identifier was missed.")
    open_disagreements = serializers.IntegerField(help_text="Counted as a miss until adjudicated.")


class RiskShape(serializers.Serializer[Any]):
    drawn = serializers.IntegerField()
    reviewed = serializers.IntegerField()
    needed = serializers.IntegerField()
    missed = serializers.IntegerField()
    upper_bound = serializers.FloatField(help_text="Share of records, 0 to 1, that may hold a missed identifier.")
    confidence_percent = serializers.IntegerField()
    allowed_per_1000 = serializers.IntegerField()
    is_enough = serializers.BooleanField()
    still_needed = serializers.IntegerField(
        allow_null=True,
        help_text="Records to review if nothing more is missed; null if none can be enough.",
    )
    rounds = serializers.IntegerField(help_text="Draws; each one after a look at the verdicts costs some confidence.")
    strata = StratumShape(many=True)
    by_type = TypeRiskShape(many=True)
    second = SecondReadingsShape()


class RedactionShape(serializers.ModelSerializer[RedactionRun]):
    counts_by_type = serializers.DictField(child=serializers.IntegerField())

    class Meta:
        model = RedactionRun
        fields = [
            "id",
            "version",
            "profile",
            "profile_version",
            "profile_digest",
            "policy_digest",
            "state",
            "done_count",
            "finding_count",
            "set_aside_count",
            "counts_by_type",
            "failure",
            "started_at",
            "finished_at",
        ]


class VersionDetailShape(VersionShape):
    mapping = serializers.DictField()
    split_counts = serializers.DictField(child=serializers.IntegerField())
    problems = FileProblem(many=True, help_text="The first 200; `problem_count` has all.")
    redaction = RedactionShape(allow_null=True)
    residual_risk = serializers.SerializerMethodField(help_text="What the verdicts given so far allow to say.")

    class Meta(VersionShape.Meta):
        fields = [*VersionShape.Meta.fields, "mapping", "split_counts", "problems", "redaction", "residual_risk"]

    @extend_schema_field(RiskShape(allow_null=True))
    def get_residual_risk(self, version: DatasetVersion) -> Any:
        return None if version.redaction is None else RiskShape(residual_risk(version.redaction)).data


class Upload(serializers.Serializer[Any]):
    file = serializers.FileField(help_text="JSON Lines, CSV or TSV in UTF-8.")
    columns = serializers.CharField(
        required=False, help_text='JSON object: column by field name, e.g. {"subject": "patient_id"}.'
    )


class Profile(serializers.Serializer[Any]):
    # Shipped names only: the detector takes paths too, and a caller must not name files of this machine.
    profile = serializers.ChoiceField(
        choices=available_profiles(),
        required=False,
        allow_null=True,
        default=None,
        help_text="By default the domain's own.",
    )


class Reason(serializers.Serializer[Any]):
    reason = serializers.CharField(max_length=500, required=False, allow_blank=True, default="")


class Datasets(Door):
    @extend_schema(
        responses=page_of(DatasetShape, "Dataset"),
        parameters=[WORKSPACE, *PAGE_PARAMETERS],
        operation_id="list_datasets",
        tags=["datasets"],
    )
    def get(self, request: Request) -> Response:
        """Datasets of the caller's workspaces, newest first."""
        return page(request, self.in_workspaces(_DATASETS), DatasetShape, ("-created_at", "-id"))

    @extend_schema(
        request=NewDataset,
        responses={201: DatasetShape},
        parameters=[KEY],
        operation_id="create_dataset",
        tags=["datasets"],
    )
    @idempotent
    def post(self, request: Request) -> Response:
        """Makes an empty dataset with its own key."""
        asked = self.checked(NewDataset)
        workspace = self.find_workspace(asked.pop("workspace"))
        dataset = actions.create_dataset(actor=self.actor, workspace=workspace, **asked)
        return Response(DatasetShape(dataset).data, status=201)


class DatasetDetail(Door):
    @extend_schema(responses=DatasetShape, operation_id="get_dataset", tags=["datasets"])
    def get(self, request: Request, dataset_id: UUID) -> Response:
        """One dataset."""
        return Response(DatasetShape(self.find(_DATASETS, pk=dataset_id)).data)


class DatasetVersions(Door):
    parser_classes = [MultiPartParser]

    @extend_schema(
        responses=page_of(VersionShape, "Version"),
        parameters=[STATE_OF_VERSION, *PAGE_PARAMETERS],
        operation_id="list_versions",
        tags=["versions"],
    )
    def get(self, request: Request, dataset_id: UUID) -> Response:
        """The versions of a dataset, newest first."""
        rows = DatasetVersion.objects.filter(dataset=self.find(_DATASETS, pk=dataset_id))
        if state := one_of(VersionState.values, request.query_params.get("state"), "state"):
            rows = rows.filter(state=state)
        return page(request, rows, VersionShape, ("-number",))

    @extend_schema(
        request={"multipart/form-data": Upload},
        responses={202: VersionShape},
        parameters=[KEY],
        operation_id="upload_version",
        tags=["versions"],
    )
    @idempotent
    def post(self, request: Request, dataset_id: UUID) -> Response:
        """Uploads a file as the next version. It is sealed while it arrives; the import runs in the background."""
        dataset = self.find(_DATASETS, pk=dataset_id)
        request._request.upload_handlers = [SealedUploadHandler(request._request, self.actor, dataset)]
        files = [file for file in request.FILES.values() if isinstance(file, SealedUpload)]
        try:
            if len(files) != 1 or "file" not in request.FILES:
                raise ValidationError({"file": "Send exactly one file, in the field “file”."}, code="required")
            columns = _columns(request.data.get("columns"))
        except ValidationError:
            for file in files:
                file.reception.abandon()
            raise
        version = files[0].reception.finish(columns)
        return Response(VersionShape(version).data, status=202)


def _columns(text: str | None) -> dict[str, str]:
    if not text:
        return {}
    try:
        columns = json.loads(text)
    except (ValueError, RecursionError):
        columns = None
    if not isinstance(columns, dict) or not all(isinstance(value, str) for value in columns.values()):
        raise ValidationError({"columns": "Give a JSON object of field names and column names."}, code="invalid")
    return columns


class VersionDetail(Door):
    @extend_schema(responses=VersionDetailShape, operation_id="get_version", tags=["versions"])
    def get(self, request: Request, version_id: UUID) -> Response:
        """A version with its problems, its redaction and the residual risk so far."""
        return Response(VersionDetailShape(self.find(_VERSIONS, pk=version_id)).data)


class VersionRedactions(Door):
    @extend_schema(
        responses=page_of(RedactionShape, "Redaction"),
        parameters=PAGE_PARAMETERS,
        operation_id="list_redactions",
        tags=["versions"],
    )
    def get(self, request: Request, version_id: UUID) -> Response:
        """The redaction runs over a version, newest first."""
        rows = RedactionRun.objects.filter(version=self.find(_VERSIONS, pk=version_id))
        return page(request, rows, RedactionShape, ("-started_at", "-id"))

    @extend_schema(
        request=Profile,
        responses={202: RedactionShape},
        parameters=[KEY],
        operation_id="redact_version",
        tags=["versions"],
    )
    @idempotent
    def post(self, request: Request, version_id: UUID) -> Response:
        """Queues a redaction."""
        version = self.find(_VERSIONS, pk=version_id)
        run = actions.start_redaction(actor=self.actor, version=version, **self.checked(Profile))
        return Response(RedactionShape(run).data, status=202)


class VersionApproval(Door):
    @extend_schema(
        request=Reason, responses=VersionShape, parameters=[KEY], operation_id="approve_version", tags=["versions"]
    )
    @idempotent
    def post(self, request: Request, version_id: UUID) -> Response:
        """Lets the version be trained on: by another person than its importer, with the residual risk in bounds."""
        version = self.find(_VERSIONS, pk=version_id)
        approved = actions.approve_version(actor=self.actor, version=version, **self.checked(Reason))
        return Response(VersionShape(approved).data)


class VersionRejection(Door):
    @extend_schema(
        request=Reason, responses=VersionShape, parameters=[KEY], operation_id="reject_version", tags=["versions"]
    )
    @idempotent
    def post(self, request: Request, version_id: UUID) -> Response:
        """Closes the version for good. Give a reason."""
        version = self.find(_VERSIONS, pk=version_id)
        rejected = actions.reject_version(actor=self.actor, version=version, **self.checked(Reason))
        return Response(VersionShape(rejected).data)
