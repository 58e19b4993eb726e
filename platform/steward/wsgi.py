"""The WSGI entry point: `application`, checked before it serves."""

import os

from django.core.wsgi import get_wsgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "steward.settings")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

application = get_wsgi_application()

from steward.checks import refuse_unsafe_start  # noqa: E402  (needs the apps that the line above loads)

refuse_unsafe_start()
