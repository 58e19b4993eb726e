"""What a run answered to some held-out prompts at each of its evaluations."""

from typing import Any
from uuid import UUID

from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from compliance.vault import VaultError
from steward.api.door import Door
from steward.audit.actor import Refused
from steward.runs.models import FineTune
from steward.runs.output_actions import show_sample_answers

_RUNS = FineTune.objects.select_related(
    "workspace", "output_key", "dataset_version__dataset__key", "dataset_version__redaction"
)


class StepShape(serializers.Serializer[Any]):
    step = serializers.IntegerField(help_text="0: before the first step.")
    metric = serializers.CharField(allow_blank=True)
    score = serializers.FloatField(allow_null=True, help_text="Mean over the prompts.")


class AnswerShape(serializers.Serializer[Any]):
    step = serializers.IntegerField()
    text = serializers.CharField(allow_blank=True)
    score = serializers.FloatField(allow_null=True, help_text="0 to 1.")
    is_cut = serializers.BooleanField(help_text="Whether it had not ended when its room had.")


class AskedShape(serializers.Serializer[Any]):
    record = serializers.CharField(source="record_id", help_text="The record's ordinal in the dataset version.")
    prompt = serializers.CharField(help_text="Redacted, as it may be read now.")
    reference = serializers.CharField(help_text="What is expected.")
    answers = AnswerShape(many=True)


class SampleAnswersShape(serializers.Serializer[Any]):
    steps = StepShape(many=True)
    data = AskedShape(many=True, source="asked")
    hidden = serializers.IntegerField(help_text="Prompts that may not be read any more.")


class FineTuneSampleAnswers(Door):
    @extend_schema(responses=SampleAnswersShape, operation_id="get_sample_answers", tags=["fine-tunes"])
    def get(self, request: Request, fine_tune_id: UUID) -> Response:
        """The answers to some held-out prompts by step, while it runs too. That they were fetched is recorded."""
        fine_tune = self.find(_RUNS, pk=fine_tune_id)
        try:
            found = show_sample_answers(actor=self.actor, fine_tune=fine_tune)
        except (VaultError, OSError) as error:
            raise Refused(f"The answers cannot be opened ({type(error).__name__}).", code="unreadable") from None
        return Response(SampleAnswersShape(found).data)
