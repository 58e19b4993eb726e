"""`GET /v1/models`: the model versions that the caller's token may use.

Guarantees that a model of another workspace is answered exactly as one that does not exist.
"""

from typing import Any

from django.http import HttpRequest, JsonResponse

from steward.openai_api.door import Caller, door
from steward.openai_api.errors import RequestError
from steward.releases.offering import is_uuid, offered_to
from steward.runs.models import ModelVersion


@door("GET")
def model_list(request: HttpRequest, caller: Caller) -> JsonResponse:
    """All of them, newest first."""
    return JsonResponse({"object": "list", "data": [_shape(each) for each in offered_to(caller.actor)]})


@door("GET")
def model_detail(request: HttpRequest, caller: Caller, model: str) -> JsonResponse:
    """One of them."""
    return JsonResponse(_shape(find_model(caller, model)))


def find_model(caller: Caller, model: str) -> ModelVersion:
    """The model version of an id. Raises RequestError (404) where there is none for this caller."""
    found = offered_to(caller.actor).filter(pk=model).first() if is_uuid(model) else None
    if found is None:
        raise RequestError(
            "The model does not exist, is not released, or is not yours to use. /v1/models lists those that are.",
            code="model_not_found",
            status=404,
            param="model",
        )
    return found


def _shape(model_version: ModelVersion) -> dict[str, Any]:
    """OpenAI's four fields, and beside them what a person calls the model."""
    return {
        "id": str(model_version.pk),
        "object": "model",
        "created": int(model_version.created_at.timestamp()),
        "owned_by": model_version.workspace.slug,
        "name": model_version.fine_tune.name,
        "base_model": model_version.fine_tune.base_model.name,
        "digest": model_version.adapter_digest,
    }
