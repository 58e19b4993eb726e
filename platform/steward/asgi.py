"""The ASGI entry point: `application`, checked before it serves."""

import os

from django.core.asgi import get_asgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "steward.settings")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

application = get_asgi_application()

from steward.checks import refuse_unsafe_start  # noqa: E402  (needs the apps that the line above loads)

refuse_unsafe_start()
