"""Records that look privileged: list those of a version, read one with its passages, release or withhold it.

For compliance officers only. The text is redacted; offsets of passages are code points of it.
"""

from typing import Any
from uuid import UUID

from django.http import Http404
from drf_spectacular.utils import extend_schema, extend_schema_field
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from steward.accounts.roles import Permission
from steward.api.door import Door, idempotent
from steward.api.pages import PAGE_PARAMETERS, page, page_of
from steward.api.parameters import KEY
from steward.audit.actor import Refused
from steward.datasets import privilege_actions
from steward.datasets.models import (
    DatasetVersion,
    PrivilegeDecision,
    PrivilegeKind,
    RedactedQuerySet,
    RedactedRecord,
)
from steward.datasets.privilege import decisions_on
from steward.datasets.reading import RecordReader

_VERSIONS = DatasetVersion.objects.select_related("workspace", "dataset__workspace", "dataset__key", "redaction")


class PrivilegeDecisionShape(serializers.ModelSerializer[PrivilegeDecision]):
    class Meta:
        model = PrivilegeDecision
        fields = ["id", "kind", "reason", "decided_by", "decided_at"]


class _WithDecisions(serializers.ListSerializer[Any]):
    """Looks up the decisions on all rows of a page at once."""

    def to_representation(self, data: Any) -> list[Any]:
        self.context["decided"] = decisions_on(data)
        return super().to_representation(data)


class PrivilegedRecordShape(serializers.ModelSerializer[RedactedRecord]):
    decision = serializers.SerializerMethodField(help_text="The decision that counts; null while the record waits.")

    class Meta:
        model = RedactedRecord
        fields = ["ordinal", "decision"]
        list_serializer_class = _WithDecisions

    @extend_schema_field(PrivilegeDecisionShape(allow_null=True))
    def get_decision(self, row: RedactedRecord) -> Any:
        decided = self.context["decided"] if "decided" in self.context else decisions_on([row])
        decision = decided.get(row.pk)
        return PrivilegeDecisionShape(decision).data if decision else None


class PassageShape(serializers.Serializer[Any]):
    start = serializers.IntegerField(source="shown_start", help_text="Code point in the redacted text.")
    end = serializers.IntegerField(source="shown_end")
    score = serializers.FloatField(help_text="0 to 1.")
    reasons = serializers.ListField(child=serializers.CharField(), help_text="Cues, the strongest first.")


class PrivilegedRecordDetailShape(PrivilegedRecordShape):
    payload = serializers.SerializerMethodField(help_text="The redacted record: `fields` or `messages`.")
    passages = serializers.SerializerMethodField(help_text="The passages of each text of the record.")

    class Meta(PrivilegedRecordShape.Meta):
        fields = [*PrivilegedRecordShape.Meta.fields, "payload", "passages"]

    def get_payload(self, row: RedactedRecord) -> dict[str, Any]:
        return dict(self.context["opened"].payload)

    def get_passages(self, row: RedactedRecord) -> list[list[dict[str, Any]]]:
        return [PassageShape(passages, many=True).data for passages in self.context["opened"].privileged]


class PrivilegeForm(serializers.Serializer[Any]):
    kind = serializers.ChoiceField(choices=PrivilegeKind.choices, help_text="Withholding is for good.")
    reason = serializers.CharField(max_length=500, help_text="Why, without quoting the record.")


class _PrivilegedDoor(Door):
    """Finds what looks privileged in a version, for whoever may decide on it."""

    def rows(self, version_id: UUID) -> RedactedQuerySet:
        version = self.find(_VERSIONS, pk=version_id)
        self.look(Permission.APPROVE_DATASET, version.workspace)
        rows = RedactedRecord.objects.filter(run=version.redaction_id, is_privileged=True)
        return rows.select_related("run__version__workspace", "run__version__dataset__key")

    def one(self, version_id: UUID, ordinal: int) -> RedactedRecord:
        row = self.rows(version_id).filter(ordinal=ordinal).first()
        if row is None:
            raise Http404
        return row


class VersionPrivileged(_PrivilegedDoor):
    @extend_schema(
        responses=page_of(PrivilegedRecordShape, "PrivilegedRecord"),
        parameters=PAGE_PARAMETERS,
        operation_id="list_privileged",
        tags=["privilege"],
    )
    def get(self, request: Request, version_id: UUID) -> Response:
        """Records of the version's redaction that look privileged, in order; without their text."""
        return page(request, self.rows(version_id), PrivilegedRecordShape, ("ordinal", "id"))


class PrivilegedDetail(_PrivilegedDoor):
    @extend_schema(responses=PrivilegedRecordDetailShape, operation_id="get_privileged", tags=["privilege"])
    def get(self, request: Request, version_id: UUID, ordinal: int) -> Response:
        """One record that looks privileged, redacted, with its passages and why they were found."""
        row = self.one(version_id, ordinal)
        opened = next(RecordReader(row.run.version).redacted(row.run, ordinals=[ordinal]), None)
        if opened is None:
            raise Refused("The person of this record was erased; it cannot be read again.", code="shredded")
        return Response(PrivilegedRecordDetailShape(row, context={"opened": opened}).data)


class PrivilegedDecision(_PrivilegedDoor):
    @extend_schema(
        request=PrivilegeForm,
        responses={201: PrivilegeDecisionShape},
        parameters=[KEY],
        operation_id="decide_privileged",
        tags=["privilege"],
    )
    @idempotent
    def post(self, request: Request, version_id: UUID, ordinal: int) -> Response:
        """Releases the record for training or withholds it for good: by another person than the importer."""
        asked = self.checked(PrivilegeForm)
        acts = {
            PrivilegeKind.RELEASED: privilege_actions.release_privileged,
            PrivilegeKind.WITHHELD: privilege_actions.withhold_privileged,
        }
        act = acts[PrivilegeKind(asked["kind"])]
        decision = act(actor=self.actor, redacted=self.one(version_id, ordinal), reason=asked["reason"])
        return Response(PrivilegeDecisionShape(decision).data, status=201)
