"""The sample review of a redaction: draw records, read them redacted, give verdicts, take one back, adjudicate.

A verdict on a record that wants a second reader is shown to who gave it only, until the second reading is there.
"""

from typing import Any
from uuid import UUID

from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from compliance.redaction.profile import ENTITY_TYPES
from steward.accounts.roles import Permission
from steward.api.datasets import RiskShape
from steward.api.door import Door, idempotent
from steward.api.pages import PAGE_PARAMETERS, page, page_of
from steward.api.parameters import KEY
from steward.audit.actor import Refused
from steward.datasets import actions, review_actions
from steward.datasets.models import DatasetVersion, RedactionRun, SampleItem, SpanFault, Verdict
from steward.datasets.privilege import shown_to
from steward.datasets.reading import RecordReader
from steward.datasets.residual import residual_risk
from steward.datasets.spans import parse_spans
from steward.datasets.texts import texts
from steward.datasets.verdicts import next_kind


class SampleItemShape(serializers.ModelSerializer[SampleItem]):
    ordinal = serializers.IntegerField(source="redacted.ordinal", help_text="Place of the record in its version.")
    missed_types = serializers.DictField(child=serializers.IntegerField(), help_text="Missed identifiers by type.")

    class Meta:
        model = SampleItem
        fields = [
            "id",
            "run",
            "place",
            "ordinal",
            "is_read_twice",
            "verdict",
            "missed_count",
            "missed_types",
            "reviewer",
            "reviewed_at",
        ]

    def to_representation(self, item: SampleItem) -> dict[str, Any]:
        shown: dict[str, Any] = super().to_representation(item)
        if item.verdict and next_kind(item) is not None and item.reviewer_id != self.context.get("user_id"):
            hidden = {"verdict": "", "missed_count": 0, "missed_types": {}, "reviewer": None, "reviewed_at": None}
            return {**shown, **hidden}
        return shown


class SampleItemDetailShape(SampleItemShape):
    payload = serializers.SerializerMethodField(help_text="The redacted record: `fields`, or `messages` and `tools`.")
    texts = serializers.SerializerMethodField(help_text="The texts of the record in order, each with its `name`.")
    findings = serializers.SerializerMethodField(help_text="What was found and done, for each of the texts.")

    class Meta(SampleItemShape.Meta):
        fields = [*SampleItemShape.Meta.fields, "payload", "texts", "findings"]

    def get_payload(self, item: SampleItem) -> dict[str, Any]:
        return dict(self.context["opened"].payload)

    def get_texts(self, item: SampleItem) -> list[dict[str, str]]:
        return [{"name": each.name, "text": each.value} for each in texts(self.context["opened"].payload)]

    def get_findings(self, item: SampleItem) -> list[list[dict[str, Any]]]:
        return list(self.context["opened"].findings)


class Draw(serializers.Serializer[Any]):
    size = serializers.IntegerField(
        min_value=1,
        max_value=100_000,
        required=False,
        allow_null=True,
        default=None,
        help_text="By default what is missing.",
    )


class Drawn(serializers.Serializer[Any]):
    added = serializers.IntegerField()
    residual_risk = RiskShape()


class SpanForm(serializers.Serializer[Any]):
    fault = serializers.ChoiceField(choices=SpanFault.choices)
    slot = serializers.IntegerField(min_value=0, max_value=10_000, help_text="Which text of the record, from 0.")
    start = serializers.IntegerField(min_value=0, help_text="Code point in the redacted text.")
    end = serializers.IntegerField(min_value=1)
    type = serializers.ChoiceField(choices=[(name, name) for name in sorted(ENTITY_TYPES)])


def checked_types(value: dict[str, int]) -> dict[str, int]:
    """The counts, if all types are known."""
    if unknown := sorted(set(value) - ENTITY_TYPES):
        raise serializers.ValidationError(f"No such entity type: {unknown[0][:30]}.", code="type_unknown")
    return value


class VerdictForm(serializers.Serializer[Any]):
    verdict = serializers.ChoiceField(choices=Verdict.choices)
    missed_count = serializers.IntegerField(
        min_value=0,
        max_value=32_767,
        required=False,
        default=0,
        help_text="Missed identifiers of no type in particular.",
    )
    missed_types = serializers.DictField(
        child=serializers.IntegerField(min_value=1, max_value=32_767),
        required=False,
        default=dict,
        help_text="Missed identifiers by entity type.",
    )
    spans = SpanForm(many=True, required=False, default=list, help_text="Marked spans; missed ones are counted too.")

    def validate_missed_types(self, value: dict[str, int]) -> dict[str, int]:
        return checked_types(value)


class Adjudication(serializers.Serializer[Any]):
    verdict = serializers.ChoiceField(choices=Verdict.choices)
    missed_types = serializers.DictField(
        child=serializers.IntegerField(min_value=1, max_value=32_767),
        required=False,
        default=dict,
        help_text="By default those of the reader who found a miss.",
    )

    def validate_missed_types(self, value: dict[str, int]) -> dict[str, int]:
        return checked_types(value)


class VersionSample(Door):
    @extend_schema(
        responses=page_of(SampleItemShape, "SampleItem"),
        parameters=PAGE_PARAMETERS,
        operation_id="list_sample",
        tags=["sample review"],
    )
    def get(self, request: Request, version_id: UUID) -> Response:
        """The records drawn from the version's redaction, in order of review; without their text."""
        version = self.find(_VERSIONS, pk=version_id)
        self.look(Permission.VIEW_REDACTED, version.workspace)
        rows = SampleItem.objects.filter(run=version.redaction_id).select_related("redacted")
        return page(request, rows, SampleItemShape, ("place", "id"), user_id=self.actor.user_id)

    @extend_schema(
        request=Draw, responses={201: Drawn}, parameters=[KEY], operation_id="draw_sample", tags=["sample review"]
    )
    @idempotent
    def post(self, request: Request, version_id: UUID) -> Response:
        """Draws records at random for review."""
        run = self._run(version_id)
        added = actions.draw_sample(actor=self.actor, run=run, **self.checked(Draw))
        return Response({"added": added, "residual_risk": RiskShape(residual_risk(run)).data}, status=201)

    def _run(self, version_id: UUID) -> RedactionRun:
        version = self.find(_VERSIONS, pk=version_id)
        if version.redaction is None:
            raise Refused(f"{version} is not redacted yet; a sample is drawn after that.", code="wrong_state")
        return version.redaction


_VERSIONS = DatasetVersion.objects.select_related("workspace", "dataset__workspace", "redaction__workspace")
_ITEMS = SampleItem.objects.select_related("workspace", "redacted", "run__version__dataset__key")


class SampleItemDetail(Door):
    @extend_schema(responses=SampleItemDetailShape, operation_id="get_sample_item", tags=["sample review"])
    def get(self, request: Request, item_id: UUID) -> Response:
        """One drawn record with its redacted text."""
        item = self.find(_ITEMS, pk=item_id)
        self.look(Permission.VIEW_REDACTED, item.workspace)
        shown_to(self.actor, item.run, item.redacted.ordinal)
        found = list(RecordReader(item.run.version).redacted(item.run, ordinals=[item.redacted.ordinal]))
        if not found:
            raise Refused("The person of this record was erased; it cannot be read again.", code="shredded")
        return Response(SampleItemDetailShape(item, context={"opened": found[0], "user_id": self.actor.user_id}).data)


class SampleItemVerdict(Door):
    @extend_schema(
        request=VerdictForm,
        responses=SampleItemShape,
        parameters=[KEY],
        operation_id="give_verdict",
        tags=["sample review"],
    )
    @idempotent
    def post(self, request: Request, item_id: UUID) -> Response:
        """Gives the verdict on a drawn record: the first reading, or the blind second one."""
        item = self.find(_ITEMS, pk=item_id)
        asked = self.checked(VerdictForm)
        reviewed = actions.review_item(
            actor=self.actor,
            item=item,
            verdict=Verdict(asked["verdict"]),
            missed_count=asked["missed_count"],
            missed_types=asked["missed_types"],
            spans=parse_spans([dict(span) for span in asked["spans"]]),
        )
        return Response(SampleItemShape(reviewed, context={"user_id": self.actor.user_id}).data)


class SampleItemWithdrawal(Door):
    @extend_schema(
        request=None,
        responses=SampleItemShape,
        parameters=[KEY],
        operation_id="withdraw_verdict",
        tags=["sample review"],
    )
    @idempotent
    def post(self, request: Request, item_id: UUID) -> Response:
        """Takes one's own last verdict back, within ten minutes. The reading stays on record as withdrawn."""
        item = review_actions.withdraw_reading(actor=self.actor, item=self.find(_ITEMS, pk=item_id))
        return Response(SampleItemShape(item, context={"user_id": self.actor.user_id}).data)


class SampleItemAdjudication(Door):
    @extend_schema(
        request=Adjudication,
        responses=SampleItemShape,
        parameters=[KEY],
        operation_id="adjudicate_sample_item",
        tags=["sample review"],
    )
    @idempotent
    def post(self, request: Request, item_id: UUID) -> Response:
        """Decides between two readers who differ over a miss; by a third person."""
        item = self.find(_ITEMS, pk=item_id)
        asked = self.checked(Adjudication)
        settled = review_actions.adjudicate_item(
            actor=self.actor, item=item, verdict=Verdict(asked["verdict"]), missed_types=asked["missed_types"]
        )
        return Response(SampleItemShape(settled, context={"user_id": self.actor.user_id}).data)
