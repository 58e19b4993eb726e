"""Erasing a person from a dataset: for compliance officers, with a ground, announced in the ledger before.

No idempotency key is taken: it would keep a digest of the person's name, which could be tried against a list of names.
A repeated request finds nobody and changes nothing.
"""

from typing import Any
from uuid import UUID

from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from steward.api.door import Door
from steward.datasets.erasure_actions import ERASURE_GROUNDS
from steward.datasets.models import Dataset
from steward.runs.erasure import erase_subject

_DATASETS = Dataset.objects.select_related("workspace", "key")


class ErasureForm(serializers.Serializer[Any]):
    subject = serializers.CharField(
        max_length=1000, trim_whitespace=False, help_text="The value of the subject column, letter by letter."
    )
    ground = serializers.ChoiceField(choices=list(ERASURE_GROUNDS), help_text="GDPR article 17(1)(a) to (e).")


class ErasureShape(serializers.Serializer[Any]):
    records = serializers.IntegerField(help_text="That nobody can read any more, in all versions.")
    models = serializers.ListField(
        child=serializers.UUIDField(), help_text="Model versions that were trained or chosen with some of them."
    )
    running = serializers.ListField(
        child=serializers.UUIDField(), help_text="Fine-tunes not over, whose sealed shards hold some until they end."
    )


class DatasetErasures(Door):
    @extend_schema(request=ErasureForm, responses=ErasureShape, operation_id="erase_subject", tags=["datasets"])
    def post(self, request: Request, dataset_id: UUID) -> Response:
        """Destroys a person's key, and with it their records in every version of the dataset. Cannot be undone."""
        dataset = self.find(_DATASETS, pk=dataset_id)
        erased = erase_subject(actor=self.actor, dataset=dataset, **self.checked(ErasureForm))
        return Response(
            {
                "records": erased.records,
                "models": [each.pk for each in erased.models],
                "running": [each.pk for each in erased.running],
            }
        )
