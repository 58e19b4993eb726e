"""Addresses of the REST interface. No trailing slashes: an address names a thing, not a folder."""

from django.urls import path, re_path

from steward.api import datasets, fine_tunes, ledger, model_versions, releases, sample, schema, tokens, workspaces
from steward.api.problems import not_found

app_name = "api"
urlpatterns = [
    path("me", workspaces.Me.as_view()),
    path("tokens", tokens.Tokens.as_view()),
    path("tokens/<uuid:token_id>", tokens.TokenDetail.as_view()),
    path("workspaces", workspaces.Workspaces.as_view()),
    path("workspaces/<uuid:workspace_id>", workspaces.WorkspaceDetail.as_view()),
    path("workspaces/<uuid:workspace_id>/workflows", workspaces.WorkspaceWorkflows.as_view()),
    path("base-models", workspaces.BaseModels.as_view()),
    path("datasets", datasets.Datasets.as_view()),
    path("datasets/<uuid:dataset_id>", datasets.DatasetDetail.as_view()),
    path("datasets/<uuid:dataset_id>/versions", datasets.DatasetVersions.as_view()),
    path("versions/<uuid:version_id>", datasets.VersionDetail.as_view()),
    path("versions/<uuid:version_id>/redactions", datasets.VersionRedactions.as_view()),
    path("versions/<uuid:version_id>/sample", sample.VersionSample.as_view()),
    path("versions/<uuid:version_id>/approve", datasets.VersionApproval.as_view()),
    path("versions/<uuid:version_id>/reject", datasets.VersionRejection.as_view()),
    path("sample-items/<uuid:item_id>", sample.SampleItemDetail.as_view()),
    path("sample-items/<uuid:item_id>/verdict", sample.SampleItemVerdict.as_view()),
    path("fine-tunes", fine_tunes.FineTunes.as_view()),
    path("fine-tunes/<uuid:fine_tune_id>", fine_tunes.FineTuneDetail.as_view()),
    path("fine-tunes/<uuid:fine_tune_id>/measurements", fine_tunes.FineTuneMeasurements.as_view()),
    path("fine-tunes/<uuid:fine_tune_id>/events", fine_tunes.FineTuneEvents.as_view()),
    path("fine-tunes/<uuid:fine_tune_id>/approve", fine_tunes.FineTuneApproval.as_view()),
    path("fine-tunes/<uuid:fine_tune_id>/cancel", fine_tunes.FineTuneCancellation.as_view()),
    path("models", model_versions.Models.as_view()),
    path("models/<uuid:model_id>", model_versions.ModelDetail.as_view()),
    path("models/<uuid:model_id>/evaluations", model_versions.ModelEvaluations.as_view()),
    path("releases", releases.Releases.as_view()),
    path("releases/<uuid:release_id>", releases.ReleaseDetail.as_view()),
    path("releases/<uuid:release_id>/approve", releases.ReleaseApproval.as_view()),
    path("releases/<uuid:release_id>/refuse", releases.ReleaseRefusal.as_view()),
    path("releases/<uuid:release_id>/evidence", releases.ReleaseEvidence.as_view()),
    path("ledger/entries", ledger.Entries.as_view()),
    path("ledger/entries/<int:index>", ledger.EntryDetail.as_view()),
    path("ledger/checkpoint", ledger.Checkpoint.as_view()),
    path("ledger/key", ledger.VerifierKey.as_view()),
    path("openapi.json", schema.Description.as_view(), name="openapi"),
    path("docs", schema.DocsPage.as_view(), name="docs"),
    re_path(r"^(?P<path>.*)$", not_found),
]
