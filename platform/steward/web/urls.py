"""Addresses of the web door. Everything of a workspace lies under /w/<its slug>/."""

from django.urls import URLPattern, URLResolver, include, path

from steward.web.views import (
    chatting,
    comparing,
    datasets,
    fine_tunes,
    home,
    ledger,
    measurements,
    model_versions,
    privilege,
    reviewing,
    signing_in,
    singling_out,
    versions,
)

app_name = "web"

_workspace: list[URLPattern | URLResolver] = [
    path("", home.board, name="board"),
    path("datasets/", datasets.dataset_list, name="datasets"),
    path("datasets/new/", datasets.new_dataset, name="new_dataset"),
    path("datasets/<uuid:pk>/", datasets.dataset, name="dataset"),
    path("datasets/<uuid:pk>/upload/", datasets.upload, name="upload"),
    path("datasets/versions/<uuid:pk>/", versions.version, name="version"),
    path("datasets/versions/<uuid:pk>/redact/", versions.redact, name="redact"),
    path("datasets/versions/<uuid:pk>/decision/", versions.decide, name="decide"),
    path("datasets/versions/<uuid:pk>/sample/", reviewing.draw, name="draw"),
    path("datasets/versions/<uuid:pk>/review/", reviewing.review, name="review"),
    path("datasets/versions/<uuid:pk>/review/<uuid:item>/", reviewing.judge, name="judge"),
    path("datasets/versions/<uuid:pk>/review/undo/", reviewing.undo, name="undo"),
    path("datasets/versions/<uuid:pk>/review/<uuid:item>/adjudication/", reviewing.adjudicate, name="adjudicate"),
    path("datasets/versions/<uuid:pk>/corrections/", reviewing.corrections, name="corrections"),
    path("datasets/versions/<uuid:pk>/corrections/<uuid:span>/", reviewing.promote, name="promote"),
    path("datasets/versions/<uuid:pk>/comparison/", comparing.compare, name="compare"),
    path("datasets/versions/<uuid:pk>/singling-out/", singling_out.measure, name="measure"),
    path("datasets/versions/<uuid:pk>/privileged/", privilege.privileged, name="privileged"),
    path("datasets/versions/<uuid:pk>/privileged/<int:ordinal>/", privilege.one, name="privileged_record"),
    path("datasets/versions/<uuid:pk>/privileged/<int:ordinal>/decision/", privilege.decide, name="decide_privileged"),
    path("datasets/versions/<uuid:pk>/records/", versions.records, name="records"),
    path("datasets/versions/<uuid:pk>/records/<int:ordinal>/", versions.record, name="record"),
    path("datasets/versions/<uuid:pk>/records/<int:ordinal>/raw/", versions.reveal, name="reveal"),
    path("fine-tunes/", fine_tunes.fine_tune_list, name="fine_tunes"),
    path("fine-tunes/new/", fine_tunes.new_fine_tune, name="new_fine_tune"),
    path("fine-tunes/preview/", fine_tunes.preview, name="preview"),
    path("fine-tunes/<uuid:pk>/", fine_tunes.fine_tune, name="fine_tune"),
    path("fine-tunes/<uuid:pk>/approve/", fine_tunes.approve, name="approve_fine_tune"),
    path("fine-tunes/<uuid:pk>/cancel/", fine_tunes.cancel, name="cancel_fine_tune"),
    path("fine-tunes/<uuid:pk>/measurements/", measurements.measurements, name="measurements"),
    path("fine-tunes/<uuid:pk>/measurements/<slug:form>/", measurements.download, name="measurements_file"),
    path("models/", model_versions.model_version_list, name="model_versions"),
    path("models/<uuid:pk>/", model_versions.model_version, name="model_version"),
    path("models/<uuid:pk>/samples/", model_versions.model_samples, name="samples"),
    path("models/<uuid:pk>/evaluate/", model_versions.evaluate, name="evaluate"),
    path("models/<uuid:pk>/release/", model_versions.ask_for_release, name="ask_for_release"),
    path("models/<uuid:pk>/chat/", chatting.start_chat, name="start_chat"),
    path("models/<uuid:pk>/chat/answer/", chatting.answer, name="answer"),
    path("releases/<uuid:pk>/decision/", model_versions.decide_release, name="decide_release"),
    path("releases/<uuid:pk>/evidence/", model_versions.download_evidence, name="evidence"),
    path("ledger/", ledger.ledger, name="ledger"),
    path("ledger/<int:index>/", ledger.ledger_entry, name="ledger_entry"),
]

urlpatterns: list[URLPattern | URLResolver] = [
    path("", home.home, name="home"),
    path("sign-in/", signing_in.sign_in, name="sign_in"),
    path("sign-in/link/<str:token>/", signing_in.sign_in_by_link, name="sign_in_by_link"),
    path("sign-out/", signing_in.sign_out, name="sign_out"),
    path("w/<slug:slug>/", include(_workspace)),
]
