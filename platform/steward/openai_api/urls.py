"""Addresses of the OpenAI-compatible interface, under `/v1`: models and chat completions; all others say so."""

from django.urls import path, re_path

from steward.openai_api.chat_completions import chat_completions
from steward.openai_api.errors import not_found
from steward.openai_api.offered_models import model_detail, model_list

app_name = "openai_api"
urlpatterns = [
    path("models", model_list),
    path("models/<str:model>", model_detail),
    path("chat/completions", chat_completions),
    re_path(r"^.*$", not_found),
]
