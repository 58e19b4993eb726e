"""The way of the data as a board: where each version and each model stands, and whom it waits for.

Guarantees that each version and model version stands in one stage only, and that the number of queries does not grow
with the data. Looks at the newest `LOOK_BACK` of each kind; older ones are found on their own pages.

Example:
    board = build_board(workspace, actor, permissions)
    board.stages[0].tickets
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

from django.db.models import Count
from django.urls import reverse

from steward.accounts.models import Workspace
from steward.accounts.roles import Permission
from steward.assurance.models import Evaluation, EvaluationState, GateResult
from steward.audit.actor import Actor
from steward.datasets.models import (
    DatasetVersion,
    RedactionRun,
    RedactionState,
    SampleItem,
    VersionState,
)
from steward.datasets.residual import residual_risk
from steward.releases.models import EvidenceBundle, Release, ReleaseState
from steward.runs.models import FineTune, ModelVersion, RunState

LOOK_BACK = 40
SHOWN = 4
STAGES = (
    ("import", "Import"),
    ("redact", "Redact"),
    ("review", "Review"),
    ("approve", "Approve"),
    ("fine_tune", "Fine-tune"),
    ("evaluate", "Evaluate"),
    ("gate", "Gates"),
    ("release", "Release"),
    ("evidence", "Evidence"),
)


@dataclass(frozen=True, slots=True)
class Ticket:
    """One thing on the board. `waits_for` is a permission somebody must use next, None if nobody has to."""

    title: str
    text: str
    url: str
    tone: str = ""
    waits_for: Permission | None = None
    is_live: bool = False
    done: int = 0
    total: int = 0
    not_for: int | None = None  # this person may not do it, whatever their roles


@dataclass(slots=True)
class Stage:
    """One column: its newest tickets, how many there are, and how many wait for the person who looks."""

    name: str
    title: str
    tickets: list[Ticket] = field(default_factory=list)
    yours: int = 0

    @property
    def shown(self) -> list[Ticket]:
        return self.tickets[:SHOWN]

    @property
    def more(self) -> int:
        return max(0, len(self.tickets) - SHOWN)

    @property
    def waiting(self) -> int:
        return sum(ticket.waits_for is not None for ticket in self.tickets)

    @property
    def failed(self) -> int:
        return sum(ticket.tone == "bad" for ticket in self.tickets)


@dataclass(frozen=True, slots=True)
class Board:
    """All stages, in the order of the way."""

    stages: list[Stage]

    @property
    def is_live(self) -> bool:
        return any(ticket.is_live for stage in self.stages for ticket in stage.tickets)

    @property
    def is_empty(self) -> bool:
        return not any(stage.tickets for stage in self.stages)


def build_board(workspace: Workspace, actor: Actor, permissions: frozenset[Permission]) -> Board:
    """The board of one workspace as this person sees it."""
    stages = {name: Stage(name, title) for name, title in STAGES}
    for source in (_version_tickets, _fine_tune_tickets, _model_tickets):
        for name, ticket in source(workspace):
            stages[name].tickets.append(ticket)
            is_yours = ticket.waits_for in permissions and ticket.not_for != actor.user_id
            stages[name].yours += is_yours
    return Board(list(stages.values()))


def _version_tickets(workspace: Workspace) -> Iterator[tuple[str, Ticket]]:
    rows = DatasetVersion.objects.filter(workspace=workspace).exclude(state=VersionState.REJECTED)
    rows = rows.annotate(fine_tune_count=Count("fine_tunes")).select_related("dataset", "redaction__workspace")
    versions = [row for row in rows.order_by("-created_at")[:LOOK_BACK] if not row.fine_tune_count]
    running = {
        run.version_id: run
        for run in RedactionRun.objects.filter(version__in=versions, state=RedactionState.RUNNING).defer(
            "counts_by_type"
        )
    }
    reviews = _reviews([version.redaction_id for version in versions if version.redaction_id])
    for version in versions:
        yield _version_ticket(version, running.get(version.pk), reviews.get(version.redaction_id), workspace)


def _reviews(run_ids: list[object]) -> dict[object, int]:
    """How many records of each redaction run were reviewed."""
    rows = SampleItem.objects.filter(run__in=run_ids).exclude(verdict="").order_by().values("run_id")
    return {row["run_id"]: row["reviewed"] for row in rows.annotate(reviewed=Count("pk"))}


def _version_ticket(
    version: DatasetVersion, run: RedactionRun | None, review: int | None, workspace: Workspace
) -> tuple[str, Ticket]:
    url = reverse("web:version", args=[workspace.slug, version.pk])
    title, importer = str(version), version.imported_by_id
    records = f"{version.record_count:,} records"
    match version.state:
        case VersionState.IMPORTING:
            return "import", Ticket(title, "reading the file", url, "info", is_live=True)
        case VersionState.FAILED:
            text = f"{version.problem_count:,} problems in the file"
            return "import", Ticket(title, text, url, "bad", Permission.IMPORT_DATA)
        case VersionState.APPROVED:
            return "fine_tune", Ticket(title, f"{records}, ready to train on", url, "good", Permission.START_FINE_TUNE)
    if run is not None:
        text = f"{run.done_count:,} of {version.record_count:,}"
        return "redact", Ticket(title, text, url, "info", is_live=True, done=run.done_count, total=version.record_count)
    if version.state == VersionState.IMPORTED:
        return "redact", Ticket(title, f"{records} to redact", url, "warn", Permission.REDACT_DATA)
    reviewed = review or 0
    needed = min(workspace.policy["sample_size_min"], version.record_count)
    if reviewed < needed:
        text = f"{reviewed} of {needed} reviewed"
        return "review", Ticket(title, text, url, "warn", Permission.REVIEW_SAMPLE, done=reviewed, total=needed)
    risk = residual_risk(version.redaction)
    bound = risk.bound_per_1000
    if not risk.is_enough:
        text = f"bound {bound:.0f} in 1,000 is over the policy"
        if bound <= risk.allowed_per_1000:
            text = f"{risk.second.given} of {risk.second.wanted} second readings"
        return "review", Ticket(title, text, url, "bad", Permission.REVIEW_SAMPLE)
    return "approve", Ticket(
        title, f"at most {bound:.0f} in 1,000 missed", url, "warn", Permission.APPROVE_DATASET, not_for=importer
    )


def _fine_tune_tickets(workspace: Workspace) -> Iterator[tuple[str, Ticket]]:
    hidden = [RunState.SUCCEEDED, RunState.CANCELLED]
    rows = FineTune.objects.filter(workspace=workspace).exclude(state__in=hidden).order_by("-created_at")
    for row in rows[:LOOK_BACK]:
        url = reverse("web:fine_tune", args=[workspace.slug, row.pk])
        match row.state:
            case RunState.AWAITING_APPROVAL:
                ticket = Ticket(
                    row.name,
                    "held for an officer",
                    url,
                    "warn",
                    Permission.APPROVE_DATASET,
                    not_for=row.requested_by_id,
                )
            case RunState.FAILED:
                ticket = Ticket(row.name, "failed", url, "bad")
            case RunState.QUEUED:
                ticket = Ticket(row.name, "queued", url, "info", is_live=True)
            case RunState.PAUSED:
                how, tone = ("put aside", "bad") if row.failure else ("paused", "warn")
                text = f"{how} at step {row.step:,} of {row.steps:,}" if row.steps else how
                ticket = Ticket(row.name, text, url, tone, Permission.START_FINE_TUNE, done=row.step, total=row.steps)
            case _:
                text = f"step {row.step:,} of {row.steps:,}" if row.steps else "starting"
                ticket = Ticket(row.name, text, url, "info", is_live=True, done=row.step, total=row.steps)
        yield "fine_tune", ticket


def _model_tickets(workspace: Workspace) -> Iterator[tuple[str, Ticket]]:
    rows = ModelVersion.objects.filter(workspace=workspace).select_related("fine_tune").order_by("-created_at")
    models = list(rows[:LOOK_BACK])
    pks = [model.pk for model in models]
    evaluations: dict[object, Evaluation] = {}
    for evaluation in Evaluation.objects.filter(model_version__in=pks).defer("scores").order_by("created_at"):
        evaluations[evaluation.model_version_id] = evaluation
    gates: dict[object, list[GateResult]] = {}
    for gate in GateResult.objects.filter(model_version__in=pks):
        gates.setdefault(gate.evaluation_id, []).append(gate)
    releases = {
        row.model_version_id: row for row in Release.objects.filter(model_version__in=pks).order_by("requested_at")
    }
    bundles = set(EvidenceBundle.objects.filter(release__in=releases.values()).values_list("release_id", flat=True))
    for model in models:
        found = evaluations.get(model.pk)
        yield _model_ticket(model, found, gates.get(found.pk, []) if found else [], releases.get(model.pk), bundles)


def _model_ticket(
    model: ModelVersion,
    evaluation: Evaluation | None,
    gates: list[GateResult],
    release: Release | None,
    bundles: set[object],
) -> tuple[str, Ticket]:
    url = reverse("web:model_version", args=[model.workspace.slug, model.pk])
    title = model.fine_tune.name
    if release is not None and release.state == ReleaseState.REQUESTED:
        return "release", Ticket(
            title,
            "asked for, waits for an officer",
            url,
            "warn",
            Permission.APPROVE_RELEASE,
            not_for=release.requested_by_id,
        )
    if release is not None and release.state == ReleaseState.APPROVED:
        text = "bundle ready" if release.pk in bundles else "released; bundle to be built"
        return "evidence", Ticket(title, text, url, "good")
    if evaluation is None or evaluation.state == EvaluationState.FAILED:
        text = "evaluation failed" if evaluation else "not evaluated"
        return "evaluate", Ticket(title, text, url, "bad" if evaluation else "warn", Permission.EVALUATE_MODEL)
    if evaluation.state == EvaluationState.RUNNING:
        text = f"{evaluation.done_count:,} of {evaluation.total_count:,} answers"
        return "evaluate", Ticket(
            title, text, url, "info", is_live=True, done=evaluation.done_count, total=evaluation.total_count
        )
    failed = sum(not gate.has_passed for gate in gates)
    if not gates:
        return "gate", Ticket(title, "gates are running", url, "info", is_live=True)
    if failed:
        return "gate", Ticket(title, f"{failed} of {len(gates)} gates failed", url, "bad")
    text = "refused" if release is not None else f"{len(gates)} gates passed"
    tone = "bad" if release is not None else "good"
    return "release", Ticket(title, text, url, tone, Permission.REQUEST_RELEASE)
