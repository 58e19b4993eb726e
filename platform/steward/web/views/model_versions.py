"""Model versions: base against tuned, gates, samples, release and its evidence."""

import uuid
from dataclasses import replace
from typing import Any

from django.contrib import messages
from django.http import FileResponse, HttpResponse, HttpResponseBase
from django.shortcuts import redirect, render
from django.views.decorators.http import require_POST, require_safe

from compliance.vault import VaultError
from domains.metrics import METRICS
from domains.packs import load_pack
from steward.accounts.roles import Permission
from steward.assurance.actions import request_evaluation
from steward.assurance.compressing import keepable_rows, most_loss_percent, too_lossy
from steward.assurance.compression_actions import WAYS
from steward.assurance.models import Compression, Evaluation, EvaluationState, GateResult
from steward.assurance.reading import Prediction, samples
from steward.datasets.labelled_spans import in_words
from steward.datasets.reading import RecordReader
from steward.releases import actions as releases
from steward.releases.evidence.model_card import base_is
from steward.releases.models import (
    Audience,
    EvidenceBundle,
    Export,
    ExportForm,
    ExportState,
    Release,
    ReleaseState,
    forms_of,
)
from steward.releases.rules_today import gates_refusing_today, refusal_today
from steward.runs.methods import Output
from steward.runs.models import ModelVersion
from steward.runs.shards import exchange_of, workflow_for
from steward.web.compressions import CompressionChart
from steward.web.intervals import IntervalChart
from steward.web.pages import WorkspaceRequest, demand, in_workspace, row_or_404

PAGE_ROWS = 50
SAMPLES = 5
MODELS = ModelVersion.objects.select_related(
    "workspace",
    "adapter",
    "fine_tune__dataset_version__dataset__key",
    "fine_tune__dataset_version__redaction",
    "fine_tune__base_model",
    "fine_tune__requested_by",
)


@require_safe
@in_workspace
def model_version_list(request: WorkspaceRequest) -> HttpResponse:
    """The newest models with how they compare and whether they are released."""
    models = list(MODELS.filter(workspace=request.workspace).order_by("-created_at")[:PAGE_ROWS])
    evaluations: dict[object, Evaluation] = {}
    for row in Evaluation.objects.filter(model_version__in=models).defer("scores").order_by("created_at"):
        evaluations[row.model_version_id] = row
    gates: dict[object, list[bool]] = {}
    for gate in GateResult.objects.filter(evaluation__in=evaluations.values()):
        gates.setdefault(gate.model_version_id, []).append(gate.has_passed)
    released = {
        row.model_version_id: row for row in Release.objects.filter(model_version__in=models).order_by("requested_at")
    }
    rows = [
        (
            model,
            evaluations.get(model.pk),
            sum(gates.get(model.pk, [])),
            len(gates.get(model.pk, [])),
            released.get(model.pk),
        )
        for model in models
    ]
    return render(request, "web/model_version_list.html", {"rows": rows})


@require_safe
@in_workspace
def model_version(request: WorkspaceRequest, pk: uuid.UUID) -> HttpResponse:
    """One model: what tuning gained, what the gates say, and where its release stands."""
    found = row_or_404(request, MODELS, pk)
    evaluation = Evaluation.objects.filter(model_version=found).defer("scores").order_by("-created_at").first()
    gates = list(GateResult.objects.filter(evaluation=evaluation)) if evaluation else []
    has_passed = bool(gates) and all(gate.has_passed for gate in gates)
    asked = list(Release.objects.filter(model_version=found).select_related("requested_by", "decided_by"))
    bundles = {row.release_id: row for row in EvidenceBundle.objects.filter(release__in=asked)}
    is_done = evaluation is not None and evaluation.state == EvaluationState.DONE
    involved = {found.fine_tune.requested_by_id, found.fine_tune.dataset_version.imported_by_id}
    context: dict[str, Any] = {
        "model_version": found,
        "evaluation": evaluation,
        "is_done": is_done,
        "metric": METRICS.get(evaluation.metric) if evaluation else None,
        "chart": IntervalChart.of_scores(evaluation) if evaluation and is_done else None,
        "gain_chart": IntervalChart.of_gain(evaluation) if evaluation and is_done else None,
        "base_is": base_is(evaluation) if evaluation else "",
        "gates": gates,
        "has_passed": has_passed,
        "refusing": gates_refusing_today(found, gates) if has_passed else [],
        "releases": [
            (each, bundles.get(each.pk), request.actor.user_id in involved | {each.requested_by_id}) for each in asked
        ],
        "has_open_release": any(each.state == ReleaseState.REQUESTED for each in asked),
        "audiences": Audience.choices,
        "is_live": _is_live(evaluation, gates),
        "system_message": load_pack(request.workspace.domain).workflow(found.fine_tune.workflow).mapping.system,
    }
    context |= _conversions(found)
    return render(request, "web/model_version.html", context)


def _conversions(found: ModelVersion) -> dict[str, Any]:
    """The newest comparison of compressed models, and the exports of each release."""
    compression = Compression.objects.filter(model_version=found).order_by("-created_at").first()
    rows = Export.objects.filter(release__model_version=found).select_related("release__model_version__fine_tune")
    exports = [(each, refusal_today(each) if each.state == ExportState.READY else "") for each in rows]
    standing = [
        (each.release_id, form_value(each))
        for each, refusal in exports
        if each.state in (ExportState.RUNNING, ExportState.READY) and not refusal
    ]
    return {
        "compression": compression,
        "compression_chart": CompressionChart.of(compression.rows) if compression else None,
        "compression_rows": _with_reasons(found, compression.rows) if compression else [],
        "ways": WAYS,
        "exports": exports,
        "is_exporting": any(each.state == ExportState.RUNNING for each, _ in exports),
        "open_forms": {
            release.pk: [(value, label) for value, label in _forms(found) if (release.pk, value) not in standing]
            for release in Release.objects.filter(model_version=found, state=ReleaseState.APPROVED)
        },
    }


def _forms(found: ModelVersion) -> list[tuple[str, str]]:
    """What an export may be asked for as; of compressed forms those of the comparison, with their score."""
    plain = [(form.value, form.label) for form in forms_of(found.fine_tune) if form is not ExportForm.COMPRESSED]
    return plain + [
        (f"{ExportForm.COMPRESSED} {row['way']}", f"Compressed: {row['way']}{_scored(row)}")
        for row, reason in keepable_rows(found)
        if not reason
    ]


def _with_reasons(found: ModelVersion, rows: list[dict[str, Any]]) -> list[tuple[dict[str, Any], str]]:
    """Figures of a comparison, each with why its way would not leave the house, or ''."""
    most = most_loss_percent(found.workspace_id)
    return [(row, too_lossy(rows[0], row, most)) for row in rows]


def _scored(row: dict[str, Any]) -> str:
    return f" (score {row['score']:.2f})" if row.get("score") is not None else ""


def form_value(export: Export) -> str:
    """Form and way as the page's choice has them in one."""
    return f"{export.form} {export.way}".strip()


def _is_live(evaluation: Evaluation | None, gates: list[GateResult]) -> bool:
    """Whether the figures on the page are about to change by themselves."""
    return evaluation is not None and evaluation.state != EvaluationState.FAILED and not gates


@require_safe
@in_workspace
def model_samples(request: WorkspaceRequest, pk: uuid.UUID) -> HttpResponse:
    """The held-out records where tuning gained most, and where the tuned model did worst. A part of the model page."""
    demand(request, Permission.VIEW_REDACTED)
    found = row_or_404(request, MODELS, pk)
    done = Evaluation.objects.filter(model_version=found, state=EvaluationState.DONE)
    evaluation = done.select_related("predictions__key").order_by("-created_at").first()
    context: dict[str, Any] = {}
    try:
        if evaluation is not None and evaluation.predictions is not None:
            best, worst = samples(evaluation, SAMPLES)
            prompts = _prompts(found, {row.record_id for row in [*best, *worst]})
            context["best"] = [_sample(found, row, prompts.get(row.record_id)) for row in best]
            context["worst"] = [_sample(found, row, prompts.get(row.record_id)) for row in worst]
            context["version"] = found.fine_tune.dataset_version
    except (VaultError, OSError) as error:
        context["problem"] = f"The predictions cannot be opened ({type(error).__name__}). Ask for the evaluation again."
    return render(request, "web/part_samples.html", context)


def _sample(model: ModelVersion, row: Prediction, prompt: str | None) -> tuple[Prediction, str | None]:
    """A prediction as it is shown beside what was asked: of spans their words instead of their places."""
    if prompt is None or model.fine_tune.method.output is not Output.SPANS:
        return row, prompt
    words = {name: in_words(getattr(row, name), prompt) for name in ("reference", "base", "tuned")}
    return replace(row, **words), prompt


def _prompts(model: ModelVersion, record_ids: set[str]) -> dict[str, str]:
    """What the models were asked, by record id (its ordinal in the version), without shredded and withheld ones."""
    version = model.fine_tune.dataset_version
    ordinals = [int(record_id) for record_id in record_ids if record_id.isdecimal()]
    if version.redaction is None or not ordinals:
        return {}
    workflow = workflow_for(model.workspace.domain, model.fine_tune.workflow)
    prompts = {}
    for record in RecordReader(version).redacted(version.redaction, ordinals=ordinals, is_for_training=True):
        prompts[str(record.ordinal)], _ = exchange_of(record.payload, workflow)
    return prompts


@require_POST
@in_workspace
def evaluate(request: WorkspaceRequest, pk: uuid.UUID) -> HttpResponse:
    """Asks for another evaluation."""
    request_evaluation(actor=request.actor, model_version=row_or_404(request, MODELS, pk))
    return redirect("web:model_version", request.workspace.slug, pk)


@require_POST
@in_workspace
def ask_for_release(request: WorkspaceRequest, pk: uuid.UUID) -> HttpResponse:
    """Asks for a release; another person decides."""
    found = row_or_404(request, MODELS, pk)
    audience = request.POST.get("audience", "")
    chosen = Audience(audience) if audience in Audience.values else Audience.INTERNAL
    releases.request_release(
        actor=request.actor, model_version=found, audience=chosen, purpose=request.POST.get("purpose", "")
    )
    messages.success(request, "The release is asked for. A compliance officer decides.", extra_tags="good")
    return redirect("web:model_version", request.workspace.slug, pk)


@require_POST
@in_workspace
def decide_release(request: WorkspaceRequest, pk: uuid.UUID) -> HttpResponse:
    """An officer's yes or no to a release."""
    found = row_or_404(request, Release.objects.select_related("workspace"), pk)
    reason = request.POST.get("reason", "")
    if request.POST.get("decision") == "approve":
        releases.approve_release(actor=request.actor, release=found, reason=reason)
        messages.success(request, "Released. The evidence bundle is being built.", extra_tags="good")
    else:
        releases.refuse_release(actor=request.actor, release=found, reason=reason)
        messages.warning(request, "The release is refused.", extra_tags="warn")
    return redirect("web:model_version", request.workspace.slug, found.model_version_id)


@require_POST
@in_workspace
def download_evidence(request: WorkspaceRequest, pk: uuid.UUID) -> HttpResponseBase:
    """The evidence bundle of a release, as a file. A POST, since handing it out is an entry in the ledger."""
    found = row_or_404(request, Release.objects.select_related("workspace"), pk)
    path = releases.export_evidence(actor=request.actor, release=found)
    return FileResponse(
        path.open("rb"), as_attachment=True, filename=f"evidence-{found.pk}.tar", content_type="application/x-tar"
    )
