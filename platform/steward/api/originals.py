"""Single originals that a reversible profile sealed: for compliance officers, one at a time, with a reason.

The look is in the ledger before and after. No idempotency key is taken: an answer that is remembered would be an
original in the clear in the database.
"""

from typing import Any
from uuid import UUID

from django.http import Http404
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from steward.api.door import Door
from steward.datasets.actions import REVEAL_REASONS
from steward.datasets.models import DatasetVersion, RedactedRecord
from steward.datasets.originals import hand_out_original

_VERSIONS = DatasetVersion.objects.select_related("workspace")
_ROWS = RedactedRecord.objects.select_related("run__version__workspace", "run__workspace", "record__subject")


class OriginalForm(serializers.Serializer[Any]):
    slot = serializers.IntegerField(min_value=0, max_value=10_000, help_text="Which text of the record, from 0.")
    finding = serializers.IntegerField(min_value=0, max_value=100_000, help_text="Which finding of it, from 0.")
    reason = serializers.ChoiceField(choices=REVEAL_REASONS)


class OriginalShape(serializers.Serializer[Any]):
    original = serializers.CharField(help_text="The text that the finding replaced.")


class RecordOriginal(Door):
    @extend_schema(request=OriginalForm, responses=OriginalShape, operation_id="reveal_original", tags=["versions"])
    def post(self, request: Request, version_id: UUID, ordinal: int) -> Response:
        """Opens the sealed original of one finding of the version's redaction."""
        version = self.find(_VERSIONS, pk=version_id)
        asked = self.checked(OriginalForm)
        row = _ROWS.filter(run=version.redaction_id, ordinal=ordinal).first()
        if row is None:
            raise Http404
        original = hand_out_original(
            actor=self.actor, redacted=row, slot=asked["slot"], number=asked["finding"], reason=asked["reason"]
        )
        return Response({"original": original})
