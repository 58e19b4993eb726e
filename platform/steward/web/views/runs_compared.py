"""Several fine-tunes side by side: chosen from a list, shown with curves, settings, scores and differences."""

import uuid
from typing import Any

from django.http import Http404, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_safe

from domains.metrics import METRICS
from steward.assurance.comparing import Comparison, compare
from steward.audit.actor import Refused
from steward.runs.models import FineTune
from steward.web.intervals import IntervalChart
from steward.web.pages import WorkspaceRequest, in_workspace

PAGE_ROWS = 50
_RUNS = FineTune.objects.select_related("dataset_version__dataset", "base_model")


@require_safe
@in_workspace
def runs_compared(request: WorkspaceRequest) -> HttpResponse:
    """The runs named by `run` in the address, or the list to choose from."""
    chosen = [_id(text) for text in request.GET.getlist("run")]
    found = {row.pk: row for row in _RUNS.filter(workspace=request.workspace, pk__in=chosen)}
    if len(found) != len(set(chosen)):
        raise Http404
    context: dict[str, Any] = {
        "rows": list(_RUNS.filter(workspace=request.workspace).order_by("-created_at")[:PAGE_ROWS]),
        "chosen": chosen,
    }
    error = None
    if len(chosen) > 1:
        try:
            comparison = compare([found[pk] for pk in chosen])
            context |= {"comparison": comparison, **_figures(comparison)}
        except Refused as refused:
            error = context["error"] = refused
    return render(request, "web/runs_compared.html", context, status=error.status if error else 200)


def _figures(comparison: Comparison) -> dict[str, Any]:
    """The metric, where all judged runs share one, and their scores as a chart."""
    judged = [each for each in comparison.contenders if each.evaluation is not None and each.score is not None]
    metrics = {each.evaluation.metric for each in judged if each.evaluation is not None}
    if len(metrics) != 1:
        return {}
    rows = [
        (each.letter, each.tone, each.score.estimate, each.score.low, each.score.high)
        for each in judged
        if each.score is not None
    ]
    methods = sorted({each.score.method for each in judged if each.score is not None})
    return {
        "metric": METRICS.get(metrics.pop()),
        "interval_methods": " and ".join(methods),
        "chart": IntervalChart.of_runs(rows),
    }


def _id(text: str) -> uuid.UUID:
    try:
        return uuid.UUID(text)
    except ValueError:
        raise Http404 from None
