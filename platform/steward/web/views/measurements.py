"""What a fine-tune measured: in pieces for the live curves, and as a file to take away."""

import uuid

from django.http import Http404, HttpResponse, HttpResponseBase, JsonResponse
from django.views.decorators.http import require_safe

from steward.runs.curves import curves_of
from steward.runs.downloads import FORMS, measurements_file
from steward.runs.models import FineTune
from steward.web.pages import WorkspaceRequest, in_workspace, row_or_404, whole_number


@require_safe
@in_workspace
def measurements(request: WorkspaceRequest, pk: uuid.UUID) -> HttpResponse:
    """The curves, or what came to them behind `after`, with the run's state: what the page asks again and again.

    A point that was measured again after a resume comes again; it replaces the earlier one of its step.
    """
    found = row_or_404(request, FineTune.objects.all(), pk)
    after = whole_number(request, "after", 0, 2**62) if "after" in request.GET else None
    answer = {
        "state": found.state,
        "is_over": found.is_over,
        # Read before the curves: what is written in between comes once more with the next question.
        "after": found.event_offset,
        "curves": curves_of(found, after),
    }
    return JsonResponse(answer)


@require_safe
@in_workspace
def download(request: WorkspaceRequest, pk: uuid.UUID, form: str) -> HttpResponseBase:
    """All measurements as CSV, as JSON or for TensorBoard."""
    if form not in FORMS:
        raise Http404
    return measurements_file(row_or_404(request, FineTune.objects.all(), pk), form)
