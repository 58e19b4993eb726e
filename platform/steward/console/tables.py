"""The lists and details of datasets, models, releases and keys."""

from typing import Any

from django.contrib import admin
from django.http import HttpRequest
from django.urls import reverse

from steward.accounts.permissions import can
from steward.accounts.roles import Permission
from steward.assurance.models import Evaluation, GateResult
from steward.catalog.models import BaseModel
from steward.console.access import actor_of
from steward.console.reading import ReadingAdmin, WorkspaceFilter
from steward.console.showing import digest, facts, pill
from steward.console.site import site
from steward.datasets.models import Dataset, DatasetVersion, RedactionRun
from steward.releases.models import Release, ReleaseState
from steward.runs.dispatch import standing
from steward.runs.models import FineTune, ModelVersion
from steward.vault.models import DataKey


class StateMixin:
    """Adds the column `shown_state`."""

    @admin.display(description="State", ordering="state")
    def shown_state(self, row: Any) -> Any:
        return pill(row.state, row.get_state_display())


class DatasetAdmin(ReadingAdmin):
    list_display = ["name", "workspace", "workflow", "purpose", "created_by", "created_at"]
    list_select_related = ["workspace", "created_by"]
    search_fields = ["name"]
    list_filter = [WorkspaceFilter]
    fields = ["name", "workspace", "workflow", "purpose", "created_by", "created_at"]

    def tools(self, request: HttpRequest, obj: Dataset) -> list[dict[str, str]]:
        versions = reverse("admin:datasets_datasetversion_changelist")
        tools = [{"title": "Its versions", "link": f"{versions}?dataset__id__exact={obj.pk}"}]
        if can(actor_of(request), Permission.SHRED_SUBJECT, obj.workspace):
            tools.append({"title": "Erase a person", "link": reverse("admin:erase_subject", args=[obj.pk])})
        return tools


class VersionAdmin(StateMixin, ReadingAdmin):
    list_display = ["__str__", "workspace", "shown_state", "record_count", "subject_count", "imported_by", "created_at"]
    list_select_related = ["workspace", "dataset", "imported_by"]
    list_filter = ["state", WorkspaceFilter]
    search_fields = ["dataset__name"]
    fields = [
        "dataset",
        "number",
        "workspace",
        "shown_state",
        "record_count",
        "duplicate_count",
        "subject_count",
        "shown_split",
        "problem_count",
        "shown_digest",
        "imported_by",
        "imported_at",
        "decided_by",
        "decided_at",
        "decision_reason",
        "shown_residual",
    ]

    def lookup_allowed(self, lookup: str, value: Any, request: HttpRequest | None = None) -> bool:
        return lookup == "dataset__id__exact" or super().lookup_allowed(lookup, value, request)

    def tools(self, request: HttpRequest, obj: DatasetVersion) -> list[dict[str, str]]:
        return [{"title": "Risk and decision", "link": reverse("admin:approve_version", args=[obj.pk])}]

    @admin.display(description="Split")
    def shown_split(self, row: DatasetVersion) -> Any:
        return facts((split, f"{count:,}") for split, count in row.split_counts.items())

    @admin.display(description="Content digest")
    def shown_digest(self, row: DatasetVersion) -> Any:
        return digest(row.content_digest)

    @admin.display(description="Residual risk at the decision")
    def shown_residual(self, row: DatasetVersion) -> Any:
        return facts((name.replace("_", " "), value) for name, value in row.residual.items())


class RedactionAdmin(StateMixin, ReadingAdmin):
    list_display = ["version", "workspace", "profile", "shown_state", "done_count", "finding_count", "started_at"]
    list_select_related = ["workspace", "version__dataset"]
    list_filter = ["state", WorkspaceFilter]
    fields = [
        "version",
        "workspace",
        "profile",
        "shown_profile_digest",
        "shown_state",
        "done_count",
        "finding_count",
        "shown_counts",
        "failure",
        "requested_by",
        "started_at",
        "finished_at",
    ]

    @admin.display(description="Profile digest")
    def shown_profile_digest(self, row: RedactionRun) -> Any:
        return digest(row.profile_digest)

    @admin.display(description="Findings by type")
    def shown_counts(self, row: RedactionRun) -> Any:
        return facts((name, f"{count:,}") for name, count in sorted(row.counts_by_type.items(), key=lambda p: -p[1]))


class BaseModelAdmin(ReadingAdmin):
    list_display = ["name", "licence", "parameters", "context_length", "is_bundled", "registered_at"]
    search_fields = ["name"]
    fields = [
        "name",
        "licence",
        "source",
        "parameters",
        "context_length",
        "disk_bytes",
        "shown_digest",
        "is_bundled",
        "registered_at",
    ]

    def get_queryset(self, request: HttpRequest) -> Any:
        return self.model._default_manager.all()  # base models belong to the installation

    @admin.display(description="Digest of the folder")
    def shown_digest(self, row: BaseModel) -> Any:
        return digest(row.digest)


class FineTuneAdmin(StateMixin, ReadingAdmin):
    list_display = ["name", "workspace", "shown_state", "dataset_version", "base_model", "best_loss", "created_at"]
    list_select_related = ["workspace", "dataset_version__dataset", "base_model"]
    list_filter = ["state", WorkspaceFilter]
    search_fields = ["name"]
    fields = [
        "name",
        "workspace",
        "shown_state",
        "dataset_version",
        "base_model",
        "workflow",
        "priority",
        "shown_standing",
        "step",
        "steps",
        "best_step",
        "best_loss",
        "tokens",
        "train_seconds",
        "flops",
        "failure_code",
        "failure",
        "requested_by",
        "created_at",
        "started_at",
        "finished_at",
    ]

    def tools(self, request: HttpRequest, obj: FineTune) -> list[dict[str, str]]:
        if obj.state not in ("awaiting", "queued"):
            return []
        decide = {"title": "Decide", "link": reverse("admin:approve_fine_tune", args=[obj.pk])}
        may_raise = can(actor_of(request), Permission.RAISE_PRIORITY, obj.workspace)
        move = {"title": "Set the priority", "link": reverse("admin:priority", args=[obj.pk])}
        return [*([decide] if obj.state == "awaiting" else []), *([move] if may_raise else [])]

    @admin.display(description="In the queue")
    def shown_standing(self, row: FineTune) -> str:
        waits = standing(row.pk)
        return "" if waits is None else f"{waits.position} of {waits.of}. {waits.text}"


class ModelVersionAdmin(ReadingAdmin):
    list_display = ["__str__", "workspace", "shown_gates", "created_at"]
    list_select_related = ["workspace", "fine_tune"]
    list_filter = [WorkspaceFilter]
    search_fields = ["fine_tune__name"]
    fields = ["fine_tune", "workspace", "shown_digest", "shown_scores", "shown_gates", "created_at"]

    @admin.display(description="Adapter digest")
    def shown_digest(self, row: ModelVersion) -> Any:
        return digest(row.adapter_digest)

    @admin.display(description="Base against tuned")
    def shown_scores(self, row: ModelVersion) -> Any:
        newest = Evaluation.objects.filter(model_version=row).order_by("-created_at").first()
        if newest is None or newest.tuned_score is None:
            return "Not evaluated to the end yet."
        lines = [
            (name, f"{score:.3f} ({low:.3f} to {high:.3f})")
            for name, score, low, high in (
                ("base", newest.base_score, newest.base_low, newest.base_high),
                ("tuned", newest.tuned_score, newest.tuned_low, newest.tuned_high),
                ("gain", newest.gain_score, newest.gain_low, newest.gain_high),
            )
        ]
        return facts([("metric", f"{newest.metric}, {newest.record_count} held-out records, 95 % intervals"), *lines])

    @admin.display(description="Gates")
    def shown_gates(self, row: ModelVersion) -> Any:
        newest = Evaluation.objects.filter(model_version=row).order_by("-created_at").first()
        results = GateResult.objects.filter(evaluation=newest) if newest else []
        return facts((gate.title, pill(gate.state, gate.get_state_display())) for gate in results)


class ReleaseAdmin(StateMixin, ReadingAdmin):
    list_display = ["__str__", "workspace", "shown_state", "requested_by", "decided_by", "requested_at"]
    list_select_related = ["workspace", "model_version__fine_tune", "requested_by", "decided_by"]
    list_filter = ["state", "audience", WorkspaceFilter]
    fields = [
        "model_version",
        "workspace",
        "audience",
        "shown_state",
        "purpose",
        "shown_digest",
        "requested_by",
        "requested_at",
        "trained_by",
        "decided_by",
        "decided_at",
        "reason",
    ]

    def tools(self, request: HttpRequest, obj: Release) -> list[dict[str, str]]:
        tools = [{"title": "Gates and decision", "link": reverse("admin:approve_release", args=[obj.pk])}]
        if obj.state == ReleaseState.APPROVED and can(actor_of(request), Permission.EXPORT_EVIDENCE, obj.workspace):
            link = reverse("admin:evidence", args=[obj.pk])
            tools.append({"title": "Hand out the evidence", "link": link, "method": "post"})
        return tools

    @admin.display(description="Adapter digest")
    def shown_digest(self, row: Release) -> Any:
        return digest(row.adapter_digest)


class KeyAdmin(ReadingAdmin):
    list_title = "Vault keys"
    list_display = ["id", "level", "workspace", "epoch", "shown_state", "created_at"]
    list_select_related = ["workspace"]
    list_filter = ["level", WorkspaceFilter]
    fields = ["id", "level", "workspace", "parent", "epoch", "shown_state", "created_at", "destroyed_at"]

    @admin.display(description="State")
    def shown_state(self, row: DataKey) -> Any:
        return pill("destroyed", "Destroyed") if row.destroyed_at else pill("active", "Living")


site.register(Dataset, DatasetAdmin)
site.register(DatasetVersion, VersionAdmin)
site.register(RedactionRun, RedactionAdmin)
site.register(BaseModel, BaseModelAdmin)
site.register(FineTune, FineTuneAdmin)
site.register(ModelVersion, ModelVersionAdmin)
site.register(Release, ReleaseAdmin)
site.register(DataKey, KeyAdmin)
